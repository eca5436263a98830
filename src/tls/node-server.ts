/**
 * The HTTP connections of a Node server, with TLS or without: passes requests to `fetch`, ends
 * silent and slow connections, and closes in order.
 * @module
 */
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import {
  type Http2SecureServer,
  Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";

/** How often late connections are ended, in milliseconds. */
const SWEEP_MS = 1000;
/**
 * Milliseconds from a new connection, or from the first octet of a later request, until the head of
 * the request is complete.
 */
export const HEAD_MS = 10_000;
/** The most header lines of a request: as many as Bun.serve accepts. */
export const MAX_HEADERS = 200;
const TEXT = "text/plain; charset=utf-8";
/** The host in the URL of an HTTP/1.0 request without a Host header (RFC 1945 section 5.2). */
const NO_HOST = "localhost";

export interface NodeServerOptions {
  readonly host: string;
  readonly port: number;
  /** Lets the server listen, in place of host and port: on a Unix socket. */
  readonly bind?: (server: Listener) => Promise<void>;
  /** Open connections; further ones are closed at once. @default unlimited */
  readonly maxConnections?: number;
  /** Whether other processes listen on the same port. */
  readonly shared: boolean;
  /** How long a connection without a blocked query may be silent, in milliseconds. */
  readonly idleMs: number;
  readonly fetch: Fetch;
}

/** Answers a request. */
export type Fetch = (
  request: Request,
  environment: {
    readonly holdOpen: () => void;
    readonly remoteAddress: string | undefined;
    readonly peerCertificate: Uint8Array | undefined;
  },
) => Response | Promise<Response>;

export type Incoming = IncomingMessage | Http2ServerRequest;
export type Outgoing = ServerResponse | Http2ServerResponse;

type Listener = Server | Http2SecureServer;
type ReadCertificate = (socket: Socket) => Uint8Array | undefined;

/** One client connection. */
class Connection {
  readonly #socket: Socket | ServerHttp2Session;
  /** Ends the connection once no request is in progress. */
  readonly end: () => void;
  /** Requests in progress, and those of them that are blocked queries. */
  open = 0;
  held = 0;
  lastActive = performance.now();
  /** Since when the head of a request is incomplete, or null. */
  headSince: number | null = this.lastActive;
  /** The response to the last request, or null before the first. */
  outgoing: Outgoing | null = null;
  /** How many octets had been read when the last request was answered. */
  #readThen = 0;

  constructor(socket: Socket | ServerHttp2Session, end: () => void) {
    this.#socket = socket;
    this.end = end;
    // An error only tells that the client disconnected.
    socket.on("error", () => this.destroy());
  }

  begin(outgoing: Outgoing): void {
    this.open++;
    this.lastActive = performance.now();
    this.headSince = null;
    this.outgoing = outgoing;
  }

  finish(wasHeld: boolean): void {
    this.open--;
    if (wasHeld) this.held--;
    this.lastActive = performance.now();
    this.#readThen = this.#read();
  }

  /** Whether it has been silent for too long, or the head of a request takes too long. */
  isLate(now: number, idleMs: number): boolean {
    if (this.open === 0 && this.headSince === null && this.#read() !== this.#readThen)
      this.headSince = now;
    const headIsLate = this.headSince !== null && now - this.headSince > Math.min(HEAD_MS, idleMs);
    return headIsLate || (this.held === 0 && now - this.lastActive > idleMs);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Octets read so far; 0 for HTTP/2, which also reads other frames than requests. */
  #read(): number {
    return "bytesRead" in this.#socket ? this.#socket.bytesRead : 0;
  }
}

/** The requests and connections of one server. */
export class NodeServing {
  readonly #options: NodeServerOptions;
  readonly #certificateOf: ReadCertificate;
  readonly #connections = new Map<object, Connection>();
  readonly #handle;
  readonly #sweep: NodeJS.Timeout;
  #closing = false;

  /** @param certificateOf reads the verified client certificate of a connection. */
  constructor(options: NodeServerOptions, certificateOf: ReadCertificate) {
    this.#options = options;
    this.#certificateOf = certificateOf;
    this.#handle = getRequestListener(
      (request, { incoming, outgoing }: { incoming: Incoming; outgoing: Outgoing }) =>
        this.#answer(request, incoming, outgoing),
      { overrideGlobalObjects: false, hostname: NO_HOST, errorHandler: unreadable },
    );
    this.#sweep = setInterval(() => {
      const now = performance.now();
      for (const connection of this.#connections.values())
        if (connection.isLate(now, options.idleMs)) connection.destroy();
    }, SWEEP_MS);
    this.#sweep.unref();
  }

  /** Answers a request. */
  readonly listener = (incoming: Incoming, outgoing: Outgoing): void => {
    const refusal = headRefusal(incoming);
    if (refusal === null) void this.#handle(incoming, outgoing);
    else refuse(incoming, outgoing, refusal);
  };

  /** Tracks a connection until it closes. @param end ends it once no request is in progress. */
  track(socket: Socket | ServerHttp2Session, end: () => void): void {
    const { maxConnections } = this.#options;
    if (maxConnections !== undefined && this.#connections.size >= maxConnections) {
      socket.destroy();
      return;
    }
    this.#connections.set(socket, new Connection(socket, end));
    socket.once("close", () => this.#connections.delete(socket));
  }

  /** Answers malformed input of a connection, and ends the connection. */
  readonly refuseConnection = (error: Error & { readonly code?: string }, socket: Socket): void => {
    const outgoing = this.#connections.get(socket)?.outgoing;
    // During a handshake, or in the middle of a response, whose reader would take this for a part
    // of it.
    const isAnswering = outgoing?.headersSent === true && !outgoing.writableEnded;
    if (!this.#connections.has(socket) || isAnswering || !socket.writable) socket.destroy();
    else socket.end(headOf(STATUS_OF[error.code ?? ""] ?? 400), () => socket.destroy());
  };

  /** Starts to listen. @returns the port; the given one for a Unix socket @throws {Error} if the address is in use */
  async listen(server: Listener): Promise<number> {
    const { host, port, shared, bind } = this.#options;
    try {
      await (bind?.(server) ??
        new Promise<void>((resolve, reject) => {
          server.once("error", reject);
          server.listen({ host, port, ...(shared ? { reusePort: true } : {}) }, resolve);
        }));
    } catch (error) {
      clearInterval(this.#sweep);
      throw error;
    }
    server.on("error", () => undefined);
    // RFC 9110 section 10.1.1.
    server.on("checkExpectation", (incoming: Incoming, outgoing: Outgoing) =>
      refuse(incoming, outgoing, 417),
    );
    const bound = server.address();
    return typeof bound === "object" && bound !== null ? bound.port : port;
  }

  /**
   * Stops accepting, and resolves when all requests are answered.
   * @param now ends them instead, also after a call that waits for them.
   */
  async close(server: Listener, now: boolean): Promise<void> {
    this.#closing = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const connection of this.#connections.values())
      if (now) connection.destroy();
      else if (connection.open === 0) connection.end();
    await closed;
    clearInterval(this.#sweep);
  }

  async #answer(request: Request, incoming: Incoming, outgoing: Outgoing): Promise<Response> {
    const isHttp2 = incoming instanceof Http2ServerRequest;
    const connection = this.#connections.get(
      isHttp2 ? (incoming.stream.session ?? incoming) : incoming.socket,
    );
    const certificateOf = this.#certificateOf;
    let held = false;
    connection?.begin(outgoing);
    outgoing.once("close", () => {
      connection?.finish(held);
      if (this.#closing && connection?.open === 0) connection.end();
    });
    const response = await this.#options.fetch(request, {
      holdOpen: () => {
        if (connection !== undefined && !held) connection.held++;
        held = true;
      },
      // Getters: not every request needs these.
      get remoteAddress() {
        return incoming.socket.remoteAddress;
      },
      get peerCertificate() {
        return certificateOf(incoming.socket);
      },
    });
    // RFC 9113 section 8.2.2: HTTP/2 has no such header.
    if (isHttp2) response.headers.delete("Connection");
    return outgoing.destroyed ? RESPONSE_ALREADY_SENT : response;
  }
}

/** The status with which a request is refused for its head, or null. */
function headRefusal(incoming: Incoming): 400 | 431 | null {
  // RFC 6585 section 5. A name and a value each.
  if (incoming.rawHeaders.length > MAX_HEADERS * 2) return 431;
  // RFC 9112 section 3.2: HTTP/1.1 must have a Host; HTTP/2 has an authority.
  if (
    incoming instanceof Http2ServerRequest ||
    incoming.headers.host !== undefined ||
    incoming.httpVersion === "1.0"
  )
    return null;
  return 400;
}

/** The response to a request that `fetch` cannot represent, such as one with a malformed Host. */
function unreadable(): Response {
  return new Response("Cannot read request: its Host or path is malformed", {
    status: 400,
    headers: headersOf(),
  });
}

/** The headers of all responses that the app does not make. */
const headersOf = () => ({
  "X-Content-Type-Options": "nosniff",
  "X-Request-Id": crypto.randomUUID(),
});

/** The status for an error of Node's parser, by its code; 400 for all others. */
const STATUS_OF: Readonly<Record<string, 408 | 413 | 431>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/** A response without a body that ends its connection. */
function headOf(status: number): string {
  const headers = { ...headersOf(), Connection: "close", "Content-Length": "0" };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n`;
}

/**
 * Answers a request that the app does not get. The rest of an HTTP/1.1 connection is not read.
 * @param text ASCII.
 */
export function refuse(incoming: Incoming, outgoing: Outgoing, status: number, text = ""): void {
  outgoing.statusCode = status;
  const headers = {
    ...headersOf(),
    "Content-Length": String(text.length),
    ...(text === "" ? {} : { "Content-Type": TEXT }),
  };
  for (const [name, value] of Object.entries(headers)) outgoing.setHeader(name, value);
  if (!(incoming instanceof Http2ServerRequest)) outgoing.setHeader("Connection", "close");
  outgoing.end(text);
}
