/**
 * How this replica stands to its store and to the others: when it last heard that what it serves is
 * what is stored, how far its clock is from the store's, who else is alive.
 * @module
 */

import { NotReadyError, StoreError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { Replica, Replicas } from "../ports/replicas.ts";
import type { Store } from "../ports/store.ts";
import type { Policy } from "./policy.ts";
import { createMemory, type StandingMemory } from "./replica-memory.ts";

export interface Standing {
  /** Whether the store confirmed what is served within `maxAgeMs`. */
  isFresh(maxAgeMs: number): boolean;
  /** Whether it is time for a heartbeat. */
  readonly silent: boolean;
  /** Compares the clocks, and says that this replica lives. @throws {StoreError} */
  heartbeat(self: Omit<Replica, "clockOffsetMs">): Promise<void>;
  /** The store has just confirmed what is served. @param asked when it was asked. */
  confirm(asked: Date): void;
  /** When the store last confirmed what is served, or null. */
  readonly confirmedAt: Date | null;
  /** The store answered what cannot be taken, and why; null where it did not answer. */
  doubt(reason: string | null): void;
  /** The store gave this error when it was asked. */
  failed(error: unknown): void;
  /** A write to the store gave this error. */
  notWritten(error: unknown): void;
  /** Why the last write to the store failed, or null. */
  readonly unwritten: string | null;
  /** Who is alive, by the last answer of the store. */
  readonly live: readonly Replica[];
  /** How far the store's clock is ahead, in milliseconds. */
  readonly clockOffsetMs: number;
  /** Milliseconds since the store was last asked with success; null where it never was. */
  readonly stalenessMs: number | null;
  /**
   * The store did not answer when it was asked last, or is overdue with its answer: what is served
   * may be old.
   */
  readonly storeAway: boolean;
  /** Why no leaf may be signed, or null. */
  signingObstacle(leafTtlMs: number): NotReadyError | null;
  /** Why nothing may be changed, or null. */
  changeObstacle(): NotReadyError | null;
  /** Whether the store's clock is off, by the word of all replicas alive. */
  readonly alarmed: boolean;
}

export function createStanding(
  store: Pick<Store, "now">,
  replicas: Replicas,
  clock: Clock,
  policy: Policy,
  memory: StandingMemory = createMemory().standing,
): Standing {
  const skewed = () => Math.abs(memory.offset) > policy.maxClockSkewMs;
  /** All who are alive have the same time, and it is the store that has another. */
  const agreed = () =>
    memory.live.length > 1 &&
    memory.live.every(
      ({ clockOffsetMs }) => Math.abs(clockOffsetMs - memory.offset) <= policy.maxClockSkewMs,
    );

  const skew = (): NotReadyError | null => {
    if (!skewed()) return null;
    const [seconds, where] = [
      Math.round(Math.abs(memory.offset) / 1000),
      memory.offset > 0 ? "behind" : "ahead of",
    ];
    return new NotReadyError(
      "clock_skewed",
      `the clock is ${seconds} s ${where} the store's, more than the ${policy.maxClockSkewMs / 1000} s allowed; set the clock`,
      { retryAfterMs: policy.heartbeatMs },
    );
  };

  /** A clock that was set back says nothing about how long ago it was. */
  const isWithin = (at: number | null, ms: number): boolean => {
    const age = at === null ? Number.POSITIVE_INFINITY : clock.now().getTime() - at;
    return age >= 0 && age <= ms;
  };

  const failed = (error: unknown): void => {
    if (isAway(error)) memory.unanswered = true;
  };

  const passOn = (error: unknown): never => {
    failed(error);
    throw error;
  };

  const notWritten = (error: unknown): void => {
    if (isAway(error)) memory.unwritten = error.message;
  };

  return {
    failed,
    notWritten,
    get unwritten() {
      return memory.unwritten;
    },
    isFresh: (maxAgeMs) => isWithin(memory.confirmedAt, maxAgeMs),
    get silent() {
      return !isWithin(memory.announcedAt, policy.heartbeatMs);
    },
    async heartbeat(self) {
      const before = clock.now().getTime();
      const stored = (await store.now().catch(passOn)).getTime();
      const after = clock.now().getTime();
      // The store looked at its clock somewhere between: off by half of the way at most, which says
      // nothing where the way was long.
      if (after >= before && after - before <= policy.maxClockSkewMs) {
        memory.offset = stored - (before + after) / 2;
        memory.apart = skewed() ? memory.apart + (memory.compared ? 1 : 2) : 0;
        memory.compared = true;
      }
      const announcement = { ...self, clockOffsetMs: Math.round(memory.offset) };
      memory.live = await replicas
        .announce(announcement, policy.replicaTtlMs)
        .catch((error: unknown) => {
          notWritten(error);
          throw error;
        });
      memory.unwritten = null;
      memory.announcedAt = after;
    },
    confirm(asked) {
      memory.confirmedAt = asked.getTime();
      memory.doubted = null;
      memory.unanswered = false;
    },
    doubt(reason) {
      memory.doubted = reason;
    },
    get confirmedAt() {
      return memory.confirmedAt === null ? null : new Date(memory.confirmedAt);
    },
    get live() {
      return memory.live;
    },
    get clockOffsetMs() {
      return memory.offset;
    },
    get stalenessMs() {
      const age = memory.confirmedAt === null ? null : clock.now().getTime() - memory.confirmedAt;
      // Negative after the clock was set back: how long ago it was is not known then.
      return age !== null && age >= 0 ? age : null;
    },
    get storeAway() {
      if (policy.maxStalenessMs === null) return false;
      if (memory.unanswered) return true;
      return (
        memory.confirmedAt === null ||
        Math.abs(clock.now().getTime() - memory.confirmedAt) > policy.replicaTtlMs
      );
    },
    signingObstacle(leafTtlMs) {
      // Where the store's clock jumped, the others have to compare theirs first before they can
      // agree.
      if (memory.apart > 1 && !agreed()) return skew();
      if (policy.maxStalenessMs === null) return null;
      const limit = Math.min(policy.maxStalenessMs, leafTtlMs / 2);
      if (isWithin(memory.confirmedAt, limit)) return null;
      return new NotReadyError(
        "state_stale",
        memory.doubted === null
          ? `the store has not answered for more than ${Math.round(limit / 1000)} s, so that the roots may have changed`
          : `what the store holds could not be taken for more than ${Math.round(limit / 1000)} s (${memory.doubted}), so that the roots may have changed`,
        { retryAfterMs: policy.heartbeatMs },
      );
    },
    changeObstacle: skew,
    get alarmed() {
      return skewed() && agreed();
    },
  };
}

/** Whether an error says that the store does not answer, and not that it refuses. */
export function isAway(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === "store_unavailable";
}
