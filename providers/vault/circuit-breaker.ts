/**
 * Whether Vault answers: after a call that found it away, others fail at once for a moment instead
 * of waiting each for itself, and one at a time tries again. Since when and why it is away is what
 * an operator sees.
 * @module
 */
import type { Clock } from "../../src/core/ports/clock.ts";
import type { VaultClient } from "./client.ts";
import { VaultError, type VaultReason } from "./errors.ts";

/** How long calls fail at once after one that found Vault away, in milliseconds. */
const PAUSE_MS = 1000;

/** Those after which the next call would only wait for the same. */
const AWAY: readonly VaultReason[] = [
  "sealed",
  "unreachable",
  "timeout",
  "tls",
  "not_allowed",
  "failing",
  "token_invalid",
  "login_refused",
];

/**
 * How often it is looked whether Vault takes the token, where nothing else shows it, in
 * milliseconds.
 */
const TOKEN_MS = 60_000;

/**
 * For how long what Vault refused stands for what it would refuse now: without readiness no request
 * would come to show it.
 */
const REFUSED_MS = 15_000;

/** Whether leaves can be expected to fail now. */
export function isObstacle({ error, at }: Absence, now: Date): boolean {
  return isAway(error) || now.getTime() - at.getTime() < REFUSED_MS;
}

function isAway(error: unknown): boolean {
  return error instanceof VaultError && AWAY.includes(error.reason);
}

export interface Absence {
  readonly since: Date;
  /** When it was last met. */
  readonly at: Date;
  readonly error: VaultError;
}

export interface Availability {
  /** Since when and why calls fail, or null. */
  readonly absence: Absence | null;
  /**
   * Makes a call, unless Vault is known to be away.
   * @throws {VaultError}
   * @throws {RateLimitedError}
   */
  call<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Makes a call that no leaf needs, whatever is known: that Vault is away counts, what it refuses
   * does not.
   * @throws {VaultError}
   * @throws {RateLimitedError}
   */
  look<T>(work: () => Promise<T>): Promise<T>;
  /** Looks whether Vault answers and takes the token. It never rejects. */
  probe(): Promise<void>;
}

export function createAvailability(client: VaultClient, clock: Clock): Availability {
  let absence: Absence | null = null;
  let tryAt = 0;
  let tokenAt = 0;

  const failed = (error: unknown) => {
    // What Vault refuses is that one request's affair.
    if (!(error instanceof VaultError) || error.reason === "refused") return;
    absence = { since: absence?.since ?? clock.now(), at: clock.now(), error };
    if (isAway(error)) tryAt = clock.now().getTime() + PAUSE_MS;
  };

  return {
    get absence() {
      return absence;
    },
    async call(work) {
      const now = clock.now().getTime();
      // An instant that is further off was set by a clock that has gone back since.
      if (absence !== null && now < tryAt && tryAt - now <= PAUSE_MS) throw absence.error;
      // Who comes while this one tries fails at once, as long as it takes to be tried again.
      if (absence !== null) tryAt = now + PAUSE_MS;
      try {
        const result = await work();
        absence = null;
        return result;
      } catch (error) {
        failed(error);
        throw error;
      }
    },
    async look(work) {
      try {
        return await work();
      } catch (error) {
        if (isAway(error)) failed(error);
        throw error;
      }
    },
    async probe() {
      try {
        const { initialized, sealed } = await client.health();
        if (sealed || !initialized)
          throw new VaultError(
            "sealed",
            `Vault is ${initialized ? "sealed" : "not initialised"}`,
            503,
          );
        // That a mount or a role is missing, only the next call shows.
        if (absence !== null && !AWAY.includes(absence.error.reason)) return;
        const now = clock.now().getTime();
        if (absence !== null || Math.abs(now - tokenAt) >= TOKEN_MS) {
          // What the token may not ask of itself is no leaf's affair.
          await client.connect().catch((error: unknown) => {
            if (isAway(error)) throw error;
          });
          tokenAt = now;
        }
        absence = null;
      } catch (error) {
        failed(error);
      }
    },
  };
}
