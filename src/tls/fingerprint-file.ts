/**
 * The SHA-256 fingerprint of the certificate that the server shows, in the log and in the data
 * folder, so that a command on the same machine can pin the server without any trusted root.
 * @module
 */
import { reasonOf } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import { fingerprintOf } from "./fallback-certificate.ts";

/** The file in the data folder; others may read it, since every client is sent the certificate. */
const FINGERPRINT_FILE = "tls-fingerprint";

interface PublicFolder {
  persistentFile(name: string, access: "public"): PersistentFile | null;
}

/** The file for the fingerprint, or null if there is no data folder. */
export function fingerprintFileOf(folder: PublicFolder): PersistentFile | null {
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

  /** @param file null if there is no data folder. */
  constructor(file: PersistentFile | null, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  /**
   * Logs and stores the fingerprint of a certificate if it is another one than before. A failed write
   * is logged and tried again at the next call; it never rejects.
   * @param cert PEM, its first certificate counts.
   * @param isShared false: other processes of this server show other certificates, so that this
   * fingerprint is only logged.
   */
  async show(cert: string, isShared: boolean): Promise<void> {
    const pin = fingerprintOf(cert);
    if (pin !== this.#logged)
      this.#log.info("The TLS certificate of this server has this SHA-256 fingerprint", {
        fingerprint: pin,
        ...(this.#file === null || !isShared ? {} : { file: this.#file.name }),
      });
    this.#logged = pin;
    if (pin === this.#written || this.#file === null || !isShared) return;
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
