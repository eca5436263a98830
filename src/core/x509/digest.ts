/**
 * The two digests that name things. Synchronous, since a SHA-256 of a public key through WebCrypto
 * costs two to four times as much as here, and one is due for every leaf.
 * @module
 */
import { sha1 as nobleSha1 } from "@noble/hashes/legacy.js";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import type { Bytes } from "../bytes.ts";

// One hasher is set back to its first state for every digest, and works in memory of its own:
// making a hasher, and views of small arrays, costs as much as a short digest.
const FRESH = nobleSha256.create();
const HASHER = FRESH.clone();
const INPUT = new Uint8Array(1024);
const OUTPUT = new Uint8Array(32);

/** SHA-256 (FIPS 180-4), 32 octets. */
export function sha256(bytes: Uint8Array): Bytes {
  if (bytes.length > INPUT.length) return nobleSha256(bytes) as Bytes;
  INPUT.set(bytes);
  FRESH._cloneInto(HASHER).update(INPUT.subarray(0, bytes.length)).digestInto(OUTPUT);
  return OUTPUT.slice();
}

/**
 * SHA-1 (FIPS 180-4), 20 octets: for Consul's root IDs, and for the key identifiers of RFC 5280
 * §4.2.1.2, by which denials may name a key. Never for anything that must be hard to forge.
 */
export function sha1(bytes: Uint8Array): Bytes {
  return nobleSha1(bytes) as Bytes;
}
