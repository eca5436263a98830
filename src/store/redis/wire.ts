/**
 * A connection to one Redis that is made, used and dropped within a request: RESP2 over a socket,
 * pipelined, never reconnected. ioredis would add 57 KB to the 232 KB of a Worker's bundle (gzip).
 * @module
 */
import type { Socket } from "node:net";
import { StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import { encodeCommand, ReplyReader } from "./resp.ts";
import type { RedisSettings } from "./settings.ts";

interface Pending {
  resolve(reply: unknown): void;
  reject(error: Error): void;
}

export class Wire {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #replies = new ReplyReader();
  /** Commands without a reply, in the order in which replies come. */
  readonly #pending: Pending[] = [];
  /** Fires once the connection is open or over. */
  readonly #opened = new AbortController();
  #fault: Error | null = null;

  /** Connects and authenticates. @throws {Error} as `send` rejects */
  static async connect(settings: RedisSettings, clock: Clock): Promise<Wire> {
    const wire = new Wire(await openSocket(settings), settings, clock);
    await clock.sleep(settings.connectTimeoutMs, wire.#opened.signal);
    if (!wire.#opened.signal.aborted) wire.#end(new Error("Connecting timed out"));
    if (wire.#fault !== null) throw wire.#fault;
    await wire.#authenticate(settings);
    return wire;
  }

  private constructor(socket: Socket, settings: RedisSettings, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    this.#timeoutMs = settings.commandTimeoutMs;
    socket.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.close());
    socket.on(settings.tls === null ? "connect" : "secureConnect", () => this.#opened.abort());
    socket.setNoDelay(true);
  }

  /** Whether no command can be sent any more. */
  get ended(): boolean {
    return this.#fault !== null;
  }

  /** Sends one command. Rejects with Redis's error, or with why there is no reply. */
  async send(...command: readonly string[]): Promise<unknown> {
    if (this.#fault !== null) throw this.#fault;
    const reply = new Promise<unknown>((resolve, reject) =>
      this.#pending.push({ resolve, reject }),
    );
    this.#socket.write(encodeCommand(command));
    // After a timeout a late reply could not be told from the next command's: the connection ends.
    const done = new AbortController();
    void this.#clock.sleep(this.#timeoutMs, done.signal).then(() => {
      if (!done.signal.aborted) this.#end(new Error("Command timed out"));
    });
    try {
      return await reply;
    } finally {
      done.abort();
    }
  }

  close(): void {
    this.#end(new Error("Connection is closed"));
  }

  async #authenticate({ username, password, db }: RedisSettings): Promise<void> {
    const auth = username === null ? [] : [username];
    const replies = [
      ...(password === null ? [] : [this.send("AUTH", ...auth, password)]),
      ...(db === 0 ? [] : [this.send("SELECT", String(db))]),
    ];
    try {
      await Promise.all(replies);
    } catch (error) {
      this.#end(errorOf(error));
      throw error;
    }
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const reply of this.#replies.read(chunk)) {
        const pending = this.#pending.shift();
        if (reply instanceof Error) pending?.reject(reply);
        else pending?.resolve(reply);
      }
    } catch (error) {
      this.#end(errorOf(error));
    }
  }

  #end(error: Error): void {
    this.#fault ??= error;
    this.#opened.abort();
    this.#socket.destroy();
    for (const { reject } of this.#pending.splice(0)) reject(this.#fault);
  }
}

/**
 * Opens a socket. Its modules are loaded here, so that a runtime without them gets an error of ours.
 * @throws {StoreError} `store_refused`
 */
async function openSocket({ nodes, tls }: RedisSettings): Promise<Socket> {
  const [node = { host: "localhost", port: 6379 }] = nodes;
  const [net, secure] = await Promise.all([import("node:net"), import("node:tls")]).catch(
    (error: unknown) => {
      throw new StoreError(
        "store_refused",
        'Redis cannot be reached: this runtime has no node:net. On Cloudflare Workers, set compatibility_flags = ["nodejs_compat"] in wrangler.toml',
        { cause: error },
      );
    },
  );
  if (tls === null) return net.createConnection(node);
  const given = Object.entries(tls).filter(([, text]) => text !== null);
  return secure.connect({ ...node, ...Object.fromEntries(given) });
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new TypeError("unknown");
}
