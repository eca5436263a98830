/**
 * HTTP/1.1 and HTTP/2 over TLS for every server runtime. It uses `node:http2`, because the servers
 * of the runtimes themselves neither show the certificate of a client nor replace their own
 * certificate while they serve.
 * @module
 */
import { createSecureServer, type Http2SecureServer, Http2ServerRequest } from "node:http2";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { TlsSettings } from "../config/tls.ts";
import type { KeyPair } from "./key-pair.ts";
import {
  HEAD_MS,
  type Incoming,
  MAX_HEADERS,
  type NodeServerOptions,
  NodeServing,
  type Outgoing,
  refuse,
} from "./node-server.ts";

/** Milliseconds for a handshake. */
const HANDSHAKE_MS = 10_000;
const NOT_OURS =
  "Permission denied: the client certificate is not a leaf of this CA, or its root was abandoned";
/** Concurrent requests over one connection, as in Go's servers. */
const MAX_STREAMS = 250;

export interface TlsServerOptions extends NodeServerOptions {
  readonly client: Pick<TlsSettings, "clientCa" | "clientCertificate">;
  readonly minVersion: TlsSettings["minVersion"];
}

/** Whether a client certificate (DER) that `clientCa` verified is accepted now. */
type AcceptsClient = (certificate: Uint8Array) => Promise<boolean>;

/** Starts to listen. @throws {Error} if the address is in use */
export async function listenTls(options: TlsServerOptions): Promise<TlsServer> {
  const server = new TlsServer(options);
  await server.listen();
  return server;
}

export class TlsServer {
  readonly #client: TlsServerOptions["client"];
  readonly #secure: {
    readonly minVersion: TlsServerOptions["minVersion"];
    readonly requestCert: boolean;
    readonly rejectUnauthorized: boolean;
  };
  readonly #serving: NodeServing;
  readonly #server: Http2SecureServer;
  #acceptsClient: AcceptsClient | null = null;
  #port = 0;

  constructor(options: TlsServerOptions) {
    const { client, minVersion } = options;
    const requestCert = client.clientCa !== null;
    this.#client = client;
    this.#secure = {
      minVersion,
      requestCert,
      rejectUnauthorized: requestCert && client.clientCertificate === "required",
    };
    this.#serving = new NodeServing(options, (socket) =>
      requestCert ? peerCertificate(socket) : undefined,
    );
    this.#server = createSecureServer(
      {
        allowHTTP1: true,
        handshakeTimeout: HANDSHAKE_MS,
        // The authority, method, path and scheme are headers in HTTP/2.
        maxHeaderListPairs: MAX_HEADERS + 4,
        settings: { maxConcurrentStreams: MAX_STREAMS },
        ...this.#secure,
      },
      (incoming, outgoing) => this.#receive(incoming, outgoing),
    );
    // Options of Node's HTTP/1.1 server, which the types of an HTTP/2 server lack.
    Object.assign(this.#server, {
      keepAliveTimeout: options.idleMs,
      headersTimeout: Math.min(options.idleMs, HEAD_MS),
      requireHostHeader: false,
    });
    this.#handleConnections();
  }

  get port(): number {
    return this.#port;
  }

  /** @throws {Error} if the address is in use */
  async listen(): Promise<void> {
    this.#port = await this.#serving.listen(this.#server);
  }

  /**
   * Shows this certificate from the next handshake on; open connections are kept. Before the first
   * call, handshakes fail.
   * @param clientCa PEM of the CAs that client certificates must come from.
   */
  use(
    { cert, key }: KeyPair,
    clientCa: string | null,
    acceptsClient: AcceptsClient | null = null,
  ): void {
    // Without a list, TLS libraries use the public CAs: never for clients of ours.
    if (this.#secure.requestCert && clientCa === null)
      throw new TypeError("There must be CAs for client certificates");
    const ca = clientCa === null ? {} : { ca: clientCa };
    this.#server.setSecureContext({ cert, key, ...this.#secure, ...ca });
    this.#acceptsClient = acceptsClient;
  }

  /** As `NodeServing.close`. */
  close(now: boolean): Promise<void> {
    return this.#serving.close(this.#server, now);
  }

  #handleConnections(): void {
    const [server, serving] = [this.#server, this.#serving];
    server.on("session", (session) => serving.track(session, () => session.close()));
    server.on("secureConnection", (socket) => {
      if (socket.alpnProtocol !== "h2") serving.track(socket, () => socket.destroySoon());
    });
    // Failed handshakes and broken sessions are ended by Node, and are not logged.
    for (const event of ["tlsClientError", "sessionError"]) server.on(event, () => undefined);
    server.on("clientError", serving.refuseConnection);
  }

  #receive(incoming: Incoming, outgoing: Outgoing): void {
    // RFC 9113 section 8.3.1: the authority of HTTP/2 replaces Host, and the two must not differ.
    if (incoming instanceof Http2ServerRequest) {
      const { host } = incoming.headers;
      if (host === undefined) incoming.rawHeaders.push("host", incoming.authority);
      else if (host !== incoming.authority) {
        refuse(incoming, outgoing, 400);
        return;
      }
    }
    const accepts = this.#acceptsClient;
    if (accepts === null || this.#client.clientCertificate !== "required")
      this.#serving.listener(incoming, outgoing);
    else
      void isAccepted(incoming.socket, accepts).then((accepted) => {
        if (accepted) this.#serving.listener(incoming, outgoing);
        else refuse(incoming, outgoing, 403, NOT_OURS);
      });
  }
}

/** TLS verifies the path of a certificate; whether it is our leaf only the CA knows. */
async function isAccepted(socket: Socket, accepts: AcceptsClient): Promise<boolean> {
  const certificate = peerCertificate(socket);
  return certificate !== undefined && (await accepts(certificate).catch(() => false));
}

/** DER of the client certificate, if TLS verified it. */
function peerCertificate(socket: Socket): Uint8Array | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const { raw } = socket.getPeerCertificate();
  return raw === undefined ? undefined : new Uint8Array(raw);
}
