/**
 * What an error is to a shell: one line and an exit code.
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

/** sysexits.h, as style has it for each kind of error. */
export function exitCode(error: unknown): number {
  // Keys that do not fit are a fault of the settings.
  if (error instanceof ConfigError || error instanceof SealError) return 78;
  if (error instanceof RequestError) return 65;
  if (error instanceof DeniedError) return 77;
  if (
    error instanceof NotReadyError ||
    error instanceof ConflictError ||
    error instanceof RateLimitedError
  )
    return 75;
  if (error instanceof ProviderError || error instanceof StoreError) return 69;
  return isListenError(error) ? 69 : 70;
}

/** Whether it is of an address that cannot be listened on, which listen-platform.ts words. */
function isListenError(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("Cannot listen ");
}

/**
 * The text for a person. An error that is not ours comes from the runtime: its text is all there
 * is.
 */
export function describe(error: unknown): string {
  if (error instanceof CaError) return error.message;
  if (!(error instanceof Error)) return "Cannot start";
  return isListenError(error) ? error.message : `Cannot start: ${error.message}`;
}
