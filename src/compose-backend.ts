/**
 * The part of the composition root that opens stores: the one that is served, and what a new cluster begins with.
 * @module
 */
import type { Platform } from "./compose.ts";
import type { KeptKeks } from "./compose-seal.ts";
import type { Settings } from "./config/settings.ts";
import { rewrapped } from "./core/ca/rewrap.ts";
import type { CaState } from "./core/ca/state.ts";
import { ConfigError } from "./core/errors.ts";
import { createSealer } from "./seal/envelope.ts";
import { readKeks } from "./seal/kek.ts";
import type { Backend } from "./store/backend.ts";
import { createCodec } from "./store/codec.ts";
import { createFileLooks, createMemoryLooks } from "./store/looks.ts";

/**
 * Opens a store. Each is loaded only if it is used, since not every runtime has what it needs.
 * @param keepConnecting a Redis that does not answer is opened all the same, and connected to as soon as it does.
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
      return (await import("./store/memory.ts")).createMemoryBackend(clock);
    case "sqlite": {
      const kept = platform.kept("looks-sqlite.json");
      const looks = kept === null ? createMemoryLooks() : createFileLooks(kept, log);
      return (await import("./store/sqlite.ts")).openSqlite(settings.store.path, clock, { shared: settings.worker !== null, looks });
    }
    case "redis":
      return (await import("./store/redis.ts")).openRedis({ settings: settings.store, clock, log, keepConnecting });
  }
}

/**
 * Makes the store ready to be shared by the workers of one server.
 * @returns what gives it back. @throws {StoreError}
 */
export async function claimStore({ store }: Pick<Settings, "store">): Promise<() => void> {
  if (store.kind !== "sqlite") return () => undefined;
  return (await import("./store/sqlite.ts")).claimSqlite(store.path);
}

/**
 * The state that a new cluster is to begin with, sealed anew under the keys given here.
 * @param keks what was given; a SQLite CA's own lie beside it.
 * @throws {ConfigError} @throws {StoreError} @throws {SealError}
 */
export async function readSource({ kind, path }: NonNullable<Settings["source"]>, keks: KeptKeks, platform: Platform): Promise<CaState> {
  const beside = kind === "sqlite" ? readIfThere(platform, path.replace(/[^/]*$/, "kek")) : "";
  const given = (await readKeks(keks.text)).ids;
  const others = beside.split(/[\s,]+/).filter((entry) => entry !== "" && !given.includes(entry.split(":")[0] ?? ""));
  const sealer = createSealer(await readKeks([keks.text, await keks.open(others.join(","))].join(",")));
  const codec = createCodec(sealer);
  let state: CaState | null = null;
  if (kind === "backup") {
    const text = readIfThere(platform, path);
    if (text === "") throw new ConfigError(`MESHCA_IMPORT: cannot read ${JSON.stringify(path)}`);
    state = await codec.decode(text);
  } else {
    if (!platform.isThere(path)) throw new ConfigError(`MESHCA_IMPORT: there is no file ${JSON.stringify(path)}`);
    const backend = (await import("./store/sqlite.ts")).openSqlite(path, platform.clock);
    try {
      ({ state } = await backend.open(codec, "import").store.read());
    } finally {
      backend.close();
    }
  }
  if (state === null) throw new ConfigError(`MESHCA_IMPORT: ${JSON.stringify(path)} holds no CA`);
  // Access control does not come along: its records are no part of the state.
  return { ...state, access: null, provider: await rewrapped(state, sealer) };
}

function readIfThere(platform: Platform, path: string): string {
  return platform.isThere(path) ? platform.readFile(path) : "";
}
