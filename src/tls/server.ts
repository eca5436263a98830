/**
 * HTTP/1.1 and HTTP/2 over TLS for every server runtime: `node:http2`, since it shows the certificate of a client and
 * takes another of its own while it serves, which the runtimes' own servers do not.
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createSecureServer, Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Session } from "node:http2";
import type { TLSSocket } from "node:tls";
import { getRequestListener } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { TlsSettings } from "../config/tls.ts";
import type { Pair } from "./pair.ts";

/** Milliseconds for a handshake. */
const HANDSHAKE_MS = 10_000;
/** How often silent connections are looked for, in milliseconds. */
const SWEEP_MS = 5000;
/** Milliseconds for what is being answered when the server ends. */
const CLOSE_MS = 5000;
/** Requests at once over one connection, as in Go's servers. */
const MAX_STREAMS = 250;

export interface TlsServerOptions {
  readonly host: string;
  readonly port: number;
  /** Whether other processes listen on the same port. */
  readonly shared: boolean;
  readonly client: Pick<TlsSettings, "clientCa" | "clientCertificate">;
  readonly minVersion: TlsSettings["minVersion"];
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

export interface TlsServer {
  readonly port: number;
  /** Shows this certificate from the next handshake on; connections stay as they are. Before the first, handshakes fail. */
  use(pair: Pair, clientCa: string | null): void;
  /** Ends when what is being answered has been. @param now does not wait for it. */
  close(now: boolean): Promise<void>;
}

type Incoming = IncomingMessage | Http2ServerRequest;

/** A connection, by what ends it. */
interface Connection {
  /** Requests on their way, and those of them that wait for something. */
  open: number;
  held: number;
  lastActive: number;
  end(): void;
  destroy(): void;
}

/** Starts to listen. Rejects when the address is taken. */
export async function listenTls(options: TlsServerOptions): Promise<TlsServer> {
  const { client, minVersion } = options;
  const asks = client.clientCa !== null;
  const secure = { minVersion, requestCert: asks, rejectUnauthorized: asks && client.clientCertificate === "required" } as const;
  const connections = new Map<object, Connection>();
  let closing = false;

  const track = (key: ServerHttp2Session | TLSSocket, end: () => void) => {
    connections.set(key, { open: 0, held: 0, lastActive: performance.now(), end, destroy: () => key.destroy() });
    key.once("close", () => connections.delete(key));
    // The other side may be gone at any time; what matters is that it is.
    key.on("error", () => key.destroy());
  };

  const answer = async (request: Request, incoming: Incoming, outgoing: ServerResponse | Http2ServerResponse): Promise<Response> => {
    const connection = connections.get(incoming instanceof Http2ServerRequest ? (incoming.stream.session ?? incoming) : incoming.socket);
    let held = false;
    if (connection !== undefined) {
      connection.open++;
      connection.lastActive = performance.now();
      outgoing.once("close", () => {
        connection.open--;
        if (held) connection.held--;
        connection.lastActive = performance.now();
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
        return asks ? peerCertificate(incoming.socket as TLSSocket) : undefined;
      },
    });
    // RFC 9113 §8.2.2: HTTP/2 has no such header.
    if (incoming instanceof Http2ServerRequest) response.headers.delete("Connection");
    return outgoing.destroyed ? RESPONSE_ALREADY_SENT : response;
  };

  const listener = getRequestListener(
    (request, { incoming, outgoing }: { incoming: Incoming; outgoing: ServerResponse | Http2ServerResponse }) =>
      answer(request, incoming, outgoing),
    { overrideGlobalObjects: false },
  );
  const settings = { maxConcurrentStreams: MAX_STREAMS };
  const server = createSecureServer({ allowHTTP1: true, handshakeTimeout: HANDSHAKE_MS, settings, ...secure }, (incoming, outgoing) => {
    // RFC 9113 §8.3.1: the authority is HTTP/2's Host, and there must not be two that differ.
    if (incoming instanceof Http2ServerRequest) {
      const { host } = incoming.headers;
      if (host !== undefined && host !== incoming.authority) return void outgoing.writeHead(400).end();
      if (host === undefined) incoming.rawHeaders.push("host", incoming.authority);
    }
    void listener(incoming, outgoing);
  });
  server.on("session", (session) => track(session, () => session.close()));
  server.on("secureConnection", (socket) => {
    if (socket.alpnProtocol !== "h2") track(socket, () => socket.end());
  });
  // What strangers do to a connection is no news.
  for (const event of ["tlsClientError", "sessionError"]) server.on(event, noNews);
  server.on("clientError", (_error: Error, socket: TLSSocket) => {
    // Before its handshake has ended, or not of HTTP.
    if (!connections.has(socket) || !socket.writable) socket.destroy();
    else socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () => socket.destroy());
  });

  const sweep = setInterval(() => {
    const now = performance.now();
    for (const { held, lastActive, destroy } of connections.values()) if (held === 0 && now - lastActive > options.idleMs) destroy();
  }, SWEEP_MS);
  sweep.unref();

  const { host, port, shared } = options;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, ...(shared ? { reusePort: true } : {}) }, resolve);
  });
  server.on("error", noNews);
  const address = server.address();

  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    use({ cert, key }, clientCa) {
      // Without a list, TLS libraries take the one of the public web: never for clients of ours.
      if (asks && clientCa === null) throw new TypeError("There must be CAs for clients' certificates");
      server.setSecureContext({ cert, key, ...secure, ...(clientCa === null ? {} : { ca: clientCa }) });
    },
    async close(now) {
      closing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const { open, end } of connections.values()) if (open === 0) end();
      const destroyAll = () => {
        for (const { destroy } of connections.values()) destroy();
      };
      const late = setTimeout(destroyAll, now ? 0 : CLOSE_MS);
      await closed;
      clearTimeout(late);
      clearInterval(sweep);
    },
  };
}

/** DER of the certificate that a client showed, if it was verified. */
function peerCertificate(socket: TLSSocket): Uint8Array | undefined {
  if (!socket.authorized) return undefined;
  const { raw } = socket.getPeerCertificate();
  return raw === undefined ? undefined : new Uint8Array(raw);
}

function noNews(): void {}
