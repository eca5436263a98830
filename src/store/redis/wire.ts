/**
 * A connection to one Redis that is made, used and dropped: RESP2 over a socket, pipelined, never
 * reconnected. It is for where a connection lives as long as a request; it costs a tenth of a full
 * client to load.
 * @module
 */
import type { Socket } from "node:net";
import { concat, fromUtf8, utf8 } from "../../core/bytes.ts";
import { StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { RedisSettings } from "./settings.ts";

export interface Wire {
  /** Sends one command. Rejects with Redis's error, or why no answer comes any more. */
  send(...command: readonly string[]): Promise<unknown>;
  /** Whether it is over. */
  readonly ended: boolean;
  close(): void;
}

interface Pending {
  resolve(reply: unknown): void;
  reject(error: Error): void;
}

/** A reply and where the next one begins, or null where it has not come whole. */
type Parsed = readonly [reply: unknown, next: number] | null;

const CR = 13;

function parse(bytes: Uint8Array, at: number): Parsed {
  const end = bytes.indexOf(CR, at);
  if (end < 0 || end + 1 >= bytes.length) return null;
  const [kind, line, next] = [bytes[at], fromUtf8(bytes.subarray(at + 1, end)), end + 2];
  switch (String.fromCharCode(kind ?? 0)) {
    case "+":
      return [line, next];
    case "-":
      return [new Error(line), next];
    case ":":
      return [Number(line), next];
    case "$": {
      const length = Number(line);
      if (length < 0) return [null, next];
      return bytes.length < next + length + 2
        ? null
        : [fromUtf8(bytes.subarray(next, next + length)), next + length + 2];
    }
    case "*":
      return parseArray(bytes, next, Number(line));
    default:
      throw new TypeError("The answer is not Redis's");
  }
}

function parseArray(bytes: Uint8Array, at: number, length: number): Parsed {
  if (length < 0) return [null, at];
  const items: unknown[] = [];
  let next = at;
  for (let i = 0; i < length; i++) {
    const item = parse(bytes, next);
    if (item === null) return null;
    items.push(item[0]);
    next = item[1];
  }
  return [items, next];
}

/** A command as Redis reads it: an array of strings, each with its length in octets. */
function encode(command: readonly string[]): Uint8Array {
  return utf8(
    [`*${command.length}`, ...command.flatMap((part) => [`$${utf8(part).length}`, part])]
      .map((line) => `${line}\r\n`)
      .join(""),
  );
}

/**
 * Opens a socket. Its modules are loaded here, so that a runtime without them can say so.
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
  return secure.connect({
    ...node,
    ...Object.fromEntries(Object.entries(tls).filter(([, text]) => text !== null)),
  });
}

/** Connects, and says who we are. @throws {Error} as `send` rejects */
export async function connectWire(settings: RedisSettings, clock: Clock): Promise<Wire> {
  const { username, password, db, tls, connectTimeoutMs, commandTimeoutMs } = settings;
  const socket = await openSocket(settings);
  const waiting: Pending[] = [];
  let rest: Uint8Array = new Uint8Array();
  let fault: Error | null = null;
  const opened = new AbortController();

  const end = (error: Error) => {
    fault ??= error;
    opened.abort();
    socket.destroy();
    for (const { reject } of waiting.splice(0)) reject(fault);
  };
  const take = (chunk: Uint8Array) => {
    rest = rest.length === 0 ? chunk : concat(rest, chunk);
    let at = 0;
    for (
      let parsed = parse(rest, at);
      parsed !== null;
      parsed = at < rest.length ? parse(rest, at) : null
    ) {
      const [reply] = parsed;
      at = parsed[1];
      const next = waiting.shift();
      if (reply instanceof Error) next?.reject(reply);
      else next?.resolve(reply);
    }
    rest = rest.subarray(at);
  };
  socket.on("data", (chunk: Uint8Array) => {
    try {
      take(chunk);
    } catch (error) {
      end(error instanceof Error ? error : new TypeError("unknown"));
    }
  });
  socket.on("error", end);
  socket.on("close", () => end(new Error("Connection is closed")));
  socket.on(tls === null ? "connect" : "secureConnect", () => opened.abort());
  socket.setNoDelay(true);

  /**
   * Rejects all that wait where an answer takes too long: what comes later could not be told from
   * another one's.
   */
  const within = async <T>(ms: number, work: Promise<T>): Promise<T> => {
    const done = new AbortController();
    void clock.sleep(ms, done.signal).then(() => {
      if (!done.signal.aborted) end(new Error("Command timed out"));
    });
    try {
      return await work;
    } finally {
      done.abort();
    }
  };
  const send = (...command: readonly string[]): Promise<unknown> => {
    if (fault !== null) return Promise.reject(fault);
    const answer = new Promise<unknown>((resolve, reject) => waiting.push({ resolve, reject }));
    socket.write(encode(command));
    return within(commandTimeoutMs, answer);
  };

  await clock.sleep(connectTimeoutMs, opened.signal);
  if (!opened.signal.aborted) end(new Error("Connecting timed out"));
  if (fault !== null) throw fault;
  // The answers come in this order; nothing is waited for in between.
  const hello = [
    ...(password === null
      ? []
      : [username === null ? ["AUTH", password] : ["AUTH", username, password]]),
    ...(db === 0 ? [] : [["SELECT", String(db)]]),
  ].map((command) => send(...command));
  try {
    await Promise.all(hello);
  } catch (error) {
    end(error instanceof Error ? error : new TypeError("unknown"));
    throw error;
  }
  return {
    send,
    get ended() {
      return fault !== null;
    },
    close: () => end(new Error("Connection is closed")),
  };
}
