/**
 * Looks at the files and folders of the settings: their permissions and the space that is left.
 * @module
 */
import { statfsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Settings } from "../config/settings.ts";
import type { FileFacts } from "../core/ports/file-facts.ts";

/** Settings of files that are no secret. */
const PUBLIC = [
  "MESHCA_TLS_CERT_FILE",
  "MESHCA_TLS_CLIENT_CA_FILE",
  "MESHCA_PRIMARY_CA_FILE",
  // CA files.
  "MESHCA_DATACENTERS",
  "MESHCA_CONFIG",
];
/** Files that a store without one does not have. */
const DATABASE_END = /-(?:wal|shm|journal|workers|workers-journal)$/;

type Watched = Pick<FileFacts, "path" | "setting" | "kind">;

export function fileFacts(
  settings: Pick<Settings, "dataDir" | "store" | "namedFiles">,
): FileFacts[] {
  const { dataDir, store, namedFiles } = settings;
  const watched: Watched[] =
    store.kind === "memory" ? [] : [{ path: dataDir, setting: "MESHCA_DATA_DIR", kind: "folder" }];
  if (store.kind === "sqlite") {
    watched.push({ path: store.path, setting: "MESHCA_STORE", kind: "database" });
    watched.push({ path: join(dataDir, "kek"), setting: "MESHCA_DATA_DIR", kind: "secret" });
  }
  for (const { setting, path } of namedFiles)
    if (
      !PUBLIC.includes(setting) &&
      !DATABASE_END.test(path) &&
      !watched.some((one) => one.path === path)
    )
      watched.push({ path, setting, kind: "secret" });
  return watched.flatMap((one) => {
    const mode = modeOf(one.path);
    // The keys may be in a setting instead.
    if (mode === null && one.setting === "MESHCA_DATA_DIR" && one.kind === "secret") return [];
    const folder = one.kind === "folder" ? one.path : dirname(one.path);
    return [{ ...one, mode, freeBytes: one.kind === "secret" ? null : freeBytesOf(folder) }];
  });
}

function modeOf(path: string): number | null {
  try {
    return statSync(path).mode & 0o7777;
  } catch {
    return null;
  }
}

/** Null on a runtime or a system that does not tell. */
function freeBytesOf(path: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  } catch {
    return null;
  }
}
