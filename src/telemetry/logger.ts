/**
 * Structured logs: one JSON object a line, through LogTape, which runs on every runtime that we do.
 * @module
 */
import type { AsyncLocalStorage } from "node:async_hooks";
import { configureSync, getJsonLinesFormatter, getLogger } from "@logtape/logtape";
import type { Log } from "../core/ports/log.ts";

export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A log whose level can be changed. */
export interface LeveledLog extends Log {
  setLevel(level: LogLevel): void;
}

/**
 * The fields of the request that the running code works for. It is not imported, so that a Worker
 * without Node's compatibility is still loaded, and can say so; it has none.
 */
const contextLocalStorage = createStorage();

function createStorage(): AsyncLocalStorage<Record<string, unknown>> | undefined {
  if (typeof process === "undefined" || !("getBuiltinModule" in process)) return undefined;
  const hooks = process.getBuiltinModule("node:async_hooks");
  return hooks === undefined ? undefined : new hooks.AsyncLocalStorage();
}

/**
 * Does the work of a request: every line that it logs has the id, however deep in the store or a
 * provider it is written.
 * @param requestId the id on the request's answer.
 */
export function inRequest<T>(requestId: string, work: () => T): T {
  return contextLocalStorage === undefined ? work() : contextLocalStorage.run({ requestId }, work);
}

/**
 * Makes the process's log.
 * @param write takes one line with its end.
 */
export function createLogger(level: LogLevel, write: (line: string) => void): LeveledLog {
  const format = getJsonLinesFormatter({ properties: "flatten" });
  let isDebug = false;
  const setLevel = (next: LogLevel) => {
    isDebug = next === "debug";
    configureSync({
      reset: true,
      ...(contextLocalStorage === undefined ? {} : { contextLocalStorage }),
      sinks: { lines: (record) => write(format(record)) },
      loggers: [
        { category: ["meshca"], sinks: ["lines"], lowestLevel: next },
        { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "error" },
      ],
    });
  };
  setLevel(level);
  const logger = getLogger(["meshca"]);
  return {
    setLevel,
    // One line a request: nothing at all if the level leaves it out.
    debug(message, fields = {}) {
      if (isDebug) logger.debug(message, fields);
    },
    info: (message, fields = {}) => logger.info(message, fields),
    warn: (message, fields = {}) => logger.warn(message, fields),
    error: (message, fields = {}) => logger.error(message, fields),
  };
}
