/**
 * How many live tokens one subject of an auth method may have: a workload that logs in again and
 * again does not fill the store, nor the memory of every replica.
 * @module
 */
import type { AuthMethod, Entry, Token } from "../core/acl/types.ts";
import { RateLimitedError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { isOrphaned } from "./login-origin.ts";
import type { AclReplica } from "./replica.ts";
import { isExpired } from "./tokens.ts";

/** By default: a pod or a person has some, and logs out of those that are done with. */
export const DEFAULT_MAX_TOKENS = 100;
/** How soon and how late a client is told to come again, in milliseconds. */
const [MIN_RETRY_MS, MAX_RETRY_MS] = [1000, 24 * 3_600_000];

export class LoginRoom {
  readonly #tokens: AclReplica["tokens"];
  readonly #clock: Clock;
  readonly #most: number;

  constructor({ tokens }: Pick<AclReplica, "tokens">, clock: Clock, most: number) {
    this.#tokens = tokens;
    this.#clock = clock;
    this.#most = most;
  }

  /** @throws {RateLimitedError} `login_tokens_exceeded` if there is no room for another token */
  require(method: Entry<AuthMethod>, subject: string): void {
    const live = this.#liveTokens(method, subject);
    if (live.length >= this.#most) throw this.#exceeded(live);
  }

  /**
   * Why a token that was written has no room, or null. Logins that ran at the same time did not see
   * each other: the order of their writes decides on every replica alike, and in one write the
   * accessor.
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
    return earlier.length < this.#most ? null : this.#exceeded(earlier);
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
      `Cannot log in: ${this.#most} tokens of this subject are live; log out of those that are not needed, or wait until one expires`,
    );
  }
}
