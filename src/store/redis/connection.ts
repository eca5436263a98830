/**
 * Connections to Redis: one server, Sentinel or Cluster, through ioredis. What is sent is sent
 * once: a command whose answer is missing may have been executed, and only its sender can find out.
 * @module
 */
import { Cluster, Redis } from "ioredis";
import type { Random } from "../../core/ports/clock.ts";
import type { RedisSettings } from "./settings.ts";

export type Client = Redis | Cluster;

/**
 * Backoff doubles from the first number to the second, in milliseconds; up to a quarter is jitter.
 */
const [FIRST_RETRY_MS, LAST_RETRY_MS] = [50, 3000];

const backoffOf = (random: Pick<Random, "fraction">) => (times: number) =>
  Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(times, 10)) *
  (0.75 + random.fraction() / 4);

/**
 * Makes a client that is not connected yet. Nothing is queued while it is not, and nothing is sent
 * a second time.
 */
export function createClient(settings: RedisSettings, random: Pick<Random, "fraction">): Client {
  const backoff = backoffOf(random);
  const { username, password, tls } = settings;
  const secure =
    tls === null ? {} : { tls: { ...(tls.ca === null ? {} : { ca: tls.ca }), ...pair(tls) } };
  const common = {
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...secure,
    // RESP2: HELLO is one more command to allow, for nothing that is used here.
    protocol: 2 as const,
    disableClientInfo: true,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Without a queue ioredis subscribes again too early; backend.ts subscribes when the connection
    // is ready.
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    connectTimeout: settings.connectTimeoutMs,
    commandTimeout: settings.commandTimeoutMs,
    // A connection whose other end is gone without a word (a firewall that forgot it, a host that
    // was switched off) is given up, instead of timing out command by command until the kernel
    // does, a quarter of an hour later.
    socketTimeout: 2 * settings.commandTimeoutMs,
  };
  if (settings.mode === "cluster") {
    return new Cluster([...settings.nodes], {
      redisOptions: common,
      lazyConnect: true,
      enableOfflineQueue: false,
      // A connection that closed may have had its command executed; 0 also gives up on a cluster
      // that is down.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      clusterRetryStrategy: backoff,
      // What moved is noticed by the answer MOVED, which did nothing; this is for a master that is
      // gone.
      slotsRefreshInterval: 2000,
      slotsRefreshTimeout: settings.connectTimeoutMs,
    });
  }
  if (settings.mode === "sentinel") {
    const { sentinelUsername, sentinelPassword, master, nodes, db } = settings;
    return new Redis({
      ...common,
      db,
      sentinels: [...nodes],
      name: master ?? "",
      ...(sentinelUsername === null ? {} : { sentinelUsername }),
      ...(sentinelPassword === null ? {} : { sentinelPassword }),
      ...(secure.tls === undefined
        ? {}
        : { sentinelTLS: secure.tls, enableTLSForSentinelMode: true }),
      retryStrategy: backoff,
      sentinelRetryStrategy: backoff,
      // Else a sentinel that accepts connections and never answers is waited for without end.
      sentinelCommandTimeout: settings.commandTimeoutMs,
      // A master that was cut off does not know that it was replaced; the sentinels do.
      failoverDetector: true,
      // The one that was a master answers so once it knows. Reconnects, without sending the command
      // again.
      reconnectOnError: (error: Error) => error.message.includes("READONLY"),
    });
  }
  return new Redis({ ...common, ...settings.nodes[0], db: settings.db, retryStrategy: backoff });
}

/**
 * Reconnects a client when ioredis gives up: if Sentinel reports a failover while the client looks
 * for the master, it ends (`FailoverDetector` closes what has not been opened).
 * @returns stops reconnecting; the client has still to be disconnected.
 */
export function keepConnecting(client: Client, random: Pick<Random, "fraction">): () => void {
  const backoff = backoffOf(random);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  let times = 0;
  client.on("ready", () => {
    times = 0;
  });
  const connectAgain = () => {
    if (over) return;
    timer = setTimeout(() => void client.connect().catch(() => undefined), backoff(times++));
  };
  client.on("end", connectAgain);
  // The event of a client that gave up before was missed.
  if (client.status === "end") connectAgain();
  return () => {
    over = true;
    clearTimeout(timer);
  };
}

function pair({ cert, key }: NonNullable<RedisSettings["tls"]>): { cert?: string; key?: string } {
  return cert === null || key === null ? {} : { cert, key };
}
