/**
 * The token of a client of Vault: logs in, renews the lease before it expires, and logs in again if
 * renewal is not possible. There is never more than one login or renewal at a time.
 * @module
 */
import { reasonOf } from "../../src/core/errors.ts";
import type { Clock, Random } from "../../src/core/ports/clock.ts";
import type { Log } from "../../src/core/ports/log.ts";
import { failedBy, VaultError } from "./errors.ts";
import type { Held, Leased, TokenApi } from "./token-api.ts";

/** The part of a lease's remaining life after which it is renewed (Vault's api/lifetime_watcher.go). */
const RENEW_AT = 2 / 3;
/** The part of that by which a renewal may come earlier, so that replicas do not come at once. */
const JITTER = 0.1;
const BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 60_000;
/** Longer waits are split: timers hold 32 bits of milliseconds. */
const MAX_SLEEP_MS = 86_400_000;

/**
 * When a token is renewed next, and how.
 * @param fraction of [0, 1), for jitter.
 * @returns null if never; `replace` if renewal is not possible: by a login, or else by a lookup that
 * finds whether an operator extended it.
 */
export function nextRenewal(
  held: Held,
  now: number,
  fraction: number,
): { readonly at: number; readonly by: "renew" | "replace" } | null {
  if (held.kind === "permanent") return null;
  const left = Math.max(0, held.expiresAt - now);
  const at = now + left * RENEW_AT * (1 - JITTER * fraction);
  return { at, by: held.renewable ? "renew" : "replace" };
}

/** Whether the token's maximum life cut a renewal: each further one would give less. */
export function isCut(before: Leased, renewed: Leased, now: number): boolean {
  return renewed.expiresAt - now < before.leaseMs / 2;
}

/** What is known of the token. */
export interface TokenStatus {
  /** False before the first login. */
  readonly renewable: boolean;
  /** Null: it does not expire, or there was no login yet. */
  readonly expiresAt: Date | null;
  /** The failure of the last renewal or login, and since when; null if it succeeded. */
  readonly failure: { readonly message: string; readonly since: Date } | null;
}

export interface RenewerPlatform {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class TokenRenewer {
  readonly #api: TokenApi;
  readonly #platform: RenewerPlatform;
  readonly #closing = new AbortController();
  #held: Held | null = null;
  #failure: TokenStatus["failure"] = null;
  /** The login or renewal that is running. */
  #acquiring: Promise<Held> | null = null;
  /** The check of a denied token that is running. */
  #checking: { readonly token: string; readonly result: Promise<boolean> } | null = null;
  #isRenewing = false;

  constructor(api: TokenApi, platform: RenewerPlatform) {
    this.#api = api;
    this.#platform = platform;
  }

  get status(): TokenStatus {
    const held = this.#held;
    return {
      renewable: held?.renewable ?? false,
      expiresAt: held?.kind === "leased" ? new Date(held.expiresAt) : null,
      failure: this.#failure,
    };
  }

  /** The token to use now. @throws {VaultError} if there is none and a login fails */
  async get(): Promise<string> {
    const held = this.#held;
    const isUsable = held !== null && !(this.#isExpired(held) && this.#api.canLogIn);
    return isUsable ? held.token : (await this.#acquire(() => this.#api.logIn())).token;
  }

  /**
   * Called after a call was denied.
   * @returns whether there is another token by now, with which the call may be repeated.
   * @throws {VaultError} `token_invalid` if the token is dead and there is no other
   */
  denied(token: string): Promise<boolean> {
    if (this.#checking?.token === token) return this.#checking.result;
    const result = this.#replaceIfDead(token).finally(() => {
      this.#checking = null;
    });
    this.#checking = { token, result };
    return result;
  }

  /** Revokes the token if a login of ours made it. @throws {VaultError} */
  async revoke(): Promise<void> {
    const held = this.#held;
    if (held !== null && !this.#isExpired(held)) await this.#api.revoke(held.token);
  }

  close(): void {
    this.#closing.abort();
  }

  #now(): number {
    return this.#platform.clock.now().getTime();
  }

  #isExpired(held: Held): boolean {
    return held.kind === "leased" && held.expiresAt <= this.#now();
  }

  /** Single-flight: concurrent callers share the result. */
  #acquire(act: () => Promise<Held>): Promise<Held> {
    if (this.#closing.signal.aborted)
      return Promise.reject(new VaultError("unreachable", "Vault: this client was closed"));
    this.#acquiring ??= act()
      .then((held) => {
        this.#held = held;
        this.#failure = null;
        if (!this.#isRenewing) void this.#keepRenewed();
        return held;
      })
      .catch((error: unknown) => {
        this.#fail(error);
        throw error;
      })
      .finally(() => {
        this.#acquiring = null;
      });
    return this.#acquiring;
  }

  #fail(error: unknown): void {
    const since = this.#failure?.since ?? this.#platform.clock.now();
    this.#failure = { message: reasonOf(error), since };
  }

  async #replaceIfDead(token: string): Promise<boolean> {
    if (this.#held !== null && this.#held.token !== token) return true;
    try {
      await this.#api.lookupSelf(token);
      return false;
    } catch (error) {
      // Alive, without a right to look itself up.
      if (failedBy(error, "denied")) return false;
      if (!failedBy(error, "token_invalid")) throw error;
      if (!this.#api.canLogIn) {
        this.#fail(error);
        throw error;
      }
    }
    return (await this.#acquire(() => this.#api.logIn())).token !== token;
  }

  async #keepRenewed(): Promise<void> {
    const { random, log } = this.#platform;
    this.#isRenewing = true;
    let backoff = BACKOFF_MS;
    let warned = false;
    for (;;) {
      const held = this.#held;
      const next = held === null ? null : nextRenewal(held, this.#now(), random.fraction());
      if (this.#closing.signal.aborted || held?.kind !== "leased" || next === null) break;
      await this.#sleepUntil(next.at);
      // A login after a denied call has replaced it.
      if (this.#closing.signal.aborted || this.#held !== held) continue;
      if (next.by === "replace" && !this.#api.canLogIn && !warned) {
        warned = true;
        log.warn("Vault: the token is not renewable and will expire; configure another one", {
          expires: new Date(held.expiresAt).toISOString(),
        });
      }
      try {
        await this.#acquire(() => this.#extend(held));
        backoff = BACKOFF_MS;
      } catch (error) {
        log.warn("Vault: failed to renew the token; it is used until it expires, and will retry", {
          expires: new Date(held.expiresAt).toISOString(),
          reason: reasonOf(error),
        });
        if (!this.#api.canLogIn && (await this.#isDead(error, held.token))) break;
      }
      // A pause also if the lease is nearly over: its last seconds must not become a loop.
      const retry = this.#failure === null ? 0 : backoff * random.fraction();
      await this.#sleepUntil(this.#now() + BACKOFF_MS * random.fraction() + retry);
      if (this.#failure !== null) backoff = Math.min(backoff * 2, MAX_BACKOFF_MS);
    }
    this.#isRenewing = false;
  }

  async #extend(held: Leased): Promise<Held> {
    const replace = () => (this.#api.canLogIn ? this.#api.logIn() : this.#api.lookup(held.token));
    if (!held.renewable) return replace();
    let renewed: Leased;
    try {
      renewed = await this.#api.renew(held);
    } catch (error) {
      if (failedBy(error, "denied", "refused") && this.#api.canLogIn) return this.#api.logIn();
      throw error;
    }
    return this.#api.canLogIn && isCut(held, renewed, this.#now()) ? this.#api.logIn() : renewed;
  }

  /** Whether a renewal failed because the token is dead, and not for want of a right. */
  async #isDead(error: unknown, token: string): Promise<boolean> {
    if (!failedBy(error, "denied")) return failedBy(error, "token_invalid");
    return this.#api.lookupSelf(token).then(
      () => false,
      (other: unknown) => failedBy(other, "token_invalid"),
    );
  }

  async #sleepUntil(moment: number): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted && this.#now() < moment) {
      const ms = Math.min(moment - this.#now(), MAX_SLEEP_MS);
      await this.#platform.clock.sleep(Math.max(0, ms), signal);
    }
  }
}
