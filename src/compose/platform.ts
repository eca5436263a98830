/**
 * What a runtime provides to the composition root: clock, randomness, log, files and network.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { FileFacts } from "../core/ports/file-facts.ts";
import type { Log } from "../core/ports/log.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import type { PinnedFetch, Resolve } from "../net/guarded-fetch.ts";
import type { AuditSink } from "../telemetry/audit.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { ProcessUsage } from "../telemetry/series.ts";

export type { RequestEnvironment } from "../http/route.ts";

/** The data folder, which only the user of this process can read. */
export interface DataFolder {
  /** The text of a file; `make` returns the text of a file that does not exist yet. */
  readSecretFile(name: string, make: () => string): string;
  /**
   * A file whose text survives a restart; null if there is no data folder.
   * @param access "public" if other users may read it. @default "private"
   */
  persistentFile(name: string, access?: "private" | "public"): PersistentFile | null;
}

/** Files that the operator names in settings. */
interface LocalFiles {
  /** The text of a file. @throws {Error} */
  readFile(path: string): string;
  /** The names of the entries of a folder. @throws {Error} */
  listFolder(path: string): readonly string[];
  fileExists(path: string): boolean;
}

/** Files that a provider's configuration may name. */
export interface ProviderFileReader {
  /** @throws {ConfigError} if the file must not be read @throws {Error} */
  readFile(path: string): string;
  /** @throws {ConfigError} if the folder must not be read @throws {Error} */
  listFolder(path: string): readonly string[];
}

export interface Platform extends DataFolder, LocalFiles {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log & Pick<Logger, "inRequest">;
  readonly providerFiles: ProviderFileReader;
  /** Fetches the signing keys of an auth method's issuer. */
  readonly fetchKeys: PinnedFetch;
  /** Resolves a host name. */
  readonly resolve: Resolve;
  /** The runtime and its resource usage, for `/metrics`, and the host's name. @default unknown */
  readonly process?: {
    readonly runtime: string;
    /** Null if the process is not allowed to read it. */
    readonly hostName: string | null;
    /** The addresses of the network interfaces; empty if the process is not allowed to read them. */
    addresses(): readonly string[];
    usage(): ProcessUsage;
  };
  /** The files and folders of the settings, as they are now. @default a runtime without files */
  readonly fileFacts?: () => readonly FileFacts[];
  /** Opens the audit log. @throws {ConfigError} if the file cannot be opened */
  openAuditSink(target: NonNullable<Settings["audit"]>): Promise<AuditSink>;
}
