/**
 * One exchange with one server, over the first way of verification that succeeds.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { ClientError } from "./errors.ts";
import { readRootsListing } from "./roots-listing.ts";
import { NextServer } from "./server-answer.ts";
import type { ServerTrust } from "./server-trust.ts";
import {
  type Transport,
  TransportError,
  type TransportRequest,
  type TransportResponse,
  type Trust,
} from "./transport.ts";

/** What is sent to a server, whichever it is. */
export interface Outgoing
  extends Pick<TransportRequest, "method" | "timeoutMs" | "maxBytes" | "headers" | "body"> {
  /** With its query. */
  readonly path: string;
}

const ROOTS: Outgoing = {
  method: "GET",
  path: "/v1/connect/ca/roots",
  headers: {},
  body: null,
  timeoutMs: 10_000,
  maxBytes: 1024 * 1024,
};
const UNVERIFIED: Trust = { kind: "none" };

export class ServerConnection {
  readonly url: URL;
  readonly #transport: Transport;
  readonly #trust: ServerTrust;
  /** The way of verification that the last connection succeeded with. */
  #way: Trust | null = null;

  constructor(url: URL, transport: Transport, trust: ServerTrust) {
    this.url = url;
    this.#transport = transport;
    this.#trust = trust;
  }

  /**
   * @throws {TransportError} @throws {ClientError} `untrusted` @throws {NextServer} if the roots that
   * a pin is compared with cannot be read
   */
  async exchange(request: Outgoing, signal: AbortSignal): Promise<TransportResponse> {
    const ways = await this.#trust.waysTo(this.url);
    const order = ways.toSorted((a, b) => Number(b === this.#way) - Number(a === this.#way));
    let refused = "cannot be verified";
    for (const way of order) {
      try {
        const response = await this.#send(request, way, signal);
        this.#way = way;
        return response;
      } catch (error) {
        if (!(error instanceof TransportError) || error.fault !== "tls") throw error;
        refused = error.message;
      }
    }
    if (this.#trust.isPinned)
      try {
        // The mesh's roots take the place of the pin as soon as they were read over this connection.
        return await this.#send(request, await this.#pinned(signal), signal);
      } catch (error) {
        if (!(error instanceof TransportError) || error.fault !== "tls") throw error;
        refused = error.message;
      }
    throw new TransportError("tls", `${refused}; ${this.#trust.wayBack}`);
  }

  /** Reads the listing of an unverified server, without a token, and takes only the pinned root of it. */
  async #pinned(signal: AbortSignal): Promise<Trust> {
    const response = await this.#send(ROOTS, UNVERIFIED, signal);
    if (response.status !== 200)
      throw new NextServer(`answered ${response.status} when its roots were compared with the pin`);
    try {
      return this.#trust.ofPinned(readRootsListing(response.body));
    } catch (error) {
      if (error instanceof FormatError)
        throw new NextServer(`sent an unexpected response: ${error.message}`);
      if (error instanceof ClientError)
        throw new NextServer(`is not trusted: ${error.message}`, { untrusted: true });
      throw error;
    }
  }

  #send(
    { path, ...rest }: Outgoing,
    trust: Trust,
    signal: AbortSignal,
  ): Promise<TransportResponse> {
    return this.#transport.send({
      ...rest,
      url: new URL(this.url.pathname.replace(/\/$/, "") + path, this.url),
      trust,
      checkPeer: (leaf) => this.#trust.checkPeer(trust, leaf),
      signal,
    });
  }
}
