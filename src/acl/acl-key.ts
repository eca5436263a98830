/**
 * The ACL key: 32 random octets in the ACL store, encrypted under the key-encryption key. The hashes
 * by which tokens are found and the MACs of records are made with keys derived from it, so that a new
 * key-encryption key changes one record and not thousands of tokens.
 * @module
 */
import { type Bytes, base64, concat, fromBase64, fromUtf8, hex, utf8 } from "../core/bytes.ts";
import { FormatError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import type { Sealer, SealPurpose } from "../core/ports/sealer.ts";

/** As long as the MACs made with it (RFC 2104 §3). */
const LENGTH = 32;
/** Of the id, which identifies a key and reveals nothing about it. */
const ID_BITS = 128;
/** AES-GCM's initialisation vector (NIST SP 800-38D §8.2), which precedes the ciphertext. */
const IV_LENGTH = 12;

const purposeOf = (clusterId: string): SealPurpose => ({
  clusterId,
  purpose: "access-key",
  id: "current",
});

/** Creates a key. @returns it encrypted. */
export async function createAclKey(
  sealer: Sealer,
  clusterId: string,
  random: Random,
): Promise<string> {
  const raw = random.bytes(LENGTH);
  const sealed = await sealer.sealSecret(raw, purposeOf(clusterId));
  raw.fill(0);
  return sealed;
}

/** Decrypts a key. @throws {SealError} `kek_unknown`, `open_failed` */
export async function openAclKey(
  sealed: string,
  sealer: Sealer,
  clusterId: string,
): Promise<AclKey> {
  const raw = await sealer.openSecret(sealed, purposeOf(clusterId));
  const base = await crypto.subtle.importKey("raw", raw, "HKDF", false, [
    "deriveKey",
    "deriveBits",
  ]);
  raw.fill(0);
  // RFC 5869: several keys from one, separated by `info`.
  const hkdf = (info: string) => ({
    name: "HKDF",
    hash: "SHA-256",
    salt: new Uint8Array(LENGTH),
    info: utf8(info),
  });
  const hmac = { name: "HMAC", hash: "SHA-256", length: 8 * LENGTH };
  const derive = (info: string) =>
    crypto.subtle.deriveKey(hkdf(info), base, hmac, false, ["sign", "verify"]);
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
  return new AclKey(hex(new Uint8Array(id)), { lookup, mac, secrets, digest });
}

interface DerivedKeys {
  readonly lookup: CryptoKey;
  readonly mac: CryptoKey;
  readonly secrets: CryptoKey;
  readonly digest: CryptoKey;
}

export class AclKey {
  /** By which the CA document names it, in hexadecimal. */
  readonly id: string;
  readonly #keys: DerivedKeys;

  constructor(id: string, keys: DerivedKeys) {
    this.id = id;
    this.#keys = keys;
  }

  /** What a record adds to the digest of the set: an HMAC of 256 bits, as a number. */
  async element(bytes: Bytes): Promise<bigint> {
    return BigInt(`0x${hex(await hmacOf(this.#keys.digest, bytes))}`);
  }

  /** The HMAC by which a token is found, in hexadecimal. */
  async hashSecret(secret: string): Promise<string> {
    return hex(await hmacOf(this.#keys.lookup, utf8(secret)));
  }

  /** @returns base64 */
  async mac(bytes: Bytes): Promise<string> {
    return base64(await hmacOf(this.#keys.mac, bytes));
  }

  /** Compares in constant time. */
  async verifyMac(bytes: Bytes, mac: string): Promise<boolean> {
    const signature = fromBase64(mac);
    return signature !== null && crypto.subtle.verify("HMAC", this.#keys.mac, signature, bytes);
  }

  /** Encrypts a text. @param context what it is bound to. @returns base64 */
  async seal(text: string, context: string, random: Random): Promise<string> {
    const iv = random.bytes(IV_LENGTH);
    const gcm = { name: "AES-GCM", iv, additionalData: utf8(context) };
    const encrypted = await crypto.subtle.encrypt(gcm, this.#keys.secrets, utf8(text));
    return base64(concat(iv, new Uint8Array(encrypted)));
  }

  /** @returns null if it was not encrypted by this key for this context */
  async open(sealed: string, context: string): Promise<string | null> {
    const bytes = fromBase64(sealed);
    if (bytes === null || bytes.length <= IV_LENGTH) return null;
    const gcm = { name: "AES-GCM", iv: bytes.slice(0, IV_LENGTH), additionalData: utf8(context) };
    try {
      const text = await crypto.subtle.decrypt(gcm, this.#keys.secrets, bytes.slice(IV_LENGTH));
      return fromUtf8(new Uint8Array(text));
    } catch (error) {
      // WebCrypto throws a DOMException for a wrong tag.
      if (error instanceof DOMException || error instanceof FormatError) return null;
      throw error;
    }
  }
}

async function hmacOf(key: CryptoKey, bytes: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes));
}
