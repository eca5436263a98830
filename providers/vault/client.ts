/**
 * The calls to Vault that meshca makes, typed: what the provider, and sealing with Transit, are
 * written against.
 *
 * All of them log in first where there is no token yet, ask once more where a read found no answer,
 * and throw `VaultError` or `RateLimitedError`. What changes something in Vault is sent once: after
 * `unreachable`, `timeout` or `failing` it may have happened, and the caller looks. Nothing here
 * remembers what Vault said.
 * @module
 */
import type { CaKeySpec } from "../../src/core/x509/keys.ts";

/** Where an engine is mounted. */
export interface Mount {
  /** Without a slash at either end. */
  readonly path: string;
  /** Absolute; empty: the root namespace. */
  readonly namespace: string;
}

export interface MountInfo {
  /** `pki` for ours. */
  readonly type: string;
  readonly description: string;
  /** Names this very mount: another one at the same path has another. */
  readonly accessor: string;
  /** Absent in servers that do not have it. */
  readonly uuid: string | null;
  /** Zero: the system's own limit. */
  readonly maxLeaseTtlMs: number;
  readonly defaultLeaseTtlMs: number;
}

export interface MountRequest {
  readonly type: "pki" | "transit";
  readonly description: string;
  readonly maxLeaseTtlMs: number | null;
  readonly defaultLeaseTtlMs: number | null;
}

/** The names in a CA certificate or its request. */
export interface CaSubject {
  readonly commonName: string;
  readonly uriSans: readonly string[];
  readonly keySpec: CaKeySpec;
  /** Names the key in Vault, so that what a crash leaves is recognised; null: none. */
  readonly keyName: string | null;
  /** Names the issuer; null: none. */
  readonly issuerName: string | null;
}

export interface RootRequest extends CaSubject {
  /** Null: what the mount has as default. */
  readonly ttlMs: number | null;
}

/** A certificate that Vault made, with what it said of it. PEM ends with a newline. */
export interface Issued {
  readonly certificate: string;
  /** In Vault's order, the certificate itself not among them. */
  readonly chain: readonly string[];
  /** For example that a lifetime was cut. Of operators' interest, without secrets. */
  readonly warnings: readonly string[];
}

export interface GeneratedRoot extends Issued {
  /** Null in Vault before 1.11. */
  readonly issuerId: string | null;
  readonly keyId: string | null;
}

export interface GeneratedRequest {
  readonly csr: string;
  /** Null in Vault before 1.11. */
  readonly keyId: string | null;
}

export interface SetSigned {
  /**
   * Issuer id to the id of its key, which is empty where Vault has none; null in Vault before 1.11.
   */
  readonly mapping: Readonly<Record<string, string>> | null;
  readonly importedIssuers: readonly string[];
  readonly existingIssuers: readonly string[];
}

export interface SignIntermediateRequest {
  readonly csr: string;
  readonly ttlMs: number;
  /** Null: no limit is set. */
  readonly maxPathLength: number | null;
}

export interface IssuerListing {
  readonly id: string;
  readonly name: string;
  /** Empty: Vault has no key for it. */
  readonly keyId: string;
  readonly isDefault: boolean;
}

export interface Issuer {
  readonly id: string;
  readonly name: string;
  /** Empty: Vault has no key for it. */
  readonly keyId: string;
  readonly certificate: string;
  readonly chain: readonly string[];
  readonly leafNotAfterBehavior: string;
  readonly usage: string;
}

export interface KeyListing {
  readonly id: string;
  readonly name: string;
}

export interface IssuersConfig {
  /** Empty: there is none. */
  readonly default: string;
  readonly defaultFollowsLatest: boolean;
}

export interface SignLeafRequest {
  readonly role: string;
  /** Null: the mount's default issuer. */
  readonly issuerId: string | null;
  readonly csr: string;
  readonly uriSans: readonly string[];
  /** @default none */
  readonly dnsNames?: readonly string[];
  /** As text. @default none */
  readonly ipAddresses?: readonly string[];
  readonly ttlMs: number;
}

export interface Health {
  readonly initialized: boolean;
  readonly sealed: boolean;
  readonly standby: boolean;
  readonly version: string;
  /**
   * Names this cluster of servers, by whatever address it is asked; null where it does not say, as
   * while it is sealed.
   */
  readonly clusterId: string | null;
}

/** What is known of the token. */
export interface TokenStatus {
  readonly state: "none" | "valid" | "renewing" | "failing" | "closed";
  /** False as long as nothing is known. */
  readonly renewable: boolean;
  /** Null: it does not expire, or nothing is known yet. */
  readonly expiresAt: Date | null;
  readonly renewedAt: Date | null;
  /** Why the last renewal or login failed, and since when; null where it did not. */
  readonly failure: { readonly message: string; readonly since: Date } | null;
}

/** One role or issuer as Vault has it, by its own names. */
export type Fields = Readonly<Record<string, unknown>>;

export interface VaultClient {
  /** Logs in, and looks whether the token is one. @throws {VaultError} */
  connect(): Promise<void>;
  readonly token: TokenStatus;
  /**
   * What is wrong with the files that the configuration names, a line each. They are read for it,
   * now.
   */
  readonly fileFaults: readonly string[];

  /** Never refused, whatever the token may do; sealed is an answer. */
  health(): Promise<Health>;
  /**
   * What the token may do at each path; paths as in policies, without a leading slash.
   * @returns capabilities by path.
   */
  capabilities(
    namespace: string,
    paths: readonly string[],
  ): Promise<ReadonlyMap<string, readonly string[]>>;

  /** Null where nothing is mounted. */
  readMount(mount: Mount): Promise<MountInfo | null>;
  /** @throws {VaultError} `refused` where something is mounted there already */
  enableMount(mount: Mount, request: MountRequest): Promise<void>;
  /** Deletes an engine with all that is in it. Success where nothing is mounted. */
  disableMount(mount: Mount): Promise<void>;

  /**
   * The default issuer's certificate; null where the mount has none.
   * @throws {VaultError} `mount_missing`, or `denied` for a token without a rule
   */
  readCa(mount: Mount): Promise<string | null>;
  /** The default issuer's chain as PEM, itself first; null where there is none. */
  readCaChain(mount: Mount): Promise<string | null>;
  /**
   * Adds a root whose key never leaves Vault. It becomes the default issuer only where there was
   * none.
   */
  generateRoot(mount: Mount, request: RootRequest): Promise<GeneratedRoot>;
  /** Adds a root beside the present one; the default stays. */
  rotateRoot(mount: Mount, request: RootRequest): Promise<GeneratedRoot>;
  /** A key that never leaves Vault, and a request for it. */
  generateIntermediate(
    mount: Mount,
    subject: Omit<CaSubject, "issuerName">,
  ): Promise<GeneratedRequest>;
  /** Imports what a request of this mount became, with the chain above it. */
  setSigned(mount: Mount, pem: string): Promise<SetSigned>;
  /**
   * Signs a CA certificate with the names of its request.
   * @param issuerId null: the default issuer.
   */
  signIntermediate(
    mount: Mount,
    issuerId: string | null,
    request: SignIntermediateRequest,
  ): Promise<Issued>;
  /**
   * Certifies a self-signed CA certificate by an issuer; serial and lifetime stay. By the path of
   * the issuer, which needs no sudo, or, with null, by `root/sign-self-issued`, which does.
   */
  signSelfIssued(mount: Mount, issuerId: string | null, pem: string): Promise<Issued>;
  /** @returns PEM */
  signLeaf(mount: Mount, request: SignLeafRequest): Promise<string>;

  listIssuers(mount: Mount): Promise<readonly IssuerListing[]>;
  /** By id or name, or `default`; null where there is none. */
  readIssuer(mount: Mount, ref: string): Promise<Issuer | null>;
  updateIssuer(mount: Mount, ref: string, fields: Fields): Promise<void>;
  /** Success where there is none. */
  deleteIssuer(mount: Mount, ref: string): Promise<void>;
  listKeys(mount: Mount): Promise<readonly KeyListing[]>;
  /** Success where there is none. @throws {VaultError} `refused` where an issuer uses it */
  deleteKey(mount: Mount, ref: string): Promise<void>;
  readIssuersConfig(mount: Mount): Promise<IssuersConfig>;
  /** Makes an issuer the default; what else the configuration says stays. */
  setDefaultIssuer(mount: Mount, issuerId: string): Promise<void>;
  /** Null where there is none. */
  readRole(mount: Mount, role: string): Promise<Fields | null>;
  writeRole(mount: Mount, role: string, fields: Fields): Promise<void>;
  /** Success where there is none. */
  deleteRole(mount: Mount, role: string): Promise<void>;

  /** Decrypts by a Transit key. @returns base64. */
  transitDecrypt(mount: Mount, key: string, ciphertext: string): Promise<string>;
  /** Encrypts by a Transit key. @param plaintext base64. @returns `vault:v1:...` */
  transitEncrypt(mount: Mount, key: string, plaintext: string): Promise<string>;
  /** Encrypts anew by the key's latest version, inside Vault. */
  transitRewrap(mount: Mount, key: string, ciphertext: string): Promise<string>;

  /**
   * Revokes the token where a login of ours made it. Best effort: used when a configuration is left
   * for good.
   */
  revoke(): Promise<void>;
  /** Ends renewals and connections. Calls under way end by themselves. */
  close(): void;
}
