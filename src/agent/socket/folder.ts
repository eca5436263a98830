/**
 * The folder of a Unix socket: a user who can write to it, or replace it, could put another socket
 * in the place of ours, and give workloads identities and roots.
 * @module
 */
import { chown, lstat, realpath } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode, fileReason } from "../../config/file-errors.ts";
import { ConfigError } from "../../core/errors.ts";
import { createFolder, currentAccount, FolderCheck } from "../safe-path.ts";

export interface FolderRights {
  /** Mode of the socket: the users who may connect must be able to enter its folder. */
  readonly mode: number;
  /** Id of the group that may connect; null for the agent's own. */
  readonly group: number | null;
  /** Trusts every user who can write to the folder or replace it: in a volume of one pod. */
  readonly isShared: boolean;
}

/**
 * Makes sure that only root and the agent's user can write to a folder or replace it. A missing one
 * is created.
 * @throws {ConfigError}
 */
export async function prepareFolder(folder: string, rights: FolderRights): Promise<void> {
  const account = currentAccount();
  const rules = { what: "Socket folder", account, isShared: rights.isShared };
  let path = folder;
  // As /var/run is one: where the link lies is checked, then where it leads to.
  if (await isLink(folder)) {
    await new FolderCheck(dirname(folder), rules).run();
    path = await realpath(folder);
  }
  const checked = await new FolderCheck(path, rules).run();
  if (checked.stats !== null) return;
  try {
    await createFolder(checked.path, modeOfFolder(rights.mode));
    if (rights.group !== null) await chown(checked.path, account.user ?? -1, rights.group);
  } catch (error) {
    const reason = fileReason(error) ?? "unknown error";
    throw new ConfigError(`Socket folder ${JSON.stringify(folder)} cannot be created: ${reason}`);
  }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch (error) {
    // The check of the folder names every other reason.
    if (errorCode(error) === null) throw error;
    return false;
  }
}

/** For the users who may connect: entering, without listing. */
function modeOfFolder(mode: number): number {
  return 0o700 | ((mode & 0o070) === 0 ? 0 : 0o010) | ((mode & 0o007) === 0 ? 0 : 0o001);
}
