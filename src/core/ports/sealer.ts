/**
 * The sealer port: envelope encryption of keys and secrets at rest, and the MAC of the state
 * document.
 *
 * The encrypted text names its key-encryption key. Cluster, purpose and id of a secret are
 * authenticated: text that was moved to another place or another cluster cannot be decrypted.
 * Private keys are encrypted and decrypted by WebCrypto itself, so that their bytes never pass
 * through objects of this process.
 * @module
 */
import type { Bytes } from "../bytes.ts";
import type { KeyImportAlgorithm } from "../x509/keys.ts";

/** What a secret is for; the same values are needed to decrypt it. */
export interface SealPurpose {
  readonly clusterId: string;
  /** For example `ca-key`. */
  readonly purpose: string;
  /** For example the key identifier. */
  readonly id: string;
}

export type SealedKeyAlgorithm = KeyImportAlgorithm;

export interface Sealer {
  /** Encrypts an extractable private key. @throws {SealError} */
  sealKey(key: CryptoKey, purpose: SealPurpose): Promise<string>;
  /**
   * Decrypts a private key, non-extractable, for signing.
   * @throws {SealError} `kek_unknown`, `open_failed`
   */
  openKey(sealed: string, purpose: SealPurpose, algorithm: SealedKeyAlgorithm): Promise<CryptoKey>;
  /** Encrypts secret octets, such as key material. */
  sealSecret(secret: Bytes, purpose: SealPurpose): Promise<string>;
  /**
   * Decrypts secret octets, which the caller overwrites after use.
   * @throws {SealError} `kek_unknown`, `open_failed`
   */
  openSecret(sealed: string, purpose: SealPurpose): Promise<Bytes>;
  /**
   * The sealer of another datacenter of the mesh, with the same key-encryption keys.
   * @param datacenter null: of a deployment that had one datacenter.
   */
  of(datacenter: string | null): Sealer;
  /** Ids of the configured key-encryption keys, the current one first. */
  readonly keks: readonly string[];
  /** The id of the key-encryption key of an encrypted text; null for other text. */
  kekOf(sealed: string): string | null;
  /**
   * Encrypts the data key with the current key-encryption key, without decrypting the secret.
   * @throws {SealError}
   */
  rewrap(sealed: string): Promise<string>;
  /** A MAC under a key derived from the current key-encryption key. */
  mac(bytes: Bytes): Promise<string>;
  /** Whether a MAC is valid, in constant time. @throws {SealError} `kek_unknown` */
  verifyMac(bytes: Bytes, mac: string): Promise<boolean>;
}
