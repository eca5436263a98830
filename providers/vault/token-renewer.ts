/**
 * The token with which Vault is asked: logs in, renews what can be renewed, and logs in anew before
 * it ends. One for each opened client; there is never more than one login or renewal at a time.
 *
 * none -> valid -> renewing -> valid; a failure is tried again with growing pauses, and the token
 * is used until it ends.
 * @module
 */
import * as v from "valibot";
import { CaError } from "../../src/core/errors.ts";
import type { Clock, Random } from "../../src/core/ports/clock.ts";
import type { Log } from "../../src/core/ports/log.ts";
import { loginRequest, readSecret } from "./auth/method.ts";
import type { TokenStatus } from "./client.ts";
import type { VaultConnection } from "./config.ts";
import { VaultError } from "./errors.ts";

/**
 * What is left of a lease's life when it is renewed; less by a random part, so that replicas do not
 * come at once.
 */
const RENEW_AT = 2 / 3;
const JITTER = 0.1;
const BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 60_000;
/** Longer waits are made of several: timers hold 32 bits of milliseconds. */
const MAX_SLEEP_MS = 86_400_000;

/** One call with a token, or without. */
export type CallWith = (
  token: string,
  method: "GET" | "POST",
  path: string,
  body: Readonly<Record<string, unknown>> | null,
) => Promise<unknown>;

export interface TokenOptions {
  readonly connection: VaultConnection;
  readonly call: CallWith;
  /** Called before each login, which may need other files than the last one. */
  readonly beforeLogin: () => void;
  readonly readFile: (path: string) => string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface TokenKeeper {
  /** The token to use now. @throws {VaultError} where there is none and a login fails */
  get(): Promise<string>;
  /**
   * Looks after a call was denied: whether another token is there now, so that the call may be made
   * once more.
   * @throws {VaultError} `token_invalid` where the token is dead and there is no other.
   */
  denied(token: string): Promise<boolean>;
  /** Revokes the token where our login made it. @throws {VaultError} */
  revoke(): Promise<void>;
  readonly status: TokenStatus;
  close(): void;
}

interface Held {
  readonly token: string;
  /** Null: it does not expire. */
  readonly expiresAt: number | null;
  readonly leaseMs: number;
  readonly renewable: boolean;
}

const Auth = v.object({
  auth: v.object({
    client_token: v.pipe(v.string(), v.nonEmpty()),
    lease_duration: v.number(),
    renewable: v.boolean(),
  }),
});

const Lookup = v.object({
  data: v.object({
    ttl: v.number(),
    creation_ttl: v.nullish(v.number(), 0),
    period: v.nullish(v.number(), 0),
    renewable: v.optional(v.boolean(), false),
    expire_time: v.nullish(v.string()),
  }),
});

export function createTokenKeeper(options: TokenOptions): TokenKeeper {
  const { connection, call, clock, random, log } = options;
  const { login } = connection;
  const closing = new AbortController();
  let held: Held | null = null;
  let busy: Promise<Held> | null = null;
  let looking: { readonly token: string; readonly answer: Promise<boolean> } | null = null;
  let state: TokenStatus["state"] = "none";
  let renewedAt: Date | null = null;
  let failure: TokenStatus["failure"] = null;
  let looping = false;

  const canLogIn = login.kind !== "token";
  const now = () => clock.now().getTime();

  /**
   * Asks Vault of a token. One that is dead and one that may not ask this are answered alike: the
   * latter may ask something else.
   * @throws {VaultError} `token_invalid` where it is dead
   */
  const askOf = async (token: string): Promise<unknown> => {
    const path = "auth/token/lookup-self";
    const isDenied = (error: unknown) => error instanceof VaultError && error.reason === "denied";
    try {
      return await call(token, "GET", path, null);
    } catch (error) {
      if (!isDenied(error)) throw error;
      await call(token, "POST", "sys/capabilities-self", { paths: [path] }).catch(
        (other: unknown) => {
          throw isDenied(other)
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
  };

  const lookup = async (token: string): Promise<Held> => {
    const {
      ttl,
      creation_ttl: first,
      period,
      renewable,
      expire_time: expires,
    } = parse(Lookup, await askOf(token)).data;
    // A token of which less than a second is left says 0 too.
    const lasts = expires === null || expires === undefined ? null : Math.max(ttl, 0) * 1000;
    // What it is renewed by is what it was made for, not what is left of that.
    const leaseMs = lasts === null ? 0 : Math.max(lasts, 1000 * (period === 0 ? first : period));
    return { token, expiresAt: lasts === null ? null : now() + lasts, leaseMs, renewable };
  };

  const logIn = async (): Promise<Held> => {
    if (login.kind === "token") return lookup(login.token);
    options.beforeLogin();
    if (login.kind === "file") {
      const token = readSecret(login.path, options.readFile);
      if (!/^[\x21-\x7e]+$/.test(token))
        throw new VaultError(
          "login_refused",
          `Vault: ${JSON.stringify(login.path)} holds no token`,
        );
      return lookup(token);
    }
    const { path, body } = loginRequest(login.method, options.readFile);
    const asked = now();
    const answer = await call("", "POST", path, body).catch((error: unknown) => {
      throw loginError(error, login.method.type, login.method.mountPath);
    });
    const { client_token: token, lease_duration: seconds, renewable } = parse(Auth, answer).auth;
    // A lease of nothing is that of a token that does not expire.
    return {
      token,
      expiresAt: seconds === 0 ? null : asked + seconds * 1000,
      leaseMs: seconds * 1000,
      renewable,
    };
  };

  const renew = async (before: Held): Promise<Held> => {
    const asked = now();
    const increment = `${Math.max(1, Math.round(before.leaseMs / 1000))}s`;
    const { lease_duration: seconds, renewable } = parse(
      Auth,
      await call(before.token, "POST", "auth/token/renew-self", { increment }),
    ).auth;
    return {
      ...before,
      expiresAt: asked + seconds * 1000,
      leaseMs: Math.max(before.leaseMs, seconds * 1000),
      renewable,
    };
  };

  /** One login or renewal at a time; who comes meanwhile gets its outcome. */
  const once = (act: () => Promise<Held>): Promise<Held> => {
    if (closing.signal.aborted)
      return Promise.reject(new VaultError("unreachable", "Vault: this client was closed"));
    busy ??= act()
      .then((next) => {
        held = next;
        state = "valid";
        renewedAt = clock.now();
        failure = null;
        if (!looping) void keep();
        return next;
      })
      .catch((error: unknown) => {
        state = "failing";
        failure = {
          message: error instanceof CaError ? error.message : "unknown",
          since: failure?.since ?? clock.now(),
        };
        throw error;
      })
      .finally(() => {
        busy = null;
      });
    return busy;
  };

  /** Sleeps until a moment, or until this is closed. */
  const until = async (moment: number): Promise<void> => {
    while (!closing.signal.aborted && now() < moment)
      await clock.sleep(Math.max(0, Math.min(moment - now(), MAX_SLEEP_MS)), closing.signal);
  };

  /** When a lease is looked after: at two thirds of what is left of it. */
  const dueAt = (expiresAt: number): number =>
    now() + Math.max(0, expiresAt - now()) * RENEW_AT * (1 - JITTER * random.fraction());

  /** Renews, or logs in where renewing gains nothing any more. */
  const extend = async (before: Held): Promise<Held> => {
    if (!before.renewable) return canLogIn ? logIn() : lookup(before.token);
    const next = await renew(before).catch((error: unknown) => {
      const dead =
        error instanceof VaultError && (error.reason === "denied" || error.reason === "refused");
      if (dead && canLogIn) return logIn();
      throw error;
    });
    // The maximum of the token's life cuts the lease: what is left gets shorter with each renewal.
    const isCut = next.token === before.token && (next.expiresAt ?? 0) - now() < before.leaseMs / 2;
    return isCut && canLogIn ? logIn() : next;
  };

  const keep = async (): Promise<void> => {
    looping = true;
    let backoff = BACKOFF_MS;
    let warned = false;
    while (!closing.signal.aborted && held !== null && held.expiresAt !== null) {
      const before: Held = held;
      await until(dueAt(held.expiresAt));
      // Somebody was denied meanwhile and got another one.
      if (closing.signal.aborted || held !== before) continue;
      if (!before.renewable && !canLogIn && !warned) {
        warned = true;
        log.warn("Vault: the token cannot be renewed and will expire", {
          expires: new Date(held.expiresAt ?? 0).toISOString(),
        });
      }
      state = "renewing";
      try {
        await once(() => extend(before));
        backoff = BACKOFF_MS;
      } catch (error) {
        log.warn("Vault: cannot renew the token", {
          reason: error instanceof CaError ? error.message : "unknown",
        });
        if (!canLogIn && (await isDead(error, before.token))) break;
      }
      // Not sooner, also where a lease is nearly over: the last seconds of one must not become a
      // loop.
      await until(
        now() +
          BACKOFF_MS * random.fraction() +
          (failure === null ? 0 : backoff * random.fraction()),
      );
      if (failure !== null) backoff = Math.min(backoff * 2, MAX_BACKOFF_MS);
    }
    looping = false;
  };

  /**
   * Whether a renewal failed because the token is dead; one that may not renew itself may do so
   * later.
   */
  const isDead = async (error: unknown, token: string): Promise<boolean> => {
    if (!(error instanceof VaultError) || error.reason !== "denied")
      return error instanceof VaultError && error.reason === "token_invalid";
    return askOf(token).then(
      () => false,
      (other: unknown) => other instanceof VaultError && other.reason === "token_invalid",
    );
  };

  const look = async (token: string): Promise<boolean> => {
    if (held !== null && held.token !== token) return true;
    try {
      await askOf(token);
      return false;
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      // It lives, but may not ask.
      if (error.reason === "denied") return false;
      if (error.reason !== "token_invalid") throw error;
      if (!canLogIn) {
        state = "failing";
        failure = { message: error.message, since: failure?.since ?? clock.now() };
        throw error;
      }
    }
    return (await once(logIn)).token !== token;
  };

  return {
    async get() {
      const isOver =
        held !== null && held.expiresAt !== null && held.expiresAt <= now() && canLogIn;
      return held !== null && !isOver ? held.token : (await once(logIn)).token;
    },
    denied(token) {
      if (looking?.token === token) return looking.answer;
      const answer = look(token).finally(() => {
        looking = null;
      });
      looking = { token, answer };
      return answer;
    },
    async revoke() {
      const isOurs =
        login.kind === "method" &&
        held !== null &&
        (held.expiresAt === null || held.expiresAt > now());
      if (isOurs && held !== null) await call(held.token, "POST", "auth/token/revoke-self", {});
    },
    get status() {
      return {
        state,
        renewable: held?.renewable ?? false,
        expiresAt: held === null || held.expiresAt === null ? null : new Date(held.expiresAt),
        renewedAt,
        failure,
      };
    },
    close() {
      state = "closed";
      closing.abort();
    },
  };
}

/** What a login that fails means. */
function loginError(error: unknown, type: string, mountPath: string): unknown {
  if (
    !(error instanceof VaultError) ||
    !["refused", "denied", "not_found", "mount_missing", "mount_type", "role_missing"].includes(
      error.reason,
    )
  )
    return error;
  return new VaultError(
    "login_refused",
    `Vault: cannot log in by ${type} at ${JSON.stringify(mountPath)}: ${error.reason === "denied" ? "it was denied" : error.message.replace(/^Vault: /, "")}`,
    error.status,
  );
}

function parse<T>(schema: v.GenericSchema<unknown, T>, answer: unknown): T {
  const result = v.safeParse(schema, answer);
  // What was answered may hold a token.
  if (!result.success)
    throw new VaultError(
      "answer",
      "Vault: its answer about a token is not of the form it must have",
    );
  return result.output;
}
