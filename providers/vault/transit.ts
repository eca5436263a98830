/**
 * Wraps keys by Vault's Transit engine, with a key that never leaves it.
 * @module
 */
import type { Mount, VaultClient } from "./client.ts";
import { VaultError } from "./errors.ts";

/** Keys are base64, wrapped ones `vault:vN:BASE64`. */
export interface TransitWrapper {
  wrap(key: string): Promise<string>;
  unwrap(wrapped: string): Promise<string>;
  /** Null where the token may not. */
  rewrap(wrapped: string): Promise<string | null>;
}

/** @param key the name of the Transit key. */
export function createTransitWrapper(
  client: VaultClient,
  mount: Mount,
  key: string,
): TransitWrapper {
  const named = `Transit key ${JSON.stringify(key)} at ${JSON.stringify(mount.path)}`;
  /** Says what to do where Vault's own words do not. */
  const explained = async <T>(act: "encrypt" | "decrypt", answer: Promise<T>): Promise<T> => {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      if (error.reason === "denied")
        throw new VaultError(
          "denied",
          `${named} cannot be used: permission denied. Add to the token's policy:\npath "${mount.path}/${act}/${key}" {\n  capabilities = ["update"]\n}`,
          error.status,
        );
      if (
        error.reason === "mount_missing" ||
        error.reason === "not_found" ||
        error.reason === "refused"
      )
        throw new VaultError(
          error.reason,
          `${named} cannot be used: ${error.message.replace(/^Vault: /, "")}`,
          error.status,
        );
      throw error;
    }
  };
  return {
    wrap: (plain) => explained("encrypt", client.transitEncrypt(mount, key, plain)),
    unwrap: (wrapped) => explained("decrypt", client.transitDecrypt(mount, key, wrapped)),
    async rewrap(wrapped) {
      try {
        return await client.transitRewrap(mount, key, wrapped);
      } catch (error) {
        if (error instanceof VaultError && error.reason === "denied") return null;
        throw error;
      }
    },
  };
}
