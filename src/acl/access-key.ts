/**
 * The access key: 32 random octets in the access store, sealed under the key-encryption key. What
 * finds a token by its secret, and what makes the MACs of records, is derived from it, so that a
 * change of the key-encryption key seals one record anew and leaves ten thousand tokens as they
 * are.
 * @module
 */
import { type Bytes, base64, concat, fromBase64, fromUtf8, hex, utf8 } from "../core/bytes.ts";
import { FormatError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import type { Sealer, SealPurpose } from "../core/ports/sealer.ts";

/** As long as the MACs made with it (RFC 2104 §3). */
const LENGTH = 32;
/** Names a key, and says nothing about it. */
const ID_BITS = 128;

export interface AccessKey {
  /** What it is called in the CA document: derived from it, in hexadecimal. */
  readonly id: string;
  /**
   * What a record adds to the digest of the set: 256 bits under a key of their own, as a number.
   */
  element(bytes: Bytes): Promise<bigint>;
  /** The keyed hash by which a token is found, in hexadecimal. */
  hashSecret(secret: string): Promise<string>;
  mac(bytes: Bytes): Promise<string>;
  /** Constant time. */
  verifyMac(bytes: Bytes, mac: string): Promise<boolean>;
  /** Encrypts a text. @param context what it is bound to. @returns base64 */
  seal(text: string, context: string, random: Random): Promise<string>;
  /** @returns null if it was not sealed by this key for this context */
  open(sealed: string, context: string): Promise<string | null>;
}

/** AES-GCM's initialisation vector (NIST SP 800-38D §8.2), which stands before the ciphertext. */
const IV_LENGTH = 12;

const purposeOf = (clusterId: string): SealPurpose => ({
  clusterId,
  purpose: "access-key",
  id: "current",
});

/** Makes a key. @returns it as sealed text. */
export async function makeAccessKey(
  sealer: Sealer,
  clusterId: string,
  random: Random,
): Promise<string> {
  const raw = random.bytes(LENGTH);
  const sealed = await sealer.sealSecret(raw, purposeOf(clusterId));
  raw.fill(0);
  return sealed;
}

/** Opens a key. @throws {SealError} `kek_unknown`, `open_failed` */
export async function openAccessKey(
  sealed: string,
  sealer: Sealer,
  clusterId: string,
): Promise<AccessKey> {
  const raw = await sealer.openSecret(sealed, purposeOf(clusterId));
  const base = await crypto.subtle.importKey("raw", raw, "HKDF", false, [
    "deriveKey",
    "deriveBits",
  ]);
  raw.fill(0);
  // RFC 5869: one key, several uses, told apart by `info`.
  const hkdf = (info: string) => ({
    name: "HKDF",
    hash: "SHA-256",
    salt: new Uint8Array(LENGTH),
    info: utf8(info),
  });
  const derive = (info: string) =>
    crypto.subtle.deriveKey(
      hkdf(info),
      base,
      { name: "HMAC", hash: "SHA-256", length: 8 * LENGTH },
      false,
      ["sign", "verify"],
    );
  const [lookup, mac, secrets, digest, id] = await Promise.all([
    derive("meshca token lookup"),
    derive("meshca access record mac"),
    crypto.subtle.deriveKey(
      hkdf("meshca access secrets"),
      base,
      { name: "AES-GCM", length: 256 },
      false,
      ["encrypt", "decrypt"],
    ),
    derive("meshca access set element"),
    crypto.subtle.deriveBits(hkdf("meshca access key id"), base, ID_BITS),
  ]);
  return {
    id: hex(new Uint8Array(id)),
    element: async (bytes) =>
      BigInt(`0x${hex(new Uint8Array(await crypto.subtle.sign("HMAC", digest, bytes)))}`),
    async seal(text, context, random) {
      const iv = random.bytes(IV_LENGTH);
      const gcm = { name: "AES-GCM", iv, additionalData: utf8(context) };
      return base64(
        concat(iv, new Uint8Array(await crypto.subtle.encrypt(gcm, secrets, utf8(text)))),
      );
    },
    async open(sealed, context) {
      const bytes = fromBase64(sealed);
      if (bytes === null || bytes.length <= IV_LENGTH) return null;
      const gcm = { name: "AES-GCM", iv: bytes.slice(0, IV_LENGTH), additionalData: utf8(context) };
      try {
        return fromUtf8(
          new Uint8Array(await crypto.subtle.decrypt(gcm, secrets, bytes.slice(IV_LENGTH))),
        );
      } catch (error) {
        // WebCrypto's way to say that the tag is wrong.
        if (error instanceof DOMException || error instanceof FormatError) return null;
        throw error;
      }
    },
    hashSecret: async (secret) =>
      hex(new Uint8Array(await crypto.subtle.sign("HMAC", lookup, utf8(secret)))),
    mac: async (bytes) => base64(new Uint8Array(await crypto.subtle.sign("HMAC", mac, bytes))),
    async verifyMac(bytes, text) {
      const signature = fromBase64(text);
      return signature !== null && crypto.subtle.verify("HMAC", mac, signature, bytes);
    },
  };
}
