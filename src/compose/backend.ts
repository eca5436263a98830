/**
 * The part of the composition root that opens stores: the one that is served, and what a new
 * cluster begins with.
 * @module
 */

import { cannotRead } from "../config/cannot-read.ts";
import type { Settings } from "../config/settings.ts";
import { rewrapped } from "../core/ca/rewrap.ts";
import { ConfigError, StoreError } from "../core/errors.ts";
import type { CaState } from "../core/state.ts";
import { createSealer } from "../seal/envelope.ts";
import { readKeks } from "../seal/kek.ts";
import type { Backend } from "../store/backend.ts";
import { type Codec, createCodec } from "../store/codec.ts";
import { createFileLooks, createMemoryLooks } from "../store/looks.ts";
import type { Platform } from "./platform.ts";
import type { KeptKeks } from "./seal.ts";

/**
 * Opens a store. Each is loaded only if it is used, since not every runtime has what it needs.
 * @param keepConnecting a Redis that does not answer is opened all the same, and connected to as
 * soon as it does.
 * @throws {StoreError}
 */
export async function openBackend(
  settings: Pick<Settings, "store" | "worker">,
  platform: Platform,
  keepConnecting = false,
): Promise<Backend> {
  const { clock, log } = platform;
  switch (settings.store.kind) {
    case "memory":
      return (await import("../store/memory/store.ts")).createMemoryBackend(clock);
    case "sqlite": {
      const kept = platform.persistentFile("looks-sqlite.json");
      const looks = kept === null ? createMemoryLooks() : createFileLooks(kept, log);
      return (await import("../store/sqlite/store.ts")).openSqlite(settings.store.path, clock, {
        shared: settings.worker !== null,
        looks,
      });
    }
    case "redis":
      return (await import("../store/redis/store.ts")).openRedis({
        settings: settings.store,
        clock,
        log,
        keepConnecting,
      });
  }
}

/**
 * Makes the store ready to be shared by the workers of one server.
 * @returns what gives it back. @throws {StoreError}
 */
export async function claimStore({ store }: Pick<Settings, "store">): Promise<() => void> {
  if (store.kind !== "sqlite") return () => undefined;
  return (await import("../store/sqlite/store.ts")).claimSqlite(store.path);
}

/**
 * The state that a new cluster is to begin with, sealed anew under the keys given here.
 * @param keks what was given; a SQLite CA's own lie beside it.
 * @throws {ConfigError} @throws {StoreError} @throws {SealError}
 */
export async function readSource(
  { kind, path }: NonNullable<Settings["source"]>,
  keks: KeptKeks,
  platform: Platform,
): Promise<CaState> {
  const beside = kind === "sqlite" ? readIfThere(platform, path.replace(/[^/]*$/, "kek")) : "";
  const given = (await readKeks(keks.text)).ids;
  const others = beside
    .split(/[\s,]+/)
    .filter((entry) => entry !== "" && !given.includes(entry.split(":")[0] ?? ""));
  const sealer = createSealer(
    await readKeks([keks.text, await keks.open(others.join(","))].join(",")),
  );
  const codec = createCodec(sealer);
  const state = await (kind === "backup"
    ? readBackup(path, codec, platform)
    : readDatabase(path, codec, platform)
  ).catch((error: unknown) => {
    // Another replica may be reading the file: the caller tries again.
    if (!(error instanceof StoreError) || error.code === "store_busy") throw error;
    throw new ConfigError(
      `MESHCA_IMPORT: cannot use ${JSON.stringify(path)}: ${error.message}`,
      [],
      { cause: error },
    );
  });
  if (state === null) throw new ConfigError(`MESHCA_IMPORT: ${JSON.stringify(path)} holds no CA`);
  // Access control does not come along: its records are no part of the state.
  return { ...state, access: null, provider: await rewrapped(state, sealer) };
}

/** @throws {ConfigError} @throws {StoreError} @throws {SealError} */
async function readBackup(path: string, codec: Codec, platform: Platform): Promise<CaState> {
  let text: string;
  try {
    text = platform.readFile(path);
  } catch (error) {
    throw new ConfigError(`MESHCA_IMPORT: ${cannotRead(path, error)}`, [], { cause: error });
  }
  if (text === "") throw new ConfigError(`MESHCA_IMPORT: ${JSON.stringify(path)} is empty`);
  return codec.decode(text);
}

/**
 * Null if there is no CA in the database.
 * @throws {ConfigError}
 * @throws {StoreError}
 * @throws {SealError}
 */
async function readDatabase(
  path: string,
  codec: Codec,
  platform: Platform,
): Promise<CaState | null> {
  if (!platform.fileExists(path))
    throw new ConfigError(`MESHCA_IMPORT: there is no file ${JSON.stringify(path)}`);
  const backend = (await import("../store/sqlite/store.ts")).openSqlite(path, platform.clock);
  try {
    return (await backend.open(codec, "import").store.read()).state;
  } finally {
    backend.close();
  }
}

function readIfThere(platform: Platform, path: string): string {
  return platform.fileExists(path) ? platform.readFile(path) : "";
}
