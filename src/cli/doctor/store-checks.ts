/**
 * Checks of the store: whether it answers, and the settings on which its promises depend.
 * @module
 */
import { quoted } from "../files.ts";
import { linesOf } from "./ca-checks.ts";
import type { Facts } from "./look.ts";
import type { Diagnosis } from "./schema.ts";
import { type CheckId, type Finding, found, ok, type Result, skipped, unchecked } from "./types.ts";

type Store = NonNullable<Diagnosis["Store"]["Value"]>;

const MIB = 1024 * 1024;
/** Space of the data folder below which a warning is due, and below which writes may soon fail. */
const [LOW_SPACE, NO_SPACE] = [1024 * MIB, 100 * MIB];
/** Shares of maxmemory. */
const [HIGH_MEMORY, FULL_MEMORY] = [0.8, 0.95];

export function storeChecks(facts: Facts): Result[] {
  const { diagnosis } = facts;
  return [
    reachable(facts),
    ...(["store.eviction", "store.durability", "store.memory", "store.replication"] as const).map(
      (id) => {
        if ("error" in diagnosis) return unchecked(id, diagnosis.error);
        const { Value, Error: reason } = diagnosis.value.Store;
        return Value === null ? unchecked(id, reason ?? "unknown") : CHECK[id](id, Value);
      },
    ),
    disk(facts),
  ];
}

const CHECK = {
  "store.eviction": eviction,
  "store.durability": durability,
  "store.memory": memory,
  "store.replication": replication,
} as const;

function reachable(facts: Facts): Result {
  const id = "store.reachable";
  const lines = linesOf(facts, "store");
  const { diagnosis } = facts;
  if (typeof lines === "string") return unchecked(id, lines);
  const away = lines.filter((line) => line !== "ok").map((line) => `The store is ${line}`);
  const failed = "value" in diagnosis ? diagnosis.value.Store.Error : null;
  const [what] = [...away, ...(failed === null ? [] : [failed])];
  if (what === undefined) return ok(id, "ok");
  return found(id, what, [
    {
      severity: "critical",
      what,
      why: "Leaves are signed from memory until MESHCA_MAX_STALENESS; nothing can be changed",
      fix: "Start Redis, or repair the network to it: redis-cli -u URL ping",
    },
  ]);
}

const isNotRedis = (id: CheckId, { Kind }: Store): Result => skipped(id, `the store is ${Kind}`);

function eviction(id: CheckId, store: Store): Result {
  if (store.Kind !== "redis") return isNotRedis(id, store);
  const bad = store.Servers.map(({ EvictionPolicy }) => EvictionPolicy).filter(
    (one) => one !== "noeviction",
  );
  const findings: Finding[] = bad.map((policy) => ({
    severity: "critical",
    what: `Redis deletes keys by itself: its maxmemory-policy is ${policy}`,
    why: "It may delete the CA, with the keys of its roots; a replica does not start on it",
    fix: "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
  }));
  return found(id, "noeviction", findings);
}

function durability(id: CheckId, { Kind, Prefix = null, Servers }: Store): Result {
  if (Kind === "memory")
    return found(id, "the store is the memory of the process", [
      {
        severity: "critical",
        what: "The CA is only in the memory of the server",
        why: "With the process the root and its key end, and every workload needs new trust",
        fix: "meshca backup save; then start the server without --dev, with MESHCA_STORE of SQLite or Redis",
      },
    ]);
  if (Kind !== "redis") return ok(id, "SQLite, written to the disk before an answer");
  const findings = Servers.flatMap(({ AppendOnly, Failing }): Finding[] => [
    ...(AppendOnly
      ? []
      : [
          {
            severity: "warning",
            what: "Redis has no append-only file",
            why: "When it restarts, it has lost the last changes, and replicas stop changes until an operator decides",
            fix: "redis-cli CONFIG SET appendonly yes; redis-cli CONFIG SET appendfsync always; and the same in redis.conf",
          } as const,
        ]),
    ...Failing.map(
      (what): Finding => ({
        severity: "critical",
        what:
          what === "appendonly"
            ? "Redis failed to write its append-only file"
            : "Redis failed to save its last snapshot",
        why: "What is in its memory may not survive a restart, and it may refuse writes",
        fix: "Free the disk of Redis, see its log, then redis-cli BGSAVE",
      }),
    ),
  ]);
  const keys = Prefix === null ? "" : ` of the keys {${Prefix}}:*`;
  return found(id, `append-only file${keys}`, findings);
}

function memory(id: CheckId, store: Store): Result {
  if (store.Kind !== "redis") return isNotRedis(id, store);
  const shares = store.Servers.filter(({ MemoryLimit }) => MemoryLimit > 0).map(
    ({ MemoryUsed, MemoryLimit }) => MemoryUsed / MemoryLimit,
  );
  const share = Math.max(0, ...shares);
  const text = shares.length === 0 ? "no limit" : `${Math.round(share * 100)} % of maxmemory`;
  if (share < HIGH_MEMORY) return ok(id, text);
  return found(id, text, [
    {
      severity: share < FULL_MEMORY ? "warning" : "critical",
      what: `Redis uses ${text}`,
      why: "At the limit it refuses writes: no change, no login, no renewal of a lease",
      fix: "redis-cli CONFIG SET maxmemory 512mb, or more than it has now; look for other users of this Redis: redis-cli --bigkeys",
    },
  ]);
}

function replication(id: CheckId, store: Store): Result {
  const { Kind, Mode, WaitReplicas, Servers } = store;
  if (Kind !== "redis") return isNotRedis(id, store);
  const least = Math.min(...Servers.map(({ Replicas }) => Replicas));
  const findings: Finding[] = [];
  if (least < WaitReplicas)
    findings.push({
      severity: "warning",
      what: `Redis has ${least} replicas, and ${WaitReplicas} should acknowledge each change (wait in MESHCA_STORE)`,
      why: "A change is answered without being copied, and a failover loses it",
      fix: "Start the replicas of Redis that are away: redis-cli INFO replication",
    });
  const isFailover = Mode === "sentinel" || Mode === "cluster";
  if (Mode === "sentinel" && WaitReplicas === 0)
    findings.push({
      severity: "warning",
      what: "No replica of Redis has to acknowledge a change (wait is 0 in MESHCA_STORE)",
      why: "A failover loses changes that were answered, and replicas stop changes until an operator decides",
      fix: "Add wait=1 to the options of MESHCA_STORE on every replica",
    });
  if (isFailover && Servers.some(({ RequiresReplicas }) => !RequiresReplicas))
    findings.push({
      severity: "warning",
      what: "A master of Redis that is cut off from its replicas goes on accepting writes",
      why: "They are lost when it comes back as a replica",
      fix: "redis-cli CONFIG SET min-replicas-to-write 1; redis-cli CONFIG SET min-replicas-max-lag 10; and the same in redis.conf",
    });
  if (!isFailover && WaitReplicas === 0) return skipped(id, "a single Redis without a failover");
  return found(id, `${least} replicas`, findings);
}

function disk({ diagnosis }: Facts): Result {
  const id = "store.disk";
  if ("error" in diagnosis) return unchecked(id, diagnosis.error);
  const folders = (diagnosis.value.Files ?? []).filter(({ Kind }) => Kind !== "secret");
  if (folders.length === 0) return skipped(id, "the server has no data folder");
  const known = folders.flatMap(({ Path, FreeBytes }) =>
    FreeBytes === null ? [] : [{ Path, FreeBytes }],
  );
  if (known.length === 0)
    return unchecked(id, "the server cannot see the space of its file system");
  const least = known.reduce((a, b) => (a.FreeBytes <= b.FreeBytes ? a : b));
  const text = `${Math.floor(least.FreeBytes / MIB)} MiB free at ${least.Path}`;
  if (least.FreeBytes >= LOW_SPACE) return ok(id, text);
  return found(id, text, [
    {
      severity: least.FreeBytes < NO_SPACE ? "critical" : "warning",
      what: `The file system of the data folder is nearly full: ${text}`,
      why: "On a full disk no change is written, and the last-seen state grows old",
      fix: `Free space: du -xh ${quoted(least.Path)}`,
    },
  ]);
}
