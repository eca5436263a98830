/**
 * Every accepted write, lease grant and stop mark of one Redis in its order. MONITOR shows the
 * commands that a script runs, not the script's intention: what stands here was done.
 * @module
 */
import { connect, type Socket } from "node:net";
import type { StateCodec } from "../../src/core/ports/store.ts";
import { redisKeys } from "../../src/store/redis/keys.ts";
import { type RedisServer, until } from "../redis/server.ts";
import type { Line, StoreEvent } from "./history.ts";

export interface Monitor {
  readonly server: RedisServer;
  /**
   * Looks again, beginning with what there is now: after the server was started again, or a
   * sentinel cut off its clients.
   */
  attach(): Promise<void>;
  /** All until now. */
  line(): Promise<Line>;
  close(): void;
}

export async function createMonitor(
  server: RedisServer,
  prefix: string,
  codec: StateCodec,
): Promise<Monitor> {
  const keys = redisKeys(prefix);
  /** In order; states are decoded at the end of the run. */
  const events: Promise<StoreEvent>[] = [];
  let socket: Socket | null = null;
  let marker = 0;
  let seen = 0;

  const found = async (): Promise<StoreEvent[]> => {
    const [document, term] = await server.admin.hmget(keys.state, "document", "term");
    const granted = await server.admin.hget(keys.lease("operation"), "term");
    const mark = await server.admin.hget(keys.stop, "document");
    const state = typeof document === "string" ? await codec.decode(document) : null;
    return [
      { kind: "found", state, writtenUnder: Number(term ?? 0), granted: Number(granted ?? 0) },
      ...(mark === null ? [] : [{ kind: "mark", state: await codec.decode(mark) } as const]),
    ];
  };

  const take = ([command = "", key = "", ...rest]: readonly string[]) => {
    const name = command.toUpperCase();
    if (name === "ECHO" && key.startsWith(`${prefix} `)) seen = Number(key.slice(prefix.length));
    const fields = new Map(
      rest.flatMap((field, i): [string, string][] =>
        i % 2 === 0 ? [[field, rest[i + 1] ?? ""]] : [],
      ),
    );
    const [document, term] = [fields.get("document"), fields.get("term")];
    if (name === "HSET" && key === keys.state && document !== undefined)
      events.push(
        codec.decode(document).then((state) => ({ kind: "write", state, term: Number(term) })),
      );
    else if (name === "HSET" && key === keys.lease("operation") && term !== undefined)
      events.push(
        Promise.resolve({ kind: "grant", term: Number(term), holder: fields.get("holder") ?? "" }),
      );
    else if (name === "HSET" && key === keys.stop && document !== undefined)
      events.push(codec.decode(document).then((state) => ({ kind: "mark", state })));
    else if (name === "DEL" && key === keys.stop) events.push(Promise.resolve({ kind: "unmark" }));
  };

  const attach = async () => {
    socket?.destroy();
    const opened = connect(server.port, "127.0.0.1");
    socket = opened;
    opened.on("error", () => undefined);
    let text = "";
    let confirmed = false;
    const ready = Promise.withResolvers<void>();
    opened.on("close", () => ready.reject(new Error("Redis closed the monitor")));
    opened.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      const lines = text.split("\r\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        if (confirmed) take(argumentsOf(line));
        else ready.resolve();
        confirmed = true;
      }
    });
    opened.write("MONITOR\r\n");
    await ready.promise;
    // Concurrent writes are recorded before the keys found, and are the same.
    events.push(...(await found()).map((event) => Promise.resolve(event)));
  };
  await attach();

  return {
    server,
    attach,
    async line() {
      const wanted = ++marker;
      // A killed server sends nothing more.
      if (socket?.readyState === "open") {
        await server.admin.echo(`${prefix} ${wanted}`);
        await until(() => seen >= wanted || socket?.readyState !== "open");
      }
      return { server: `redis ${server.port}`, events: await Promise.all(events) };
    },
    close: () => socket?.destroy(),
  };
}

/** The arguments in a line of MONITOR, with Redis's escapes (sdscatrepr) undone. */
export function argumentsOf(line: string): string[] {
  const quoted = line.slice(line.indexOf("] ") + 2);
  return [...quoted.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) =>
    Buffer.from(unescaped(text), "latin1").toString("utf8"),
  );
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", a: "\x07", b: "\b" };

function unescaped(text: string): string {
  return text.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, code: string | undefined, letter: string) =>
    code === undefined
      ? (ESCAPES[letter] ?? letter)
      : String.fromCharCode(Number.parseInt(code, 16)),
  );
}
