/**
 * Structured logs: one JSON object per line, or one readable line for a terminal. A logger is a
 * value: two of them in one process share nothing.
 * @module
 */
import type { AsyncLocalStorage } from "node:async_hooks";
import type { Clock } from "../core/ports/clock.ts";
import type { Log, LogFields } from "../core/ports/log.ts";
import { escapeUnsafe } from "./escape.ts";

/** Names of the levels, from the most to the least detailed, with the names that lines have. */
const LEVELS = { debug: "DEBUG", info: "INFO", warning: "WARN", error: "ERROR" } as const;
const ORDER = Object.values(LEVELS);

type LogLevel = keyof typeof LEVELS;
type LevelName = (typeof ORDER)[number];

export interface LoggerOptions {
  /** The least severe level that is written. */
  readonly level: LogLevel;
  readonly clock: Pick<Clock, "now">;
  /** Takes one line with its line end. */
  readonly write: (line: string) => void;
  /** `text` is for a terminal. @default "json" */
  readonly format?: "json" | "text";
}

type Entry = Readonly<Record<string, unknown>>;

export class Logger implements Log {
  /** Null in a Worker without `nodejs_compat`, which has no AsyncLocalStorage: no line has an id. */
  readonly #requests: AsyncLocalStorage<string> | null = createStorage();
  readonly #options: LoggerOptions;
  #least = 0;

  constructor(options: LoggerOptions) {
    this.#options = options;
    this.setLevel(options.level);
  }

  setLevel(level: LogLevel): void {
    this.#least = ORDER.indexOf(LEVELS[level]);
  }

  /**
   * Runs the work of a request: every line that it writes has `requestId`, however deep in a store
   * or a provider it is written.
   */
  inRequest<T>(requestId: string, work: () => T): T {
    return this.#requests === null ? work() : this.#requests.run(requestId, work);
  }

  debug(message: string, fields?: LogFields): void {
    this.#log("DEBUG", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log("INFO", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log("WARN", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#log("ERROR", message, fields);
  }

  #log(level: LevelName, message: string, fields: LogFields = {}): void {
    if (ORDER.indexOf(level) < this.#least) return;
    const { clock, write, format } = this.#options;
    const requestId = this.#requests?.getStore();
    const head: Entry = {
      "@timestamp": clock.now().toISOString(),
      level,
      message,
      logger: "meshca",
      ...(requestId === undefined ? {} : { requestId }),
    };
    try {
      write(`${escapeUnsafe(encode(format, head, fields))}\n`);
    } catch {
      // What is logged must not fail because the log cannot be written.
    }
  }
}

/** A line without its end; without the fields if one of them cannot be encoded. */
function encode(format: LoggerOptions["format"], head: Entry, fields: LogFields): string {
  const form = format === "text" ? textOf : (entry: Entry) => JSON.stringify(entry);
  try {
    return form({ ...head, ...fields });
  } catch {
    return form(head);
  }
}

/**
 * Not imported, so that a Worker without Node's compatibility is still loaded and can answer with
 * the reason.
 */
function createStorage(): AsyncLocalStorage<string> | null {
  if (typeof process === "undefined" || !("getBuiltinModule" in process)) return null;
  const hooks = process.getBuiltinModule("node:async_hooks");
  return hooks === undefined ? null : new hooks.AsyncLocalStorage();
}

/** `TIME LEVEL message name=value …`; values with blanks or control characters are quoted. */
function textOf({ "@timestamp": time, level, message, logger: _, ...fields }: Entry): string {
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${textValue(value)}`);
  return `${time} ${String(level).padEnd(5)} ${message}${pairs.join("")}`;
}

function textValue(value: unknown): string {
  return typeof value === "string" && /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value);
}
