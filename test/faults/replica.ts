/**
 * A replica whose test can have it wait at any call of a port: the real composition over the real
 * Redis, served as src/entry/bun.ts serves it. Run as a child process with its options as the one
 * argument.
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { openBackend } from "../../src/compose/backend.ts";
import type { Platform } from "../../src/compose/platform.ts";
import { composeOver, type Meshca } from "../../src/compose/process.ts";
import { CaError } from "../../src/core/errors.ts";
import type { Log } from "../../src/core/ports/log.ts";
import type { CaState } from "../../src/core/state.ts";
import { makeDataDir } from "../../src/entry/data-platform.ts";
import { createPlatform, systemClock } from "../../src/entry/platform.ts";
import type { Backend } from "../../src/store/backend.ts";
import { SCRIPTS } from "../../src/store/redis/scripts.ts";
import { overriding } from "../fixtures/overriding.ts";
import { settingsWith } from "../fixtures/settings.ts";
import type { Arm, Command, ReplicaOptions, Report } from "./messages.ts";

const options = JSON.parse(process.argv[2] ?? "") as ReplicaOptions;
const report = (what: Report) => void process.send?.(what);

/** Set within the handling of an HTTP request. */
const change = new AsyncLocalStorage<true>();
let armed: Arm | null = options.arm;
let calls = 0;
let go = (): void => undefined;

process.on("message", (command: Command) => {
  if (command.kind === "arm") [armed, calls] = [command, 0];
  else if (command.kind === "disarm") armed = null;
  else go();
});
// A replica whose test has ended exits.
process.on("disconnect", () => process.exit());

/** Waits here if this is the call that was asked for. */
async function gate(moment: Arm["moment"], port: string): Promise<void> {
  if (armed === null || armed.moment !== moment || (armed.port ?? port) !== port) return;
  if (armed.scope === "change" && change.getStore() !== true) return;
  if (++calls !== armed.call) return;
  armed = null;
  const { promise, resolve } = Promise.withResolvers<void>();
  go = resolve;
  report({ kind: "held", port });
  await promise;
}

/** A port that waits at the gate before and after each call. */
function gated<T extends object>(name: string, port: T): T {
  return new Proxy(port, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== "function") return value;
      return async (...args: unknown[]) => {
        await gate("before", `${name}.${String(key)}`);
        const result: unknown = await value.apply(target, args);
        await gate("after", `${name}.${String(key)}`);
        return result;
      };
    },
  });
}

/** The state without its cross-signed certificates. */
function withoutCrossings(state: CaState): CaState {
  return { ...state, roots: state.roots.map((root) => ({ ...root, intermediates: [] })) };
}

function mutate(text: string, part: string): string {
  if (!text.includes(part)) throw new Error(`The script has changed: ${part}`);
  return text.replace(part, "");
}

function testBackend(backend: Backend): Backend {
  return {
    open(codec, holder) {
      const { store, leases, replicas, access, looks, leaves, backups, facts } = backend.open(
        codec,
        holder,
      );
      const commit: typeof store.commit = (next, expected) =>
        store.commit(options.mutation === "no-crossing" ? withoutCrossings(next) : next, expected);
      return {
        store: gated("store", overriding(store, { commit })),
        leases: gated("leases", leases),
        replicas: gated("replicas", replicas),
        access,
        looks: gated("looks", looks),
        ...{ leaves, backups, facts },
      };
    },
    close: () => backend.close(),
  };
}

const logAt =
  (level: string): Log["info"] =>
  (message, fields) =>
    report({ kind: "log", level, message, fields });

if (options.mutation === "no-term") SCRIPTS.commit = mutate(SCRIPTS.commit, "term == ARGV[6] and ");
if (options.mutation === "no-index")
  SCRIPTS.commit = mutate(SCRIPTS.commit, " and index == ARGV[4] and commit == ARGV[5]");

let meshca: Meshca | null = null;
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  idleTimeout: 0,
  fetch: (request) =>
    change.run(true, () => meshca?.fetch(request) ?? new Response(null, { status: 503 })),
});
const settings = settingsWith({
  listen: { host: "127.0.0.1", port: server.port ?? 0 },
  dataDir: options.dataDir,
  store: options.store,
  kek: options.kek,
  maxStalenessMs: options.maxStalenessMs,
  // More rotations than an operator makes while a leaf lives.
  maxChainLength: 32,
  logLevel: "error",
});
makeDataDir(settings.dataDir);
const platform: Platform = {
  ...createPlatform(settings),
  clock: { ...systemClock, now: () => new Date(Date.now() + options.clockOffsetMs) },
  log: {
    debug() {},
    info: logAt("info"),
    warn: logAt("warn"),
    error: logAt("error"),
    inRequest: (_requestId, work) => work(),
  },
};
try {
  const composed = await composeOver(
    testBackend(await openBackend(settings, platform)),
    settings,
    platform,
    options.policy,
  );
  const adopted = () => {
    const { snapshot } = composed.ca;
    if (snapshot === null) return;
    const { state, active } = snapshot;
    report({ kind: "adopted", index: state.index, commit: state.commitId, active: active.id });
  };
  composed.ca.subscribe(adopted);
  await composed.start();
  adopted();
  meshca = composed;
  void composed.run();
  report({ kind: "listening", url: `http://127.0.0.1:${server.port}` });
} catch (error) {
  report({
    kind: "failed",
    reason: error instanceof CaError ? `${error.code}: ${error.message}` : String(error),
  });
  process.disconnect?.();
}
