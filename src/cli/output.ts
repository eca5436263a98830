/**
 * An error for a shell: one line and an exit code of sysexits.h.
 * @module
 */
import {
  CaError,
  ConfigError,
  ConflictError,
  DeniedError,
  NotReadyError,
  ProviderError,
  RateLimitedError,
  RequestError,
  SealError,
  StoreError,
} from "../core/errors.ts";
import { ListenError } from "../entry/listen-error.ts";

/** sysexits.h: EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_SOFTWARE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG. */
export const EXIT = {
  usage: 64,
  data: 65,
  unavailable: 69,
  software: 70,
  temporary: 75,
  permission: 77,
  config: 78,
} as const;

export function exitCode(error: unknown): number {
  // Keys that do not decrypt are a fault of the settings.
  if (error instanceof ConfigError || error instanceof SealError) return EXIT.config;
  if (error instanceof RequestError) return EXIT.data;
  if (error instanceof DeniedError) return EXIT.permission;
  if (
    error instanceof NotReadyError ||
    error instanceof ConflictError ||
    error instanceof RateLimitedError
  )
    return EXIT.temporary;
  if (error instanceof ProviderError || error instanceof StoreError || error instanceof ListenError)
    return EXIT.unavailable;
  return EXIT.software;
}

/** The text of an error. An error of the runtime has no better text than its own. */
export function describe(error: unknown): string {
  if (error instanceof CaError || error instanceof ListenError) return error.message;
  return error instanceof Error ? `Cannot start: ${error.message}` : "Cannot start";
}
