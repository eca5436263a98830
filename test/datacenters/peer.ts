/**
 * A server of another datacenter that a test scripts: plain HTTP on loopback, over raw octets.
 * @module
 */
import { createServer, type Server, type Socket } from "node:net";

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
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  script: Script;

  private constructor(server: Server, script: Script) {
    this.#server = server;
    this.script = script;
  }

  static async start(script: Script): Promise<Peer> {
    const server = createServer();
    const peer = new Peer(server, script);
    server.on("connection", (socket) => peer.#serve(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return peer;
  }

  get url(): URL {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("It does not listen");
    return new URL(`http://127.0.0.1:${address.port}`);
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
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
