/**
 * One HTTP request to Vault: to an address that was checked, within a time limit, without proxies,
 * cookies or the environment.
 * @module
 */
import http from "node:http";
import https from "node:https";
import { CaError, ConfigError, FormatError } from "../../src/core/errors.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import { readText, withinTime } from "../../src/net/bounded.ts";
import type { VaultConnection } from "./config.ts";
import { type EgressAllowlist, literalAddress, noAddress } from "./egress-allowlist.ts";
import { VaultError } from "./errors.ts";
import type { FileReader } from "./files.ts";
import { TlsAgent } from "./tls-agent.ts";

/** A listing of some thousand issuers has less. */
const MAX_BYTES = 8 * 1024 * 1024;
/** How many redirects are followed: from a standby to the active node is one. */
const MAX_REDIRECTS = 2;
/** How long the addresses of a name are used before it is resolved again, in milliseconds. */
const RESOLVE_MS = 10_000;

/** What a transport needs from the runtime. */
export interface TransportPlatform extends FileReader {
  readonly clock: Clock;
  /** All addresses of a host. @throws {Error} */
  resolve(host: string): Promise<readonly string[]>;
  readonly allow: EgressAllowlist;
}

export interface TransportRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly timeoutMs: number;
}

export interface TransportResponse {
  readonly status: number;
  readonly text: string;
  readonly isJson: boolean;
  readonly retryAfterMs: number | null;
}

interface RawResponse extends TransportResponse {
  readonly location: string | null;
}

/** Codes of a socket that was never connected. The last one is Bun's. */
const NOT_CONNECTED = [
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EADDRNOTAVAIL",
  "ConnectionRefused",
];

export class Transport {
  readonly #serverName: string;
  readonly #platform: TransportPlatform;
  readonly #agent: TlsAgent;
  #resolved = new Map<string, { readonly addresses: readonly string[]; readonly at: number }>();

  constructor(connection: VaultConnection, platform: TransportPlatform) {
    this.#serverName = connection.tls.serverName;
    this.#platform = platform;
    this.#agent = new TlsAgent(connection, platform, platform.clock);
  }

  /** @throws {VaultError} `unreachable`, `timeout`, `tls`, `not_allowed`, `malformed_response` */
  async send(request: TransportRequest): Promise<TransportResponse> {
    const { clock } = this.#platform;
    const { timeoutMs } = request;
    const { origin } = new URL(request.url);
    const late = () =>
      new VaultError(
        "timeout",
        `Vault did not answer within ${timeoutMs / 1000} s at ${origin}; check the server and its load`,
      );
    try {
      return await withinTime(clock, timeoutMs, (signal) => this.#follow(request, signal), late);
    } catch (error) {
      throw transportError(error, origin);
    }
  }

  /** Has TLS files read and names resolved again for the next request. */
  reload(): void {
    this.#agent.expire();
    this.#resolved = new Map();
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Follows status 307, by which a standby names the active node, and no other redirect. */
  async #follow(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse> {
    let url = new URL(request.url);
    for (let hops = 0; ; hops++) {
      const addresses = await this.#addressesOf(url);
      signal.throwIfAborted();
      const response = await this.#sendToAny(url, addresses, request, signal);
      if (response.status === 307) url = redirectTarget(url, response.location, hops);
      else if (response.status >= 300 && response.status < 400)
        throw new VaultError(
          "malformed_response",
          `Vault answered a redirect of status ${response.status}, which is not followed; configure the address that it leads to`,
          response.status,
        );
      else return response;
    }
  }

  async #addressesOf(url: URL): Promise<readonly string[]> {
    const { allow, clock, resolve } = this.#platform;
    allow.check(url);
    const literal = literalAddress(url);
    const now = clock.now().getTime();
    const known = this.#resolved.get(url.hostname);
    if (literal !== null) {
      allow.checkAddresses(url, [literal]);
      return [literal];
    }
    const isKnown = known !== undefined && now - known.at < RESOLVE_MS;
    const addresses = isKnown
      ? known.addresses
      : await resolve(url.hostname).catch((error: unknown) => {
          throw noAddress(url, error);
        });
    if (!isKnown) this.#resolved.set(url.hostname, { addresses, at: now });
    allow.checkAddresses(url, addresses);
    return addresses;
  }

  /** If nothing listens at one address of a name, nothing was sent, and the next one is tried. */
  async #sendToAny(
    url: URL,
    addresses: readonly string[],
    request: TransportRequest,
    signal: AbortSignal,
  ): Promise<RawResponse> {
    for (const address of addresses.slice(0, -1))
      try {
        return await this.#sendTo(url, address, request, signal);
      } catch (error) {
        if (!NOT_CONNECTED.includes(codeOf(error))) throw error;
      }
    return this.#sendTo(url, addresses.at(-1) as string, request, signal);
  }

  /** Sends to the address, whatever the URL's name resolves to by now. */
  #sendTo(
    url: URL,
    address: string,
    { method, headers, body }: TransportRequest,
    signal: AbortSignal,
  ): Promise<RawResponse> {
    const { promise, resolve, reject } = Promise.withResolvers<RawResponse>();
    const family = address.includes(":") ? 6 : 4;
    const isTls = url.protocol === "https:";
    const options: https.RequestOptions = {
      method,
      headers: body === null ? { ...headers } : { ...headers, ...headersOf(body) },
      agent: this.#agent.current(),
      signal,
      lookup: (_host, { all }, found) => {
        if (all) found(null, [{ address, family }]);
        else found(null, address, family);
      },
      ...(isTls && this.#serverName !== "" ? { servername: this.#serverName } : {}),
    };
    const request = (isTls ? https : http).request(url, options, (response) => {
      readResponse(response).then(resolve, reject);
    });
    request.on("error", reject);
    request.end(body ?? undefined);
    return promise;
  }
}

function headersOf(body: string): Record<string, string> {
  const length = new TextEncoder().encode(body).length;
  return { "Content-Type": "application/json", "Content-Length": String(length) };
}

function redirectTarget(from: URL, location: string | null, hops: number): URL {
  const target = location !== null && URL.canParse(location, from) ? new URL(location, from) : null;
  if (target === null || hops >= MAX_REDIRECTS)
    throw new VaultError(
      "malformed_response",
      "Vault answered a redirect that leads nowhere; check the api_addr of its nodes",
      307,
    );
  if (target.protocol !== from.protocol || target.username !== "" || target.password !== "")
    throw new VaultError(
      "not_allowed",
      `Vault at ${from.origin} answered a redirect to another scheme, or with a user in it, which is not followed; check the api_addr of its nodes`,
      307,
    );
  return target;
}

async function readResponse(response: http.IncomingMessage): Promise<RawResponse> {
  const text = await readText(response as AsyncIterable<Uint8Array>, MAX_BYTES, () => {
    response.destroy();
    return new VaultError(
      "malformed_response",
      `Vault answered more than ${MAX_BYTES} octets; check that the address is Vault's`,
    );
  });
  const { "retry-after": after, location = null, "content-type": type = "" } = response.headers;
  return {
    status: response.statusCode ?? 0,
    text,
    isJson: type.includes("json"),
    retryAfterMs: after !== undefined && /^\d{1,6}$/.test(after) ? Number(after) * 1000 : null,
    location,
  };
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : "no code";
}

/** Errors of verification have codes of OpenSSL's, those of handshakes Node's. */
const TLS_CODE =
  /^(?:CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|EPROTO|HOSTNAME_MISMATCH|INVALID_CA|CRL_|UNSPECIFIED)/;

function transportError(error: unknown, origin: string): Error {
  if (error instanceof ConfigError) return new VaultError("not_allowed", error.message);
  if (error instanceof CaError) return error;
  if (error instanceof FormatError)
    return new VaultError(
      "malformed_response",
      "Vault answered text that is not UTF-8; check that the address is Vault's",
    );
  const code = codeOf(error);
  return TLS_CODE.test(code)
    ? new VaultError(
        "tls",
        `Vault: TLS cannot be established with ${origin} (${code}); check CAFile or CAPath, TLSServerName, CertFile and KeyFile`,
        null,
        error,
      )
    : new VaultError(
        "unreachable",
        `Vault cannot be reached at ${origin} (${code}); check the server and the network`,
        null,
        error,
      );
}
