/**
 * Key-encryption keys that are themselves encrypted by a key that never leaves another system, such
 * as Vault's Transit: without it, neither the settings nor the data folder decrypts anything. They
 * are decrypted once, at the start.
 *
 * An encrypted key is written `ID:vault:vN:BASE64`, a plain one `ID:BASE64`, as `readKeks` reads
 * it.
 * @module
 */
import { fromBase64 } from "../core/bytes.ts";
import { ConfigError, SealError } from "../core/errors.ts";
import { makeKek } from "./kek.ts";

/** Encrypts keys, as Vault's Transit does. Keys are base64, encrypted ones `vault:vN:BASE64`. */
export interface KeyWrapper {
  /** @throws {CaError} */
  wrap(key: string): Promise<string>;
  /** @throws {CaError} */
  unwrap(wrapped: string): Promise<string>;
  /** The key, encrypted by the latest version; null if that is not allowed. @throws {CaError} */
  rewrap(wrapped: string): Promise<string | null>;
}

const ENTRY = /^([A-Za-z0-9_-]{1,32}):(vault:v\d+:[A-Za-z0-9+/]+=*)$/;

const entriesOf = (text: string) => text.split(/[\s,]+/).filter((entry) => entry !== "");

/** Whether a text has an encrypted key in it. */
export function hasWrapped(text: string): boolean {
  return entriesOf(text).some((entry) => ENTRY.test(entry));
}

/**
 * Decrypts the encrypted keys of a text; the rest stays.
 * @throws {ConfigError} for an encrypted key without a wrapper
 * @throws {SealError}
 * @throws {CaError}
 */
export async function openWrapped(text: string, wrapper: KeyWrapper | null): Promise<string> {
  const opened: string[] = [];
  for (const entry of entriesOf(text)) {
    const [, id = "", wrapped = ""] = ENTRY.exec(entry) ?? [];
    if (wrapped === "") {
      opened.push(entry);
      continue;
    }
    if (wrapper === null)
      throw new ConfigError(
        `Key-encryption key ${JSON.stringify(id)} is encrypted by Vault: set MESHCA_KEK_VAULT to the Transit key that decrypts it`,
      );
    const key = await wrapper.unwrap(wrapped);
    if (fromBase64(key)?.length !== 32)
      throw new SealError(
        "open_failed",
        `Key-encryption key ${JSON.stringify(id)} does not have 32 octets once Vault has decrypted it`,
      );
    opened.push(`${id}:${key}`);
  }
  return opened.join(",");
}

/** A new key-encryption key, encrypted. @throws {CaError} */
export async function makeWrapped(wrapper: KeyWrapper): Promise<string> {
  const [id = "", key = ""] = makeKek().split(":");
  return `${id}:${await wrapper.wrap(key)}`;
}

/**
 * The text with each encrypted key encrypted by the latest version.
 * @returns null if nothing differs.
 * @throws {CaError}
 */
export async function renewWrapped(text: string, wrapper: KeyWrapper): Promise<string | null> {
  let differs = false;
  const renewed: string[] = [];
  for (const entry of entriesOf(text)) {
    const [, id = "", wrapped = ""] = ENTRY.exec(entry) ?? [];
    const next = wrapped === "" ? null : await wrapper.rewrap(wrapped);
    // Encrypting twice gives two texts; only the version shows that another key encrypted it.
    const isNewer = next !== null && versionOf(next) !== versionOf(wrapped);
    differs ||= isNewer;
    renewed.push(isNewer ? `${id}:${next}` : entry);
  }
  return differs ? renewed.join("\n") : null;
}

function versionOf(wrapped: string): string {
  return wrapped.split(":")[1] ?? "";
}
