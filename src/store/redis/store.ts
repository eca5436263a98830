/**
 * The shared store of a process: one document in Redis, replaced by one script that compares index,
 * commit id and term, over a connection that stays, with a second one that hears of changes.
 * @module
 */
import * as v from "valibot";
import { StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import type { Backend } from "../backend.ts";
import { createWaiter } from "../waiter.ts";
import { type Client, createClient, keepConnecting } from "./connection.ts";
import { refusalOf } from "./error.ts";
import {
  answered,
  checkRedis,
  createConfirmation,
  openPorts,
  type RedisCalls,
  redisKeys,
  scriptsOf,
} from "./ports.ts";
import type { RedisSettings } from "./settings.ts";

export interface RedisOptions {
  readonly settings: RedisSettings;
  readonly clock: Clock;
  readonly log: Log;
  /**
   * Whether a Redis that does not answer is opened all the same, and connected to as soon as it
   * does. @default false
   */
  readonly keepConnecting?: boolean;
}

/**
 * Connects to Redis and checks that it can be relied on.
 * @throws {StoreError} if it refuses, is too old or would evict keys, and, without
 * `keepConnecting`, if it does not answer
 */
export async function openRedis({
  settings,
  clock,
  log,
  keepConnecting: patient = false,
}: RedisOptions): Promise<Backend> {
  const client = createClient(settings);
  const subscriber = createClient(settings);
  const keys = redisKeys(settings.prefix);
  // Never the user or the password, which the URL has too.
  const hosts = settings.nodes
    .map(({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`)
    .join(", ");
  const waiter = createWaiter();
  const accessWaiter = createWaiter();
  let silence: unknown = null;
  const direct: RedisCalls = {
    eval: (script, names, args) => client.eval(script, names.length, ...names, ...args),
    info: (section) => infoOf(client, section),
    wait: (copies, ms) => client.wait(copies, ms),
    get silence() {
      return silence;
    },
  };
  /** Null once the server was found reliable; until then no script runs. */
  let check: (() => Promise<void>) | null = () => checkRedis(direct, keys, log);
  let checking: Promise<void> | null = null;
  const requireChecked = async (): Promise<void> => {
    if (check === null) return;
    checking ??= check().finally(() => {
      checking = null;
    });
    await checking;
    check = null;
  };
  const calls: RedisCalls = {
    async eval(script, names, args) {
      if (check !== null) await requireChecked();
      return direct.eval(script, names, args);
    },
    info: direct.info,
    wait: direct.wait,
    get silence() {
      return silence;
    },
  };
  for (const connection of [client, subscriber])
    connection.on("error", (error: unknown) => {
      // What a refusal makes fail next says less than the refusal.
      if (refusalOf(silence) === null || refusalOf(error) !== null) silence = error;
    });
  let connected = false;
  client.on("close", () => {
    if (connected) log.warn("The connection to Redis is lost", { redis: hosts });
    connected = false;
  });
  client.on("ready", () => {
    silence = null;
    connected = true;
    log.info("Connected to Redis", { redis: hosts });
  });
  subscriber.on("message", (channel: string) =>
    (channel === keys.accessChanged ? accessWaiter : waiter).notify(),
  );
  // What was published before was missed. Where it fails the poll is left, and the next connection
  // tries again.
  const wakeAll = () => {
    waiter.notify();
    accessWaiter.notify();
  };
  const subscribe = () =>
    subscriber.subscribe(keys.changed, keys.accessChanged).then(wakeAll, () => undefined);

  const endings: (() => void)[] = [];
  const close = () => {
    connected = false;
    for (const end of endings) end();
    client.disconnect();
    subscriber.disconnect();
  };
  try {
    await answered(calls, v.unknown(), () =>
      connectWithin(client, settings.connectTimeoutMs, clock),
    );
    await requireChecked();
    await answered(calls, v.unknown(), async () => {
      await connectWithin(subscriber, settings.connectTimeoutMs, clock);
      await subscriber.subscribe(keys.changed, keys.accessChanged);
    });
  } catch (error) {
    if (!(error instanceof StoreError)) {
      close();
      throw error;
    }
    if (!patient || error.code !== "store_unavailable") {
      close();
      throw new StoreError(error.code, `${error.message} (MESHCA_STORE: ${hosts})`, {
        cause: error,
        ...retryOf(error),
      });
    }
    log.warn("Redis does not answer; it is tried again", { redis: hosts, reason: error.message });
  }
  subscriber.on("ready", () => void subscribe());
  // After a failure ioredis connects again by itself; what was never connected has to be told.
  if (subscriber.status === "wait") subscriber.connect().catch(() => undefined);
  endings.push(keepConnecting(client), keepConnecting(subscriber));
  const confirm = createConfirmation(calls, settings, log);

  return {
    open: (codec, holder) =>
      openPorts({
        run: scriptsOf(calls),
        keys,
        codec,
        clock,
        confirm,
        wait: waiter.wait,
        accessWait: accessWaiter.wait,
        holder,
        memory: { known: null },
      }),
    close,
  };
}

/** Sentinel and Cluster look for a master for ever; a start does not. */
async function connectWithin(client: Client, ms: number, clock: Clock): Promise<void> {
  const connected = new AbortController();
  const late = clock.sleep(ms, connected.signal).then(() => {
    if (!connected.signal.aborted) throw new Error("Connecting timed out");
  });
  try {
    await Promise.race([client.connect(), late]);
  } finally {
    connected.abort();
  }
}

/** INFO of the server, or of every master of a Cluster. */
async function infoOf(client: Client, section: string): Promise<string> {
  if (!("nodes" in client)) return client.info(section);
  return (await Promise.all(client.nodes("master").map((node) => node.info(section)))).join("\n");
}

function retryOf({ retryAfterMs }: StoreError): { retryAfterMs?: number } {
  return retryAfterMs === undefined ? {} : { retryAfterMs };
}
