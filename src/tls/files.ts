/**
 * The certificate, key and client CAs of files, which whoever renews them replaces while they are
 * in use. They are read anew every few seconds, so that no way of replacing them goes unnoticed.
 * @module
 */
import { fileReason } from "../config/cannot-read.ts";
import type { TlsSettings } from "../config/tls.ts";
import { ConfigError, type Violation } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { dateWarning, type Pair, readCertificates, readPair } from "./pair.ts";

/** What came of files; null where a setting names none. */
export interface Loaded {
  readonly pair: Pair | null;
  readonly clientCa: string | null;
}

export interface Files {
  /** The last that could be used. */
  readonly loaded: Loaded;
  /**
   * Reads again. What cannot be used is logged once, and what there was stays.
   * @returns whether there is something new.
   */
  reload(): boolean;
}

const FIELDS = {
  cert: "MESHCA_TLS_CERT_FILE",
  key: "MESHCA_TLS_KEY_FILE",
  ca: "MESHCA_TLS_CLIENT_CA_FILE",
} as const;

/** Reads the files for the first time. @throws {ConfigError} with every fault */
export function openFiles(
  settings: TlsSettings,
  readFile: (path: string) => string,
  clock: Clock,
  log: Log,
): Files {
  const { source, clientCa } = settings;
  const paths = {
    cert: source.kind === "files" ? source.certFile : null,
    key: source.kind === "files" ? source.keyFile : null,
    ca: clientCa?.kind === "file" ? clientCa.path : null,
  };

  const read = (): { read: Loaded; faults: Violation[] } => {
    const faults: Violation[] = [];
    const fault = (of: keyof typeof FIELDS, message: string) =>
      faults.push({
        code: "config_invalid",
        field: FIELDS[of],
        message: `${FIELDS[of]}: ${JSON.stringify(paths[of])} ${message}`,
      });
    const text = (of: keyof typeof FIELDS): string | null => {
      const path = paths[of];
      try {
        return path === null ? null : readFile(path);
      } catch (error) {
        const reason = error instanceof ConfigError ? error.message : fileReason(error);
        fault(of, `cannot be read${reason === null ? "" : `: ${reason}`}`);
        return null;
      }
    };
    const [cert, key, ca] = [text("cert"), text("key"), text("ca")];
    const pair = cert !== null && key !== null ? readPair(cert, key) : null;
    if (pair !== null && "of" in pair) fault(pair.of, pair.message);
    const clientCa = ca === null ? null : readCertificates(ca);
    if (clientCa !== null && typeof clientCa !== "string") fault("ca", clientCa.message);
    return {
      read: {
        pair: pair !== null && "of" in pair ? null : pair,
        clientCa: typeof clientCa === "string" ? clientCa : null,
      },
      faults,
    };
  };

  const warn = ({ pair }: Loaded) => {
    const warning = pair === null ? null : dateWarning(pair.cert, clock.now());
    if (warning !== null) log.warn(`The certificate for TLS ${warning}`, { file: paths.cert });
  };

  const first = read();
  if (first.faults.length > 0)
    throw new ConfigError(
      `Cannot start:\n${first.faults.map(({ message }) => `  ${message}`).join("\n")}`,
      first.faults,
    );
  warn(first.read);
  let loaded = first.read;
  let refused = "";

  return {
    get loaded() {
      return loaded;
    },
    reload() {
      const { read: next, faults } = read();
      const reasons = faults.map(({ message }) => message);
      // Once for each way of being wrong: half of a pair may be there for a moment.
      if (reasons.length > 0 && reasons.join() !== refused)
        log.error(
          "Cannot use the files for TLS as they are now; what was read before stays in use",
          { reasons },
        );
      refused = reasons.join();
      if (reasons.length > 0 || JSON.stringify(next) === JSON.stringify(loaded)) return false;
      loaded = next;
      warn(loaded);
      return true;
    },
  };
}
