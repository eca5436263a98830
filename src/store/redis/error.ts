/**
 * What Redis answered, or that it did not, in our terms.
 * @module
 */
import { StoreError } from "../../core/errors.ts";

/**
 * What Redis cannot do now and may do again without a change of the settings: a start waits for it.
 */
const unable = (text: string, cause: unknown) =>
  new StoreError("store_unavailable", text, { cause, retryAfterMs: 5000 });
const refused = (text: string, cause: unknown) =>
  new StoreError("store_refused", text, { cause, retryAfterMs: 5000 });

/**
 * Redis's answer, or its silence, in our terms.
 * @param silence why there is no connection, as far as it is known.
 * @param tried the command that a script was about to run, where that is known.
 */
export function redisError(error: unknown, silence: unknown, tried?: string): StoreError {
  if (error instanceof StoreError) return error;
  const text = error instanceof Error ? error.message : "";
  const command = /permissions to run the '([^']+)' command/.exec(text)?.[1]?.toUpperCase();
  const script = /executing the script can't run this command/.test(text)
    ? (tried ?? "a command of meshca's scripts")
    : undefined;
  const denied = command ?? script;
  if (denied !== undefined)
    return refused(`Redis does not allow the user to run ${denied}; its ACL must`, error);
  if (/(permissions to|script can't) (access|publish).*(key|channel)/i.test(text)) {
    const what = /channel/i.test(text) ? "channel" : "keys";
    return refused(
      `Redis does not allow the user to access the ${what} of meshca's prefix; its ACL must`,
      error,
    );
  }
  if (/\b(WRONGPASS|NOAUTH|invalid password)\b/.test(text))
    return refused("Redis refused the user or the password", error);
  if (/\bREADONLY\b/.test(text))
    return refused(
      "Redis is read-only here: it is a replica. Name the master, or use Sentinel",
      error,
    );
  if (/\bOOM\b/.test(text)) return unable("Redis is out of memory: maxmemory is reached", error);
  if (/\bMISCONF\b/.test(text))
    return unable("Redis cannot write to its disk and refuses changes (MISCONF)", error);
  if (/\bNOREPLICAS\b/.test(text))
    return unable("Redis has fewer replicas than min-replicas-to-write asks for", error);
  if (/\bWRONGTYPE\b/.test(text))
    return new StoreError(
      "state_corrupt",
      "A key under meshca's prefix in Redis has another type: another program uses the prefix",
      {
        cause: error,
      },
    );
  if (/unknown command/i.test(text))
    return refused(
      "Redis does not know a command that meshca needs: it is too old, or has it renamed",
      error,
    );
  // What made the connection fail may be a refusal, which no waiting ends.
  const refusal = refusalOf(silence);
  if (refusal !== null) return refused(refusal, error);
  const known = /\b(LOADING|CLUSTERDOWN|MASTERDOWN|TRYAGAIN)\b/.exec(text)?.[1];
  const why =
    known ?? reasonOf(silence) ?? (/timed out/i.test(text) ? "it did not answer in time" : null);
  return new StoreError("store_unavailable", `Redis is away${why === null ? "" : `: ${why}`}`, {
    cause: error,
    retryAfterMs: 3000,
  });
}

/** Why a connection is refused for good, by the text of Redis, of ioredis or of the TLS library. */
const REFUSALS: readonly (readonly [RegExp, string])[] = [
  [/WRONGPASS|NOAUTH|invalid password/i, "Redis refused the user or the password"],
  [/Protocol error|Unknown RESP type/i, "What MESHCA_STORE names does not speak Redis's protocol"],
  [
    /cluster support disabled/i,
    "What MESHCA_STORE names is no Redis Cluster: its cluster support is disabled",
  ],
  [
    /wrong version number|packet length too long/i,
    "What MESHCA_STORE names does not speak TLS; use redis:// or the port for TLS",
  ],
];

/** What is refused for good, in our words; null for an error that may pass. */
export function refusalOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  // A Cluster says why no node would do beside its own text.
  const node =
    "lastNodeError" in error && error.lastNodeError instanceof Error
      ? error.lastNodeError.message
      : "";
  return (
    REFUSALS.find(([pattern]) => pattern.test(error.message) || pattern.test(node))?.[1] ?? null
  );
}

/**
 * Why a connection failed: a code of the system, or Redis's own word; never text that may hold
 * more.
 */
function reasonOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if ("code" in error && typeof error.code === "string") return error.code;
  if (/NOPERM/.test(error.message))
    return `it does not allow ${/'([^']+)' command/.exec(error.message)?.[1]?.toUpperCase() ?? "a command"}`;
  if (/sentinels are unreachable/i.test(error.message))
    return "no sentinel is reachable, or none knows the master";
  if (/slots cache|startup nodes/i.test(error.message))
    return "no node of the cluster is reachable";
  if (/certificate|TLS|SSL/i.test(error.message)) return "its certificate is not trusted";
  return /timed? ?out/i.test(error.message) ? "ETIMEDOUT" : null;
}
