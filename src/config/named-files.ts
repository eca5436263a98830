/**
 * The files that settings name. A provider's configuration, which callers of the API can change, must
 * not read them.
 * @module
 */
import { foldedName } from "../core/ca/config-fields.ts";
import type { StoreUrl } from "./store-url.ts";

/** A file, and the setting that names it. */
export interface NamedFile {
  readonly setting: string;
  readonly path: string;
}

/** The suffixes of the files beside a database: SQLite's, and those of the workers' claim. */
const DATABASE_ENDS = ["", "-wal", "-shm", "-journal", "-workers", "-workers-journal"];

/** Fields of the Transit configuration that name secrets of its own login. */
const TRANSIT_SECRETS = [
  "TokenFile",
  "KeyFile",
  "role_id_file_path",
  "secret_id_file_path",
  "password_file_path",
].map(foldedName);

/**
 * The files that settings name.
 * @param given each setting's text by its name. @param kekVault the content of the file that
 * MESHCA_KEK_VAULT names.
 */
export function namedFiles(
  given: Readonly<Record<string, string | undefined>>,
  store: StoreUrl | null,
  kekVault: Readonly<Record<string, unknown>> | null,
): NamedFile[] {
  const files: NamedFile[] = [];
  const add = (setting: string, path: string | undefined) => {
    if (path !== undefined && path !== "") files.push({ setting, path });
  };
  for (const [setting, path] of Object.entries(given))
    if (setting.endsWith("_FILE") && !(setting === "MESHCA_TLS_CLIENT_CA_FILE" && path === "self"))
      add(setting, path);
  for (const setting of ["MESHCA_CONFIG", "MESHCA_KEK_VAULT"]) add(setting, given[setting]);
  const audit = ["", "off", "stdout"].includes(given.MESHCA_AUDIT ?? "")
    ? null
    : given.MESHCA_AUDIT;
  if (audit !== null) for (const end of ["", ".reserve"]) add("MESHCA_AUDIT", `${audit}${end}`);
  const databases = [["MESHCA_STORE", store?.kind === "sqlite" ? store.path : undefined] as const];
  const source = /^(sqlite|backup):(.+)$/s.exec(given.MESHCA_IMPORT ?? "");
  if (source?.[1] === "sqlite") add("MESHCA_IMPORT", source[2]?.replace(/[^/]*$/, "kek"));
  for (const [setting, path] of [...databases, ["MESHCA_IMPORT", source?.[2]] as const])
    if (path !== undefined) for (const end of DATABASE_ENDS) add(setting, `${path}${end}`);
  const query = /^rediss?[^?]*\?(.*)$/s.exec(given.MESHCA_STORE ?? "")?.[1];
  for (const [option, path] of new URLSearchParams(query ?? ""))
    if (["ca", "cert", "key"].includes(option)) add("MESHCA_STORE", path);
  addSecrets(kekVault, (path) => add("MESHCA_KEK_VAULT", path));
  for (const path of caFilesOf(given.MESHCA_DATACENTERS)) add("MESHCA_DATACENTERS", path);
  return files;
}

/** Finds fields with secrets at every level of the Transit configuration. */
function addSecrets(value: unknown, add: (path: string) => void): void {
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (typeof inner === "string" && TRANSIT_SECRETS.includes(foldedName(key))) add(inner);
    addSecrets(inner, add);
  }
}

/** The files in MESHCA_DATACENTERS, which was checked before. */
function caFilesOf(json: string | undefined): string[] {
  const entries: unknown[] = Object.values(json === undefined ? {} : JSON.parse(json));
  return entries.flatMap((entry) =>
    typeof entry === "object" && entry !== null && "ca_file" in entry
      ? [String(entry.ca_file)]
      : [],
  );
}
