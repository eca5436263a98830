/**
 * One run: replicas over one Redis, clients, the record of both, and the check at its end.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RedisUrl } from "../../src/config/store-url.ts";
import type { Policy } from "../../src/core/ca/timing-and-limits.ts";
import type { CaState } from "../../src/core/state.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { redisKeys } from "../../src/store/redis/keys.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { type RedisServer, redisUrl, until } from "../redis/server.ts";
import { check, type Violation } from "./check.ts";
import { type Client, createClient } from "./client.ts";
import { type Change, createRecorder, type History } from "./history.ts";
import type { Arm, Mutation, ReplicaOptions } from "./messages.ts";
import { createMonitor, type Monitor } from "./monitor.ts";
import { agreed, type ReplicaProcess, startReplica } from "./replica-process.ts";

/**
 * Short, so that a lease that is never released is not waited for long; their order is what the
 * policy asks for.
 */
export const QUICK: Partial<Policy> = {
  operationLeaseMs: 1000,
  operationWaitMs: 4000,
  settleMs: 2000,
  leaderLeaseMs: 1000,
  leaderRenewDeadlineMs: 700,
  leaderRetryMs: 200,
  heartbeatMs: 500,
  replicaTtlMs: 3000,
};

export interface StartOptions {
  /** A proxy's, instead of Redis itself. */
  readonly port?: number;
  readonly clockOffsetMs?: number;
  readonly mutation?: Mutation | null;
  readonly policy?: Partial<Policy>;
  readonly commandTimeoutMs?: number;
  /** The call at which it waits while it starts, and the action of the test then. */
  readonly arm?: Arm;
  readonly onHeld?: (replica: ReplicaProcess) => void;
}

export interface Mesh {
  /** All that were started and not killed. */
  readonly replicas: readonly ReplicaProcess[];
  readonly awake: readonly ReplicaProcess[];
  readonly monitors: readonly Monitor[];
  start(options?: StartOptions): Promise<ReplicaProcess>;
  /** Starts a killed replica again, on its data folder. */
  startAgain(replica: ReplicaProcess): Promise<ReplicaProcess>;
  client(): Client;
  /** Every client fetches roots and a leaf from one of the replicas that are awake. */
  traffic(pick: (replicas: readonly ReplicaProcess[]) => ReplicaProcess): Promise<void>;
  /** The state that a Redis holds. */
  stored(server?: RedisServer): Promise<CaState | null>;
  /** Waits until all replicas that are awake serve what is stored. */
  settle(server?: RedisServer): Promise<void>;
  /**
   * Waits until every replica that is awake hears change notices of one of these servers; the slow
   * poll would hide that it does not.
   */
  heard(servers?: readonly RedisServer[]): Promise<void>;
  /** Lets all clients fetch everything once more. @returns the violations. */
  verdict(options?: {
    readonly lossy?: boolean;
    readonly server?: RedisServer;
  }): Promise<Violation[]>;
  /** The same, and nothing may be found. */
  prove(options?: { readonly lossy?: boolean; readonly server?: RedisServer }): Promise<void>;
  close(): Promise<void>;
}

/** So often a replica is started again. */
const STARTS = 5;
let meshes = 0;

/**
 * @param servers all that may ever hold the state, the present master first.
 * @param url how replicas reach it; by default directly.
 */
export async function createMesh(servers: readonly RedisServer[], url?: RedisUrl): Promise<Mesh> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-faults-"));
  const kek = makeKek();
  const codec = createCodec(createSealer(await readKeks(kek)));
  const master = servers[0] as RedisServer;
  // A Cluster finds the slot of one prefix only: its servers are started for it.
  const prefix = url?.prefix ?? `faults-${process.pid}-${++meshes}`;
  const keys = redisKeys(prefix);
  const recorder = createRecorder();
  const monitors = await Promise.all(servers.map((server) => createMonitor(server, prefix, codec)));
  const replicas = new Set<ReplicaProcess>();
  const clients: Client[] = [];
  let folders = 0;
  let judged = false;

  const start = async (options: ReplicaOptions, onHeld?: (replica: ReplicaProcess) => void) => {
    for (let tries = 0; ; tries++) {
      try {
        const replica = await startReplica(options, recorder, onHeld);
        replicas.add(replica);
        return replica;
      } catch (error) {
        // A supervisor would restart it if Redis did not answer in time.
        if (tries === STARTS || !String(error).includes("store_unavailable")) throw error;
      }
    }
  };
  const present = () => [...replicas];
  const awake = () => present().filter((replica) => replica.awake);
  const stored = async (server = master) => {
    const document = await server.admin.hget(keys.state, "document");
    return document === null ? null : codec.decode(document);
  };
  const settle = (server?: RedisServer) =>
    agreed(awake(), async () => (await stored(server))?.commitId ?? null);

  const verdict: Mesh["verdict"] = async ({ lossy = false, server = master } = {}) => {
    for (const replica of awake())
      for (const client of clients) {
        await client.roots(replica);
        await client.sign(replica);
      }
    const lines = await Promise.all(monitors.map((monitor) => monitor.line()));
    const state = await stored(server);
    assert.ok(state !== null, "Redis holds no state");
    const history: History = {
      ...recorder,
      lines,
      last: { server: `redis ${server.port}`, state },
      lossy,
    };
    const found = await check(history);
    judged = true;
    return found;
  };
  /** The last output of the replicas, for the analysis of a failure. */
  const tell = () => {
    for (const { name, adopted, log } of replicas) console.log(name, adopted, log.slice(-10));
  };

  return {
    get replicas() {
      return present();
    },
    get awake() {
      return awake();
    },
    monitors,
    start: ({
      port,
      clockOffsetMs = 0,
      mutation = null,
      policy = {},
      commandTimeoutMs = 5000,
      arm,
      onHeld,
    } = {}) =>
      start(
        {
          store: {
            ...(url ?? redisUrl(port ?? master.port)),
            prefix,
            connectTimeoutMs: 5000,
            commandTimeoutMs,
          },
          kek,
          dataDir: join(folder, String(++folders)),
          policy: { ...QUICK, ...policy },
          maxStalenessMs: 300_000,
          clockOffsetMs,
          mutation,
          arm: arm ?? null,
        },
        onHeld,
      ),
    async startAgain(replica) {
      replicas.delete(replica);
      return start({ ...replica.options, arm: null });
    },
    client() {
      const client = createClient(recorder);
      clients.push(client);
      return client;
    },
    async traffic(pick) {
      await Promise.all(
        clients.map(async (client) => {
          await client.roots(pick(awake()));
          await client.sign(pick(awake()));
        }),
      );
    },
    stored,
    settle,
    heard: (among = [master]) =>
      until(async () => {
        const answers = await Promise.all(
          among.map(({ admin }) => admin.call("PUBSUB", "NUMSUB", keys.changed)),
        );
        const listeners = answers.map((answer) => (Array.isArray(answer) ? Number(answer[1]) : 0));
        return listeners.reduce((sum, count) => sum + count, 0) >= awake().length;
      }),
    verdict,
    async prove(options) {
      const found = await verdict(options);
      if (found.length > 0) tell();
      assert.deepEqual(found.slice(0, 10), [], `${found.length} violations`);
    },
    async close() {
      // It ended in an error.
      if (!judged) tell();
      for (const monitor of monitors) monitor.close();
      await Promise.all(present().map((replica) => replica.kill()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Asks until a change was made, by whichever of the replicas that are awake. */
export async function changeUntilMade(
  mesh: Mesh,
  change: (replica: ReplicaProcess) => Promise<Change>,
): Promise<void> {
  let turn = 0;
  let last: Change | null = null;
  await until(async () => {
    const { awake } = mesh;
    last = await change(awake[turn++ % awake.length] as ReplicaProcess);
    return last.outcome === "made";
  }).catch((error: unknown) => {
    throw new Error(`No change was made: ${last?.answer}`, { cause: error });
  });
}

/**
 * Asks for a change until one has come as far as `reached`; on a busy machine one may be refused
 * before.
 */
export async function changeUntil(
  reached: () => Promise<unknown>,
  ask: () => Promise<Change>,
): Promise<{ readonly change: Promise<Change> }> {
  for (let tries = 0; tries < 20; tries++) {
    const there = reached();
    const change = ask();
    if (await Promise.race([there.then(() => true), change.then(() => false)])) return { change };
  }
  throw new Error("No change came so far");
}
