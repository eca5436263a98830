/**
 * A server of another datacenter that a test scripts: HTTP or HTTPS on loopback, over raw octets.
 * @module
 */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls";
import type { KeyPair } from "../client/tls-server.ts";

/** A request as it came. */
export interface Received {
  readonly method: string;
  /** With its query. */
  readonly target: string;
  readonly head: string;
  readonly body: string;
  /** The value of a header by its name in lower case, or null. */
  header(name: string): string | null;
  /** Resolves when the connection is closed. */
  readonly closed: Promise<void>;
}

/** Writes the response to a request; the connection is kept unless it ends it. */
export type Script = (socket: Socket, request: Received) => void;

export class Peer {
  readonly received: Received[] = [];
  readonly #server: Server | TlsServer;
  readonly #isTls: boolean;
  readonly #sockets = new Set<Socket>();
  script: Script;

  private constructor(server: Server | TlsServer, isTls: boolean, script: Script) {
    this.#server = server;
    this.#isTls = isTls;
    this.script = script;
  }

  /** @param pair the certificate and key of TLS; null: plain HTTP. @default null */
  static async start(script: Script, pair: KeyPair | null = null): Promise<Peer> {
    const server = pair === null ? createServer() : createTlsServer({ ...pair });
    const peer = new Peer(server, pair !== null, script);
    server.on(pair === null ? "connection" : "secureConnection", (socket: Socket) =>
      peer.#serve(socket),
    );
    server.on("tlsClientError", () => undefined);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return peer;
  }

  /** Shows another certificate on connections from now on, and closes those that are open. */
  use(pair: KeyPair): void {
    if ("setSecureContext" in this.#server) this.#server.setSecureContext(pair);
    this.hangUp();
  }

  /** Closes every connection. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  get url(): URL {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("It does not listen");
    return new URL(`${this.#isTls ? "https" : "http"}://127.0.0.1:${address.port}`);
  }

  stop(): Promise<void> {
    this.hangUp();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    const closed = new Promise<void>((resolve) =>
      socket.on("close", () => {
        this.#sockets.delete(socket);
        resolve();
      }),
    );
    socket.on("error", () => undefined);
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      for (;;) {
        const end = text.indexOf("\r\n\r\n");
        if (end < 0) return;
        const head = text.slice(0, end);
        const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? "0");
        const body = text.slice(end + 4, end + 4 + length);
        if (body.length < length) return;
        text = text.slice(end + 4 + length);
        const [method = "", target = ""] = head.split(" ");
        const request: Received = {
          ...{ method, target, head, body, closed },
          header: (name) => new RegExp(`\r\n${name}: *([^\r]*)`, "i").exec(head)?.[1] ?? null,
        };
        this.received.push(request);
        this.script(socket, request);
      }
    });
  }
}

/** A script that answers every request alike. */
export function answering(
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Script {
  const all = { "Content-Type": "application/json", ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const length = new TextEncoder().encode(body).length;
  return (socket) => {
    socket.write(
      Buffer.from(
        `HTTP/1.1 ${status} Scripted\r\n${lines.join("")}Content-Length: ${length}\r\n\r\n${body}`,
        "utf8",
      ),
    );
  };
}
