/**
 * The one document that is the CA: its configuration, its roots and its sealed keys. All that must
 * change together is in here, so that a change is one commit.
 * @module
 */
import { type ClusterIdentity, defaultTrustDomain } from "./spiffe/trust-domain.ts";
import type { Certificate } from "./x509/certificate.ts";

/**
 * The newest schema that this code reads and writes. A change of the stored form needs a new one,
 * with an upcast in the codec.
 */
export const SCHEMA = 8;

/**
 * Every schema that this code reads, the oldest first. An older one is still written while a
 * replica is alive that reads no newer one.
 * - 1: configuration, roots, provider.
 * - 2: and `ancestors`.
 * - 3: and `leafIssuers` of each root, and `access`.
 * - 4: and `trustDomain`; configurations may have the fields of `FIELDS_SINCE_4`. It is written only
 *   if a state needs it, so that the version before reads every other one.
 * - 5: and `recordSchema` of `access`; written only if a state needs it.
 * - 6: and `datacenter`, `primary` and `intermediates`; configurations may have the
 *   fields of `FIELDS_SINCE_6`; written only if a state needs it.
 * - 7: and `promotions`, prepared roots and `prepared` of the provider; written only if a state needs
 *   it.
 * - 8: and `dropped`; written only if a state needs it.
 */
export const SCHEMAS = [1, 2, 3, 4, 5, 6, 7, SCHEMA] as const;

/** The first schema with `leafIssuers` and `access`. */
export const ACCESS_SCHEMA = 3;
/** The oldest schema that names the datacenter. */
export const DATACENTER_SCHEMA = 6;

/** The first schema with `intermediates`. */
export const INTERMEDIATES_SCHEMA = 6;

/**
 * The fields of a provider's configuration that versions before schema 4 do not know, without
 * underscores and in lower case: such a version cannot read a configuration with an unknown field,
 * and serves nothing then.
 */
const FIELDS_SINCE_4: readonly string[] = ["servicednsnames", "serviceipranges"];

/** Those that versions before schema 6 do not know. */
const FIELDS_SINCE_6: readonly string[] = ["rootautorotate"];

export type Schema = (typeof SCHEMAS)[number];

/**
 * So many ancestors a state names: more changes than an operator makes between two looks of a
 * replica at the store.
 */
export const MAX_ANCESTORS = 64;

/**
 * So many unexpired intermediates of other datacenters a state records: ten datacenters that renew
 * theirs a dozen times within the life of one.
 */
export const MAX_INTERMEDIATES = 128;

/**
 * So many dropped roots a state records, the latest first: more than a mesh drops in the life of a
 * root. Each has about 100 octets in the roots response.
 */
export const MAX_DROPPED = 32;

/**
 * A provider's configuration as an operator wrote it: any keys, secret values replaced by HIDDEN.
 */
export type ConfigMap = Readonly<Record<string, unknown>>;

/** What stands in a configuration for a secret that is kept sealed. */
export const HIDDEN = "hidden";

/**
 * The state of a provider, opaque to the CA. Every secret value is encrypted text (ports/sealer.ts).
 */
export type ProviderState = Readonly<Record<string, string>>;

export interface CaConfig {
  /** The provider's wire name. */
  readonly provider: string;
  /** Null if the operator sent none. */
  readonly config: ConfigMap | null;
  /** As last sent; it has no effect on later changes. */
  readonly forceWithoutCrossSigning: boolean;
  readonly createIndex: number;
  readonly modifyIndex: number;
}

/** A certificate by whose key this cluster signed leaves. */
export interface LeafIssuer {
  readonly certificate: Certificate;
  /** The certificate's subject key identifier in colon hex. */
  readonly keyId: string;
  /**
   * Until when a leaf signed by it can be alive, by the store's clock; null while it signs leaves.
   */
  readonly leavesUntil: Date | null;
}

/**
 * What the CA document records about access control, so that it is protected by the document's MAC
 * and rollback detection.
 */
export interface AccessRecord {
  /** The id of the key under which the records of access control have their MAC. */
  readonly keyId: string;
  /** The accessor ID of the first management token; null before there was one. */
  readonly bootstrapAccessorId: string | null;
  /**
   * 3 once a record has rights that versions before schema 5 do not know, which they would ignore.
   * Absent before.
   */
  readonly recordSchema?: 3 | undefined;
}

/** `prepared`: published, so that clients trust it, and signs nothing yet. */
type RootStatus = "active" | "retired" | "prepared";

export interface RootEntry {
  /** SHA-1 of the DER in colon hex. */
  readonly id: string;
  readonly name: string;
  readonly certificate: Certificate;
  /**
   * Cross-signed certificates. Of the active root: all that a leaf's holder sends along, in path
   * order. Of a retired one: those of its own key, which later rotations build paths from.
   */
  readonly intermediates: readonly Certificate[];
  readonly status: RootStatus;
  /** Since when it has this status, by the store's clock. */
  readonly since: Date;
  /** When it was retired last, by the store's clock; null before. */
  readonly rotatedOutAt: Date | null;
  /** Given up by force: clients with no other root reject new leaves, and its key is destroyed. */
  readonly abandoned: boolean;
  /**
   * Abandoned since its key was lost with the datacenter that had it, not since a key may be stolen:
   * leaves of intermediates under it renew by their own key. Only in schema 7. @default false
   */
  readonly lost?: boolean | undefined;
  /** The issuer's key identifier under this root, in colon hex. */
  readonly signingKeyId: string;
  /**
   * The certificates by which this cluster signed leaves under this root, the latest first, until
   * no leaf of them can be alive: the root itself or an intermediate. Never the issuer of another
   * datacenter.
   */
  readonly leafIssuers: readonly LeafIssuer[];
  /** The largest LeafCertTTL in force since it first was active, in milliseconds. */
  readonly leafTtlMaxMs: number;
  readonly externalTrustDomain: string;
  readonly createIndex: number;
  readonly modifyIndex: number;
}

/** All that is needed to open a provider again. */
export interface ProviderRecord {
  readonly provider: string;
  readonly config: ConfigMap | null;
  readonly state: ProviderState;
}

/** The key of a prepared root, with the configuration that is in use once it is active. */
export interface PreparedRoot extends ProviderRecord {
  readonly rootId: string;
  /** When it becomes active at the earliest, by the store's clock. */
  readonly activateAt: Date;
}

/** The primary datacenter as a secondary one knows it. */
export interface FollowedPrimary {
  readonly datacenter: string;
  /** X-Consul-Index of the roots that this state has. */
  readonly index: number;
  /**
   * LeafCertTTL there, in milliseconds, by which it decides how long it publishes a retired root. Null
   * in schema 6, and if it did not say it.
   */
  readonly leafTtlMs: number | null;
  /**
   * When the intermediate is renewed, if that is not at half of its life: much of it was over when it
   * arrived, since the primary's clock is behind. Null in schema 6.
   */
  readonly renewAt: Date | null;
}

/** A datacenter that was promoted, as a server of another datacenter reported it. */
export interface OtherPrimaryRecord {
  readonly datacenter: string;
  readonly promotions: number;
  /** The datacenter of that server. */
  readonly by: string;
}

/** A certificate that this CA issued for the CA of another datacenter, until it has expired. */
export interface IssuedIntermediate {
  /** In colon hex. */
  readonly serial: string;
  /** SHA-256 of the public key in colon hex. */
  readonly keyId: string;
  /** The root under which it verifies. */
  readonly rootId: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** The accessor ID of the token by which it was requested; null without access control. */
  readonly accessor: string | null;
  /** The address of the peer that requested it, or null. */
  readonly address: string | null;
}

/** A root that an operator dropped since its key may be known to others, until it has expired. */
export interface DroppedRoot {
  /** SHA-1 of the DER in colon hex. */
  readonly id: string;
  /** SHA-256 of the public key in colon hex. */
  readonly keyId: string;
  readonly notAfter: Date;
  /** When this datacenter dropped it, by the store's clock. */
  readonly at: Date;
  /** The roots whose holders still trust the dropped one, by certificates that these roots made. */
  readonly through: readonly TrustedThrough[];
}

/** A published root that certified a dropped one, directly or through others. */
export interface TrustedThrough {
  readonly rootId: string;
  /** When the certificates expire. */
  readonly until: Date;
}

export interface CaState extends ClusterIdentity {
  /**
   * The datacenter whose state this is, by which no other one takes it; null in a deployment of one
   * datacenter, and in schemas below 6.
   */
  readonly datacenter: string | null;
  /** What this datacenter follows; null if it is the primary one. */
  readonly primary: FollowedPrimary | null;
  /**
   * How often a datacenter of this mesh was promoted to the primary one. Of two datacenters that both
   * are the primary one, the one with the higher number is followed. 0 in schemas below 7.
   */
  readonly promotions: number;
  /**
   * The datacenter that is the primary one in place of this primary one, as it was seen; null if there
   * is none, and in schemas below 7.
   */
  readonly otherPrimary: OtherPrimaryRecord | null;
  /** What was issued for the CAs of other datacenters, the latest first. */
  readonly intermediates: readonly IssuedIntermediate[];
  /** The latest first. Empty in schemas below 8. */
  readonly dropped: readonly DroppedRoot[];
  /** The schema that it is stored in. */
  readonly schema: Schema;
  /**
   * 128 random bits in hex: identifies this state even if an index exists twice after lost writes.
   */
  readonly commitId: string;
  /** Grows by one with every commit; ModifyIndex on the wire. */
  readonly index: number;
  /**
   * Commit ids of the states that it came from, the latest first, at most MAX_ANCESTORS: a replica
   * that has seen one of them knows that no write was lost since. Empty in schema 1.
   */
  readonly ancestors: readonly string[];
  /** Null before access control wrote it, and in schemas below 3. */
  readonly access: AccessRecord | null;
  readonly config: CaConfig;
  readonly roots: readonly RootEntry[];
  readonly provider: {
    readonly active: ProviderState;
    /** By root ID: the keys of retired roots, until their roots are pruned. */
    readonly retired: Readonly<Record<string, ProviderRecord>>;
    /** Null if this datacenter has prepared no root. */
    readonly prepared: PreparedRoot | null;
  };
}

/** The active root. @throws {TypeError} if there is none, which no committed state allows. */
export function activeRoot(state: CaState): RootEntry {
  const active = state.roots.find((root) => root.status === "active");
  if (active === undefined) throw new TypeError("State has no active root");
  return active;
}

/** The active provider's record. */
export function activeRecord({ config, provider }: CaState): ProviderRecord {
  return { provider: config.provider, config: config.config, state: provider.active };
}

/** The oldest schema that holds all of a state that must not be lost. */
export function leastSchema(state: CaState): Schema {
  const { access, config, provider, clusterId, trustDomain } = state;
  const configs = [config, ...Object.values(provider.retired)];
  const names = (fields: readonly string[]) =>
    configs.some((each) => namesField(each.config, fields));
  if (state.dropped.length > 0) return 8;
  if (state.promotions > 0 || state.otherPrimary !== null) return 7;
  if (state.roots.some(({ status }) => status === "prepared")) return 7;
  if (state.datacenter !== null || state.intermediates.length > 0) return DATACENTER_SCHEMA;
  if (names(FIELDS_SINCE_6)) return 6;
  if (access?.recordSchema !== undefined) return 5;
  if (names(FIELDS_SINCE_4)) return 4;
  if (trustDomain !== defaultTrustDomain(clusterId)) return 4;
  return access === null ? SCHEMAS[0] : ACCESS_SCHEMA;
}

/**
 * The schema to store a state in.
 * @param newest the newest one that every live replica reads.
 * @returns null if that one cannot hold the state.
 */
export function schemaFor(state: CaState, newest: Schema): Schema | null {
  const least = leastSchema(state);
  if (newest < least) return null;
  const { leafTtlMs = null, renewAt = null } = state.primary ?? {};
  if (newest >= 7 && (leafTtlMs !== null || renewAt !== null)) return Math.max(least, 7) as Schema;
  return least > ACCESS_SCHEMA ? least : (Math.min(newest, ACCESS_SCHEMA) as Schema);
}

function namesField(config: ConfigMap | null, fields: readonly string[]): boolean {
  return Object.keys(config ?? {}).some((key) =>
    fields.includes(key.replaceAll("_", "").toLowerCase()),
  );
}
