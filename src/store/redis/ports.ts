/**
 * The ports over Redis, whatever connection the scripts go through. All keys of a CA have one hash
 * tag, so that the same scripts run on a Cluster.
 * @module
 */
import * as v from "valibot";
import { StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { LeaseName } from "../../core/ports/lease.ts";
import type { Log } from "../../core/ports/log.ts";
import type { CaState } from "../../core/state.ts";
import type { Ports } from "../backend.ts";
import { requireExpected } from "../checks.ts";
import type { Codec } from "../codec.ts";
import { readLooks, writeLooks } from "../looks.ts";
import { readReplica } from "../replica-record.ts";
import { createRedisAccess } from "./acl.ts";
import { redisError } from "./error.ts";
import { createRedisLeases } from "./lease.ts";
import { SCRIPTS } from "./scripts.ts";
import type { RedisSettings } from "./settings.ts";

/**
 * Behind the change notice, which may get lost, in milliseconds; up to a quarter more is jitter.
 */
const POLL_MS = 4000;
/** What the suite is run on. */
const OLDEST_REDIS = 7;

/** A connection, as far as the ports need it. What it rejects with is read by error.ts. */
export interface RedisCalls {
  /** Runs a script. */
  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** INFO of the server, or of every master of a Cluster. */
  info(section: string): Promise<unknown>;
  /** WAIT: how many copies have what was written. */
  wait(copies: number, ms: number): Promise<unknown>;
  /** Why there is no connection, as far as it is known. */
  readonly silence: unknown;
}

export interface RedisKeys {
  readonly state: string;
  readonly stop: string;
  readonly replicas: string;
  readonly probe: string;
  /** What is remembered of looks at the clock. */
  readonly looks: string;
  /** Where the records of access control are, and what was written last. */
  readonly access: string;
  readonly accessRecords: string;
  readonly accessKeys: string;
  readonly accessLog: string;
  /** What was claimed, with the end of each claim. */
  readonly accessClaims: string;
  /** The channel of its change notice. */
  readonly accessChanged: string;
  /** The channel of the change notice. */
  readonly changed: string;
  lease(name: LeaseName): string;
  /** What may be claimed once, as versions before `accessClaims` keep it. */
  claim(id: string): string;
}

/** Runs one of the scripts. @throws {StoreError} */
export type RunScript = <T>(
  script: keyof typeof SCRIPTS,
  answer: v.GenericSchema<unknown, T>,
  keys: readonly string[],
  args: readonly string[],
) => Promise<T>;

export function redisKeys(prefix: string): RedisKeys {
  const key = (name: string) => `{${prefix}}:${name}`;
  return {
    state: key("state"),
    stop: key("stop"),
    replicas: key("replicas"),
    probe: key("probe"),
    looks: key("looks"),
    changed: key("changed"),
    access: key("access"),
    accessRecords: key("access:records"),
    accessKeys: key("access:keys"),
    accessLog: key("access:log"),
    accessClaims: key("access:claims"),
    accessChanged: key("access:changed"),
    lease: (name) => key(`lease:${name}`),
    claim: (id) => key(`access:claim:${id}`),
  };
}

const Texts = v.array(v.string());
const ReadAnswer = v.tuple([v.string(), v.string(), v.string(), v.string(), v.string()]);
const CommitAnswer = v.tuple([v.string(), v.string(), v.string(), v.string()]);
const MarkAnswer = v.union([
  v.tuple([v.string(), v.string(), v.string(), v.string(), v.string()]),
  v.tuple([]),
]);

/** @throws {StoreError} */
export async function answered<T>(
  calls: RedisCalls,
  answer: v.GenericSchema<unknown, T>,
  call: () => Promise<unknown>,
): Promise<T> {
  try {
    return v.parse(answer, await call());
  } catch (error) {
    throw redisError(error, calls.silence);
  }
}

/** What runs scripts on a connection. */
export function scriptsOf(calls: RedisCalls): RunScript {
  return (script, answer, keys, args) =>
    answered(calls, answer, () => calls.eval(SCRIPTS[script], keys, args));
}

/**
 * @throws {StoreError} for a Redis that is too old, may evict keys, or does not allow what is
 * needed
 */
export async function checkRedis(calls: RedisCalls, keys: RedisKeys, log: Log): Promise<void> {
  await requireReliable((section) => answered(calls, v.string(), () => calls.info(section)), log);
  const [command, fault] = await scriptsOf(calls)("probe", Texts, [keys.probe], [keys.changed]);
  if (command !== undefined) throw redisError(new Error(fault), calls.silence, command);
}

/** @throws {StoreError} `store_refused` for a Redis that is too old or may drop keys */
async function requireReliable(
  info: (section: string) => Promise<string>,
  log: Log,
): Promise<void> {
  const values = (text: string, name: string) =>
    [...text.matchAll(new RegExp(`^${name}:(.*?)\r?$`, "gm"))].map((match) => match[1] ?? "");
  for (const version of values(await info("server"), "redis_version"))
    if (Number.parseInt(version, 10) < OLDEST_REDIS)
      throw new StoreError(
        "store_refused",
        `Redis is too old: it is ${version}, meshca needs ${OLDEST_REDIS}.0 or newer`,
      );
  for (const policy of values(await info("memory"), "maxmemory_policy"))
    if (policy !== "noeviction")
      throw new StoreError(
        "store_refused",
        `Redis may evict the CA: its maxmemory-policy is ${policy}; set it to noeviction`,
      );
  if (values(await info("persistence"), "aof_enabled").includes("0"))
    log.warn(
      "Redis keeps no append-only file: a restart of it loses changes; set appendonly yes and appendfsync always",
    );
}

/**
 * After a commit: WAIT until copies have it, where that was asked for. The commit stands whether
 * they do or not.
 */
export function createConfirmation(
  calls: RedisCalls,
  { waitReplicas, commandTimeoutMs }: RedisSettings,
  log: Log,
): () => Promise<void> {
  if (waitReplicas === 0) return async () => undefined;
  return async () => {
    const copies = Number(
      await calls.wait(waitReplicas, Math.floor(commandTimeoutMs / 2)).catch(() => 0),
    );
    if (copies < waitReplicas)
      log.warn("A change was confirmed by fewer copies than asked for", {
        copies,
        wanted: waitReplicas,
      });
  };
}

export interface PortsOptions {
  readonly run: RunScript;
  readonly keys: RedisKeys;
  readonly codec: Codec;
  readonly clock: Clock;
  /** Waits until copies have the commit, where that was asked for. */
  readonly confirm: () => Promise<void>;
  /** Resolves at the next notice or when the signal fires. */
  readonly wait: (signal: AbortSignal) => Promise<void>;
  /** The same for access control. */
  readonly accessWait: (signal: AbortSignal) => Promise<void>;
  readonly holder: string;
  /** What was read last: it is neither sent nor checked again while it is what is stored. */
  readonly memory: { known: { readonly state: CaState; readonly kek: string } | null };
}

export function openPorts({
  run,
  keys,
  codec,
  clock,
  confirm,
  wait,
  accessWait,
  holder,
  memory,
}: PortsOptions): Ports {
  const all = [keys.state, keys.lease("operation"), keys.stop];

  return {
    store: {
      async read() {
        const before = memory.known;
        const [index, commitId, term, stopped, document] = await run("read", ReadAnswer, all, [
          before?.state.commitId ?? "",
        ]);
        const stored = { term: Number(term), stopped: stopped === "" ? null : stopped };
        if (commitId === "") return { ...stored, state: null, kek: null };
        if (before?.state.commitId === commitId) return { ...stored, ...before };
        const state = await codec.decode(document);
        // The fields are compared at each commit; only the document has a MAC.
        if (String(state.index) !== index || state.commitId !== commitId)
          throw new StoreError(
            "state_corrupt",
            "Cannot trust the stored state: its index and commit id are not of its document",
          );
        const known = { state, kek: codec.kekOf(document) };
        memory.known = known;
        return { ...stored, ...known };
      },
      async commit(next, expected) {
        const { index, commitId, term, resolves } = expected;
        const written = [String(next.index), next.commitId, await codec.encode(next)];
        const wanted = [String(index), commitId ?? "", String(term), resolves ?? ""];
        const was = await run("commit", CommitAnswer, all, [...written, ...wanted, keys.changed]);
        const [wasIndex, wasCommit, wasTerm, wasStopped] = was;
        const found = {
          index: Number(wasIndex),
          commitId: wasCommit === "" ? null : wasCommit,
          term: Number(wasTerm),
        };
        requireExpected({ ...found, stopped: wasStopped === "" ? null : wasStopped }, expected);
        await confirm();
      },
      async stop({ state, term, reason, by, found }) {
        const mark = [
          String(state.index),
          state.commitId,
          String(term),
          await codec.encode(state),
          reason,
          by,
        ];
        await run(
          "stop",
          v.number(),
          [keys.stop, keys.state],
          [...mark, keys.changed, found ?? ""],
        );
      },
      async stopMark() {
        const [document, term, reason, by, at] = await run("mark", MarkAnswer, [keys.stop], []);
        if (document === undefined) return null;
        return {
          state: await codec.decode(document),
          term: Number(term),
          reason: reason ?? "",
          by: by ?? "",
          at: new Date(Number(at)),
        };
      },
      async watch(commitId, signal) {
        const poll = new AbortController();
        void clock.sleep(POLL_MS * (1 + Math.random() / 4), poll.signal).then(() => poll.abort());
        const end = AbortSignal.any([signal, poll.signal]);
        const look = () => run("read", ReadAnswer, all, [commitId ?? ""]);
        try {
          // Listens before it looks, so that nothing happens in between. A notice may be of what is
          // known already.
          for (let before: string | null = null; !end.aborted; ) {
            const changed = wait(end);
            const [, stored, , stopped] = await look();
            if (stored !== (commitId ?? "") || (before !== null && stopped !== before)) return;
            before = stopped;
            await changed;
          }
        } finally {
          poll.abort();
        }
      },
      now: async () => new Date(Number(await run("now", v.string(), [keys.state], []))),
      async close() {},
    },
    leases: createRedisLeases(run, keys, holder),
    replicas: {
      async announce(self, ttlMs) {
        const live = await run(
          "announce",
          Texts,
          [keys.replicas],
          [self.id, JSON.stringify(self), String(ttlMs)],
        );
        return live.flatMap(readReplica);
      },
      async leave(id) {
        await run("leave", v.number(), [keys.replicas], [id]);
      },
    },
    access: createRedisAccess({ run, keys, clock, confirm, wait: accessWait }),
    looks: {
      load: async () => readLooks(await run("looks", v.string(), [keys.looks], [])),
      save: async (looks, version) =>
        (await run("saveLooks", v.number(), [keys.looks], [version, writeLooks(looks)])) === 1,
    },
  };
}
