/**
 * Connections to Redis: one server, Sentinel or Cluster, through ioredis. What is sent is sent once: a command whose
 * answer is missing may have been executed, and only its sender can find out.
 * @module
 */
import { Cluster, Redis } from "ioredis";
import { StoreError } from "../core/errors.ts";
import type { RedisSettings } from "./redis-settings.ts";

export type Client = Redis | Cluster;

/** Backoff doubles from the first number to the second, in milliseconds; up to a quarter is jitter. */
const [FIRST_RETRY_MS, LAST_RETRY_MS] = [50, 3000];

const backoff = (times: number) => Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(times, 10)) * (0.75 + Math.random() / 4);

/** Makes a client that is not connected yet. Nothing is queued while it is not, and nothing is sent a second time. */
export function createClient(settings: RedisSettings): Client {
  const { username, password, tls } = settings;
  const secure = tls === null ? {} : { tls: { ...(tls.ca === null ? {} : { ca: tls.ca }), ...pair(tls) } };
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
    // Without a queue ioredis subscribes again too early; whoever subscribes does it when the connection is ready.
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    connectTimeout: settings.connectTimeoutMs,
    commandTimeout: settings.commandTimeoutMs,
    // A connection whose other end is gone without a word (a firewall that forgot it, a host that was switched off) is
    // given up, instead of timing out command by command until the kernel does, a quarter of an hour later.
    socketTimeout: 2 * settings.commandTimeoutMs,
  };
  if (settings.mode === "cluster") {
    return new Cluster([...settings.nodes], {
      redisOptions: common,
      lazyConnect: true,
      enableOfflineQueue: false,
      // A connection that closed may have had its command executed; 0 also gives up on a cluster that is down.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      clusterRetryStrategy: backoff,
      // What moved is noticed by the answer MOVED, which did nothing; this is for a master that is gone.
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
      ...(secure.tls === undefined ? {} : { sentinelTLS: secure.tls, enableTLSForSentinelMode: true }),
      retryStrategy: backoff,
      sentinelRetryStrategy: backoff,
      // A master that was cut off does not know that it is none any more; the sentinels do.
      failoverDetector: true,
      // The one that was a master answers so once it knows. Reconnects, without sending the command again.
      reconnectOnError: (error: Error) => error.message.includes("READONLY"),
    });
  }
  return new Redis({ ...common, ...settings.nodes[0], db: settings.db, retryStrategy: backoff });
}

function pair({ cert, key }: NonNullable<RedisSettings["tls"]>): { cert?: string; key?: string } {
  return cert === null || key === null ? {} : { cert, key };
}

const refused = (text: string, cause: unknown) => new StoreError("store_refused", text, { cause, retryAfterMs: 5000 });

/**
 * Redis's answer, or its silence, in our terms.
 * @param silence why there is no connection, as far as it is known.
 * @param tried the command that a script was about to run, where that is known.
 */
export function redisError(error: unknown, silence: unknown, tried?: string): StoreError {
  const text = error instanceof Error ? error.message : "";
  const command = /permissions to run the '([^']+)' command/.exec(text)?.[1]?.toUpperCase();
  const script = /executing the script can't run this command/.test(text) ? (tried ?? "a command of meshca's scripts") : undefined;
  const denied = command ?? script;
  if (denied !== undefined) return refused(`Redis does not allow the user to run ${denied}; its ACL must`, error);
  if (/(permissions to|script can't) (access|publish).*(key|channel)/i.test(text)) {
    const what = /channel/i.test(text) ? "channel" : "keys";
    return refused(`Redis does not allow the user to access the ${what} of meshca's prefix; its ACL must`, error);
  }
  if (/\b(WRONGPASS|NOAUTH|invalid password)\b/.test(text)) return refused("Redis refused the user or the password", error);
  if (/\bREADONLY\b/.test(text)) return refused("Redis is read-only here: it is a replica. Name the master, or use Sentinel", error);
  if (/\bOOM\b/.test(text)) return refused("Redis is out of memory: maxmemory is reached", error);
  if (/\bMISCONF\b/.test(text)) return refused("Redis cannot write to its disk and refuses changes (MISCONF)", error);
  if (/\bNOREPLICAS\b/.test(text)) return refused("Redis has fewer replicas than min-replicas-to-write asks for", error);
  if (/\bWRONGTYPE\b/.test(text))
    return new StoreError("state_corrupt", "A key under meshca's prefix in Redis has another type: another program uses the prefix", {
      cause: error,
    });
  if (/unknown command/i.test(text))
    return refused("Redis does not know a command that meshca needs: it is too old, or has it renamed", error);
  const known = /\b(LOADING|CLUSTERDOWN|MASTERDOWN|TRYAGAIN)\b/.exec(text)?.[1];
  const why = known ?? reasonOf(silence) ?? (/timed out/i.test(text) ? "it did not answer in time" : null);
  return new StoreError("store_unavailable", `Redis is away${why === null ? "" : `: ${why}`}`, { cause: error, retryAfterMs: 3000 });
}

/** Why a connection failed: a code of the system, or Redis's own word; never text that may hold more. */
function reasonOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if ("code" in error && typeof error.code === "string") return error.code;
  if (/WRONGPASS|NOAUTH|invalid password/.test(error.message)) return "it refused the user or the password";
  if (/NOPERM/.test(error.message))
    return `it does not allow ${/'([^']+)' command/.exec(error.message)?.[1]?.toUpperCase() ?? "a command"}`;
  if (/sentinels are unreachable/i.test(error.message)) return "no sentinel is reachable, or none knows the master";
  if (/slots cache|startup nodes/i.test(error.message)) return "no node of the cluster is reachable";
  if (/certificate|TLS|SSL/i.test(error.message)) return "its certificate is not trusted";
  return /timed? ?out/i.test(error.message) ? "ETIMEDOUT" : null;
}
