/**
 * Errors of Redis, of ioredis and of connections as errors of ours.
 * @module
 */
import { StoreError } from "../../core/errors.ts";

const RETRY_MS = 5000;

/** What Redis cannot do now, but may later without a change of settings: a start waits for it. */
const unable = (text: string, cause: unknown) =>
  new StoreError("store_unavailable", text, { cause, retryAfterMs: RETRY_MS });
const refused = (text: string, cause: unknown) =>
  new StoreError("store_refused", text, { cause, retryAfterMs: RETRY_MS });
const corrupt = (text: string, cause: unknown) => new StoreError("state_corrupt", text, { cause });

const PROTECTED =
  "Redis is in protected mode and serves its own machine only; set a password in Redis (requirepass) and in MESHCA_STORE";

/** Errors of Redis by their text. */
const REPLIES: readonly (readonly [RegExp, typeof refused, string])[] = [
  [/\b(WRONGPASS|NOAUTH|invalid password)\b/, refused, "Redis refused the user or the password"],
  [/\bDENIED\b.*protected mode/s, refused, PROTECTED],
  // It may be promoted: after a failover, or behind a name that moves to the master.
  [
    /\bREADONLY\b/,
    unable,
    "Redis is read-only because it is a replica; connect to the master, or use Sentinel",
  ],
  [/\bOOM\b/, unable, "Redis is out of memory: maxmemory is reached"],
  [/\bMISCONF\b/, unable, "Redis cannot write to its disk and refuses changes (MISCONF)"],
  [/\bNOREPLICAS\b/, unable, "Redis has fewer replicas than min-replicas-to-write asks for"],
  [
    /\bWRONGTYPE\b/,
    corrupt,
    "A key under meshca's prefix in Redis has another type: another program uses the prefix",
  ],
  [
    /unknown command/i,
    refused,
    "Redis does not know a command that meshca needs: it is too old, or has it renamed",
  ],
];

/**
 * An error as one of ours.
 * @param connectError why connecting failed last; null while connected.
 * @param tried the command that a script was about to run, if that is known.
 */
export function redisError(error: unknown, connectError: unknown, tried?: string): StoreError {
  if (error instanceof StoreError) return error;
  const text = error instanceof Error ? error.message : "";
  const command = /permissions to run the '([^']+)' command/.exec(text)?.[1]?.toUpperCase();
  const script = /executing the script can't run this command/.test(text)
    ? (tried ?? "a command of meshca's scripts")
    : undefined;
  const denied = command ?? script;
  if (denied !== undefined)
    return refused(
      `Redis does not allow the user to run ${denied}; allow it in the ACL of Redis`,
      error,
    );
  if (DENIED_NAMES.test(text)) {
    const what = /channel/i.test(text) ? "channel" : "keys";
    return refused(
      `Redis does not allow the user to access the ${what} of meshca's prefix; allow it in the ACL of Redis`,
      error,
    );
  }
  const [, make, words] = REPLIES.find(([pattern]) => pattern.test(text)) ?? [];
  if (make !== undefined && words !== undefined) return make(words, error);
  // Connecting may have failed by a refusal, which retrying does not end.
  const refusal = refusalOf(connectError);
  if (refusal !== null) return refused(refusal, error);
  const why =
    /\b(LOADING|CLUSTERDOWN|MASTERDOWN|TRYAGAIN)\b/.exec(text)?.[1] ??
    reasonOf(connectError) ??
    (/timed out/i.test(text) ? "Redis did not answer in time" : null);
  return new StoreError(
    "store_unavailable",
    `Redis is unavailable${why === null ? "" : `: ${why}`}`,
    { cause: error, retryAfterMs: 3000 },
  );
}

/** Keys or channels that the ACL of Redis does not allow, by the text of Redis. */
const DENIED_NAMES = /(permissions to|script can't) (access|publish).*(key|channel)/i;

/** Whether the ACL of Redis does not allow the user to access keys or channels. */
export function deniesNames(error: unknown): boolean {
  return (
    error instanceof StoreError &&
    error.code === "store_refused" &&
    error.cause instanceof Error &&
    DENIED_NAMES.test(error.cause.message)
  );
}

/** Refusals that retrying does not end, by the text of Redis, ioredis or the TLS library. */
const REFUSALS: readonly (readonly [RegExp, string])[] = [
  [/WRONGPASS|NOAUTH|invalid password/i, "Redis refused the user or the password"],
  [/\bDENIED\b.*protected mode/s, PROTECTED],
  [
    /Protocol error|Unknown RESP type/i,
    "The server of MESHCA_STORE does not speak the protocol of Redis",
  ],
  [
    /cluster support disabled/i,
    "The Redis of MESHCA_STORE is not a Cluster: its cluster support is disabled",
  ],
  [
    /wrong version number|packet length too long/i,
    "The server of MESHCA_STORE does not speak TLS; use redis:// or the port for TLS",
  ],
];

/** The text for a permanent refusal; null for an error that may be transient. */
export function refusalOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  // A Cluster has the error of the last node it tried as well.
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
    return `Redis does not allow ${/'([^']+)' command/.exec(error.message)?.[1]?.toUpperCase() ?? "a command"}`;
  if (/sentinels are unreachable/i.test(error.message))
    return "no sentinel is reachable, or none knows the master";
  if (/slots cache|startup nodes/i.test(error.message))
    return "no node of the cluster is reachable";
  if (/certificate|TLS|SSL/i.test(error.message)) return "the certificate of Redis is not trusted";
  return /timed? ?out/i.test(error.message) ? "ETIMEDOUT" : null;
}
