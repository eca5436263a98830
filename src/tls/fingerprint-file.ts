/**
 * The SHA-256 fingerprint of the certificate that the server shows, in the log and in the data
 * folder, so that a command on the same machine can pin the server without any trusted root.
 * @module
 */
import type { TlsSettings } from "../config/tls.ts";
import { reasonOf } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import { fingerprintOf } from "./fallback-certificate.ts";

/** The file in the data folder; others may read it, since every client is sent the certificate. */
const FINGERPRINT_FILE = "tls-fingerprint";

interface PublicFolder {
  persistentFile(name: string, access: "public"): PersistentFile | null;
}

/**
 * The file for the fingerprint, or null if none is stored: there is no data folder, or each worker
 * has its own certificate of this CA, so that no single fingerprint would pin them.
 */
export function fingerprintFileOf(
  { source }: TlsSettings,
  hasWorkers: boolean,
  folder: PublicFolder,
): PersistentFile | null {
  if (hasWorkers && source.kind === "self") return null;
  return folder.persistentFile(FINGERPRINT_FILE, "public");
}

export class FingerprintFile {
  readonly #file: PersistentFile | null;
  readonly #log: Log;
  /** The fingerprint that was logged last. */
  #logged: string | null = null;
  /** The fingerprint that the file has, as far as it is known. */
  #written: string | null = null;
  /** The reason of the last failure that was logged. */
  #reason: string | null = null;

  /** @param file null if there is no data folder, or several certificates are shown at a time. */
  constructor(file: PersistentFile | null, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  /**
   * Logs and stores the fingerprint of a certificate if it is another one than before. A failed write
   * is logged and tried again at the next call; it never rejects.
   * @param cert PEM, its first certificate counts.
   */
  async show(cert: string): Promise<void> {
    const pin = `sha256:${fingerprintOf(cert).replaceAll(":", "").toLowerCase()}`;
    if (pin !== this.#logged)
      this.#log.info("The TLS certificate of this server has this SHA-256 fingerprint", {
        fingerprint: pin,
        ...(this.#file === null ? {} : { file: this.#file.name }),
      });
    this.#logged = pin;
    if (pin === this.#written || this.#file === null) return;
    try {
      await this.#file.write(`${pin}\n`);
      this.#written = pin;
      this.#reason = null;
    } catch (error) {
      const reason = reasonOf(error);
      if (reason !== this.#reason)
        this.#log.warn(
          "Failed to write the fingerprint of the TLS certificate to the data folder; will retry, and TLS is served",
          { file: this.#file.name, reason },
        );
      this.#reason = reason;
    }
  }
}
