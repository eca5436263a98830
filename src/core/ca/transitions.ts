/**
 * Every change of the state, as pure functions from one state to the next. A write stamps one new
 * index on what it changed; all root rows share one, as in Consul (agent/consul/state/connect_ca.go).
 * @module
 */

import { colonHex } from "../bytes.ts";
import type { DeletionTime } from "../deletion-time.ts";
import { InvariantError } from "../errors.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import {
  type AccessRecord,
  activeRecord,
  activeRoot,
  type CaState,
  type ConfigMap,
  type DroppedRoot,
  type FollowedPrimary,
  type IssuedIntermediate,
  type LeafIssuer,
  MAX_ANCESTORS,
  type OtherPrimaryRecord,
  type PreparedRoot,
  type ProviderState,
  type RootEntry,
  SCHEMA,
} from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import {
  crossChainOf,
  crossSignedOf,
  issuerChainOf,
  rootsToReach,
  stillUsefulPrefix,
} from "./cross-chain.ts";
import { presentIssuer, replacedIssuers, withoutEnded } from "./leaf-issuers.ts";
import { confirmMs, isDead, longestConfirmMs } from "./root-removal.ts";
import type { Policy } from "./timing-and-limits.ts";

/** A configuration to be stored, secrets replaced by HIDDEN. */
export interface NewConfig {
  readonly provider: string;
  readonly config: ConfigMap | null;
  readonly forceWithoutCrossSigning: boolean;
}

/** A root about to become active, with the provider state that signs under it. */
export interface NewRoot {
  readonly name: string;
  readonly certificate: Certificate;
  /** The issuer's key identifier. */
  readonly issuerKeyId: Uint8Array;
  /** From the issuer up to below the root. @default none: the root signs leaves itself */
  readonly issuers?: readonly Certificate[];
  readonly state: ProviderState;
}

/** The issuer that signs leaves under a root from now on. */
export interface Issuing extends Pick<NewRoot, "issuerKeyId" | "issuers"> {
  /** The store's clock. */
  readonly now: Date;
}

interface FirstState {
  readonly config: NewConfig;
  /** With index 1. */
  readonly roots: readonly RootEntry[];
  readonly provider: ProviderState;
  /** Null in a primary datacenter. */
  readonly primary: FollowedPrimary | null;
  /** Of the primary datacenter that is followed; 0 in a primary one. */
  readonly promotions: number;
  /** Those that the primary datacenter has dropped; none in a primary one. */
  readonly dropped: readonly DroppedRoot[];
}

/** The first state of a CA. */
export function firstState(
  { clusterId, trustDomain }: ClusterIdentity,
  commitId: string,
  { config, roots, provider, primary, promotions, dropped }: FirstState,
): CaState {
  const index = 1;
  return checked({
    schema: SCHEMA,
    clusterId,
    trustDomain,
    commitId,
    index,
    ancestors: [],
    access: null,
    datacenter: null,
    primary,
    promotions,
    otherPrimary: null,
    intermediates: [],
    dropped,
    config: { ...config, createIndex: index, modifyIndex: index },
    roots,
    provider: { active: provider, retired: {}, prepared: null },
  });
}

/** The first state of a primary datacenter: one root. */
export function bootstrap(
  cluster: ClusterIdentity,
  commitId: string,
  { config, root, leafTtlMs, now }: Pick<Rotation, "config" | "root" | "leafTtlMs" | "now">,
): CaState {
  const roots = [entryOf(root, cluster.clusterId, leafTtlMs, now, 1)];
  return firstState(cluster, commitId, {
    config,
    roots,
    provider: root.state,
    primary: null,
    promotions: 0,
    dropped: [],
  });
}

interface ConfigChange {
  readonly config: NewConfig;
  readonly provider: ProviderState;
  readonly leafTtlMs: number;
  /** @default null: the issuer stays */
  readonly issuing?: Issuing | null;
}

/** A change of configuration that leaves the root as it is. */
export function changeConfig(state: CaState, commitId: string, change: ConfigChange): CaState {
  const { config, provider, leafTtlMs, issuing = null } = change;
  const index = state.index + 1;
  const roots = state.roots.map((root) =>
    root.status === "active"
      ? { ...root, leafTtlMaxMs: Math.max(root.leafTtlMaxMs, leafTtlMs) }
      : root,
  );
  return checked({
    ...after(state, commitId),
    config: { ...config, createIndex: state.config.createIndex, modifyIndex: index },
    roots: issuing === null ? roots : underIssuer(roots, issuing, index),
    provider: { ...state.provider, active: provider },
  });
}

/** A new issuer under the active root. */
export function renewIssuer(
  state: CaState,
  commitId: string,
  provider: ProviderState,
  issuing: Issuing,
): CaState {
  return checked({
    ...after(state, commitId),
    roots: underIssuer(state.roots, issuing, state.index + 1),
    provider: { ...state.provider, active: provider },
  });
}

/** The rows with the issuer of the active root; all of them are stamped if it is a new one. */
function underIssuer(
  roots: readonly RootEntry[],
  { issuerKeyId, issuers = [], now }: Issuing,
  index: number,
): readonly RootEntry[] {
  const signingKeyId = colonHex(issuerKeyId);
  const isSame = (root: RootEntry) =>
    root.signingKeyId === signingKeyId && areSame(issuerChainOf(root), issuers);
  if (roots.some((root) => root.status === "active" && isSame(root))) return roots;
  const under = (root: RootEntry): RootEntry => {
    if (root.status !== "active") return root;
    const leafIssuers = replacedIssuers(root, issuers[0] ?? root.certificate, now);
    return {
      ...root,
      signingKeyId,
      leafIssuers,
      intermediates: [...issuers, ...crossChainOf(root)],
    };
  };
  return stamp(roots.map(under), index);
}

export interface Rotation {
  readonly config: NewConfig;
  readonly root: NewRoot;
  /** The cross-signed certificates of the new root, in path order. */
  readonly chain: readonly Certificate[];
  /** IDs of the roots that force abandons. */
  readonly abandonedRoots: readonly string[];
  readonly leafTtlMs: number;
  readonly now: Date;
}

/** A new root, or one that is still listed, becomes active and the old one is retired. */
export function rotate(state: CaState, commitId: string, rotation: Rotation): CaState {
  const { root, now, abandonedRoots } = rotation;
  const index = state.index + 1;
  const old = activeRoot(state);
  const listed = state.roots.find(({ id }) => id === root.certificate.id);
  const fresh = entryOf(
    root,
    state.clusterId,
    Math.max(rotation.leafTtlMs, listed?.leafTtlMaxMs ?? 0),
    now,
    listed?.createIndex ?? index,
  );
  const roots = state.roots
    .filter(({ id }) => id !== root.certificate.id)
    .map((entry): RootEntry => {
      const abandoned = entry.abandoned || abandonedRoots.includes(entry.id);
      if (entry !== old) return { ...entry, abandoned };
      return retire({ ...entry, abandoned }, now);
    });
  const issuer = root.issuers?.[0] ?? root.certificate;
  const leafIssuers =
    listed === undefined ? fresh.leafIssuers : replacedIssuers(listed, issuer, now);
  const { [root.certificate.id]: _revived, ...kept } = state.provider.retired;
  const retired = Object.entries({ ...kept, [old.id]: activeRecord(state) }).filter(
    ([id]) => !abandonedRoots.includes(id),
  );
  return checked({
    ...after(state, commitId),
    config: { ...rotation.config, createIndex: state.config.createIndex, modifyIndex: index },
    roots: stamp(
      [
        ...roots,
        { ...fresh, leafIssuers, intermediates: [...(root.issuers ?? []), ...rotation.chain] },
      ],
      index,
    ),
    provider: { active: root.state, retired: Object.fromEntries(retired), prepared: null },
  });
}

/** Publishes a root before it signs. @param prepared its key */
export function prepareRoot(
  state: CaState,
  commitId: string,
  { root, leafTtlMs, now }: Pick<Rotation, "root" | "leafTtlMs" | "now">,
  prepared: PreparedRoot,
): CaState {
  const index = state.index + 1;
  const entry: RootEntry = {
    ...entryOf(root, state.clusterId, leafTtlMs, now, index),
    status: "prepared",
    intermediates: [],
    leafIssuers: [],
  };
  return checked({
    ...after(state, commitId),
    roots: stamp([...state.roots, entry], index),
    provider: { ...state.provider, prepared },
  });
}

/** A root that was active until `now`. */
export function retire(root: RootEntry, now: Date): RootEntry {
  return {
    ...root,
    status: "retired",
    since: now,
    rotatedOutAt: now,
    intermediates: crossSignedOf(root),
    leafIssuers: replacedIssuers(root, null, now),
  };
}

/**
 * Merges what two sides have of one root: one that was abandoned since a key may be stolen stays so,
 * also if its key was lost for the other side.
 */
export function abandonedBy(
  one: Pick<RootEntry, "abandoned" | "lost">,
  other: Pick<RootEntry, "abandoned" | "lost">,
): Pick<RootEntry, "abandoned" | "lost"> {
  const isStolen = (root: typeof one) => root.abandoned && root.lost !== true;
  const abandoned = one.abandoned || other.abandoned;
  return { abandoned, lost: abandoned && !isStolen(one) && !isStolen(other) };
}

/** New cross-signed certificates of the active root. @param chain all of them, in path order. */
export function crossAgain(
  state: CaState,
  commitId: string,
  chain: readonly Certificate[],
): CaState {
  const again = (root: RootEntry) =>
    root.status === "active"
      ? { ...root, intermediates: [...issuerChainOf(root), ...chain] }
      : root;
  return checked({
    ...after(state, commitId),
    roots: stamp(state.roots.map(again), state.index + 1),
  });
}

/** Whether there is something for `prune` to do. */
export function prunable(state: CaState, policy: Policy, time: DeletionTime): boolean {
  const { roots } = state;
  return (
    expiredDrops(state, policy, time).length > 0 ||
    roots.some(
      (root) =>
        isDead(root, policy, time) ||
        liveIssuers(root, policy, time).length !== root.leafIssuers.length,
    ) ||
    chainAt(state, policy, time).length !== activeRoot(state).intermediates.length
  );
}

/**
 * Drops dead roots with their keys, cross-signed certificates that have expired or lead to no root
 * that is needed, and the record of issuers without a live leaf. The rows are stamped if a client can
 * see the difference.
 */
export function prune(
  state: CaState,
  commitId: string,
  policy: Policy,
  time: DeletionTime,
): CaState {
  const dead = new Set(
    state.roots.filter((root) => isDead(root, policy, time)).map(({ id }) => id),
  );
  const chain = chainAt(state, policy, time);
  const ended = time.confirmed(longestConfirmMs(state.roots, policy));
  const roots = state.roots
    .filter(({ id }) => !dead.has(id))
    .map((root) => ({
      ...root,
      leafIssuers: liveIssuers(root, policy, time),
      intermediates:
        root.status === "active"
          ? chain
          : root.intermediates.filter((certificate) => certificate.notAfter > ended),
    }));
  const count = (rows: readonly RootEntry[]) =>
    rows.reduce((sum, { intermediates }) => sum + intermediates.length, rows.length);
  const dropped = state.dropped.filter((root) => !expiredDrops(state, policy, time).includes(root));
  const isVisible = count(roots) !== count(state.roots) || dropped.length !== state.dropped.length;
  const retired = Object.entries(state.provider.retired).filter(([id]) => !dead.has(id));
  return checked({
    ...after(state, commitId),
    roots: isVisible ? stamp(roots, state.index + 1) : roots,
    dropped,
    provider: { ...state.provider, retired: Object.fromEntries(retired) },
  });
}

/** The dropped roots that have expired, as looks at the clock have confirmed. */
function expiredDrops(
  { dropped, roots }: CaState,
  policy: Policy,
  time: DeletionTime,
): readonly DroppedRoot[] {
  const ended = time.confirmed(longestConfirmMs(roots, policy));
  return dropped.filter(({ notAfter }) => notAfter < ended);
}

/**
 * The issuers of a root of which a leaf may be alive, as far as looks at the clock have confirmed.
 */
export function liveIssuers(
  root: RootEntry,
  policy: Policy,
  time: DeletionTime,
): readonly LeafIssuer[] {
  return withoutEnded(root.leafIssuers, time.confirmed(confirmMs(root, policy)));
}

/** Replaces the provider states; nothing that a client can see changes. */
export function reseal(state: CaState, commitId: string, provider: CaState["provider"]): CaState {
  return checked({ ...after(state, commitId), provider });
}

/** Replaces the record about access control; nothing that a client can see changes. */
export function recordAccess(state: CaState, commitId: string, access: AccessRecord): CaState {
  return checked({ ...after(state, commitId), access });
}

/** Binds the state to a datacenter; nothing that a client can see changes. */
export function recordDatacenter(state: CaState, commitId: string, datacenter: string): CaState {
  return checked({ ...after(state, commitId), datacenter });
}

/** Replaces the record of another primary datacenter; nothing that a client can see changes. */
export function recordOtherPrimary(
  state: CaState,
  commitId: string,
  otherPrimary: OtherPrimaryRecord | null,
): CaState {
  return checked({ ...after(state, commitId), otherPrimary });
}

/** Replaces the record of issued intermediates; nothing that a client can see changes. */
export function recordIntermediates(
  state: CaState,
  commitId: string,
  intermediates: readonly IssuedIntermediate[],
): CaState {
  return checked({ ...after(state, commitId), intermediates });
}

/** The certificates of the active root that are still needed. */
function chainAt(state: CaState, policy: Policy, time: DeletionTime): readonly Certificate[] {
  const active = activeRoot(state);
  const alive = state.roots.filter((root) => !isDead(root, policy, time));
  const ended = time.confirmed(longestConfirmMs(state.roots, policy));
  return [
    ...issuerChainOf(active),
    ...stillUsefulPrefix(crossChainOf(active), rootsToReach(alive, ended), ended),
  ];
}

function entryOf(
  root: NewRoot,
  clusterId: string,
  leafTtlMaxMs: number,
  now: Date,
  createIndex: number,
): RootEntry {
  return {
    id: root.certificate.id,
    name: root.name,
    certificate: root.certificate,
    intermediates: root.issuers ?? [],
    status: "active",
    since: now,
    rotatedOutAt: null,
    abandoned: false,
    signingKeyId: colonHex(root.issuerKeyId),
    leafIssuers: [presentIssuer(root.issuers?.[0] ?? root.certificate)],
    leafTtlMaxMs,
    externalTrustDomain: clusterId,
    createIndex,
    modifyIndex: createIndex,
  };
}

/** Rows in order of their IDs, which is Consul's order, all with the index of this write. */
export function stamp(roots: readonly RootEntry[], index: number): RootEntry[] {
  return roots
    .map((root) => ({ ...root, modifyIndex: index }))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** Whether two lists have the same certificates in the same order. */
export function areSame(a: readonly Certificate[], b: readonly Certificate[]): boolean {
  return a.length === b.length && a.every(({ id }, i) => id === b[i]?.id);
}

/** The fields that are new in every state that follows another. */
export function after(state: CaState, commitId: string): CaState {
  return {
    ...state,
    commitId,
    index: state.index + 1,
    ancestors: [state.commitId, ...state.ancestors].slice(0, MAX_ANCESTORS),
  };
}

export function checked(state: CaState): CaState {
  if (state.roots.filter(({ status }) => status === "active").length !== 1)
    throw new InvariantError("there must be exactly one active CA");
  if (new Set(state.roots.map(({ id }) => id)).size !== state.roots.length)
    throw new InvariantError("A root is listed twice");
  return state;
}
