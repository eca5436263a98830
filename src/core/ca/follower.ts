/**
 * What a secondary datacenter knows of the primary one: its roots as they were read last, when that
 * was, and why they cannot be read or followed. It waits for changes of them, and asks in between, so
 * that a change is known within seconds either way.
 * @module
 */
import { faultCodeOf, reasonOf } from "../errors.ts";
import type { PrimaryDatacenter } from "../ports/primary.ts";
import type { CaState } from "../state.ts";
import type { CaPorts } from "./ca-ports.ts";
import { differs, type Followed } from "./followed-roots.ts";
import { RetriedStep } from "./maintenance.ts";
import { createReplicaMemory, type PrimaryMemory } from "./replica-memory.ts";

/** How old the last answer may be before the primary is asked without a wait, in milliseconds. */
const POLL_MS = 10_000;
/** The longest pause of the step after the primary's roots have changed, in milliseconds. */
const RETRY_MS = 5000;

/** The primary datacenter, for an operator. */
export interface PrimaryStatus {
  readonly datacenter: string;
  /** Whether this replica asks it, as the leader does. */
  readonly isAsked: boolean;
  /** When it answered this replica last; null: it did not since the start. */
  readonly lastContact: Date | null;
  /** The index of its roots that this replica read last, or null. */
  readonly index: number | null;
  /** The index of its roots that this datacenter has; null before it has any. */
  readonly followedIndex: number | null;
  /** How far its clock is ahead of this replica's, in milliseconds; null before its first answer. */
  readonly clockOffsetMs: number | null;
  /** Why its roots are not read or not followed; null: they are, or this replica does not ask. */
  readonly fault: PrimaryFollowFault | null;
}

interface PrimaryFollowFault {
  readonly step: "read" | "follow";
  /** As `faultCodeOf` has it. */
  readonly code: string;
  readonly reason: string;
  readonly since: Date;
}

type FollowerPorts = Pick<CaPorts, "clock" | "log" | "random" | "metrics">;

export class Follower {
  readonly primary: PrimaryDatacenter;
  /** The step by which this datacenter follows. */
  readonly step: RetriedStep;
  readonly #ports: FollowerPorts;
  /** The attempts to read the roots. */
  readonly #reading: RetriedStep;
  readonly #memory: PrimaryMemory;

  /** @param memory what is known of the primary. @default nothing */
  constructor(
    primary: PrimaryDatacenter,
    ports: FollowerPorts,
    memory: PrimaryMemory = createReplicaMemory().primary,
  ) {
    this.primary = primary;
    this.#ports = ports;
    this.#memory = memory;
    const { clock, random } = ports;
    this.step = new RetriedStep(clock, random, Number.POSITIVE_INFINITY, memory.step);
    // A primary that answers again is noticed as soon as it would be without a fault.
    this.#reading = new RetriedStep(clock, random, POLL_MS, memory.reading);
  }

  /** The roots as they were read last; null: not since this replica started. */
  get followed(): Followed | null {
    const { primary } = this;
    const { listing, readFrom } = this.#memory;
    // The settings may name another primary since.
    return listing === null || readFrom !== primary.name ? null : { primary, listing };
  }

  /** Why the roots are not read or not followed; null: they are. */
  get fault(): PrimaryFollowFault | null {
    const { fault } = this.#reading;
    if (fault !== null) return { step: "read", ...fault };
    return this.step.fault === null ? null : { step: "follow", ...this.step.fault };
  }

  /**
   * @param state the one in use, or null.
   * @param isAsked whether this replica leads: faults of one that led before are over.
   */
  statusOf(state: CaState | null, isAsked: boolean): PrimaryStatus {
    const { readAt, readFrom } = this.#memory;
    const listing = this.followed?.listing ?? null;
    const committed = state?.primary?.index ?? null;
    // The index also grows with the primary's configuration, which is not followed.
    const isSame = state !== null && listing !== null && !differs(state, listing);
    return {
      datacenter: this.primary.name,
      isAsked,
      lastContact: readFrom === this.primary.name ? readAt : null,
      index: listing?.index ?? null,
      followedIndex: isSame ? listing.index : committed,
      clockOffsetMs: this.primary.clockOffsetMs,
      fault: isAsked ? this.fault : null,
    };
  }

  /**
   * Reads the roots, unless that was a moment ago and they could be followed. It never rejects.
   * @param now also if it was a moment ago. @default false
   * @param known what is followed: another replica may have read later roots.
   */
  async look(now = false, known: CaState["primary"] = null): Promise<void> {
    const ageMs = this.#ports.clock.now().getTime() - (this.#memory.readAt?.getTime() ?? 0);
    // After a failure the roots may be others than those that were read.
    const listing = this.followed?.listing ?? null;
    const isOlder = known?.datacenter === this.primary.name && known.index > (listing?.index ?? 0);
    const isFresh =
      Math.abs(ageMs) < POLL_MS && this.step.fault === null && listing !== null && !isOlder;
    if (!now && (isFresh || !this.#reading.isDue)) return;
    await this.#read(null).catch(() => undefined);
  }

  /**
   * Waits until the roots may have changed, and reads them; not in the pause after a failure. It never
   * rejects.
   * @returns whether they are others than before; null if they were not read.
   */
  async watch(signal: AbortSignal): Promise<boolean | null> {
    if (!this.#reading.isDue) return null;
    const before = this.followed?.listing.index ?? null;
    return this.#read(before, signal).then(
      () => this.#memory.listing?.index !== before,
      () => null,
    );
  }

  async #read(after: number | null, signal?: AbortSignal): Promise<void> {
    const { clock, log } = this.#ports;
    const known = this.#reading.fault?.reason;
    const before = this.#memory.listing;
    const { name } = this.primary;
    try {
      await this.#reading.run(async () => {
        const listing = await this.primary.roots(after, signal);
        // The settings may name another primary since.
        if (name !== this.primary.name) return;
        // An answer that took long may be older than one that was read since.
        if (after === null || this.#memory.listing === null || after === this.#memory.listing.index)
          this.#memory.listing = listing;
        this.#memory.readAt = clock.now();
        this.#memory.readFrom = name;
      });
      // Why the step failed may be over: the primary was away, or its roots were others.
      if (known !== undefined || this.#memory.listing?.index !== before?.index)
        this.step.retryWithin(RETRY_MS);
      if (known !== undefined) log.info("The primary datacenter answers again", { primary: name });
    } catch (error) {
      if (signal?.aborted === true) {
        // This replica stops waiting; the primary may be well.
        this.#reading.fault = null;
        return;
      }
      this.#ports.metrics.primaryFailed("read", faultCodeOf(error));
      const reason = reasonOf(error);
      if (reason !== known)
        log.warn(
          "Failed to read the roots of the primary datacenter; leaves are signed under the present roots, will retry",
          { primary: this.primary.name, reason },
        );
      throw error;
    }
  }
}
