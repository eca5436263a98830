/**
 * The certificate, key and client CA files of TLS, which are replaced while they are in use. They
 * are read every few seconds, so that a replacement is noticed however it is made.
 * @module
 */
import { Faults } from "../config/faults.ts";
import { fileReason } from "../config/file-errors.ts";
import type { TlsSettings } from "../config/tls.ts";
import { ConfigError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { dateWarning, type KeyPair, readCertificates, readKeyPair } from "./key-pair.ts";

/** What the files contain; null if a setting names none. */
interface Loaded {
  readonly pair: KeyPair | null;
  /** PEM of the CAs that client certificates must come from. */
  readonly clientCa: string | null;
}

const SETTINGS = {
  cert: "MESHCA_TLS_CERT_FILE",
  key: "MESHCA_TLS_KEY_FILE",
  ca: "MESHCA_TLS_CLIENT_CA_FILE",
} as const;

type Part = keyof typeof SETTINGS;

export class TlsFiles {
  readonly #paths: Readonly<Record<Part, string | null>>;
  readonly #readFile: (path: string) => string;
  readonly #clock: Clock;
  readonly #log: Log;
  #loaded: Loaded;
  /** The faults that were logged last. */
  #logged = "";

  /** Reads the files. @throws {ConfigError} with every fault */
  constructor(
    { source, clientCa }: TlsSettings,
    readFile: (path: string) => string,
    clock: Clock,
    log: Log,
  ) {
    this.#paths = {
      cert: source.kind === "files" ? source.certFile : null,
      key: source.kind === "files" ? source.keyFile : null,
      ca: clientCa?.kind === "file" ? clientCa.path : null,
    };
    this.#readFile = readFile;
    this.#clock = clock;
    this.#log = log;
    const { loaded, faults } = this.#read();
    if (faults.any) throw faults.error("Cannot start");
    this.#loaded = loaded;
    this.#warnOfDates();
  }

  /** The files as they were when all of them could be used last. */
  get loaded(): Loaded {
    return this.#loaded;
  }

  /**
   * Reads the files again. If one cannot be used, that is logged once and the previous contents are
   * kept. @returns whether the contents changed.
   */
  reload(): boolean {
    const { loaded, faults } = this.#read();
    const reasons = faults.messages;
    if (reasons.length > 0 && reasons.join() !== this.#logged)
      this.#log.error("Failed to reload TLS files; keeping the previous certificate", { reasons });
    this.#logged = reasons.join();
    if (reasons.length > 0 || JSON.stringify(loaded) === JSON.stringify(this.#loaded)) return false;
    this.#loaded = loaded;
    this.#warnOfDates();
    return true;
  }

  #read(): { loaded: Loaded; faults: Faults } {
    const faults = new Faults();
    const fault = (part: Part, reason: string) =>
      faults.add(SETTINGS[part], `${JSON.stringify(this.#paths[part])} ${reason}`);
    const text = (part: Part): string | null => {
      const path = this.#paths[part];
      try {
        return path === null ? null : this.#readFile(path);
      } catch (error) {
        const reason = error instanceof ConfigError ? error.message : fileReason(error);
        fault(part, `cannot be read${reason === null ? "" : `: ${reason}`}`);
        return null;
      }
    };
    const [cert, key, ca] = [text("cert"), text("key"), text("ca")];
    const pair = cert !== null && key !== null ? readKeyPair(cert, key) : null;
    if (pair !== null && "of" in pair) fault(pair.of, pair.message);
    const clientCa = ca === null ? null : readCertificates(ca);
    if (clientCa !== null && typeof clientCa !== "string") fault("ca", clientCa.message);
    const loaded = {
      pair: pair !== null && "of" in pair ? null : pair,
      clientCa: typeof clientCa === "string" ? clientCa : null,
    };
    return { loaded, faults };
  }

  #warnOfDates(): void {
    const { pair } = this.#loaded;
    const warning = pair === null ? null : dateWarning(pair.cert, this.#clock.now());
    if (warning !== null)
      this.#log.warn(`The TLS certificate of this server ${warning}`, { file: this.#paths.cert });
  }
}
