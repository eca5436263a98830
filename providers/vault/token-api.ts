/**
 * The calls of Vault about a token: login, lookup and renewal.
 * @module
 */
import type { Clock } from "../../src/core/ports/clock.ts";
import { loginRequest, readSecret } from "./auth/method.ts";
import type { VaultConnection } from "./config.ts";
import { failedBy, VaultError } from "./errors.ts";
import { LoginResponse, LookupResponse, readAs } from "./responses.ts";

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

export type Leased = Extract<Held, { kind: "leased" }>;

/** One call with a token, or without. */
export type CallWith = (
  token: string,
  verb: "read" | "write",
  path: string,
  body?: Readonly<Record<string, unknown>>,
) => Promise<unknown>;

interface TokenPlatform {
  readonly clock: Clock;
  readFile(path: string): string;
}

export class TokenApi {
  readonly #login: VaultConnection["login"];
  readonly #call: CallWith;
  readonly #beforeLogin: () => void;
  readonly #platform: TokenPlatform;

  /** @param beforeLogin runs before each login, which may need other files than the last one. */
  constructor(
    login: VaultConnection["login"],
    call: CallWith,
    beforeLogin: () => void,
    platform: TokenPlatform,
  ) {
    this.#login = login;
    this.#call = call;
    this.#beforeLogin = beforeLogin;
    this.#platform = platform;
  }

  /** Whether a login can give another token than the present one. */
  get canLogIn(): boolean {
    return this.#login.kind !== "token";
  }

  /** @throws {VaultError} */
  async logIn(): Promise<Held> {
    const { readFile } = this.#platform;
    const login = this.#login;
    if (login.kind === "token") return this.lookup(login.token);
    this.#beforeLogin();
    if (login.kind === "file") {
      const token = readSecret(login.path, readFile);
      if (!/^[\x21-\x7e]+$/.test(token))
        throw new VaultError(
          "login_refused",
          `Vault: cannot log in: the file ${JSON.stringify(login.path)} of TokenFile has no token; write one into it`,
        );
      return this.lookup(token);
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

  /** @throws {VaultError} `token_invalid` if it is dead */
  async lookup(token: string): Promise<Held> {
    const response = await this.lookupSelf(token);
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
  async lookupSelf(token: string): Promise<unknown> {
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

  /** @throws {VaultError} */
  async renew(held: Leased): Promise<Leased> {
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

  /** Revokes a token if a login of ours made it. @throws {VaultError} */
  async revoke(token: string): Promise<void> {
    if (this.#login.kind === "method")
      await this.#call(token, "write", "auth/token/revoke-self", {});
  }

  #now(): number {
    return this.#platform.clock.now().getTime();
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
