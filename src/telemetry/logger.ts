/**
 * Structured logs: one JSON object a line, through LogTape, which runs on every runtime that we do.
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { configureSync, getJsonLinesFormatter, getLogger, withContext } from "@logtape/logtape";
import type { Log } from "../core/log.ts";

export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A log whose level can be changed. */
export interface LeveledLog extends Log {
  setLevel(level: LogLevel): void;
}

/** The fields of the request that the running code works for. */
const contextLocalStorage = new AsyncLocalStorage<Record<string, unknown>>();

/**
 * Does the work of a request: every line that it logs has the id, however deep in the store or a provider it is written.
 * @param requestId the id on the request's answer.
 */
export function inRequest<T>(requestId: string, work: () => T): T {
  return withContext({ requestId }, work);
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
      contextLocalStorage,
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
