/**
 * The sealer port: envelope encryption of keys and secrets at rest, and the MAC of the state
 * document.
 *
 * Sealed text names the key-encryption key it is wrapped with. The purpose and id a secret was
 * sealed for are authenticated: sealed text moved to another place, or to another cluster, does not
 * open. Private keys are wrapped and unwrapped by WebCrypto itself, so that their bytes never pass
 * through this process's objects.
 * @module
 */
import type { Bytes } from "../bytes.ts";

/** What a secret is sealed for. */
export interface SealPurpose {
  readonly clusterId: string;
  /** For example `ca-key`. */
  readonly purpose: string;
  /** For example the key identifier. */
  readonly id: string;
}

export type SealedKeyAlgorithm = EcKeyImportParams | RsaHashedImportParams | Algorithm;

export interface Sealer {
  /** Seals an extractable private key. @throws {SealError} */
  sealKey(key: CryptoKey, purpose: SealPurpose): Promise<string>;
  /**
   * Opens a private key, non-extractable, for signing.
   * @throws {SealError} `kek_unknown`, `open_failed`
   */
  openKey(sealed: string, purpose: SealPurpose, algorithm: SealedKeyAlgorithm): Promise<CryptoKey>;
  /** Seals octets that are a secret, such as what keys are derived from. */
  sealSecret(secret: Bytes, purpose: SealPurpose): Promise<string>;
  /**
   * Opens such a secret; the caller overwrites it once it is used.
   * @throws {SealError} `kek_unknown`, `open_failed`
   */
  openSecret(sealed: string, purpose: SealPurpose): Promise<Bytes>;
  /** Ids of the key-encryption keys that are there, the current one first. */
  readonly keks: readonly string[];
  /**
   * The id of the key-encryption key that a text is sealed with; null for text that is not sealed.
   */
  kekOf(sealed: string): string | null;
  /**
   * Wraps the data key anew with the current key-encryption key; the secret itself is not opened.
   * @throws {SealError}
   */
  rewrap(sealed: string): Promise<string>;
  /** A MAC under a key derived from the current key-encryption key. */
  mac(bytes: Bytes): Promise<string>;
  /** Whether a MAC is right. Constant time. @throws {SealError} `kek_unknown` */
  verifyMac(bytes: Bytes, mac: string): Promise<boolean>;
}
