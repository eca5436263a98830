/**
 * The token of a client of Vault: logs in, renews the lease before it expires, and logs in again if
 * renewal is not possible. There is never more than one login or renewal at a time.
 * @module
 */
import { reasonOf } from "../../src/core/errors.ts";
import type { Clock, Random } from "../../src/core/ports/clock.ts";
import type { Log } from "../../src/core/ports/log.ts";
import { loginRequest, readSecret } from "./auth/method.ts";
import type { VaultConnection } from "./config.ts";
import { failedBy, VaultError } from "./errors.ts";
import { LoginResponse, LookupResponse, readAs } from "./responses.ts";

/** The part of a lease's remaining life after which it is renewed (Vault's api/lifetime_watcher.go). */
const RENEW_AT = 2 / 3;
/** The part of that by which a renewal may come earlier, so that replicas do not come at once. */
const JITTER = 0.1;
const BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 60_000;
/** Longer waits are split: timers hold 32 bits of milliseconds. */
const MAX_SLEEP_MS = 86_400_000;

/** A token that Vault accepts. */
export type Held =
  /** It does not expire, as a root token. */
  | { readonly kind: "permanent"; readonly token: string; readonly renewable: boolean }
  | {
      readonly kind: "leased";
      readonly token: string;
      readonly renewable: boolean;
      /** Milliseconds since 1970. */
      readonly expiresAt: number;
      /** What a renewal asks for. */
      readonly leaseMs: number;
    };

type Leased = Extract<Held, { kind: "leased" }>;

/**
 * When a token is renewed next, and how.
 * @param fraction of [0, 1), for jitter.
 * @returns null if never; `replace` if renewal is not possible: by a login, or else by a lookup that
 * finds whether somebody else extended it.
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

/** One call with a token, or without. */
export type CallWith = (
  token: string,
  verb: "read" | "write",
  path: string,
  body?: Readonly<Record<string, unknown>>,
) => Promise<unknown>;

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
  readFile(path: string): string;
}

export class TokenRenewer {
  readonly #login: VaultConnection["login"];
  readonly #call: CallWith;
  readonly #beforeLogin: () => void;
  readonly #platform: RenewerPlatform;
  readonly #closing = new AbortController();
  #held: Held | null = null;
  #failure: TokenStatus["failure"] = null;
  /** The login or renewal that is running. */
  #acquiring: Promise<Held> | null = null;
  /** The check of a denied token that is running. */
  #checking: { readonly token: string; readonly result: Promise<boolean> } | null = null;
  #isRenewing = false;

  /** @param beforeLogin runs before each login, which may need other files than the last one. */
  constructor(
    login: VaultConnection["login"],
    call: CallWith,
    beforeLogin: () => void,
    platform: RenewerPlatform,
  ) {
    this.#login = login;
    this.#call = call;
    this.#beforeLogin = beforeLogin;
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
    const isUsable = held !== null && !(this.#isExpired(held) && this.#canLogIn);
    return isUsable ? held.token : (await this.#acquire(() => this.#logIn())).token;
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
    if (this.#login.kind === "method" && held !== null && !this.#isExpired(held))
      await this.#call(held.token, "write", "auth/token/revoke-self", {});
  }

  close(): void {
    this.#closing.abort();
  }

  get #canLogIn(): boolean {
    return this.#login.kind !== "token";
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

  async #logIn(): Promise<Held> {
    const { readFile } = this.#platform;
    const login = this.#login;
    if (login.kind === "token") return this.#lookup(login.token);
    this.#beforeLogin();
    if (login.kind === "file") {
      const token = readSecret(login.path, readFile);
      if (!/^[\x21-\x7e]+$/.test(token))
        throw new VaultError(
          "login_refused",
          `Vault: cannot log in: the file ${JSON.stringify(login.path)} of TokenFile has no token; write one into it`,
        );
      return this.#lookup(token);
    }
    const { type, mountPath } = login.method;
    const { path, body } = loginRequest(login.method, readFile);
    const asked = this.#now();
    const response = await this.#call("", "write", path, body).catch((error: unknown) => {
      throw loginError(error, type, mountPath);
    });
    const {
      client_token: token,
      lease_duration: seconds,
      renewable,
    } = readAs(`POST ${path}`, LoginResponse, response).auth;
    // A token that does not expire has a lease of zero.
    if (seconds === 0) return { kind: "permanent", token, renewable };
    const leaseMs = seconds * 1000;
    return { kind: "leased", token, renewable, expiresAt: asked + leaseMs, leaseMs };
  }

  async #lookup(token: string): Promise<Held> {
    const response = await this.#lookupSelf(token);
    const { ttl, creation_ttl, period, renewable, expire_time } = readAs(
      "GET auth/token/lookup-self",
      LookupResponse,
      response,
    ).data;
    // The ttl of a token that expires within a second is 0 as well.
    if (expire_time === null || expire_time === undefined)
      return { kind: "permanent", token, renewable };
    const leftMs = Math.max(ttl, 0) * 1000;
    // A renewal asks for what the token was made for, not for what is left of that.
    const leaseMs = Math.max(leftMs, 1000 * (period === 0 ? creation_ttl : period));
    return { kind: "leased", token, renewable, expiresAt: this.#now() + leftMs, leaseMs };
  }

  /**
   * Vault denies a dead token, and one without a right to look itself up, alike: the latter can ask
   * for its capabilities.
   * @throws {VaultError} `token_invalid` if it is dead
   */
  async #lookupSelf(token: string): Promise<unknown> {
    const path = "auth/token/lookup-self";
    try {
      return await this.#call(token, "read", path);
    } catch (error) {
      if (!failedBy(error, "denied")) throw error;
      await this.#call(token, "write", "sys/capabilities-self", { paths: [path] }).catch(
        (other: unknown) => {
          throw failedBy(other, "denied")
            ? new VaultError(
                "token_invalid",
                "Vault: the token is unknown, expired or revoked; configure another one",
                403,
              )
            : other;
        },
      );
      throw error;
    }
  }

  async #replaceIfDead(token: string): Promise<boolean> {
    if (this.#held !== null && this.#held.token !== token) return true;
    try {
      await this.#lookupSelf(token);
      return false;
    } catch (error) {
      // Alive, without a right to look itself up.
      if (failedBy(error, "denied")) return false;
      if (!failedBy(error, "token_invalid")) throw error;
      if (!this.#canLogIn) {
        this.#fail(error);
        throw error;
      }
    }
    return (await this.#acquire(() => this.#logIn())).token !== token;
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
      if (next.by === "replace" && !this.#canLogIn && !warned) {
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
        if (!this.#canLogIn && (await this.#isDead(error, held.token))) break;
      }
      // A pause also if the lease is nearly over: its last seconds must not become a loop.
      const retry = this.#failure === null ? 0 : backoff * random.fraction();
      await this.#sleepUntil(this.#now() + BACKOFF_MS * random.fraction() + retry);
      if (this.#failure !== null) backoff = Math.min(backoff * 2, MAX_BACKOFF_MS);
    }
    this.#isRenewing = false;
  }

  async #extend(held: Leased): Promise<Held> {
    const replace = () => (this.#canLogIn ? this.#logIn() : this.#lookup(held.token));
    if (!held.renewable) return replace();
    let renewed: Leased;
    try {
      renewed = await this.#renew(held);
    } catch (error) {
      if (failedBy(error, "denied", "refused") && this.#canLogIn) return this.#logIn();
      throw error;
    }
    return this.#canLogIn && isCut(held, renewed, this.#now()) ? this.#logIn() : renewed;
  }

  async #renew(held: Leased): Promise<Leased> {
    const path = "auth/token/renew-self";
    const asked = this.#now();
    const increment = `${Math.max(1, Math.round(held.leaseMs / 1000))}s`;
    const response = await this.#call(held.token, "write", path, { increment });
    const { lease_duration, renewable } = readAs(`POST ${path}`, LoginResponse, response).auth;
    const leaseMs = lease_duration * 1000;
    return {
      ...held,
      renewable,
      expiresAt: asked + leaseMs,
      leaseMs: Math.max(held.leaseMs, leaseMs),
    };
  }

  /** Whether a renewal failed because the token is dead, and not for want of a right. */
  async #isDead(error: unknown, token: string): Promise<boolean> {
    if (!failedBy(error, "denied")) return failedBy(error, "token_invalid");
    return this.#lookupSelf(token).then(
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

function loginError(error: unknown, type: string, mountPath: string): unknown {
  const isRefusal = failedBy(
    error,
    "refused",
    "denied",
    "not_found",
    "mount_missing",
    "mount_type",
    "role_missing",
  );
  if (!isRefusal) return error;
  return new VaultError(
    "login_refused",
    `Vault: cannot log in by ${type} at ${JSON.stringify(`auth/${mountPath}`)}: ${error.reason === "denied" ? "permission denied" : error.message.replace(/^Vault: /, "")}; check AuthMethod and its role in Vault`,
    error.status,
  );
}
