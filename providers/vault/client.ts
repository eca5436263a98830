/**
 * A client of Vault: calls by path, with the token that is valid now, the namespace of the call, and
 * retries of what is idempotent.
 * @module
 */
import type * as v from "valibot";
import { hex } from "../../src/core/bytes.ts";
import type { Log } from "../../src/core/ports/log.ts";
import type { Mount, VaultConnection } from "./config.ts";
import { failedBy, quote, responseError, VaultError } from "./errors.ts";
import { fileFaults } from "./files.ts";
import { NodeVault, type Verb } from "./node-vault.ts";
import { CapabilitiesResponse, HealthResponse, readAs, warningsOf } from "./responses.ts";
import { type CallWith, TokenApi } from "./token-api.ts";
import { type RenewerPlatform, TokenRenewer, type TokenStatus } from "./token-renewer.ts";
import { Transport, type TransportPlatform, type TransportResponse } from "./transport.ts";

/** Most calls take some milliseconds; a slower Vault is as good as unreachable. */
const TIMEOUT_MS = 10_000;
/** The pauses before the retries of an idempotent call, in milliseconds. */
const RETRIES = [250, 1000];
const METHODS = { read: "GET", list: "LIST", write: "POST", delete: "DELETE" } as const;

/** What a client needs from the runtime. */
export type VaultPlatform = TransportPlatform & RenewerPlatform;

export interface CallOptions {
  readonly body?: Readonly<Record<string, unknown>>;
  /** Whether a retry is safe. @default true for `read` and `list` only */
  readonly idempotent?: boolean;
  readonly timeoutMs?: number;
}

export interface Health {
  readonly initialized: boolean;
  readonly sealed: boolean;
  /** The same by whatever address the cluster is reached; null while it is sealed. */
  readonly clusterId: string | null;
}

/** Logs each warning of Vault once. */
export class WarningLog {
  readonly #log: Log;
  readonly #seen = new Set<string>();

  constructor(log: Log) {
    this.#log = log;
  }

  report(call: string, response: unknown): void {
    for (const warning of warningsOf(response)) {
      // The same warning with another lifetime or time is not a new one.
      const kind = warning.replace(/\d+/g, "#");
      if (this.#seen.has(kind) || this.#seen.size >= 1000) continue;
      this.#seen.add(kind);
      this.#log.warn("Vault answered with a warning", { call, warning: quote(warning) });
    }
  }
}

/**
 * Logs in at the first call, and renews its token until it is closed. Every call throws `VaultError`
 * or `RateLimitedError`. A call that changes something is sent once: after `unreachable`, `timeout`
 * or `failing` it may have had its effect.
 */
export class VaultClient {
  readonly #connection: VaultConnection;
  readonly #platform: VaultPlatform;
  readonly #warnings: WarningLog;
  readonly #transport: Transport;
  readonly #vault: NodeVault;
  readonly #renewer: TokenRenewer;
  #namespacesChecked: Promise<void> | null = null;

  constructor(
    connection: VaultConnection,
    platform: VaultPlatform,
    warnings = new WarningLog(platform.log),
  ) {
    this.#connection = connection;
    this.#platform = platform;
    this.#warnings = warnings;
    this.#transport = new Transport(connection, platform);
    this.#vault = new NodeVault(connection.address, this.#transport);
    const { namespace, login } = connection;
    const call: CallWith = (token, verb, path, body = {}) =>
      this.#retried(verb === "read", () => this.#send(token, verb, { path, namespace }, { body }));
    const tokens = new TokenApi(login, call, () => this.#transport.reload(), platform);
    this.#renewer = new TokenRenewer(tokens, platform);
    if (connection.tls.skipVerify)
      platform.log.warn(
        "Vault: TLSSkipVerify: the certificate of Vault is not verified; anyone on the path can read the token. Configure CAFile or CAPath in its place",
        { address: connection.address },
      );
  }

  get token(): TokenStatus {
    return this.#renewer.status;
  }

  /** Why files of the configuration cannot be used, a line each. They are read for it, now. */
  get fileFaults(): readonly string[] {
    return fileFaults(this.#connection, this.#platform);
  }

  /** Logs in and checks the token. @throws {VaultError} */
  async connect(): Promise<void> {
    await this.#renewer.get();
    const { namespace } = this.#connection;
    await this.#authenticated("read", { path: "auth/token/lookup-self", namespace }, {});
  }

  /** Needs no token; a sealed Vault answers as well. */
  async health(): Promise<Health> {
    const at = { path: "sys/health", namespace: "" };
    const response = await this.#retried(true, () => this.#send("", "read", at, {}));
    const { initialized, sealed, cluster_id } = readAs("GET sys/health", HealthResponse, response);
    return { initialized, sealed, clusterId: cluster_id };
  }

  /**
   * What the token is allowed to do.
   * @param paths as in policies, without a leading slash.
   * @returns capabilities by path.
   */
  async capabilities(
    namespace: string,
    paths: readonly string[],
  ): Promise<ReadonlyMap<string, readonly string[]>> {
    const at = { path: "sys/capabilities-self", namespace };
    const options = { body: { paths }, idempotent: true };
    const { data } = await this.call("write", at, CapabilitiesResponse, options);
    return new Map(Object.entries(data).filter(([path]) => paths.includes(path)));
  }

  /** One call. @param at the full path, with its namespace. */
  async call<T>(
    verb: Verb,
    at: Mount,
    schema: v.GenericSchema<unknown, T>,
    options: CallOptions = {},
  ): Promise<T> {
    const name = `${METHODS[verb]} ${at.path}`;
    const response = await this.#authenticated(verb, at, options);
    this.#warnings.report(name, response);
    return readAs(name, schema, response);
  }

  /** Revokes the token if a login of ours made it. @throws {VaultError} */
  revoke(): Promise<void> {
    return this.#renewer.revoke();
  }

  /** Ends renewals and closes connections. Running calls end by themselves. */
  close(): void {
    this.#renewer.close();
    this.#transport.close();
  }

  async #authenticated(verb: Verb, at: Mount, options: CallOptions): Promise<unknown> {
    const isIdempotent = options.idempotent ?? (verb === "read" || verb === "list");
    const token = await this.#renewer.get();
    if (at.namespace !== "") await this.#requireNamespaces(token);
    const send = (by: string) =>
      this.#retried(isIdempotent, () => this.#send(by, verb, at, options));
    try {
      return await send(token);
    } catch (error) {
      // A dead token and one without the right are both denied.
      if (!failedBy(error, "denied") || !(await this.#renewer.denied(token))) throw error;
    }
    return send(await this.#renewer.get());
  }

  async #retried<T>(isIdempotent: boolean, act: () => Promise<T>): Promise<T> {
    const { clock, random } = this.#platform;
    for (const pauseMs of isIdempotent ? RETRIES : [])
      try {
        return await act();
      } catch (error) {
        if (!isTransient(error)) throw error;
        await clock.sleep(pauseMs * (1 + random.fraction()));
      }
    return act();
  }

  /** @returns parsed JSON, other text, or null without a body. */
  async #send(
    token: string,
    verb: Verb,
    { path, namespace }: Mount,
    { body = {}, timeoutMs = TIMEOUT_MS }: CallOptions,
  ): Promise<unknown> {
    const request = { path, token, namespace, body, timeoutMs };
    return readBody(`${METHODS[verb]} ${path}`, await this.#vault.send(verb, request));
  }

  /**
   * Vault without namespaces ignores their header: what is meant for one would happen in the root
   * namespace. It shows by its response for a namespace that cannot exist.
   * @throws {VaultError} `namespace_missing`
   */
  #requireNamespaces(token: string): Promise<void> {
    if (this.#namespacesChecked !== null) return this.#namespacesChecked;
    const namespace = `none-${hex(this.#platform.random.bytes(8))}`;
    const at = { path: "auth/token/lookup-self", namespace };
    this.#namespacesChecked = this.#retried(true, () => this.#send(token, "read", at, {})).then(
      () => {
        throw new VaultError(
          "namespace_missing",
          "Vault: this server has no namespaces and would use the root one; remove the namespaces from the configuration",
        );
      },
      (error: unknown) => {
        if (failedBy(error, "namespace_missing", "denied", "not_found")) return;
        this.#namespacesChecked = null;
        throw error;
      },
    );
    return this.#namespacesChecked;
  }
}

/** One segment of a path. @throws {VaultError} for anything else */
export function segment(text: string): string {
  if (!/^[A-Za-z0-9_.-]+$/.test(text) || /^\.+$/.test(text))
    throw new VaultError(
      "refused",
      `Vault: ${JSON.stringify(text.slice(0, 80))} cannot be part of a path: only letters, digits, "_", "." and "-" are allowed`,
    );
  return text;
}

/** Whether no response came, or Vault failed internally. Status 501 stays. */
function isTransient(error: unknown): boolean {
  return failedBy(error, "unreachable") || (failedBy(error, "failing") && error.status !== 501);
}

/** @throws {VaultError} @throws {RateLimitedError} for a response that is not a success */
function readBody(call: string, response: TransportResponse): unknown {
  const { status, text, isJson, retryAfterMs } = response;
  const body = isJson && text !== "" ? parseJson(call, status, text) : text || null;
  const fields = typeof body === "object" && body !== null ? body : {};
  // The status of sys/health shows the state of Vault, with the same fields for each.
  const isHealth = call === "GET sys/health" && body === fields;
  if (status === 200 || status === 204 || isHealth) return body;
  // Only Vault's own errors are quoted, and nothing that a proxy in front of it answered.
  const errors: unknown = "errors" in fields ? fields.errors : [];
  const list = Array.isArray(errors) ? errors.filter((error) => typeof error === "string") : [];
  throw responseError(call, status, list, retryAfterMs);
}

function parseJson(call: string, status: number, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new VaultError(
      "malformed_response",
      `Vault: ${call}: the response is not JSON; check that the address is Vault's`,
      status,
    );
  }
}
