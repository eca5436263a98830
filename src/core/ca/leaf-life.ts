/**
 * How long a leaf lives: as long as the configuration says, or shorter if its caller asks for that,
 * or if the leaf that it renews lived shorter. And when its holder should renew it.
 * @module
 */
import { equal } from "../bytes.ts";
import { RequestError } from "../errors.ts";
import type { LeafLimits } from "../ports/provider.ts";
import type { CaState } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { type LeafLife, longestLife } from "../x509/leaf.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * A leaf that ends so shortly before its issuer or root was cut by it: Vault's leaves end up to two
 * minutes before, since its clock may differ (providers/vault/leaf.ts).
 */
const CUT_MS = 120_000;

/** The part of its life after which a leaf is to be renewed is drawn between these. */
const [EARLIEST, LATEST] = [0.6, 0.8];

/** The shortest LeafCertTTL (Consul: agent/structs/connect_ca.go), in milliseconds. */
const MIN_LEAF_TTL_MS = 3_600_000;

/**
 * The longest life of a leaf, in milliseconds: LeafCertTTL, in a secondary datacenter at most that of
 * the primary one, which publishes a retired root for as long as its own leaves may need it. A primary
 * that says less than any configuration has does not keep this datacenter from signing.
 */
export function leafTtlOf({ config, state }: Pick<Snapshot, "config" | "state">): number {
  const primaryMs = state.primary?.leafTtlMs ?? Number.POSITIVE_INFINITY;
  return Math.min(config.leafTtlMs, Math.max(primaryMs, MIN_LEAF_TTL_MS));
}

/**
 * Checks a requested lifetime.
 * @param ttlMs from the moment of signing. @param leafTtlMs from `leafTtlOf`.
 * @throws {RequestError} `profile_violation` with the bounds
 */
export function requireTtl(ttlMs: number, leafTtlMs: number, { minTtlMs }: LeafLimits): void {
  if (ttlMs >= minTtlMs && ttlMs <= leafTtlMs) return;
  throw new RequestError(
    "profile_violation",
    `Cannot sign leaf: TTL ${plain(ttlMs)} is out of range: it must be at least ${plain(minTtlMs)} and at most ${plain(leafTtlMs)}, which is LeafCertTTL`,
  );
}

/**
 * How long a leaf lives from the moment when it is signed.
 * @param wanted the requested lifetime, in milliseconds; null for the longest one: with what it is
 * back-dated, LeafCertTTL, as Consul's leaves live.
 * @param renewed the leaf whose holder asks; null for a request with a token.
 */
export function leafLife(
  wanted: number | null,
  leafTtlMs: number,
  { backdateMs }: LeafLimits,
  renewed: RenewedLeaf | null,
): LeafLife {
  const configured = wanted === null ? leafTtlMs - backdateMs : Math.min(wanted, leafTtlMs);
  const ttlMs = Math.min(configured, longestRenewal(renewed, backdateMs));
  return { ttlMs: Math.floor(ttlMs / 1000) * 1000, backdateMs };
}

/** A leaf whose key its holder has proved to have. */
export interface RenewedLeaf {
  readonly leaf: Certificate;
  /** The state by which it was accepted. */
  readonly state: Pick<CaState, "roots">;
}

/**
 * The longest life that a renewal by a leaf's own key gives, from the moment of signing: no leaf gets
 * a longer validity by its own key, so that a short one that is stolen does not become a long one.
 */
function longestRenewal(renewed: RenewedLeaf | null, backdateMs: number): number {
  if (renewed === null) return Number.POSITIVE_INFINITY;
  const { notBefore, notAfter } = renewed.leaf;
  const above = boundsOf(renewed);
  const [from, until] = [notBefore.getTime(), notAfter.getTime()];
  // What it would have lived is unknown. A certificate that ends before the leaf did not cut it: it is
  // an earlier one of the same key.
  const isCut = above.some(({ notAfter: end }) => {
    const left = end.getTime() - until;
    return left >= 0 && left <= CUT_MS;
  });
  if (isCut) return Number.POSITIVE_INFINITY;
  return longestLife(until - from, backdateMs);
}

/** The certificates that bound the validity of a leaf: its issuers by key identifier, and their roots. */
function boundsOf({ leaf, state }: RenewedLeaf): Certificate[] {
  const { authorityKeyId: wanted } = leaf;
  return state.roots.flatMap(({ certificate: root, leafIssuers }) =>
    leafIssuers
      .map(({ certificate }) => certificate)
      .filter(({ subjectKeyId: id }) => id !== null && wanted !== null && equal(id, wanted))
      .flatMap((issuer) => [issuer, root]),
  );
}

/**
 * When a leaf is to be renewed: one instant of the window that RFC 9773 §4.2 suggests to a client, so
 * that leaves signed together are not renewed together. It is drawn from the time between signing and
 * expiry: the time before signing is over already, and a leaf that its issuer cut short may have more
 * of that than of life.
 * @param fraction uniform in [0, 1)
 */
export function renewAfter(signedAt: Date, notAfter: Date, fraction: number): Date {
  const part = EARLIEST + (LATEST - EARLIEST) * fraction;
  return new Date(signedAt.getTime() + part * (notAfter.getTime() - signedAt.getTime()));
}

/** A duration in the largest unit that has it whole. */
function plain(ms: number): string {
  for (const [unit, name] of [
    [3_600_000, "h"],
    [60_000, "min"],
  ] as const)
    if (ms !== 0 && ms % unit === 0) return `${ms / unit} ${name}`;
  return `${ms / 1000} s`;
}
