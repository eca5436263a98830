/**
 * The files of the data folder by which an operator creates the first ACL token.
 * @module
 */
import { hex } from "../core/bytes.ts";
import type { Random } from "../core/ports/clock.ts";
import type { DataFolder } from "./platform.ts";

/** Consul's name of the file that permits another bootstrap after all tokens were lost. */
const RESET_FILE = "acl-bootstrap-reset";
const SECRET_FILE = "acl-bootstrap-secret";

export class BootstrapFiles {
  readonly #data: DataFolder;

  constructor(data: DataFolder) {
    this.#data = data;
  }

  /** The reset index that the operator wrote into the reset file, or null. */
  resetIndex(): number | null {
    const text = this.#data.persistentFile(RESET_FILE)?.read()?.trim() ?? "";
    return /^\d+$/.test(text) ? Number(text) : null;
  }

  /** The bootstrap secret and the path of its file, or null without a secret. */
  secret(): { readonly secret: string; readonly file: string } | null {
    const file = this.#data.persistentFile(SECRET_FILE);
    const secret = file?.read()?.trim() ?? "";
    // An empty file must not become a secret that every caller can present.
    return file === null || secret === "" ? null : { secret, file: file.name };
  }

  /** The path of the secret's file; null without a data folder. */
  get secretFile(): string | null {
    return this.#data.persistentFile(SECRET_FILE)?.name ?? null;
  }

  /** Creates the secret, 128 random bits in hex, unless it exists or there is no data folder. */
  createSecret(random: Random): void {
    if (this.secretFile !== null)
      this.#data.readSecretFile(SECRET_FILE, () => hex(random.bytes(16)));
  }
}
