/**
 * Wraps keys by Vault's Transit engine, with a key that never leaves it.
 * @module
 */
import type * as v from "valibot";
import { segment, type VaultClient } from "./client.ts";
import type { Mount } from "./config.ts";
import { failedBy, nullIf, VaultError } from "./errors.ts";
import type { Fields } from "./pki-api.ts";
import { CiphertextResponse, PlaintextResponse } from "./responses.ts";

type Action = "encrypt" | "decrypt" | "rewrap";

/** Keys are base64, wrapped ones `vault:vN:BASE64`. */
export class TransitWrapper {
  readonly #client: VaultClient;
  readonly #mount: Mount;
  readonly #key: string;

  /** @param key the name of the Transit key. @throws {VaultError} if it cannot be part of a path */
  constructor(client: VaultClient, mount: Mount, key: string) {
    this.#client = client;
    this.#mount = mount;
    this.#key = segment(key);
  }

  /** @throws {VaultError} @throws {RateLimitedError} */
  async wrap(plaintext: string): Promise<string> {
    const call = this.#call("encrypt", { plaintext }, CiphertextResponse);
    return (await this.#explained("encrypt", call)).data.ciphertext;
  }

  /** @throws {VaultError} @throws {RateLimitedError} */
  async unwrap(ciphertext: string): Promise<string> {
    const call = this.#call("decrypt", { ciphertext }, PlaintextResponse);
    return (await this.#explained("decrypt", call)).data.plaintext;
  }

  /** Wraps by the key's latest version. @returns null if the token is not allowed to. */
  async rewrap(ciphertext: string): Promise<string | null> {
    const call = this.#call("rewrap", { ciphertext }, CiphertextResponse);
    return (await nullIf(call, "denied"))?.data.ciphertext ?? null;
  }

  #call<T>(action: Action, body: Fields, schema: v.GenericSchema<unknown, T>): Promise<T> {
    const { namespace } = this.#mount;
    const at = { path: this.#pathOf(action), namespace };
    return this.#client.call("write", at, schema, { body, idempotent: true });
  }

  #pathOf(action: Action): string {
    return `${this.#mount.path}/${action}/${this.#key}`;
  }

  /** Adds the name of the key, and the policy that is missing. */
  async #explained<T>(action: Action, call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      if (!failedBy(error, "denied", "mount_missing", "not_found", "refused")) throw error;
      const why =
        error.reason === "denied"
          ? `permission denied. Add to the policy of the token:\npath "${this.#pathOf(action)}" {\n  capabilities = ["update"]\n}`
          : error.message.replace(/^Vault: /, "");
      throw new VaultError(
        error.reason,
        `Transit key ${JSON.stringify(this.#key)} at ${JSON.stringify(this.#mount.path)} cannot ${action}: ${why}`,
        error.status,
      );
    }
  }
}
