/**
 * Gets every certificate once, writes the folders and runs their commands: for init containers and
 * CI.
 * @module
 */
import type { AgentSettings } from "../config/agent-types.ts";
import { ConfigError } from "../core/errors.ts";
import type { AgentSystem } from "./agent.ts";
import { Connection, openCache } from "./connection.ts";
import { foldersOf } from "./deliveries.ts";
import { Identity } from "./identity.ts";
import { AgentPrometheus } from "./prometheus.ts";
import { trustProblem } from "./prospects.ts";

/** How it ended: `refused` by a server for good, `late` at the time limit, `hook` failed. */
interface OnceOutcome {
  readonly kind: "ok" | "refused" | "rejected" | "late" | "hook";
  /** What is wrong, each a sentence; empty if all is well. */
  readonly reasons: readonly string[];
}

/** How often the state is looked at, in milliseconds. */
const LOOK_MS = 25;

/**
 * @param signal ends it early, as the time limit does.
 * @throws {ConfigError} if a folder cannot be used, or there is nothing to write
 */
export async function getOnce(
  settings: AgentSettings,
  { clock, random, log, version, runtime, usage }: AgentSystem,
  signal: AbortSignal,
): Promise<OnceOutcome> {
  if (settings.folders.length === 0 && settings.cacheDir === null)
    throw new ConfigError(
      "Cannot get certificates once: there is no folder to write; give --dir, folders in the configuration file, or --cache-dir",
    );
  const metrics = new AgentPrometheus({ version, runtime }, usage);
  const cache = await openCache(settings, log);
  const connection = new Connection({ settings, cache, clock, random, log });
  const identities = settings.identities.map(
    (identity) => new Identity(connection.leafOf(identity)),
  );
  const folders = foldersOf({ settings, connection, identities, metrics, clock, log });
  const closing = new AbortController();
  const ended = AbortSignal.any([signal, closing.signal]);
  let isLate = false;
  const limit = clock.sleep(settings.onceTimeoutMs, ended).then(() => {
    isLate = true;
  });
  const parts = { connection, identities, folders, settings };
  try {
    for (const { folder } of folders) await folder.start();
    void connection.roots.start();
    for (const identity of identities) void identity.start();
    for (;;) {
      const outcome = await stateOf(parts, limit);
      if (outcome !== null) return outcome;
      if (isLate) return { kind: "late", reasons: missing(parts) };
      await Promise.race([limit, clock.sleep(LOOK_MS, ended)]);
    }
  } finally {
    closing.abort();
    for (const { folder } of folders) await folder.close();
    for (const identity of identities) await identity.close();
    await connection.close();
  }
}

interface Parts {
  readonly connection: Connection;
  readonly identities: readonly Identity[];
  readonly folders: ReturnType<typeof foldersOf>;
  readonly settings: AgentSettings;
}

/** The outcome if it is known already, or null. @param limit resolves at the time limit. */
async function stateOf(
  { connection: { roots }, identities, folders }: Parts,
  limit: Promise<void>,
): Promise<OnceOutcome | null> {
  for (const kind of ["refused", "rejected"] as const) {
    const failures = identities.flatMap(({ failure, svid }) =>
      svid.current === null && failure?.code === kind ? [failure.message] : [],
    );
    if (failures.length > 0) return { kind, reasons: [...new Set(failures)] };
  }
  if (roots.current === null || identities.some(({ svid }) => svid.current === null)) return null;
  // A command may run for longer than there is time.
  const settled = Promise.all(folders.map(({ folder }) => folder.settled()));
  const isSettled = await Promise.race([limit.then(() => false), settled.then(() => true)]);
  if (!isSettled || folders.some(({ folder }) => folder.problem !== null)) return null;
  const reasons = folders.flatMap(({ folder: { hookProblem } }) => hookProblem ?? []);
  return { kind: reasons.length === 0 ? "ok" : "hook", reasons };
}

/** What is not there at the time limit. */
function missing({ connection, identities, folders, settings }: Parts): string[] {
  const { roots, pool } = connection;
  const { trustExpiredAt } = pool;
  const expired = trustProblem(settings, { trustExpiredAt, defaultPolicy: roots.defaultPolicy });
  const found = [
    ...(expired === null ? [] : [expired]),
    ...(roots.current === null ? [roots.problem ?? pool.problem ?? "The roots are not known"] : []),
    ...identities.flatMap(({ svid, problem, service }) =>
      svid.current === null
        ? [problem ?? `There is no certificate of ${service || "the token"}`]
        : [],
    ),
    ...folders.flatMap(({ folder: { problem } }) => problem ?? []),
  ];
  // Only a command can still be running.
  return found.length > 0 ? [...new Set(found)] : ["A command after a change did not end in time"];
}
