/**
 * What Node's servers have in common, with TLS or without: requests become `fetch`, silent
 * connections end, and a server ends when what is being answered has been.
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

/** How often connections are looked at whose time is over, in milliseconds. */
const SWEEP_MS = 1000;
/**
 * Milliseconds from a new connection, or from the first octet of a later request, until the head of
 * the request is complete.
 */
export const HEAD_MS = 10_000;
/** Header lines of a request: as many as Bun's own server takes. */
export const MAX_HEADERS = 200;
const TEXT = "text/plain; charset=utf-8";
/** The host of the URL of a request without one, which HTTP/1.0 has (RFC 1945 section 5.2). */
const NO_HOST = "localhost";

export interface NodeServerOptions {
  readonly host: string;
  readonly port: number;
  /** Whether other processes listen on the same port. */
  readonly shared: boolean;
  /** Milliseconds that a connection may be silent, blocked queries aside. */
  readonly idleMs: number;
  readonly fetch: Fetch;
}

/** An app, and what it is told of each request. */
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

/** The requests and connections of one server. */
export interface NodeServing {
  /** Answers a request. */
  listener(incoming: Incoming, outgoing: Outgoing): void;
  /** Counts a connection in, until it closes. @param end ends it once nothing is being answered */
  track(connection: Socket | ServerHttp2Session, end: () => void): void;
  /** Answers what came over a connection and is no request, and ends it. */
  refuseConnection(error: Error & { readonly code?: string }, connection: Socket): void;
  /** Starts to listen. Rejects when the address is taken. @returns the port */
  listen(server: Listener): Promise<number>;
  /**
   * Ends when what is being answered has been.
   * @param now does not wait for it, also where it was called without before.
   */
  close(server: Listener, now: boolean): Promise<void>;
}

type Listener = Server | Http2SecureServer;

/** A connection, by what ends it. */
interface Connection {
  /** Requests on their way, and those of them that wait for something. */
  open: number;
  held: number;
  lastActive: number;
  /** Since when the head of a request has been on its way, or null while none is. */
  headSince: number | null;
  /** The answer to the last request, or null before the first. */
  outgoing: Outgoing | null;
  /** Octets that had been read when the last request was answered. */
  readThen: number;
  /** Octets that were read so far; always 0 if what is read is not requests only, as in HTTP/2. */
  read(): number;
  end(): void;
  destroy(): void;
}

/**
 * @param certificateOf reads what the client of a connection showed, where it was asked for that
 */
export function createServing(
  options: NodeServerOptions,
  certificateOf: (socket: Socket) => Uint8Array | undefined,
): NodeServing {
  const connections = new Map<object, Connection>();
  let closing = false;

  const answer = async (
    request: Request,
    incoming: Incoming,
    outgoing: Outgoing,
  ): Promise<Response> => {
    const connection = connections.get(
      incoming instanceof Http2ServerRequest
        ? (incoming.stream.session ?? incoming)
        : incoming.socket,
    );
    let held = false;
    if (connection !== undefined) {
      connection.open++;
      connection.lastActive = performance.now();
      connection.headSince = null;
      connection.outgoing = outgoing;
      outgoing.once("close", () => {
        connection.open--;
        if (held) connection.held--;
        connection.lastActive = performance.now();
        connection.readThen = connection.read();
        if (closing && connection.open === 0) connection.end();
      });
    }
    const response = await options.fetch(request, {
      holdOpen: () => {
        if (connection !== undefined && !held) connection.held++;
        held = true;
      },
      // Read where they are asked for: not every request needs them.
      get remoteAddress() {
        return incoming.socket.remoteAddress;
      },
      get peerCertificate() {
        return certificateOf(incoming.socket);
      },
    });
    // RFC 9113 §8.2.2: HTTP/2 has no such header.
    if (incoming instanceof Http2ServerRequest) response.headers.delete("Connection");
    return outgoing.destroyed ? RESPONSE_ALREADY_SENT : response;
  };
  const listener = getRequestListener(
    (request, { incoming, outgoing }: { incoming: Incoming; outgoing: Outgoing }) =>
      answer(request, incoming, outgoing),
    { overrideGlobalObjects: false, hostname: NO_HOST, errorHandler: unreadable },
  );

  const sweep = setInterval(() => {
    const now = performance.now();
    for (const connection of connections.values()) {
      const { open, held, lastActive, readThen } = connection;
      if (open === 0 && connection.headSince === null && connection.read() !== readThen)
        connection.headSince = now;
      const { headSince } = connection;
      const isLate = headSince !== null && now - headSince > Math.min(HEAD_MS, options.idleMs);
      if (isLate || (held === 0 && now - lastActive > options.idleMs)) connection.destroy();
    }
  }, SWEEP_MS);
  sweep.unref();

  return {
    listener(incoming, outgoing) {
      const refusal = headRefusal(incoming);
      if (refusal === null) void listener(incoming, outgoing);
      else refuse(incoming, outgoing, refusal);
    },
    track(connection, end) {
      const now = performance.now();
      const read = () => ("bytesRead" in connection ? connection.bytesRead : 0);
      const destroy = () => void connection.destroy();
      connections.set(connection, {
        open: 0,
        held: 0,
        lastActive: now,
        headSince: now,
        outgoing: null,
        readThen: 0,
        read,
        end,
        destroy,
      });
      connection.once("close", () => connections.delete(connection));
      // The other side may be gone at any time; what matters is that it is.
      connection.on("error", () => connection.destroy());
    },
    refuseConnection(error, socket) {
      const outgoing = connections.get(socket)?.outgoing;
      // Before its handshake has ended, or in the middle of an answer, whose reader would take this
      // for a part of it.
      const isAnswering = outgoing?.headersSent === true && !outgoing.writableEnded;
      if (!connections.has(socket) || isAnswering || !socket.writable) socket.destroy();
      else socket.end(headOf(STATUS_OF[error.code ?? ""] ?? 400), () => socket.destroy());
    },
    async listen(server) {
      const { host, port, shared } = options;
      try {
        await new Promise<void>((resolve, reject) => {
          server.once("error", reject);
          server.listen({ host, port, ...(shared ? { reusePort: true } : {}) }, resolve);
        });
      } catch (error) {
        clearInterval(sweep);
        throw error;
      }
      server.on("error", () => undefined);
      // RFC 9110 section 10.1.1.
      server.on("checkExpectation", (incoming: Incoming, outgoing: Outgoing) =>
        refuse(incoming, outgoing, 417),
      );
      const address = server.address();
      return typeof address === "object" && address !== null ? address.port : port;
    },
    async close(server, now) {
      closing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const { open, end, destroy } of connections.values())
        if (now) destroy();
        else if (open === 0) end();
      await closed;
      clearInterval(sweep);
    },
  };
}

/** The status that the head of a request is refused with before an app sees it, or null. */
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

/**
 * The answer to a request that cannot be made one of fetch, such as one with a Host that is no
 * name.
 */
function unreadable(): Response {
  return new Response("Cannot read request: its Host or path is malformed", {
    status: 400,
    headers: headersOf(),
  });
}

/** What every answer has that an app does not give. */
const headersOf = () => ({
  "X-Content-Type-Options": "nosniff",
  "X-Request-Id": crypto.randomUUID(),
});

/** The status of what Node's parser refuses, by its code; 400 for all others. */
const STATUS_OF: Readonly<Record<string, 408 | 413 | 431>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/** The whole of an answer without a body that ends its connection. */
function headOf(status: number): string {
  const headers = { ...headersOf(), Connection: "close", "Content-Length": "0" };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n`;
}

/**
 * Answers before an app sees the request. What else was sent on an HTTP/1.1 connection is not read.
 * @param text in ASCII
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
