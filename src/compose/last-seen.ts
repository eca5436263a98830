/**
 * The last-seen state of a replica, which survives a restart in the data folder.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import type { AclLastSeenStore, LastSeenStore } from "../core/ports/last-seen.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { AclLastSeenFile, LastSeenFile } from "../store/last-seen.ts";
import type { Codec } from "../store/state-document.ts";
import type { DataFolder } from "./platform.ts";

type StoreKind = Settings["store"]["kind"];

/** The last-seen state of the CA and of access control; each null if it does not survive a restart. */
export interface LastSeen {
  readonly ca: LastSeenStore | null;
  readonly access: AclLastSeenStore | null;
}

/** The file in the data folder with the last-seen state of the CA. */
export const lastSeenFile = (kind: StoreKind): string => `seen-${kind}.json`;

export function openLastSeen(
  kind: StoreKind,
  data: DataFolder,
  codec: Codec,
  sealer: Sealer,
): LastSeen {
  const fileOf = (name: string) => (kind === "memory" ? null : data.persistentFile(name));
  const [ca, access] = [fileOf(lastSeenFile(kind)), fileOf(`seen-access-${kind}.json`)];
  return {
    ca: ca === null ? null : new LastSeenFile(codec, ca),
    access: access === null ? null : new AclLastSeenFile(sealer, access),
  };
}
