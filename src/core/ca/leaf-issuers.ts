/**
 * The issuers of this cluster's leaves under each root, and for how long a leaf of them can be valid.
 * The record decides which leaves are ours, and so which may be renewed.
 * @module
 */
import { colonHex } from "../bytes.ts";
import { ProviderError } from "../errors.ts";
import type { ProviderTypes } from "../ports/provider.ts";
import type { CaState, LeafIssuer, ProviderRecord, RootEntry } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued } from "../x509/chain.ts";
import { issuerChainOf } from "./cross-chain.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

/**
 * After this many times the largest leaf life every leaf of a replaced issuer has expired: one for
 * the leaf itself; a replica that has not read of the replacement yet signs for up to
 * `maxStalenessMs`, at most half of one (timing-and-limits.ts).
 */
const LEAF_LIVES = 2;

/**
 * The record of the present issuer.
 * @param certificate with a subject key identifier.
 */
export function presentIssuer(certificate: Certificate): LeafIssuer {
  return {
    certificate,
    keyId: colonHex(certificate.subjectKeyId ?? new Uint8Array()),
    leavesUntil: null,
  };
}

/** When every leaf of an issuer has expired that signed the last one at `since`, by the store's clock. */
function leavesUntil(certificate: Certificate, leafTtlMaxMs: number, since: Date): Date {
  return new Date(
    Math.min(since.getTime() + LEAF_LIVES * leafTtlMaxMs, certificate.notAfter.getTime()),
  );
}

/**
 * The record after the present issuer was replaced.
 * @param next the new issuer; null if the root was retired.
 * @param now the store's clock.
 */
export function replacedIssuers(
  root: Pick<RootEntry, "leafIssuers" | "leafTtlMaxMs">,
  next: Certificate | null,
  now: Date,
): LeafIssuer[] {
  const earlier = root.leafIssuers
    .filter(({ certificate }) => certificate.id !== next?.id)
    .map((issuer) => ({
      ...issuer,
      leavesUntil: issuer.leavesUntil ?? leavesUntil(issuer.certificate, root.leafTtlMaxMs, now),
    }));
  // Issuers whose leaves have expired stay until a prune: this clock may be ahead for a moment.
  return [...(next === null ? [] : [presentIssuer(next)]), ...earlier];
}

/**
 * The issuers of which a leaf can still be valid.
 * @param confirmed an instant that is past by all readings of the store's clock (deletion-time.ts).
 */
export function withoutEnded(
  issuers: readonly LeafIssuer[],
  confirmed: Date,
): readonly LeafIssuer[] {
  return issuers.filter(({ leavesUntil: until }) => until === null || until >= confirmed);
}

/** Merges the records of one root in two states: of each issuer the later end. */
export function unitedIssuers(
  one: readonly LeafIssuer[],
  other: readonly LeafIssuer[],
): LeafIssuer[] {
  const end = ({ leavesUntil: until }: LeafIssuer) => until?.getTime() ?? Infinity;
  const byEnd = [...one, ...other].toSorted((a, b) => end(a) - end(b));
  const united = new Map(byEnd.map((issuer) => [issuer.certificate.id, issuer]));
  return [...united.values()].toReversed();
}

/** The first schema that stores the record. */
const RECORDED_FROM = 3;

/** A root of schemas 1 and 2. */
type RootWithoutIssuers = Omit<RootEntry, "leafIssuers">;

/**
 * The roots of a state that was stored without the record: of each root the last issuer, if the state
 * has its certificate. Earlier issuers are unknown.
 */
export function withDerivedIssuers(roots: readonly RootWithoutIssuers[]): RootEntry[] {
  const known = roots.flatMap((root) => [root.certificate, ...root.intermediates]);
  return roots.map((root) => {
    const issuer =
      root.status === "active"
        ? (issuerChainOf(root)[0] ?? root.certificate)
        : lastIssuer(root, known);
    return issuer === undefined ? { ...root, leafIssuers: [] } : withLastIssuer(root, issuer);
  });
}

function withLastIssuer(root: RootWithoutIssuers, issuer: Certificate): RootEntry {
  const until =
    root.status === "active"
      ? null
      : leavesUntil(issuer, root.leafTtlMaxMs, root.rotatedOutAt ?? root.since);
  return { ...root, leafIssuers: [{ ...presentIssuer(issuer), leavesUntil: until }] };
}

/**
 * Completes the derived record of a state that was stored without one: only the provider's state of a
 * retired root has the certificate of its intermediate.
 */
export function withKeptIssuers(state: CaState, types: ProviderTypes): CaState {
  if (state.schema >= RECORDED_FROM) return state;
  const roots = state.roots.map((root) => {
    const record = state.provider.retired[root.id];
    if (root.leafIssuers.length > 0 || root.status === "active" || record === undefined)
      return root;
    const certificate = keptIssuer(record, types);
    if (certificate === null || presentIssuer(certificate).keyId !== root.signingKeyId) return root;
    return withLastIssuer(root, certificate);
  });
  return { ...state, roots };
}

function keptIssuer({ provider, state }: ProviderRecord, types: ProviderTypes): Certificate | null {
  try {
    return types.get(provider)?.issuerOf?.(state) ?? null;
  } catch (error) {
    // A leaf of that root then needs a token for its renewal; nothing else depends on it.
    if (error instanceof ProviderError) return null;
    throw error;
  }
}

/** The last issuer of a retired root. */
function lastIssuer(
  { certificate, signingKeyId }: RootWithoutIssuers,
  known: readonly Certificate[],
): Certificate | undefined {
  const signs = ({ subjectKeyId }: Certificate) =>
    subjectKeyId !== null && colonHex(subjectKeyId) === signingKeyId;
  return signs(certificate)
    ? certificate
    : known.find((other) => signs(other) && couldHaveIssued(certificate, other));
}

/** By how much a remotely signed leaf may outlive its request: the signer's clock may be ahead. */
const REMOTE_EXCESS_MS = 60_000;

/**
 * In how many milliseconds every leaf has expired that some replica may still sign without knowing
 * of a change made now. A denylist entry has to outlast it. It is the longest leaf life of the
 * configuration and of every published root, plus the time for which a replica may sign without an
 * answer of the store, the skew of two clocks, and the wait of a request in the queue.
 */
export function maxLeafLifeMs(
  { state, config }: Pick<Snapshot, "state" | "config">,
  policy: Policy,
): number {
  const longest = Math.max(
    config.leafTtlMs,
    ...state.roots.map(({ leafTtlMaxMs }) => leafTtlMaxMs),
  );
  const unaware = Math.max(policy.maxStalenessMs ?? 0, policy.maxAgeMs ?? 0, policy.replicaTtlMs);
  const queued = policy.maxQueueMs / (1 - policy.renewalShare);
  return longest + unaware + 2 * policy.maxClockSkewMs + queued + REMOTE_EXCESS_MS;
}
