/**
 * Leases in Redis. Terms are kept for ever; who holds a lease, and until when by Redis's clock,
 * stands beside the term.
 * @module
 */
import * as v from "valibot";
import type { LeaseName, Leases } from "../../core/ports/lease.ts";
import type { RedisKeys, RunScript } from "./ports.ts";

/** @param holder what this replica goes by: its own for each start. */
export function createRedisLeases(run: RunScript, keys: RedisKeys, holder: string): Leases {
  const key = (name: LeaseName) => [keys.lease(name)];
  /**
   * The request of each lease that was not answered: it may have been granted under a term that
   * nobody was told.
   */
  const unanswered = new Map<LeaseName, string>();
  let asked = 0;
  return {
    async acquire(name, ttlMs) {
      const lost = unanswered.get(name) ?? "";
      unanswered.delete(name);
      const request = lost === "" ? String(++asked) : lost;
      try {
        const term = Number(
          await run("acquire", v.string(), key(name), [holder, String(ttlMs), request, lost]),
        );
        return term === 0 ? null : { name, term };
      } catch (error) {
        unanswered.set(name, request);
        throw error;
      }
    },
    renew: async ({ name, term }, ttlMs) =>
      (await run("renew", v.number(), key(name), [holder, String(term), String(ttlMs)])) === 1,
    async release({ name, term }) {
      await run("release", v.number(), key(name), [holder, String(term)]);
    },
    async holder(name) {
      const held = await run("holder", v.string(), key(name), []);
      return held === "" ? null : held;
    },
  };
}
