/**
 * The transport port: one HTTP exchange with a server, over a connection whose peer was checked
 * before anything was sent.
 * @module
 */
import type { Bytes } from "../core/bytes.ts";

/** By what the certificate of a server is verified. A connection belongs to one trust. */
export type Trust =
  /** The path must end in an anchor, and the name must fit the host (RFC 9525). */
  | { readonly kind: "host"; readonly anchors: readonly Bytes[] }
  /** The path must end in an anchor, and the leaf must have the SPIFFE ID of a server. */
  | { readonly kind: "spiffe"; readonly anchors: readonly Bytes[]; readonly trustDomain: string }
  /** Nothing is verified: plain HTTP, loopback, and reading the roots that a pin is compared with. */
  | { readonly kind: "none" };

export interface TransportRequest {
  readonly method: "GET" | "PUT" | "POST";
  /** With scheme http or https. */
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** From the call to the last octet of the response, in milliseconds. */
  readonly timeoutMs: number;
  /** The longest body that is accepted, in octets. */
  readonly maxBytes: number;
  readonly trust: Trust;
  /** Throws if the leaf of the server must not be trusted; called before anything is sent. */
  readonly checkPeer: (leaf: Bytes) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface TransportResponse {
  readonly status: number;
  /** The value of a header by its name in lower case, or null. */
  header(name: string): string | null;
  /** In UTF-8. */
  readonly body: string;
}

/**
 * `connect`: no connection, or it broke. `tls`: the handshake failed or the peer was refused.
 * `timeout`, `too_long`, `malformed`: what its name says. `aborted`: by the caller's signal.
 */
type TransportFault = "connect" | "tls" | "timeout" | "too_long" | "malformed" | "aborted";

/** An exchange that failed. The message is a predicate of the server: `did not answer in time`. */
export class TransportError extends Error {
  readonly fault: TransportFault;

  constructor(fault: TransportFault, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "TransportError";
    this.fault = fault;
  }
}

export interface Transport {
  /** Redirects are answers, and proxies are not used. @throws {TransportError} */
  send(request: TransportRequest): Promise<TransportResponse>;
  /** Closes all connections. */
  close(): void;
}
