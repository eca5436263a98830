/**
 * The server that a command calls: requests, and the reasons of failures in words.
 * @module
 */
import * as v from "valibot";
import { ClientError } from "../../client/errors.ts";
import { readRootsListing } from "../../client/roots-listing.ts";
import { ServerTrust } from "../../client/server-trust.ts";
import { TransportError, type Trust } from "../../client/transport.ts";
import { type Bytes, hex, sha256 } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import { certificatePem } from "../../core/pem.ts";
import { EXIT, Failure } from "../output.ts";
import type { ServerOptions } from "./address.ts";
import { type Answer, type Exchange, exchange, peerOf, type Verification } from "./exchange.ts";

/** A change may wait for a lease and for Vault, in milliseconds. */
const TIMEOUT_MS = 60_000;
/** More than a backup of the largest deployment, in octets. */
const MAX_BYTES = 256 * 1024 * 1024;
/** Of the text of an error. */
const MAX_TEXT = 2000;

export interface ServerRequest {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** With the leading slash; its parts are encoded by the caller. */
  readonly path: string;
  /** Null leaves a parameter out, the empty text gives it without a value. */
  readonly query?: Readonly<Record<string, string | null>>;
  /** An object is sent as JSON. */
  readonly body?: object | string | null;
  readonly headers?: Readonly<Record<string, string>>;
  /** In milliseconds. @default 60 s */
  readonly timeoutMs?: number;
}

/** A server answered with an error. */
export class HttpFailure extends Failure {
  readonly status: number;
  /** The body as it was sent, without the white space at its end. */
  readonly body: string;

  constructor(exit: number, message: string, { status, body }: Answer) {
    super(exit, message);
    this.name = "HttpFailure";
    this.status = status;
    this.body = body.trimEnd();
  }

  /** In the words of Consul's command line. */
  get consulText(): string {
    return `Unexpected response code: ${this.status} (${this.body})`;
  }
}

export class Connection {
  readonly #options: ServerOptions;
  readonly #warn: (line: string) => void;
  #warned = false;
  #ways: readonly Verification[] | null = null;

  /** @param warn writes a line to stderr */
  constructor(options: ServerOptions, warn: (line: string) => void) {
    this.#options = options;
    this.#warn = warn;
  }

  /** The server as it was named. */
  get name(): string {
    return this.#options.name;
  }

  /** Whether a token is sent. */
  get hasToken(): boolean {
    return this.#options.token !== null;
  }

  /** The URL of the server; of a Unix socket `http://localhost`. */
  get url(): URL {
    return this.#options.url;
  }

  /**
   * Sends a request. @returns the answer with whichever status
   * @throws {Failure} if there is no answer of HTTP
   */
  async send(request: ServerRequest): Promise<Answer> {
    this.#warnOfPlain();
    const { token } = this.#options;
    const { body = null } = request;
    const isJson = body !== null && typeof body !== "string";
    const full: Omit<Exchange, "verification"> = {
      ...this.#target(),
      method: request.method,
      url: this.#urlOf(request),
      headers: {
        ...(token === null ? {} : { "X-Consul-Token": token }),
        ...(isJson ? { "Content-Type": "application/json" } : {}),
        ...request.headers,
      },
      body: isJson ? JSON.stringify(body) : body,
      timeoutMs: request.timeoutMs ?? TIMEOUT_MS,
      maxBytes: MAX_BYTES,
    };
    try {
      return await this.#first(full, await this.#verifications());
    } catch (error) {
      throw await this.#failureOf(error);
    }
  }

  /** Sends a request. @throws {HttpFailure} if the status is not 2xx @throws {Failure} */
  async call(request: ServerRequest): Promise<Answer> {
    const answer = await this.send(request);
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw this.failure(answer, request);
  }

  /**
   * Sends a request and reads JSON.
   * @throws {HttpFailure} if the status is not 2xx @throws {Failure} if the body is not of the schema
   */
  async json<Schema extends v.GenericSchema>(
    schema: Schema,
    request: ServerRequest,
  ): Promise<v.InferOutput<Schema>> {
    const answer = await this.call(request);
    return this.read(schema, answer, request);
  }

  /** Reads the JSON of an answer. @throws {Failure} if the body is not of the schema */
  read<Schema extends v.GenericSchema>(
    schema: Schema,
    { body }: Answer,
    { method, path }: Pick<ServerRequest, "method" | "path">,
  ): v.InferOutput<Schema> {
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch {
      throw this.foreign(`its answer to ${method} ${path} is not JSON`);
    }
    const parsed = v.safeParse(schema, value);
    if (parsed.success) return parsed.output;
    const at = v.getDotPath(parsed.issues[0]) ?? "object";
    throw this.foreign(`its answer to ${method} ${path} has no valid ${at}`);
  }

  /** The reason in an answer that is an error. */
  failure(answer: Answer, { method, path }: Pick<ServerRequest, "method" | "path">): Failure {
    const { status } = answer;
    const what = `${method} ${path}`;
    const text = oneLine(answer.body);
    const isHtml = /html|xml/i.test(answer.header("content-type") ?? "");
    if (status >= 300 && status < 400)
      return this.foreign(`it answered ${what} with a redirection (${status})`);
    if (isHtml) return this.foreign(`it answered ${what} with ${status} and a page`);
    if (status === 403)
      return new HttpFailure(
        EXIT.permission,
        `${text || "Permission denied"}; ${this.#tokenAdvice(text)}`,
        answer,
      );
    if (status === 404 && /not a recognized HTTP API endpoint/.test(text))
      return new HttpFailure(
        EXIT.protocol,
        `The server at ${this.name} does not have the route ${what}: it is Consul or an older meshca`,
        answer,
      );
    return new HttpFailure(
      exitOfStatus(status),
      text === "" ? `The server at ${this.name} answered ${what} with ${status}` : text,
      answer,
    );
  }

  #tokenAdvice(text: string): string {
    if (!this.hasToken)
      return "no token was sent: give one by --token-file, MESHCA_HTTP_TOKEN_FILE or MESHCA_HTTP_TOKEN";
    if (/ACL not found/i.test(text))
      return "the server does not know the token that was sent: it was deleted, has expired, or is of another cluster";
    return "give a token with this right by --token-file or MESHCA_HTTP_TOKEN";
  }

  /** That the server is not one of meshca or Consul. @param reason a clause: `its answer is ...` */
  foreign(reason: string): Failure {
    return new Failure(
      EXIT.protocol,
      `The server at ${this.name} does not speak the API of meshca and Consul: ${reason}; check the address`,
    );
  }

  /** Tries one way of verification after the other: a request is sent on the first that holds. */
  async #first(
    request: Omit<Exchange, "verification">,
    ways: readonly Verification[],
  ): Promise<Answer> {
    let refused: unknown = new ClientError("untrusted", "There is nothing to verify the server by");
    for (const verification of ways)
      try {
        return await exchange({ ...request, verification });
      } catch (error) {
        if (!(error instanceof TransportError && error.fault === "tls")) throw error;
        refused = error;
      }
    throw refused;
  }

  /** How the server is verified, in the order of the attempts. */
  async #verifications(): Promise<readonly Verification[]> {
    this.#ways ??= await this.#findWays();
    return this.#ways;
  }

  async #findWays(): Promise<readonly Verification[]> {
    const { verify, pin, anchorsPem, url, datacenter } = this.#options;
    const system: Verification = {
      ...{ ca: null, checkName: true, leafPin: null, verify: true },
      checkPeer: () => undefined,
    };
    if (url.protocol !== "https:") return [system];
    if (pin !== null) return this.#waysOfPin(pin, system);
    if (!verify) return [{ ...system, verify: false }];
    if (anchorsPem === null) return [system];
    return this.#waysOfFile(anchorsPem, datacenter);
  }

  /** The pin of the server's certificate, else of a certificate that the server sends or publishes. */
  async #waysOfPin(pin: string, system: Verification): Promise<readonly Verification[]> {
    const { leaf, chain } = await peerOf(this.#target());
    if (hex(sha256(leaf)) === pin) return [{ ...system, leafPin: pin }];
    const anchor =
      chain.find((der) => hex(sha256(der)) === pin) ??
      (await this.#publishedRoots(system)).find((der) => hex(sha256(der)) === pin);
    if (anchor === undefined)
      throw new ClientError(
        "untrusted",
        `The server at ${this.name} has another certificate than the pinned one: sha256:${hex(sha256(leaf))}; compare it with the fingerprint in the server's log`,
      );
    return this.#waysOfFile(certificatePem(anchor), this.#options.datacenter);
  }

  /** The roots in the server's listing, which nothing vouches for: only for a comparison. */
  async #publishedRoots(system: Verification): Promise<readonly Bytes[]> {
    try {
      const { body } = await exchange({
        ...this.#target(),
        ...{ method: "GET", url: this.#urlOf({ method: "GET", path: "/v1/connect/ca/roots" }) },
        ...{ headers: {}, body: null, timeoutMs: TIMEOUT_MS, maxBytes: 1024 * 1024 },
        verification: { ...system, verify: false },
      });
      return readRootsListing(body).roots.map(({ der }) => der);
    } catch (error) {
      if (error instanceof FormatError || error instanceof TransportError) return [];
      throw error;
    }
  }

  /** Roots of a mesh verify the SPIFFE ID of a server, other CAs its name. */
  async #waysOfFile(pem: string, datacenter: string | null): Promise<readonly Verification[]> {
    const trust = new ServerTrust({
      readCaFile: () => Promise.resolve(pem),
      pin: null,
      datacenter,
    });
    return (await trust.waysTo(this.#options.url)).map((way: Trust) => ({
      ca: way.kind === "none" ? null : way.anchors.map((der) => certificatePem(der)),
      checkName: way.kind === "host",
      leafPin: null,
      verify: true,
      checkPeer: (leaf) => trust.checkPeer(way, leaf),
    }));
  }

  #target(): Pick<Exchange, "url" | "socketPath" | "serverName" | "client"> {
    const { url, socketPath, serverName, client } = this.#options;
    return { url, socketPath, serverName, client };
  }

  #urlOf({ path, query = {} }: ServerRequest): URL {
    const { url, datacenter, stale } = this.#options;
    const found = new URL(url.href.replace(/\/+$/, "") + path);
    const add = (name: string, value: string | null) => {
      if (value !== null) found.searchParams.set(name, value);
    };
    add("dc", datacenter);
    if (stale) add("stale", "");
    for (const [name, value] of Object.entries(query)) add(name, value);
    return found;
  }

  #warnOfPlain(): void {
    const { url, socketPath, token, verify, pin } = this.#options;
    if (this.#warned || socketPath !== null) return;
    this.#warned = true;
    const isHere = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
    if (url.protocol === "http:" && !isHere && token !== null)
      this.#warn(
        `Warning: the token is sent to ${this.name} without TLS, and can be read on the way; use https://`,
      );
    if (url.protocol === "https:" && !verify && pin === null)
      this.#warn(
        `Warning: the certificate of ${this.name} is not verified (HTTP_SSL_VERIFY=false); use --ca-file or --server-pin`,
      );
  }

  /** An error of the transport in words, with the way out. */
  async #failureOf(error: unknown): Promise<unknown> {
    if (!(error instanceof TransportError)) return error;
    const server = `The server at ${this.name}`;
    const fail = (text: string, exit: number = EXIT.unavailable) => new Failure(exit, text, error);
    switch (error.fault) {
      case "tls":
        return fail(await this.#tlsText(error.message));
      case "connect":
        return fail(connectText(server, error.message, this.#options));
      case "timeout":
        return fail(`${server} ${error.message}; try again, or look at its log`, EXIT.temporary);
      case "malformed":
        return this.foreign(
          this.#options.url.protocol === "http:"
            ? `it ${error.message}, perhaps because it serves TLS (https://)`
            : `it ${error.message}`,
        );
      default:
        return fail(`${server} ${error.message}`);
    }
  }

  async #tlsText(reason: string): Promise<string> {
    const server = `The server at ${this.name}`;
    const fingerprint = await peerOf(this.#target()).then(
      ({ leaf }) => `sha256:${hex(sha256(leaf))}`,
      () => null,
    );
    // Without a certificate there was no handshake at all.
    if (fingerprint === null)
      return `${server} did not complete the TLS handshake (${reason}); it may serve plain HTTP (http://) or require a client certificate (--client-cert, --client-key)`;
    if (/ALERT/.test(reason))
      return `${server} refused the TLS connection (${reason}); it requires a client certificate that its CA issued (--client-cert, --client-key)`;
    const pin = `--server-pin ${fingerprint}, after comparing it with the fingerprint in the server's log`;
    if (/CERT_HAS_EXPIRED/.test(reason))
      return `${server} has a TLS certificate that has expired, or one in its chain; give ${pin}`;
    if (/CERT_NOT_YET_VALID/.test(reason))
      return `${server} has a TLS certificate that is not valid yet; set the clocks of both machines right`;
    if (/^has another certificate/.test(reason)) return `${server} ${reason}`;
    if (/^has a certificate for another name/.test(reason))
      return `${server} ${reason}; give the name by --tls-server-name, or ${pin}`;
    const by =
      this.#options.anchorsPem === null
        ? "by the CAs that this machine trusts; give its CA by --ca-file"
        : "by the CA file; give the roots that are published now (GET /v1/connect/ca/roots?pem=true)";
    return `${server} cannot be verified ${by}, or ${pin} (${reason})`;
  }
}

function connectText(
  server: string,
  reason: string,
  { socketPath }: Pick<ServerOptions, "socketPath">,
): string {
  if (reason === "ECONNREFUSED")
    return `${server} refused the connection; check the address (--http-addr, MESHCA_HTTP_ADDR), and that the server runs`;
  if (reason === "ENOENT" && socketPath !== null)
    return `${server} has no socket at this path; check the address, and that the server runs`;
  if (reason === "ENOTFOUND" || reason === "EAI_AGAIN")
    return `${server} has a name without an address (${reason}); check --http-addr`;
  if (reason === "ECONNRESET" || reason === "connection failed")
    return `${server} closed the connection; it may serve TLS (https://) or require a client certificate (--client-cert)`;
  return `${server} cannot be reached (${reason})`;
}

function exitOfStatus(status: number): number {
  if (status === 409 || status === 429 || status === 503) return EXIT.temporary;
  if (status === 401) return EXIT.config;
  return status < 500 ? EXIT.data : EXIT.unavailable;
}

/** A text of a server in one line, without control characters. */
function oneLine(text: string): string {
  return text
    .slice(0, MAX_TEXT)
    .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ")
    .trim();
}
