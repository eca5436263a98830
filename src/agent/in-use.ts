/**
 * Something that the agent needs for itself, and that another process has.
 * @module
 */
import { ConfigError } from "../core/errors.ts";

/**
 * An address, a socket or a folder is in use by another process. That process may end, which is why a
 * service manager starts the agent again, unlike after other errors of the configuration.
 */
export class InUseError extends ConfigError {}
