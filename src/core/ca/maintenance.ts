/**
 * Retries of the background steps that concern external resources, and the health that an operator
 * is shown: each step that fails is tried again later, and holds up no other one.
 * @module
 */

import { ConfigError, ConflictError, faultCodeOf, reasonOf } from "../errors.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { Provider, ProviderHealth } from "../ports/provider.ts";
import type { CaPorts } from "./ca-ports.ts";
import { createRetryMemory, type Fault, type RetryMemory } from "./replica-memory.ts";
import type { Step } from "./schedule.ts";

/** How long a CA that closes waits for its provider, in milliseconds. */
const CLOSE_MS = 2000;

/**
 * A step with exponential backoff: after each failure in a row the pause doubles, from 2 s up to
 * Consul's 256 s (agent/consul/leader_connect_ca.go).
 */
export class RetriedStep {
  readonly #clock: Clock;
  readonly #random: Random | null;
  readonly #longestMs: number;
  readonly #memory: RetryMemory;

  /**
   * @param random shortens each pause by up to a half; null: no jitter. @default null
   * @param longestMs the longest pause, in milliseconds. @default no other bound
   * @param memory what is known of earlier attempts. @default there were none
   */
  constructor(
    clock: Clock,
    random: Random | null = null,
    longestMs: number = Number.POSITIVE_INFINITY,
    memory: RetryMemory = createRetryMemory(),
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#longestMs = longestMs;
    this.#memory = memory;
  }

  /** Why it fails, and since when; null after a success. */
  get fault(): Fault | null {
    return this.#memory.fault;
  }

  set fault(fault: Fault | null) {
    this.#memory.fault = fault;
  }

  get isDue(): boolean {
    return hasPassed(this.#clock, this.#memory.failedAt, this.#memory.waitMs);
  }

  /**
   * Shortens the pause after the last failure, whose reason may be over.
   * @param ms the pause, in milliseconds, if it is longer.
   */
  retryWithin(ms: number): void {
    this.#memory.waitMs = Math.min(this.#memory.waitMs, ms);
  }

  /** @throws whatever `work` throws */
  async run(work: () => Promise<unknown>): Promise<void> {
    const memory = this.#memory;
    try {
      await work();
      [memory.failures, memory.waitMs, memory.fault] = [0, 0, null];
    } catch (error) {
      const now = this.#clock.now();
      memory.failures = Math.min(8, memory.failures + 1);
      const share = 1 - (this.#random?.fraction() ?? 0) / 2;
      const pauseMs = Math.min(1000 * 2 ** memory.failures, this.#longestMs);
      [memory.failedAt, memory.waitMs] = [now.getTime(), pauseMs * share];
      const since = memory.fault?.since ?? now;
      memory.fault = { reason: reasonOf(error), code: faultCodeOf(error), since };
      throw error;
    }
  }
}

export class Maintenance {
  readonly rollback: RetriedStep;
  readonly renewal: RetriedStep;
  readonly autoRotation: RetriedStep;
  readonly crossSigning: RetriedStep;
  readonly collection: RetriedStep;
  readonly #inspection: RetriedStep;
  readonly #ports: Pick<CaPorts, "clock" | "log" | "hints">;
  readonly #inspectMs: number;
  #inspectedAt = Number.NEGATIVE_INFINITY;
  /** Why the root that took the active one's place outside is not followed. */
  #refusedRoot: Fault | null = null;

  /** @param inspectMs the pause between two inspections. */
  constructor(ports: Pick<CaPorts, "clock" | "log" | "hints">, inspectMs: number) {
    const { clock } = ports;
    this.#ports = ports;
    this.#inspectMs = inspectMs;
    this.rollback = new RetriedStep(clock);
    this.renewal = new RetriedStep(clock);
    this.autoRotation = new RetriedStep(clock);
    this.crossSigning = new RetriedStep(clock);
    this.collection = new RetriedStep(clock);
    this.#inspection = new RetriedStep(clock);
  }

  /** Forgets the faults of steps that are no longer due. */
  clearFaults(due: Step["kind"]): void {
    if (due !== "renew") this.renewal.fault = null;
    if (due !== "auto-rotate") this.autoRotation.fault = null;
    if (due !== "cross") this.crossSigning.fault = null;
  }

  /**
   * Tries a step whose failure stops nothing; it is logged once for each reason.
   * @returns whether it was due and succeeded; it never rejects.
   */
  async attempt(
    step: RetriedStep,
    failure: string,
    work: () => Promise<unknown>,
  ): Promise<boolean> {
    if (!step.isDue) return false;
    const known = step.fault?.reason;
    try {
      await step.run(work);
      return true;
    } catch {
      if (step.fault !== null && step.fault.reason !== known)
        this.#ports.log.warn(failure, { reason: step.fault.reason });
      return false;
    }
  }

  get inspectionDue(): boolean {
    return (
      hasPassed(this.#ports.clock, this.#inspectedAt, this.#inspectMs) && this.#inspection.isDue
    );
  }

  /** Runs an inspection of the provider's external resources. @throws whatever `work` throws */
  async inspect(work: () => Promise<unknown>): Promise<void> {
    this.#inspectedAt = this.#ports.clock.now().getTime();
    await this.#inspection.run(work);
  }

  /**
   * Records why the root that took the active one's place outside is not followed.
   * @param error null if it is followed, or if there is no such root.
   * @throws the error, if it is not a refusal
   */
  setRefusedRoot(error: unknown): void {
    if (error === null) this.#refusedRoot = null;
    else if (error instanceof ConfigError || error instanceof ConflictError)
      this.#refusedRoot ??= {
        reason: error.message,
        code: error.code,
        since: this.#ports.clock.now(),
      };
    else throw error;
  }

  /** The health of a provider's external resources, with what the steps found. */
  health(provider: Provider | null | undefined): ProviderHealth {
    const { obstacle = null, notes = [], unavailable = false } = provider?.external?.health ?? {};
    const note = (what: string, fault: Fault | null, hint = "") =>
      fault === null ? [] : [`${what} since ${fault.since.toISOString()}: ${fault.reason}${hint}`];
    return {
      obstacle,
      unavailable,
      notes: [
        ...notes,
        ...note("obsolete provider resources cannot be deleted", this.collection.fault),
        ...note("the issuer cannot be renewed", this.renewal.fault),
        ...note(
          "the root cannot be rotated as RootAutoRotate requires",
          this.autoRotation.fault,
          `; ${this.#ports.hints.rotate}`,
        ),
        ...note(
          "a cross-signed certificate of a retired root cannot be renewed",
          this.crossSigning.fault,
        ),
        ...note(
          "another root took the active one's place outside and is not followed",
          this.#refusedRoot,
          `; ${this.#ports.hints.followRoot}`,
        ),
      ],
    };
  }

  /** Closes a provider, and waits up to `CLOSE_MS` until it has ended. It never rejects. */
  async close(provider: Provider | null | undefined): Promise<void> {
    const closed = new AbortController();
    await Promise.race([provider?.close(), this.#ports.clock.sleep(CLOSE_MS, closed.signal)]);
    closed.abort();
  }
}

/** True also if the clock was ahead at `since`: how long ago that was is unknown then. */
function hasPassed(clock: Clock, since: number, ms: number): boolean {
  return Math.abs(clock.now().getTime() - since) >= ms;
}
