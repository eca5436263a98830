/**
 * The circuit breaker of the calls to Vault: after a call that finds Vault unavailable, further
 * calls fail at once for a second, and one at a time tries again. Since when and why Vault is
 * unavailable is what an operator sees.
 * @module
 */
import type { Clock } from "../../src/core/ports/clock.ts";
import type { VaultClient } from "./client.ts";
import { failedBy, VaultError, type VaultReason } from "./errors.ts";

/** How long calls fail at once, in milliseconds. */
const COOLDOWN_MS = 1000;

/** Failures after which the next call would only wait for the same one. */
const UNAVAILABLE: readonly VaultReason[] = [
  "sealed",
  "unreachable",
  "timeout",
  "tls",
  "not_allowed",
  "failing",
  "token_invalid",
  "login_refused",
];

/** How often a probe checks the token, in milliseconds. */
const TOKEN_CHECK_MS = 60_000;

/**
 * How long a call that Vault refused counts against readiness, in milliseconds: without readiness
 * no request would come to show that the cause is gone.
 */
const REFUSED_MS = 15_000;

export interface Outage {
  readonly since: Date;
  /** The last failure. */
  readonly at: Date;
  readonly error: VaultError;
}

/** Whether signing is expected to fail now. */
export function blocksSigning({ error, at }: Outage, now: Date): boolean {
  return isUnavailable(error) || now.getTime() - at.getTime() < REFUSED_MS;
}

function isUnavailable(error: unknown): error is VaultError {
  return failedBy(error, ...UNAVAILABLE);
}

export class CircuitBreaker {
  readonly #client: VaultClient;
  readonly #clock: Clock;
  #outage: Outage | null = null;
  #cooldownEndsAt = 0;
  #tokenCheckedAt = 0;

  constructor(client: VaultClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** Since when and why calls fail, or null. */
  get outage(): Outage | null {
    return this.#outage;
  }

  /** Makes a call, except in the cooldown. @throws {VaultError} @throws {RateLimitedError} */
  async call<T>(work: () => Promise<T>): Promise<T> {
    const now = this.#clock.now().getTime();
    if (this.#outage !== null) {
      if (this.#inCooldown(now)) throw this.#outage.error;
      // This call tries; others fail at once until it has been tried for that long.
      this.#cooldownEndsAt = now + COOLDOWN_MS;
    }
    try {
      const result = await work();
      this.#outage = null;
      return result;
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  /**
   * Makes a call on which no leaf depends, also in the cooldown. Only that Vault is unavailable
   * counts, not what it refuses.
   * @throws {VaultError} @throws {RateLimitedError}
   */
  async observe<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isUnavailable(error)) this.#fail(error);
      throw error;
    }
  }

  /** Checks whether Vault answers and accepts the token. It never rejects. */
  async probe(): Promise<void> {
    try {
      const { initialized, sealed } = await this.#client.health();
      if (sealed || !initialized)
        throw new VaultError(
          "sealed",
          `Vault is ${initialized ? "sealed; unseal it (vault operator unseal)" : "not initialized; initialize it (vault operator init)"}`,
          503,
        );
      // Only the next call shows that a missing mount or role is there again.
      if (this.#outage !== null && !isUnavailable(this.#outage.error)) return;
      const now = this.#clock.now().getTime();
      if (this.#outage !== null || Math.abs(now - this.#tokenCheckedAt) >= TOKEN_CHECK_MS) {
        // No leaf depends on what the token is allowed to ask about itself.
        await this.#client.connect().catch((error: unknown) => {
          if (isUnavailable(error)) throw error;
        });
        this.#tokenCheckedAt = now;
      }
      this.#outage = null;
    } catch (error) {
      this.#fail(error);
    }
  }

  /** An instant further off was set by a clock that has gone back since. */
  #inCooldown(now: number): boolean {
    return now < this.#cooldownEndsAt && this.#cooldownEndsAt - now <= COOLDOWN_MS;
  }

  #fail(error: unknown): void {
    // A refused request is at fault itself.
    if (!(error instanceof VaultError) || error.reason === "refused") return;
    const at = this.#clock.now();
    this.#outage = { since: this.#outage?.since ?? at, at, error };
    if (isUnavailable(error)) this.#cooldownEndsAt = at.getTime() + COOLDOWN_MS;
  }
}
