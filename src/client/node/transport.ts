/**
 * The transport over node:http and node:https, on Node, Bun and Deno. Each trust has connections of
 * its own, so that none is used under another one. Proxies of the environment are not used: an
 * HTTP agent of one's own has none.
 * @module
 */
import http from "node:http";
import https from "node:https";
import { checkServerIdentity } from "node:tls";
import { type Bytes, concat, fromUtf8 } from "../../core/bytes.ts";
import { certificatePem } from "../../core/pem.ts";
import {
  type Transport,
  TransportError,
  type TransportRequest,
  type TransportResponse,
  type Trust,
} from "../transport.ts";

/** Trusts whose connections are kept: those of a rotation, and a file and a pin next to them. */
const MAX_TRUSTS = 8;

/** How long a connection may take, in milliseconds: two attempts of TCP, and a handshake. */
const CONNECT_MS = 3000;

type CheckPeer = TransportRequest["checkPeer"];

export class NodeTransport implements Transport {
  /** The most recently used one last. */
  readonly #agents = new Map<Trust, https.Agent>();
  readonly #plain = new http.Agent({ keepAlive: true, timeout: 0 });

  async send(request: TransportRequest): Promise<TransportResponse> {
    const { timeoutMs, signal } = request;
    const over = new AbortController();
    const end = () => over.abort();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      end();
    }, timeoutMs);
    signal?.addEventListener("abort", end);
    try {
      signal?.throwIfAborted();
      return await this.#onceMore(request, over.signal);
    } catch (error) {
      if (signal?.aborted === true)
        throw new TransportError(
          "aborted",
          "did not answer before the request was cancelled",
          error,
        );
      if (late)
        throw new TransportError("timeout", `did not answer within ${timeoutMs / 1000} s`, error);
      throw transportError(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
  }

  close(): void {
    for (const agent of [this.#plain, ...this.#agents.values()]) agent.destroy();
    this.#agents.clear();
  }

  /** Sends once more what met a connection that the server closed at the same moment. */
  async #onceMore(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse> {
    for (;;)
      try {
        return await this.#exchange(request, signal);
      } catch (error) {
        if (!(error instanceof StaleConnection) || signal.aborted) throw error;
      }
  }

  #exchange(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse> {
    const { method, url, headers, body, maxBytes } = request;
    const isTls = url.protocol === "https:";
    const octets = body === null ? null : new TextEncoder().encode(body);
    const { promise, resolve, reject } = Promise.withResolvers<TransportResponse>();
    const sent = (isTls ? https : http).request(
      url,
      {
        method,
        headers: {
          ...headers,
          // Certificates hardly shrink, and a bound of a compressed body is none.
          "Accept-Encoding": "identity",
          ...(octets === null ? {} : { "Content-Length": String(octets.length) }),
        },
        agent: isTls ? this.#agentOf(request.trust, request.checkPeer) : this.#plain,
      },
      (response) => {
        readBody(response, maxBytes)
          .then((text) => resolve(responseOf(response, text)), reject)
          .finally(() => response.destroy());
      },
    );
    // On Deno the option "signal" has no effect on a connection that was used before.
    const abort = () => {
      reject(new TransportError("aborted", "did not answer before the request was cancelled"));
      // Deno sends a request again whose connection was used before and is destroyed.
      sent.reusedSocket = false;
      sent.destroy();
      sent.socket?.destroy();
    };
    signal.addEventListener("abort", abort);
    let late: NodeJS.Timeout | undefined;
    sent.on("socket", (socket) => {
      // A server that is gone without a word is noticed by probes, also during a blocking query.
      socket.setKeepAlive(true, 10_000);
      if (!socket.connecting) return;
      const error = new TransportError(
        "connect",
        `did not accept a connection in ${CONNECT_MS} ms`,
      );
      late = setTimeout(() => sent.destroy(error), CONNECT_MS);
      socket.once(isTls ? "secureConnect" : "connect", () => clearTimeout(late));
    });
    sent.on("error", (error) => {
      reject(sent.reusedSocket && isReset(error) ? new StaleConnection() : error);
    });
    sent.end(octets ?? undefined);
    return promise.finally(() => {
      clearTimeout(late);
      signal.removeEventListener("abort", abort);
    });
  }

  #agentOf(trust: Trust, checkPeer: CheckPeer): https.Agent {
    const agent = this.#agents.get(trust) ?? makeAgent(trust, checkPeer);
    this.#agents.delete(trust);
    this.#agents.set(trust, agent);
    for (const [oldest, retired] of this.#agents) {
      if (this.#agents.size <= MAX_TRUSTS) break;
      this.#agents.delete(oldest);
      retire(retired);
    }
    return agent;
  }
}

/** A kept connection that had ended when a request was sent on it. */
class StaleConnection extends Error {}

function isReset(error: Error): boolean {
  return "code" in error && (error.code === "ECONNRESET" || error.code === "EPIPE");
}

function makeAgent(trust: Trust, checkPeer: CheckPeer): https.Agent {
  // A resumed session is not checked again (node:_tls_wrap): there are none.
  const options = { keepAlive: true, timeout: 0, maxCachedSessions: 0 };
  if (trust.kind === "none") return new https.Agent({ ...options, rejectUnauthorized: false });
  return new https.Agent({
    ...options,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    ca: trust.anchors.map((der) => certificatePem(der)),
    checkServerIdentity(host, certificate) {
      // Returned and never thrown: Bun goes on after an exception, and Node ends.
      try {
        if (trust.kind === "host") {
          const mismatch = checkServerIdentity(host, certificate);
          if (mismatch !== undefined)
            return new TransportError("tls", `has a certificate for another name than ${host}`);
        }
        checkPeer(new Uint8Array(certificate.raw));
        return undefined;
      } catch (error) {
        return error instanceof TransportError
          ? error
          : new TransportError("tls", "has a certificate that cannot be checked", error);
      }
    },
  });
}

/** Lets running requests end, and closes idle connections. */
function retire(agent: https.Agent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? []))
    socket.destroy();
}

/** @throws {TransportError} @throws {Error} of the runtime */
async function readBody(response: http.IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of response as AsyncIterable<Bytes>) {
    total += chunk.length;
    if (total > maxBytes)
      throw new TransportError("too_long", `answered more than ${maxBytes} octets`);
    chunks.push(chunk);
  }
  if (!response.complete) throw new TransportError("connect", "closed the connection too early");
  try {
    return fromUtf8(concat(...chunks));
  } catch (error) {
    throw new TransportError("malformed", "answered text that is not UTF-8", error);
  }
}

function responseOf(response: http.IncomingMessage, body: string): TransportResponse {
  return {
    status: response.statusCode ?? 0,
    header: (name) => {
      const value = response.headers[name];
      return (Array.isArray(value) ? value[0] : value) ?? null;
    },
    body,
  };
}

/** Errors of verification have codes of OpenSSL's, those of handshakes Node's. */
const TLS_CODE =
  /^(?:CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|EPROTO|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|CRL_|UNSPECIFIED|PATH_LENGTH)/;

function transportError(error: unknown): TransportError {
  if (error instanceof TransportError) return error;
  const code =
    error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  if (TLS_CODE.test(code)) return new TransportError("tls", `cannot be verified (${code})`, error);
  if (code.startsWith("HPE_"))
    return new TransportError("malformed", `did not answer in HTTP (${code})`, error);
  return new TransportError("connect", `cannot be reached (${code || "connection failed"})`, error);
}
