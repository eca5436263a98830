/**
 * The limit of live tokens of one subject of an auth method: a workload that logs in repeatedly must
 * not fill the store and the memory of every replica.
 * @module
 */
import type { AuthMethod, Entry, Token } from "../core/acl/types.ts";
import { RateLimitedError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { isOrphaned } from "./login-origin.ts";
import type { AclReplica } from "./replica.ts";
import { isExpired } from "./tokens.ts";

/** A pod or a person has a few, and logs out of those that it no longer needs. */
export const DEFAULT_MAX_TOKENS = 100;
/** Bounds of Retry-After, in milliseconds. */
const [MIN_RETRY_MS, MAX_RETRY_MS] = [1000, 24 * 3_600_000];

export class LoginQuota {
  readonly #tokens: AclReplica["tokens"];
  readonly #clock: Clock;
  readonly #limit: number;

  constructor({ tokens }: Pick<AclReplica, "tokens">, clock: Clock, limit: number) {
    this.#tokens = tokens;
    this.#clock = clock;
    this.#limit = limit;
  }

  /** @throws {RateLimitedError} `login_tokens_exceeded` if another token exceeds the limit */
  require(method: Entry<AuthMethod>, subject: string): void {
    const live = this.#liveTokens(method, subject);
    if (live.length >= this.#limit) throw this.#exceeded(live);
  }

  /**
   * The error if a token that was written exceeds the limit, or null. Concurrent logins do not see
   * each other's tokens: the order of their writes decides, and within one write the accessor, so
   * that every replica decides alike.
   */
  refusal(
    method: Entry<AuthMethod>,
    subject: string,
    { createIndex, value }: Entry<Token>,
  ): RateLimitedError | null {
    const earlier = this.#liveTokens(method, subject).filter(
      (other) =>
        other.createIndex < createIndex ||
        (other.createIndex === createIndex && other.value.accessorId < value.accessorId),
    );
    return earlier.length < this.#limit ? null : this.#exceeded(earlier);
  }

  #liveTokens(method: Entry<AuthMethod>, subject: string): Entry<Token>[] {
    const now = this.#clock.now();
    return [...this.#tokens.values()].filter(
      (entry) =>
        entry.value.login?.subject === subject &&
        entry.value.authMethod === method.value.name &&
        !isOrphaned(entry, method) &&
        !isExpired(entry.value.expirationTime, now),
    );
  }

  #exceeded(live: readonly Entry<Token>[]): RateLimitedError {
    const firstEnd = Math.min(
      ...live.map(({ value }) => value.expirationTime?.getTime() ?? Number.POSITIVE_INFINITY),
    );
    const retryMs = Math.max(
      MIN_RETRY_MS,
      Math.min(MAX_RETRY_MS, firstEnd - this.#clock.now().getTime()),
    );
    return new RateLimitedError(
      retryMs,
      "login_tokens_exceeded",
      `Cannot log in: this subject has ${this.#limit} live tokens, the limit; log out of unused tokens, or wait until one expires`,
    );
  }
}
