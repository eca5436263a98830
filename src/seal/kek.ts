/**
 * Key-encryption keys: reads them from text, and derives from each one key that encrypts data keys
 * and one for MACs.
 * @module
 */
import { type Bytes, base64, fromBase64, utf8 } from "../core/bytes.ts";
import { ConfigError } from "../core/errors.ts";

/** Octets of a key-encryption key: AES-256. */
const KEK_LENGTH = 32;

export interface Kek {
  readonly id: string;
  /** Encrypts data keys (AES-256-GCM). */
  readonly wrapping: CryptoKey;
  /** Makes MACs of state documents (HMAC-SHA-256). */
  readonly mac: CryptoKey;
}

/** Key-encryption keys by id. The first one encrypts; all decrypt. */
export interface KekRing {
  readonly current: Kek;
  /** The current one's first. */
  readonly ids: readonly string[];
  get(id: string): Kek | undefined;
}

/** A new key-encryption key as text, of the form that `readKeks` reads. */
export function makeKek(): string {
  const id = base64(crypto.getRandomValues(new Uint8Array(6)))
    .replace(/[+/]/g, "x")
    .toLowerCase();
  return `${id}:${base64(crypto.getRandomValues(new Uint8Array(KEK_LENGTH)))}`;
}

/**
 * Reads key-encryption keys from text: `ID:BASE64`, separated by commas or line ends, the current
 * one first. An id is one to 32 letters, digits, `_` or `-`; a key is 32 octets.
 * @param source where an operator finds the text, for the error.
 * @throws {ConfigError} naming every entry at fault by its place, never its content.
 */
export async function readKeks(text: string, source?: string): Promise<KekRing> {
  const entries = text.split(/[\s,]+/).filter((entry) => entry !== "");
  const faults: string[] = [];
  const keys = new Map<string, Bytes>();
  entries.forEach((entry, i) => {
    const match = /^([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/]+=*)$/.exec(entry);
    const key = fromBase64(match?.[2] ?? "");
    const id = match?.[1] ?? "";
    if (match === null || key === null || key.length !== KEK_LENGTH)
      faults.push(`entry ${i + 1} is not ID:BASE64 with a key of ${KEK_LENGTH} octets`);
    else if (keys.has(id)) faults.push(`entry ${i + 1} has the id of an earlier one`);
    else keys.set(id, key);
  });
  if (entries.length === 0) faults.push("there is no key");
  if (faults.length > 0)
    throw new ConfigError(
      `Cannot read key-encryption keys${source === undefined ? "" : ` from ${source}`}: ${faults.join("; ")}. Make one with: echo "$(date +%Y):$(openssl rand -base64 ${KEK_LENGTH})"`,
    );
  const ring = new Map<string, Kek>();
  for (const [id, key] of keys) ring.set(id, await deriveKek(id, key));
  const [current] = ring.values();
  return { current: current as Kek, ids: [...ring.keys()], get: (id) => ring.get(id) };
}

async function deriveKek(id: string, key: Bytes): Promise<Kek> {
  const base = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveKey"]);
  // RFC 5869: one key, two uses, told apart by `info`.
  const derive = (
    info: string,
    algorithm: AesDerivedKeyParams | HmacKeyGenParams,
    usages: KeyUsage[],
  ) =>
    crypto.subtle.deriveKey(
      { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: utf8(info) },
      base,
      algorithm,
      false,
      usages,
    );
  const [wrapping, mac] = await Promise.all([
    derive("meshca data key wrapping", { name: "AES-GCM", length: 256 }, ["encrypt", "decrypt"]),
    derive("meshca state mac", { name: "HMAC", hash: "SHA-256", length: 256 }, ["sign", "verify"]),
  ]);
  return { id, wrapping, mac };
}
