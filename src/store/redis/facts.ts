/**
 * What INFO of Redis shows of the settings that a CA depends on.
 * @module
 */
import type { RedisFacts } from "../../core/ports/store-facts.ts";

/** The sections that `redisFacts` reads. */
export const FACT_SECTIONS = ["persistence", "memory", "replication"] as const;

/**
 * The facts of each server.
 * @param sections the text of each section of FACT_SECTIONS, of several servers one after the other
 */
export function redisFacts(sections: readonly string[]): RedisFacts[] {
  const values = (name: string): string[] =>
    [...sections.join("\n").matchAll(new RegExp(`^${name}:(.*?)\r?$`, "gm"))].map(
      ([, value = ""]) => value,
    );
  const aof = values("aof_enabled");
  const appendStatus = values("aof_last_write_status");
  const snapshotStatus = values("rdb_last_bgsave_status");
  const policies = values("maxmemory_policy");
  const used = values("used_memory");
  const limits = values("maxmemory");
  const replicas = values("connected_slaves");
  // Shown only if min-replicas-to-write is set.
  const good = values("min_slaves_good_slaves");
  return aof.map((enabled, i) => ({
    appendOnly: enabled === "1",
    failing: [
      ...(enabled === "1" && appendStatus[i] !== "ok" ? (["appendonly"] as const) : []),
      ...(snapshotStatus[i] === "ok" ? [] : (["snapshot"] as const)),
    ],
    evictionPolicy: policies[i] ?? "unknown",
    memoryUsed: Number(used[i] ?? 0),
    memoryLimit: Number(limits[i] ?? 0),
    replicas: Number(replicas[i] ?? 0),
    requiresReplicas: good.length === aof.length,
  }));
}
