/**
 * Owner, group and mode of the files in a credential folder.
 * @module
 */
import { readFileSync } from "node:fs";
import { ConfigError } from "../../core/errors.ts";
import { type Account, octal } from "../safe-path.ts";

/** The mode of files with a private key by default, and the one if a group is given. */
const [OWNER_READS, GROUP_READS] = [0o600, 0o640];
/** A private key may be written by its owner and read by its group, and by nobody else. */
const ALLOWED = 0o640;
/** Certificates are public: the mode of the folder bounds who reaches them. */
const PUBLIC_READ = 0o444;
/** The largest id: chown(2) takes 2^32 - 1 as "no change". */
const MAX_ID = 0xffff_fffe;

export interface OwnershipOptions {
  /** A name in /etc/passwd or a number; by default the agent's own user. */
  readonly owner?: string | null;
  /** A name in /etc/group or a number; by default that of the folder or of the agent. */
  readonly group?: string | null;
  /** The mode of files with a private key, at most 0640. @default 0o600, with a group 0o640 */
  readonly mode?: number | null;
}

/** Who may read the files; ids are null if they are left as the system sets them. */
export interface Ownership {
  readonly user: number | null;
  readonly group: number | null;
  /** Of files with a private key. */
  readonly secretMode: number;
  /** Of the other files. */
  readonly publicMode: number;
  /** Of a folder that the agent creates. */
  readonly folderMode: number;
}

/**
 * Resolves names, and checks what the agent's user is permitted to do.
 * @param what names the folder in texts.
 * @throws {ConfigError}
 */
export function resolveOwnership(
  what: string,
  options: OwnershipOptions,
  account: Account,
): Ownership {
  const { owner = null, group = null } = options;
  const mode = options.mode ?? (group === null ? OWNER_READS : GROUP_READS);
  const refuse = (reason: string) => new ConfigError(`${what}: ${reason}`);
  if ((mode & ~ALLOWED) !== 0 || (mode & 0o400) === 0)
    throw refuse(
      `mode ${octal(mode)} is not allowed for private keys: use ${octal(0o600)}, ${octal(0o640)}, ${octal(0o440)} or ${octal(0o400)}`,
    );
  const user = owner === null ? null : idOf("/etc/passwd", owner);
  if (owner !== null && user === null)
    throw refuse(`user "${owner}" is not in /etc/passwd; the number of a user is accepted too`);
  const groupId = group === null ? null : idOf("/etc/group", group);
  if (group !== null && groupId === null)
    throw refuse(`group "${group}" is not in /etc/group; the number of a group is accepted too`);
  if (user !== null && account.user !== null && account.user !== 0 && user !== account.user)
    throw refuse(
      `owner "${owner}" cannot be set: only root can give files to another user, and the agent runs as user ${account.user}`,
    );
  const isOfOther = user !== null && user !== account.user;
  return {
    user,
    group: groupId,
    secretMode: mode,
    publicMode: mode | PUBLIC_READ,
    // The folder stays the agent's: another owner of the files has to reach them through it.
    folderMode: isOfOther ? 0o755 : (mode & 0o040) === 0 ? 0o700 : 0o750,
  };
}

/** The number of a user or group: the third field of its line (passwd(5), group(5)). */
export function idOf(database: string, name: string): number | null {
  if (/^\d{1,10}$/.test(name)) return Number(name) <= MAX_ID ? Number(name) : null;
  try {
    const lines = readFileSync(database, "utf8").split("\n");
    const id = lines.map((line) => line.split(":")).find(([found]) => found === name)?.[2];
    return id !== undefined && /^\d{1,10}$/.test(id) ? Number(id) : null;
  } catch {
    return null;
  }
}
