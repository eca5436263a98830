/**
 * Key-encryption keys that are themselves wrapped by a key elsewhere, which never leaves its place:
 * what is configured, or lies in the data folder, opens nothing without that place. They are opened
 * once, at the start.
 *
 * A wrapped key is written `ID:vault:vN:BASE64`, where a plain one is `ID:BASE64`; the text that
 * opens is as `readKeks` reads it.
 * @module
 */
import { fromBase64 } from "../core/bytes.ts";
import { ConfigError, SealError } from "../core/errors.ts";
import { makeKek } from "./kek.ts";

/** What wraps keys, as Vault's Transit does. Keys are base64, wrapped ones `vault:vN:BASE64`. */
export interface KeyWrapper {
  /** @throws {CaError} */
  wrap(key: string): Promise<string>;
  /** @throws {CaError} */
  unwrap(wrapped: string): Promise<string>;
  /** The same key, wrapped by what wraps now; null where we may not. @throws {CaError} */
  rewrap(wrapped: string): Promise<string | null>;
}

const ENTRY = /^([A-Za-z0-9_-]{1,32}):(vault:v\d+:[A-Za-z0-9+/]+=*)$/;

const entriesOf = (text: string) => text.split(/[\s,]+/).filter((entry) => entry !== "");

/** Whether a text has a wrapped key in it. */
export function hasWrapped(text: string): boolean {
  return entriesOf(text).some((entry) => ENTRY.test(entry));
}

/**
 * Opens what is wrapped; the rest stays.
 * @throws {ConfigError} where nothing is there to unwrap with
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
        `Key-encryption key ${JSON.stringify(id)} is wrapped by Vault: set MESHCA_KEK_VAULT to what reaches it`,
      );
    const key = await wrapper.unwrap(wrapped);
    if (fromBase64(key)?.length !== 32)
      throw new SealError(
        "open_failed",
        `Key-encryption key ${JSON.stringify(id)} is not of 32 octets: it is not one that was made for this`,
      );
    opened.push(`${id}:${key}`);
  }
  return opened.join(",");
}

/** A new key-encryption key, wrapped. @throws {CaError} */
export async function makeWrapped(wrapper: KeyWrapper): Promise<string> {
  const [id = "", key = ""] = makeKek().split(":");
  return `${id}:${await wrapper.wrap(key)}`;
}

/**
 * The text with each wrapped key wrapped by what wraps now. Null where nothing differs.
 * @throws {CaError}
 */
export async function renewWrapped(text: string, wrapper: KeyWrapper): Promise<string | null> {
  let differs = false;
  const renewed: string[] = [];
  for (const entry of entriesOf(text)) {
    const [, id = "", wrapped = ""] = ENTRY.exec(entry) ?? [];
    const next = wrapped === "" ? null : await wrapper.rewrap(wrapped);
    // Each wrapping is another text; the version tells whether another key did it.
    const isNewer = next !== null && versionOf(next) !== versionOf(wrapped);
    differs ||= isNewer;
    renewed.push(isNewer ? `${id}:${next}` : entry);
  }
  return differs ? renewed.join("\n") : null;
}

function versionOf(wrapped: string): string {
  return wrapped.split(":")[1] ?? "";
}
