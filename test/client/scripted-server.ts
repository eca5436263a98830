/**
 * A CA server in this process on a real socket, which does what a test tells it in place of what a
 * server should do.
 * @module
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { TestApp } from "../fixtures/app.ts";

/** What a server does with one request. */
export type Act =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  /** Octets as the body of a response. */
  | { readonly octets: readonly number[] }
  /** Text in place of a response; then the connection ends, if `end` is not false. */
  | { readonly raw: string; readonly end?: boolean }
  /** Nothing at all. */
  | "silence"
  /** The connection is reset. */
  | "reset"
  /** What the CA does. */
  | "pass";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
}

/** What comes back from the CA may be changed, after it was made. */
export type Script = (asked: Asked, count: number) => Act | Promise<Act>;

export class ScriptedServer {
  readonly #app: Pick<TestApp, "app"> | null;
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #sockets = new Set<Socket>();
  readonly asked: Asked[] = [];
  script: Script = () => "pass";
  #port = 0;
  connections = 0;

  constructor(app: Pick<TestApp, "app"> | null = null) {
    this.#app = app;
    this.#server.on("connection", (socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => undefined);
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** How often a path was asked for. */
  count(path: string): number {
    return this.asked.filter((asked) => asked.path.startsWith(path)).length;
  }

  /** Listens, on the same port as before. */
  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  /** Is gone: connections are reset, and none is accepted. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Resets the connections that there are. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** The response of the CA itself. */
  async pass(
    asked: Asked,
  ): Promise<{ status: number; headers: Record<string, string>; body: string }> {
    if (this.#app === null) return { status: 404, headers: {}, body: "" };
    const headers = new Headers();
    for (const [name, value] of Object.entries(asked.headers))
      if (value !== undefined && name !== "connection") headers.set(name, value);
    const init: RequestInit = { method: asked.method, headers };
    if (asked.method !== "GET") init.body = asked.body;
    const response = await this.#app.app.fetch(new Request(this.url + asked.path, init));
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      body: await response.text(),
    };
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    try {
      for await (const chunk of request) body += String(chunk);
    } catch {
      return;
    }
    const asked: Asked = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers as Record<string, string | undefined>,
      body,
    };
    this.asked.push(asked);
    const act = await this.script(asked, this.asked.length);
    if (act === "silence") return;
    if (act === "reset") return void request.socket.destroy();
    if (act !== "pass" && "raw" in act) {
      request.socket.write(act.raw);
      if (act.end !== false) request.socket.end();
      return;
    }
    if (act !== "pass" && "octets" in act) return void response.end(Uint8Array.from(act.octets));
    const { status, headers = {}, body: text = "" } = act === "pass" ? await this.pass(asked) : act;
    if (response.destroyed) return;
    response.writeHead(status, headers);
    response.end(text);
  }
}
