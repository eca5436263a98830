/**
 * Connections to Vault that are kept, one exchange at a time on each. `node:http` would do, but takes several times the CPU
 * on Bun, which each leaf that Vault signs would pay.
 * @module
 */
import net from "node:net";
import tls from "node:tls";
import { utf8 } from "../../src/core/bytes.ts";
import { createReplyReader, type Reply, type ReplyReader } from "./reply.ts";

/** So many at once: more only wait for each other in Vault. */
const MAX_CONNECTIONS = 64;

export interface Peer {
  /** An IP address, checked. */
  readonly address: string;
  readonly port: number;
  /** What the URL names: an address or a host, to which a certificate is held. */
  readonly host: string;
}

export interface Connections {
  /** Sends a request and reads its answer. @throws {VaultError} @throws {Error} of the socket */
  exchange(peer: Peer, request: string, signal: AbortSignal): Promise<Reply>;
  /** Closes those that are idle, and each other after its exchange. */
  close(): void;
}

interface Pending {
  readonly reader: ReplyReader;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: unknown) => void;
}

interface Connection {
  readonly socket: net.Socket;
  /** Resolves when something may be sent: over TLS not before the server's certificate was verified. */
  readonly ready: Promise<void>;
  pending: Pending | null;
}

/** @param secure options of TLS, or null for none. @param maxBytes of an answer. */
export function createConnections(secure: tls.ConnectionOptions | null, maxBytes: number): Connections {
  const idle = new Map<string, Connection[]>();
  const waiting: (() => void)[] = [];
  let used = 0;
  let closed = false;

  const open = (peer: Peer, key: string): Connection => {
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
    const socket = secure === null ? net.connect({ host: peer.address, port: peer.port }) : tls.connect(tlsOptions(secure, peer));
    const connection: Connection = { socket, ready, pending: null };
    const fail = (error: unknown) => {
      reject(error);
      socket.destroy();
      connection.pending?.reject(error);
      connection.pending = null;
      const others = idle.get(key)?.filter((other) => other !== connection) ?? [];
      if (others.length > 0) idle.set(key, others);
      else idle.delete(key);
    };
    ready.catch(() => undefined);
    socket.setNoDelay(true);
    socket.once(secure === null ? "connect" : "secureConnect", () => {
      if (socket instanceof tls.TLSSocket && secure?.rejectUnauthorized !== false && !socket.authorized)
        fail(Object.assign(new Error("not authorized"), { code: "CERT_NOT_AUTHORIZED" }));
      else resolve();
    });
    socket.on("error", fail);
    socket.on("close", () => {
      const last = connection.pending?.reader.end() ?? null;
      if (last !== null) connection.pending?.resolve(last);
      fail(Object.assign(new Error("the connection ended"), { code: "ECONNRESET" }));
    });
    socket.on("data", (chunk: Uint8Array) => {
      try {
        // Nobody asked.
        if (connection.pending === null) return void socket.destroy();
        const reply = connection.pending.reader.push(chunk);
        if (reply === null) return;
        connection.pending.resolve(reply);
        connection.pending = null;
        if (!reply.reusable || closed) return void socket.destroy();
        socket.unref();
        idle.set(key, [...(idle.get(key) ?? []), connection]);
      } catch (error) {
        fail(error);
      }
    });
    return connection;
  };

  return {
    async exchange(peer, request, signal) {
      while (used >= MAX_CONNECTIONS) await new Promise<void>((turn) => waiting.push(turn));
      signal.throwIfAborted();
      used++;
      const key = `${peer.address} ${peer.port} ${peer.host}`;
      const connection = idle.get(key)?.pop() ?? open(peer, key);
      const { socket, ready } = connection;
      const stop = () => void socket.destroy();
      signal.addEventListener("abort", stop);
      try {
        socket.ref();
        await ready;
        return await new Promise<Reply>((resolve, reject) => {
          connection.pending = { reader: createReplyReader(maxBytes), resolve, reject };
          socket.write(utf8(request));
        });
      } finally {
        signal.removeEventListener("abort", stop);
        used--;
        waiting.shift()?.();
      }
    },
    close() {
      closed = true;
      for (const { socket } of [...idle.values()].flat()) socket.destroy();
    },
  };
}

function tlsOptions(secure: tls.ConnectionOptions, { address, port, host }: Peer): tls.ConnectionOptions {
  // An address is no name to ask for (RFC 6066 §3), but what the certificate is held to all the same.
  const name = secure.servername ?? (net.isIP(host) === 0 ? host : undefined);
  return { ...secure, host: address, port, ALPNProtocols: ["http/1.1"], ...(name === undefined ? {} : { servername: name }) };
}
