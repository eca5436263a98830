/**
 * Structured logs: one JSON object a line, through LogTape, which runs on every runtime that we do.
 * @module
 */
import { configureSync, getJsonLinesFormatter, getLogger } from "@logtape/logtape";
import type { Log } from "../core/log.ts";

export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * Makes the process's log.
 * @param write takes one line with its end.
 */
export function createLogger(level: LogLevel, write: (line: string) => void): Log {
  const format = getJsonLinesFormatter({ properties: "flatten" });
  configureSync({
    reset: true,
    sinks: { lines: (record) => write(format(record)) },
    loggers: [
      { category: ["meshca"], sinks: ["lines"], lowestLevel: level },
      { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "error" },
    ],
  });
  const logger = getLogger(["meshca"]);
  return {
    // One line a request: nothing at all where nobody wants it.
    debug: level === "debug" ? (message, fields = {}) => logger.debug(message, fields) : () => undefined,
    info: (message, fields = {}) => logger.info(message, fields),
    warn: (message, fields = {}) => logger.warn(message, fields),
    error: (message, fields = {}) => logger.error(message, fields),
  };
}
