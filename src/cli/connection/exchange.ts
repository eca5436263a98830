/**
 * One HTTP request over a connection whose peer is verified before anything is sent: by a CA file,
 * by the runtime's trusted CAs, by the SPIFFE ID of a server of the mesh, or by a pin. The socket is
 * opened first, since a pin must also verify a certificate that has expired, which no TLS library
 * offers as an option.
 * @module
 */
import { request as requestHttp } from "node:http";
import { connect as connectTcp, type Socket } from "node:net";
import {
  type ConnectionOptions,
  checkServerIdentity,
  connect as connectTls,
  type TLSSocket,
} from "node:tls";
import { TransportError } from "../../client/transport.ts";
import { concat, fromUtf8, hex, sha256 } from "../../core/bytes.ts";

/** More certificates than any server sends. */
const MAX_CHAIN = 32;
/** How long a connection and its handshake may take, in milliseconds. */
const CONNECT_MS = 10_000;

/** The certificates that a server shows, in DER. */
export interface Peer {
  readonly leaf: Uint8Array<ArrayBuffer>;
  /** The issuers that it sends, the nearest first. */
  readonly chain: readonly Uint8Array<ArrayBuffer>[];
}

/** How a TLS server is verified. */
export interface Verification {
  /** PEM of the anchors; null: those that the runtime trusts. */
  readonly ca: readonly string[] | null;
  /** Whether the certificate must have the name of the host. */
  readonly checkName: boolean;
  /** HEX of the SHA-256 of the certificate, which is then all that is compared; or null. */
  readonly leafPin: string | null;
  /** False: nothing is verified. */
  readonly verify: boolean;
  /** @throws {TransportError} if the leaf must not be trusted */
  readonly checkPeer: (leaf: Uint8Array<ArrayBuffer>) => void;
}

export interface Exchange {
  readonly method: string;
  readonly url: URL;
  readonly socketPath: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | null;
  /** From the call to the last octet, in milliseconds. */
  readonly timeoutMs: number;
  /** In octets. */
  readonly maxBytes: number;
  readonly serverName: string | null;
  readonly client: { readonly cert: string; readonly key: string } | null;
  readonly verification: Verification;
}

export interface Answer {
  readonly status: number;
  /** By a name in lower case, or null. */
  header(name: string): string | null;
  /** UTF-8. */
  readonly body: string;
}

/** @throws {TransportError} */
export async function exchange(request: Exchange): Promise<Answer> {
  const { method, url, headers, body, timeoutMs, maxBytes } = request;
  let socket: Socket | null = null;
  let isAnswered = false;
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const late = setTimeout(() => {
    reject(new TransportError("timeout", `did not answer within ${timeoutMs / 1000} s`));
    socket?.destroy();
  }, timeoutMs);
  try {
    const opened = await Promise.race([open(request), promise]);
    if ("status" in opened) return opened;
    socket = opened;
    const octets = typeof body === "string" ? new TextEncoder().encode(body) : body;
    const sent = requestHttp({
      method,
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port,
      path: `${url.pathname}${url.search}`,
      createConnection: () => opened,
      headers: {
        Host: url.host,
        "Accept-Encoding": "identity",
        Connection: "close",
        ...headers,
        ...(octets === null ? {} : { "Content-Length": String(octets.length) }),
      },
    });
    // Not every runtime reports a connection that ended before the answer as an error of the request.
    let failure: unknown = new TransportError("connect", "closed the connection too early");
    opened.on("error", (error) => {
      failure = error;
    });
    opened.once("close", () => {
      if (!isAnswered) reject(failure);
    });
    sent.on("error", reject);
    sent.on("response", (response) => {
      isAnswered = true;
      read(response, maxBytes).then(
        (text) =>
          resolve({
            status: response.statusCode ?? 0,
            header: (name) => {
              const value = response.headers[name];
              return (Array.isArray(value) ? value[0] : value) ?? null;
            },
            body: text,
          }),
        reject,
      );
    });
    sent.end(octets ?? undefined);
    return await promise;
  } catch (error) {
    throw transportError(error);
  } finally {
    clearTimeout(late);
    socket?.destroy();
  }
}

/** What a server shows, without verification. @throws {TransportError} */
export async function peerOf(
  target: Pick<Exchange, "url" | "socketPath" | "serverName" | "client">,
): Promise<Peer> {
  try {
    const verification: Verification = {
      ...{ ca: null, checkName: false, leafPin: null, verify: false },
      checkPeer: () => undefined,
    };
    const socket = await open({ ...target, verification });
    const found = "getPeerCertificate" in socket ? shownBy(socket as TLSSocket) : [];
    socket.destroy();
    const [leaf, ...chain] = found;
    if (leaf === undefined) throw new TransportError("tls", "showed no certificate");
    return { leaf, chain };
  } catch (error) {
    throw transportError(error);
  }
}

/** The certificates as the peer sent them, in its order. */
function shownBy(socket: TLSSocket): readonly Uint8Array<ArrayBuffer>[] {
  const found: Uint8Array<ArrayBuffer>[] = [];
  const take = ({ raw }: { readonly raw: Uint8Array }) => found.push(new Uint8Array(raw));
  if ("deno" in process.versions) {
    let next = socket.getPeerCertificate(true);
    while (next?.raw !== undefined && found.length < MAX_CHAIN) {
      take(next);
      // A self-signed certificate is its own issuer.
      if (next.issuerCertificate === next) break;
      next = next.issuerCertificate;
    }
    return found;
  }
  // Node and Bun sort the list of getPeerCertificate, and add roots of this machine.
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && found.length < MAX_CHAIN) {
    take(next);
    next = next.issuerCertificate;
  }
  return found;
}

type Target = Pick<Exchange, "url" | "socketPath" | "serverName" | "client" | "verification">;

/** A connected socket, whose peer is verified. */
function open({ url, socketPath, serverName, client, verification }: Target): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isTls = url.protocol === "https:" && socketPath === null;
  const port = url.port === "" ? (isTls ? 443 : 80) : Number(url.port);
  const name = serverName ?? host;
  const tls: ConnectionOptions = {
    ...{ host, port, minVersion: "TLSv1.2", ALPNProtocols: ["http/1.1"] },
    // An address is not a name of SNI (RFC 6066 section 3).
    ...(/^[\d.]+$|:/.test(name) ? {} : { servername: name }),
    ...(client === null ? {} : { cert: client.cert, key: client.key }),
    ...(verification.ca === null ? {} : { ca: [...verification.ca] }),
    rejectUnauthorized: verification.verify && verification.leafPin === null,
    checkServerIdentity: (_, certificate) => {
      if (!verification.checkName) return undefined;
      return checkServerIdentity(name, certificate) === undefined
        ? undefined
        : new TransportError("tls", `has a certificate for another name than ${name}`);
    },
  };
  const socket =
    socketPath !== null
      ? connectTcp(socketPath)
      : isTls
        ? connectTls(tls)
        : connectTcp({ host, port });
  const timer = setTimeout(() => {
    socket.destroy();
    reject(new TransportError("connect", `did not accept a connection in ${CONNECT_MS / 1000} s`));
  }, CONNECT_MS);
  socket.once("error", reject);
  socket.once(isTls ? "secureConnect" : "connect", () => {
    try {
      if (isTls) checkLeaf(socket as TLSSocket, verification);
      resolve(socket);
    } catch (error) {
      socket.destroy();
      reject(error);
    }
  });
  return promise.finally(() => {
    clearTimeout(timer);
    socket.removeListener("error", reject);
    // An error after the request failed has no other listener.
    socket.on("error", () => undefined);
  });
}

/** @throws {TransportError} */
function checkLeaf(socket: TLSSocket, { leafPin, checkPeer }: Verification): void {
  const { raw } = socket.getPeerCertificate() as { readonly raw?: Uint8Array };
  if (raw === undefined) throw new TransportError("tls", "showed no certificate");
  const leaf = new Uint8Array(raw);
  if (leafPin !== null && hex(sha256(leaf)) !== leafPin)
    throw new TransportError("tls", "has another certificate than the pinned one");
  checkPeer(leaf);
}

/** @throws {TransportError} @throws {Error} of the runtime */
async function read(response: AsyncIterable<unknown>, maxBytes: number): Promise<string> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array<ArrayBuffer>>) {
    total += chunk.length;
    if (total > maxBytes)
      throw new TransportError("too_long", `answered more than ${maxBytes} octets`);
    chunks.push(chunk);
  }
  if ("complete" in response && response.complete !== true)
    throw new TransportError("connect", "closed the connection too early");
  try {
    return fromUtf8(concat(...chunks));
  } catch (error) {
    throw new TransportError("malformed", "answered text that is not UTF-8", error);
  }
}

/** Codes of verification are OpenSSL's, those of handshakes Node's. */
const TLS_CODE =
  /^(?:CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|EPROTO|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|UNSPECIFIED|PATH_LENGTH)/;

function transportError(error: unknown): TransportError {
  if (error instanceof TransportError) return error;
  const code =
    error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  if (TLS_CODE.test(code)) return new TransportError("tls", code, error);
  if (code.startsWith("HPE_"))
    return new TransportError("malformed", "did not answer in HTTP", error);
  return new TransportError("connect", code === "" ? "connection failed" : code, error);
}
