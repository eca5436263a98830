/**
 * Health of this replica: snapshot freshness, clock skew, live peers.
 * @module
 */

import { NotReadyError, StoreError } from "../errors.ts";
import type { Replica as LiveReplica } from "../ports/replicas.ts";
import type { CaPorts } from "./ca-ports.ts";
import type { HealthMemory } from "./replica-memory.ts";
import type { Policy } from "./timing-and-limits.ts";

type Ports = Pick<CaPorts, "replicas" | "clock"> & {
  readonly store: Pick<CaPorts["store"], "now">;
};

export class ReplicaHealth {
  readonly #ports: Ports;
  readonly #policy: Policy;
  readonly #memory: HealthMemory;

  constructor(ports: Ports, policy: Policy, memory: HealthMemory) {
    this.#ports = ports;
    this.#policy = policy;
    this.#memory = memory;
  }

  /** When the store last confirmed the snapshot, by this replica's clock, or null. */
  get confirmedAt(): Date | null {
    const { confirmedAt } = this.#memory;
    return confirmedAt === null ? null : new Date(confirmedAt);
  }

  /** Milliseconds since `confirmedAt`; null without one, or if the clock was set back behind it. */
  get stalenessMs(): number | null {
    const { confirmedAt } = this.#memory;
    const age = confirmedAt === null ? -1 : this.#now() - confirmedAt;
    return age >= 0 ? age : null;
  }

  /** The live replicas, this one included, by the last heartbeat. */
  get live(): readonly LiveReplica[] {
    return this.#memory.live;
  }

  /** How far the store's clock is ahead, in milliseconds. */
  get clockOffsetMs(): number {
    return this.#memory.offset;
  }

  /** Whether all live replicas agree that it is the store's clock that is skewed. */
  get clockAlarm(): boolean {
    return this.#isSkewed() && this.#peersAgree();
  }

  /** Why the last write to the store failed, or null. */
  get unwritten(): string | null {
    return this.#memory.unwritten;
  }

  /** Whether a shared store did not answer the last read, or confirmed nothing for `replicaTtlMs`. */
  get storeAway(): boolean {
    const { unanswered, confirmedAt } = this.#memory;
    if (this.#policy.maxStalenessMs === null) return false;
    if (unanswered || confirmedAt === null) return true;
    return Math.abs(this.#now() - confirmedAt) > this.#policy.replicaTtlMs;
  }

  get heartbeatDue(): boolean {
    return !this.#isWithin(this.#memory.announcedAt, this.#policy.heartbeatMs);
  }

  /** Whether the store confirmed the snapshot within `maxAgeMs`. */
  isFresh(maxAgeMs: number): boolean {
    return this.#isWithin(this.#memory.confirmedAt, maxAgeMs);
  }

  /** Compares the clocks, announces this replica and reads the live ones. @throws {StoreError} */
  async heartbeat(self: Omit<LiveReplica, "clockOffsetMs">): Promise<void> {
    const [{ store, replicas }, memory] = [this.#ports, this.#memory];
    const before = this.#now();
    const stored = await store.now().catch((error: unknown) => {
      this.readFailed(error);
      throw error;
    });
    const after = this.#now();
    // The store read its clock somewhere in between, so that the offset is wrong by half of the
    // round trip at most; after a long one it is ignored.
    if (after >= before && after - before <= this.#policy.maxClockSkewMs) {
      memory.offset = stored.getTime() - (before + after) / 2;
      memory.skewStrikes = this.#isSkewed() ? memory.skewStrikes + (memory.compared ? 1 : 2) : 0;
      memory.compared = true;
    }
    const announcement = { ...self, clockOffsetMs: Math.round(memory.offset) };
    memory.live = await replicas
      .announce(announcement, this.#policy.replicaTtlMs)
      .catch((error: unknown) => {
        this.writeFailed(error);
        throw error;
      });
    memory.unwritten = null;
    memory.announcedAt = after;
  }

  /** The store confirmed the snapshot. @param asked when it was asked. */
  markFresh(asked: Date): void {
    this.#memory.confirmedAt = asked.getTime();
    this.#memory.unreadable = null;
    this.#memory.unanswered = false;
  }

  /** @param reason why the store's answer could not be used; null if there was none. */
  markUnreadable(reason: string | null): void {
    this.#memory.unreadable = reason;
  }

  readFailed(error: unknown): void {
    if (isAway(error)) this.#memory.unanswered = true;
  }

  writeFailed(error: unknown): void {
    if (isAway(error)) this.#memory.unwritten = error.message;
  }

  /** Why no leaf may be signed, or null. */
  signingObstacle(leafTtlMs: number): NotReadyError | null {
    const { maxStalenessMs, heartbeatMs } = this.#policy;
    const { unreadable, confirmedAt, skewStrikes } = this.#memory;
    // After a jump of the store's clock the peers can agree only once they have compared theirs.
    if (skewStrikes > 1 && !this.#peersAgree()) return this.changeObstacle();
    if (maxStalenessMs === null) return null;
    const limit = Math.min(maxStalenessMs, leafTtlMs / 2);
    if (this.#isWithin(confirmedAt, limit)) return null;
    const seconds = Math.round(limit / 1000);
    const message =
      unreadable === null
        ? `the store has not answered for more than ${seconds} s, so that the roots may have changed`
        : `the store's answers could not be used for more than ${seconds} s (${unreadable}), so that the roots may have changed`;
    return new NotReadyError("state_stale", message, { retryAfterMs: heartbeatMs });
  }

  /** Why the CA may not be changed, or null. */
  changeObstacle(): NotReadyError | null {
    if (!this.#isSkewed()) return null;
    const { offset } = this.#memory;
    const { maxClockSkewMs, heartbeatMs } = this.#policy;
    const seconds = Math.round(Math.abs(offset) / 1000);
    return new NotReadyError(
      "clock_skewed",
      `the clock of this replica is ${seconds} s ${offset > 0 ? "behind" : "ahead of"} the store's, more than the ${maxClockSkewMs / 1000} s allowed; set the clock`,
      { retryAfterMs: heartbeatMs },
    );
  }

  #now(): number {
    return this.#ports.clock.now().getTime();
  }

  #isSkewed(): boolean {
    return Math.abs(this.#memory.offset) > this.#policy.maxClockSkewMs;
  }

  /** Whether all live replicas have the same time. */
  #peersAgree(): boolean {
    const { live, offset } = this.#memory;
    const agrees = ({ clockOffsetMs }: LiveReplica) =>
      Math.abs(clockOffsetMs - offset) <= this.#policy.maxClockSkewMs;
    return live.length > 1 && live.every(agrees);
  }

  /** False for an instant after now: the clock was set back, and its age is unknown. */
  #isWithin(at: number | null, ms: number): boolean {
    const age = at === null ? Number.POSITIVE_INFINITY : this.#now() - at;
    return age >= 0 && age <= ms;
  }
}

/** Whether the store did not answer, in contrast to a refusal. */
export function isAway(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === "store_unavailable";
}
