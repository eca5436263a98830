/**
 * Blocking queries on the roots (consul-ca.md §1.1): who waits, who is woken, who goes away.
 * @module
 */
import type { CaManager } from "../core/ca/manager.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import type { Clock, Random } from "../core/clock.ts";
import { RateLimitedError } from "../core/errors.ts";
import { wireIndex } from "./wire.ts";

/** More blocked queries than this are refused: each holds a socket and some 10 KB. */
const MAX_WATCHERS = 50_000;

export interface Watchers {
  readonly count: number;
  /**
   * Waits until the roots are newer than `index`, the wait is over, the client goes away or the server closes.
   * @param index what the client has. One that we have not reached is not waited for: the store is read once, then
   *   the answer is what there is.
   * @returns what to answer, and whether it is news.
   */
  wait(index: bigint, waitMs: number, gone: AbortSignal): Promise<{ snapshot: Snapshot; changed: boolean }>;
  /** Answers everybody who waits, and nobody waits from then on. */
  close(): void;
}

export function createWatchers(manager: CaManager, clock: Clock, random: Random): Watchers {
  const waiting = new Set<AbortController>();
  let closed = false;
  const wakeAll = () => {
    for (const waiter of waiting) waiter.abort();
  };
  const unsubscribe = manager.subscribe(wakeAll);
  const indexOf = () => BigInt(wireIndex(manager.require().state));

  return {
    get count() {
      return waiting.size;
    },
    async wait(index, waitMs, gone) {
      if (indexOf() < index) await manager.refresh();
      // Jitter of up to a sixteenth, so that waits that began together do not end together (consul-ca.md §1.1).
      const until = clock.now().getTime() + waitMs * (1 + random.fraction() / 16);
      while (indexOf() === index && !closed && !gone.aborted) {
        const left = until - clock.now().getTime();
        if (left <= 0) break;
        if (waiting.size >= MAX_WATCHERS) throw new RateLimitedError(1000);
        const waiter = new AbortController();
        const leave = () => waiter.abort();
        gone.addEventListener("abort", leave);
        waiting.add(waiter);
        await clock.sleep(left, waiter.signal);
        waiting.delete(waiter);
        gone.removeEventListener("abort", leave);
      }
      return { snapshot: manager.require(), changed: indexOf() !== index };
    },
    close() {
      closed = true;
      unsubscribe();
      wakeAll();
    },
  };
}
