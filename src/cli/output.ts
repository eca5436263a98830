/**
 * An error for a shell: one line and an exit code of sysexits.h.
 * @module
 */
import { InUseError } from "../agent/in-use.ts";
import { ClientError } from "../client/errors.ts";
import {
  CaError,
  ConfigError,
  ConflictError,
  DeniedError,
  FormatError,
  NotReadyError,
  ProviderError,
  RateLimitedError,
  RequestError,
  SealError,
  StoreError,
} from "../core/errors.ts";
import { ListenError } from "../entry/listen-error.ts";

/**
 * sysexits.h: EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_SOFTWARE, EX_CANTCREAT, EX_IOERR,
 * EX_TEMPFAIL, EX_PROTOCOL, EX_NOPERM, EX_CONFIG; and what a shell has for a process that SIGINT ended.
 */
export const EXIT = {
  usage: 64,
  data: 65,
  noInput: 66,
  unavailable: 69,
  software: 70,
  cannotCreate: 73,
  io: 74,
  temporary: 75,
  protocol: 76,
  permission: 77,
  config: 78,
  interrupted: 130,
} as const;

/** The reason why a command ends, for its user: one line without a period, and no secret. */
export class Failure extends Error {
  readonly exit: number;

  constructor(exit: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "Failure";
    this.exit = exit;
  }
}

/** A usage error that a command finds itself. */
export const usage = (message: string): Failure => new Failure(EXIT.usage, message);

const CLIENT_EXIT: Readonly<Record<ClientError["code"], number>> = {
  unreachable: EXIT.unavailable,
  untrusted: EXIT.unavailable,
  limited: EXIT.temporary,
  refused: EXIT.permission,
  rejected: EXIT.data,
  credentials_unavailable: EXIT.noInput,
  unusable: EXIT.data,
  not_in_force: EXIT.data,
};

export function exitCode(error: unknown): number {
  if (error instanceof Failure) return error.exit;
  // A kind of ConfigError, but one that may pass.
  if (error instanceof InUseError) return EXIT.unavailable;
  if (error instanceof ClientError) return CLIENT_EXIT[error.code];
  // Keys that do not decrypt are a fault of the settings.
  if (error instanceof ConfigError || error instanceof SealError) return EXIT.config;
  if (error instanceof RequestError || error instanceof FormatError) return EXIT.data;
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

/** The text of an error of a server or an agent that starts. */
export function describe(error: unknown): string {
  return expectedText(error) ?? `Cannot start${runtimeText(error)}`;
}

/** The text of an error of any other command. */
export function describeFailure(error: unknown): string {
  return expectedText(error) ?? `Unexpected error${runtimeText(error)}`;
}

function expectedText(error: unknown): string | null {
  const isExpected =
    error instanceof Failure ||
    error instanceof CaError ||
    error instanceof ClientError ||
    error instanceof FormatError ||
    error instanceof ListenError;
  return isExpected ? error.message : null;
}

/** An error of the runtime has no better text than its own. */
const runtimeText = (error: unknown): string =>
  error instanceof Error ? `: ${error.message}` : "";
