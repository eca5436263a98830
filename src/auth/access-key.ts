/**
 * The access key: 32 random octets in the access store, sealed under the key-encryption key. What finds a token by its
 * secret, and what makes the MACs of records, is derived from it, so that a change of the key-encryption key seals one
 * record anew and leaves ten thousand tokens as they are.
 * @module
 */
import { type Bytes, base64, fromBase64, hex, utf8 } from "../core/bytes.ts";
import type { Random } from "../core/clock.ts";
import type { Sealer, SealPurpose } from "../core/sealer.ts";

/** As long as the MACs made with it (RFC 2104 §3). */
const LENGTH = 32;

export interface AccessKey {
  /** The keyed hash by which a token is found, in hexadecimal. */
  hashSecret(secret: string): Promise<string>;
  mac(bytes: Bytes): Promise<string>;
  /** Constant time. */
  verifyMac(bytes: Bytes, mac: string): Promise<boolean>;
}

const purposeOf = (clusterId: string): SealPurpose => ({ clusterId, purpose: "access-key", id: "current" });

/** Makes a key. @returns it as sealed text. */
export async function makeAccessKey(sealer: Sealer, clusterId: string, random: Random): Promise<string> {
  const raw = random.bytes(LENGTH);
  const sealed = await sealer.sealSecret(raw, purposeOf(clusterId));
  raw.fill(0);
  return sealed;
}

/** Opens a key. @throws {SealError} `kek_unknown`, `open_failed` */
export async function openAccessKey(sealed: string, sealer: Sealer, clusterId: string): Promise<AccessKey> {
  const raw = await sealer.openSecret(sealed, purposeOf(clusterId));
  const base = await crypto.subtle.importKey("raw", raw, "HKDF", false, ["deriveKey"]);
  raw.fill(0);
  // RFC 5869: one key, two uses, told apart by `info`.
  const derive = (info: string) =>
    crypto.subtle.deriveKey(
      { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(LENGTH), info: utf8(info) },
      base,
      { name: "HMAC", hash: "SHA-256", length: 8 * LENGTH },
      false,
      ["sign", "verify"],
    );
  const [lookup, mac] = await Promise.all([derive("meshca token lookup"), derive("meshca access record mac")]);
  return {
    hashSecret: async (secret) => hex(new Uint8Array(await crypto.subtle.sign("HMAC", lookup, utf8(secret)))),
    mac: async (bytes) => base64(new Uint8Array(await crypto.subtle.sign("HMAC", mac, bytes))),
    async verifyMac(bytes, text) {
      const signature = fromBase64(text);
      return signature !== null && crypto.subtle.verify("HMAC", mac, signature, bytes);
    },
  };
}
