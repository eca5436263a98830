/**
 * The server that a command calls: requests, and the reasons of failures in words.
 * @module
 */
import * as v from "valibot";
import { ClientError } from "../../client/errors.ts";
import { TransportError } from "../../client/transport.ts";
import { isLoopback } from "../../net/server-address.ts";
import type { Failure } from "../output.ts";
import { type ServerOptions, urlOf } from "./address.ts";
import { type Answer, type Exchange, exchange, type Verification } from "./exchange.ts";
import { answerFailure, foreignServer, transportFailure } from "./failures.ts";
import { waysToVerify } from "./verification.ts";

/** A change may wait for a lease and for Vault, in milliseconds. */
const TIMEOUT_MS = 60_000;
/** More than a backup of the largest deployment, in octets. */
const MAX_BYTES = 256 * 1024 * 1024;

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
    const { token, socketPath, serverName, client } = this.#options;
    const { body = null } = request;
    this.#warnOfPlain(body !== null);
    const isJson = body !== null && typeof body !== "string";
    const full: Omit<Exchange, "verification"> = {
      ...{ url: urlOf(this.#options, request), socketPath, serverName, client },
      method: request.method,
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
      if (error instanceof TransportError) throw await transportFailure(this.#options, error);
      throw error;
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
  failure(answer: Answer, request: Pick<ServerRequest, "method" | "path">): Failure {
    return answerFailure(this.#options, answer, request);
  }

  /** That the server is not one of meshca or Consul. @param reason a clause: `its answer is ...` */
  foreign(reason: string): Failure {
    return foreignServer(this.name, reason);
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
    this.#ways ??= await waysToVerify(this.#options);
    return this.#ways;
  }

  #warnOfPlain(hasBody: boolean): void {
    const { url, socketPath, token, verify, pin } = this.#options;
    if (this.#warned || socketPath !== null) return;
    if (url.protocol === "http:") {
      if (isLoopback(url) || (token === null && !hasBody)) return;
      const what = token === null ? "the request" : "the token";
      this.#warn(
        `Warning: ${what} is sent to ${this.name} without TLS, and can be read on the way; use https://`,
      );
    }
    this.#warned = true;
    if (url.protocol === "https:" && !verify && pin === null)
      this.#warn(
        `Warning: the certificate of ${this.name} is not verified (HTTP_SSL_VERIFY=false); use --ca-file or --server-pin`,
      );
  }
}
