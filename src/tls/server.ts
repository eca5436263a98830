/**
 * HTTP/1.1 and HTTP/2 over TLS for every server runtime: `node:http2`, since it shows the
 * certificate of a client and takes another of its own while it serves, which the runtimes' own
 * servers do not.
 * @module
 */
import { createSecureServer, Http2ServerRequest } from "node:http2";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { TlsSettings } from "../config/tls.ts";
import {
  createServing,
  HEAD_MS,
  MAX_HEADERS,
  type NodeServerOptions,
  refuse,
} from "./node-server.ts";
import type { Pair } from "./pair.ts";

/** Milliseconds for a handshake. */
const HANDSHAKE_MS = 10_000;
const NOT_OURS =
  "Permission denied: the client certificate is not a leaf of this CA, or its root was abandoned";
/** Requests at once over one connection, as in Go's servers. */
const MAX_STREAMS = 250;

export interface TlsServerOptions extends NodeServerOptions {
  readonly client: Pick<TlsSettings, "clientCa" | "clientCertificate">;
  readonly minVersion: TlsSettings["minVersion"];
}

/**
 * Whether a client certificate (DER) that verified by `clientCa` counts, at the time of the call.
 */
export type AcceptsClient = (certificate: Uint8Array) => Promise<boolean>;

export interface TlsServer {
  readonly port: number;
  /**
   * Shows this certificate from the next handshake on; connections stay as they are. Before the
   * first, handshakes fail.
   */
  use(pair: Pair, clientCa: string | null, acceptsClient?: AcceptsClient | null): void;
  /**
   * Ends when what is being answered has been.
   * @param now does not wait for it, also where it was called without before.
   */
  close(now: boolean): Promise<void>;
}

/** Starts to listen. Rejects when the address is taken. */
export async function listenTls(options: TlsServerOptions): Promise<TlsServer> {
  const { client, minVersion } = options;
  const asks = client.clientCa !== null;
  const secure = {
    minVersion,
    requestCert: asks,
    rejectUnauthorized: asks && client.clientCertificate === "required",
  } as const;
  const serving = createServing(options, (socket) => (asks ? peerCertificate(socket) : undefined));
  let acceptsClient: AcceptsClient | null = null;
  /**
   * Whether a request may be answered: TLS verifies a certificate by its path, and not by what the
   * CA knows of it.
   */
  const admits = async (socket: Socket, accepts: AcceptsClient): Promise<boolean> => {
    const certificate = peerCertificate(socket);
    return certificate !== undefined && (await accepts(certificate).catch(() => false));
  };
  const settings = { maxConcurrentStreams: MAX_STREAMS };
  // The authority, method, path and scheme are headers in HTTP/2.
  const limits = { handshakeTimeout: HANDSHAKE_MS, maxHeaderListPairs: MAX_HEADERS + 4, settings };
  const server = createSecureServer(
    { allowHTTP1: true, ...limits, ...secure },
    (incoming, outgoing) => {
      // RFC 9113 §8.3.1: the authority is HTTP/2's Host, and there must not be two that differ.
      if (incoming instanceof Http2ServerRequest) {
        const { host } = incoming.headers;
        if (host !== undefined && host !== incoming.authority)
          return refuse(incoming, outgoing, 400);
        if (host === undefined) incoming.rawHeaders.push("host", incoming.authority);
      }
      if (acceptsClient === null || client.clientCertificate !== "required")
        return serving.listener(incoming, outgoing);
      void admits(incoming.socket, acceptsClient).then((isAdmitted) => {
        if (isAdmitted) serving.listener(incoming, outgoing);
        else refuse(incoming, outgoing, 403, NOT_OURS);
      });
    },
  );
  // What Node's servers for HTTP/1.1 have, and the type of one for both has not.
  const bounds = {
    keepAliveTimeout: options.idleMs,
    headersTimeout: Math.min(options.idleMs, HEAD_MS),
  };
  Object.assign(server, { ...bounds, requireHostHeader: false });
  server.on("session", (session) => serving.track(session, () => session.close()));
  server.on("secureConnection", (socket) => {
    if (socket.alpnProtocol !== "h2") serving.track(socket, () => socket.destroySoon());
  });
  // What strangers do to a connection is no news.
  for (const event of ["tlsClientError", "sessionError"]) server.on(event, () => undefined);
  server.on("clientError", serving.refuseConnection);

  return {
    port: await serving.listen(server),
    use({ cert, key }, clientCa, accepts = null) {
      // Without a list, TLS libraries take the one of the public web: never for clients of ours.
      if (asks && clientCa === null)
        throw new TypeError("There must be CAs for clients' certificates");
      server.setSecureContext({
        cert,
        key,
        ...secure,
        ...(clientCa === null ? {} : { ca: clientCa }),
      });
      acceptsClient = accepts;
    },
    close: (now) => serving.close(server, now),
  };
}

/** DER of the certificate that a client showed, if it was verified. */
function peerCertificate(socket: Socket): Uint8Array | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const { raw } = socket.getPeerCertificate();
  return raw === undefined ? undefined : new Uint8Array(raw);
}
