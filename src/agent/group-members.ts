/**
 * Who is in a group of this machine, by /etc/passwd and /etc/group. Users of a directory service are
 * not in them.
 * @module
 */
import { readFileSync } from "node:fs";

/**
 * Whether a group has a member other than root and one user (passwd(5), group(5)). A group of many
 * users, as `users` is, may be the primary group of each.
 * @param group id. @param user id; null: not known, and counted as a member.
 * @returns false too if the files cannot be read.
 */
export function hasOtherMembers(
  group: number,
  user: number | null,
  passwd: string = textOf("/etc/passwd"),
  groups: string = textOf("/etc/group"),
): boolean {
  const users = linesOf(passwd).map(([name = "", , uid, gid]) => ({ name, uid, gid }));
  const isOther = (uid: string | undefined) => uid !== "0" && uid !== String(user);
  if (users.some(({ uid, gid }) => gid === String(group) && isOther(uid))) return true;
  const members = linesOf(groups)
    .filter(([, , gid]) => gid === String(group))
    .flatMap(([, , , names = ""]) => names.split(",").filter(Boolean));
  return members.some((member) => isOther(users.find(({ name }) => name === member)?.uid));
}

function linesOf(text: string): string[][] {
  return text.split("\n").map((line) => line.trim().split(":"));
}

/** "" if the file cannot be read, as in a container without it, or on Deno without the permission. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
