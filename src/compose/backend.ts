/**
 * Opens stores: the one that is served, and the one that a new cluster imports its state from.
 * @module
 */
import { cannotRead } from "../config/file-errors.ts";
import type { Settings } from "../config/settings.ts";
import { rewrapped } from "../core/ca/rewrap.ts";
import { ConfigError, StoreError } from "../core/errors.ts";
import type { CaState } from "../core/state.ts";
import { createSealer } from "../seal/envelope.ts";
import { readKeks } from "../seal/kek.ts";
import type { Backend } from "../store/backend.ts";
import { FileBackups, MemoryBackups } from "../store/backups.ts";
import { FileLooks, MemoryLooks } from "../store/looks.ts";
import { type Codec, createCodec } from "../store/state-document.ts";
import type { Keks } from "./key-encryption-keys.ts";
import type { Platform } from "./platform.ts";

/**
 * Opens a store. Its implementation is loaded only if it is used, since not every runtime has what
 * it needs.
 * @param keepConnecting a Redis that does not answer is opened nevertheless, and connected to as
 * soon as it answers.
 * @throws {StoreError}
 */
export async function openBackend(
  { store: settings, worker }: Pick<Settings, "store" | "worker">,
  platform: Platform,
  keepConnecting = false,
): Promise<Backend> {
  const { clock, random, log } = platform;
  switch (settings.kind) {
    case "memory":
      return new (await import("../store/memory/store.ts")).MemoryBackend(clock);
    case "sqlite": {
      const file = platform.persistentFile("looks-sqlite.json");
      const looks = file === null ? new MemoryLooks() : new FileLooks(file, log);
      const last = platform.persistentFile("last-backup.json");
      const backups = last === null ? new MemoryBackups() : new FileBackups(last);
      const { openSqlite } = await import("../store/sqlite/backend.ts");
      return openSqlite(settings.path, clock, { shared: worker !== null, looks, backups });
    }
    case "redis": {
      const { openRedis } = await import("../store/redis/backend.ts");
      return openRedis({ settings, clock, random, log, keepConnecting });
    }
  }
}

/**
 * Prepares the store for the workers of one server.
 * @returns a function that releases it. @throws {StoreError}
 */
export async function claimStore({ store }: Pick<Settings, "store">): Promise<() => void> {
  if (store.kind !== "sqlite") return () => undefined;
  return (await import("../store/sqlite/backend.ts")).claimSqlite(store.path);
}

/**
 * The state that a new cluster imports, its keys encrypted with this CA's key-encryption keys.
 * Access control is not imported: its records are no part of the state.
 * @throws {ConfigError} @throws {StoreError} @throws {SealError}
 */
export async function readSource(
  { kind, path }: NonNullable<Settings["source"]>,
  keks: Keks,
  platform: Platform,
): Promise<CaState> {
  const others = kind === "sqlite" ? await keksBeside(path, keks, platform) : "";
  const sealer = createSealer(await readKeks([keks.text, others].join(",")));
  const codec = createCodec(sealer);
  const state = await (kind === "backup"
    ? readBackup(path, codec, platform)
    : readDatabase(path, codec, platform)
  ).catch((error: unknown) => {
    // Another replica may be reading the file: the caller retries.
    if (!(error instanceof StoreError) || error.code === "store_busy") throw error;
    throw unusable(`cannot use ${JSON.stringify(path)}: ${error.message}`, error);
  });
  if (state === null) throw unusable(`the database ${JSON.stringify(path)} contains no CA`);
  return { ...state, access: null, provider: await rewrapped(state, sealer) };
}

/** The key-encryption keys in the folder of a database, without those of an id that is in use. */
async function keksBeside(path: string, keks: Keks, platform: Platform): Promise<string> {
  const file = path.replace(/[^/]*$/, "kek");
  if (!platform.fileExists(file)) return "";
  const ids = (await readKeks(keks.text)).ids;
  const others = platform
    .readFile(file)
    .split(/[\s,]+/)
    .filter((entry) => entry !== "" && !ids.includes(entry.split(":")[0] ?? ""));
  return keks.open(others.join(","));
}

/** @throws {ConfigError} @throws {StoreError} @throws {SealError} */
async function readBackup(path: string, codec: Codec, platform: Platform): Promise<CaState> {
  let text: string;
  try {
    text = platform.readFile(path);
  } catch (error) {
    throw unusable(cannotRead(path, error), error);
  }
  if (text === "") throw unusable(`the backup ${JSON.stringify(path)} is empty`);
  return codec.decode(text);
}

/**
 * @returns null if the database contains no CA.
 * @throws {ConfigError} @throws {StoreError} @throws {SealError}
 */
async function readDatabase(
  path: string,
  codec: Codec,
  platform: Platform,
): Promise<CaState | null> {
  if (!platform.fileExists(path)) throw unusable(`there is no file ${JSON.stringify(path)}`);
  const backend = (await import("../store/sqlite/backend.ts")).openSqlite(path, platform.clock);
  try {
    return (await backend.open(codec, "import").store.read()).state;
  } finally {
    backend.close();
  }
}

function unusable(reason: string, cause?: unknown): ConfigError {
  return new ConfigError(`MESHCA_IMPORT: ${reason}`, [], { cause });
}
