/**
 * The response of GET /v1/connect/ca/roots, checked before it is trusted.
 * @module
 */
import * as v from "valibot";
import { colonHex } from "../core/bytes.ts";
import { FormatError } from "../core/errors.ts";
import { MAX_DROPPED } from "../core/state.ts";
import { type Certificate, readCertificate, readCertificatePem } from "../core/x509/certificate.ts";
import { couldHaveIssued } from "../core/x509/chain.ts";
import { keyIdOf } from "../core/x509/keys.ts";
import type { TrustBundle } from "./svid.ts";

/** More roots than any mesh has; each is compared with every leaf. */
const MAX_ROOTS = 100;

const Listing = v.object({
  ActiveRootID: v.string(),
  TrustDomain: v.pipe(v.string(), v.toLowerCase(), v.regex(/^[a-z0-9._-]{1,255}$/)),
  Roots: v.pipe(
    v.array(
      v.object({
        ID: v.string(),
        RootCert: v.string(),
        // It only orders the roots.
        CreateIndex: v.fallback(v.number(), 0),
      }),
    ),
    v.minLength(1),
    v.maxLength(MAX_ROOTS),
  ),
  Dropped: v.optional(
    v.pipe(v.array(v.object({ KeyID: v.string() })), v.maxLength(MAX_DROPPED)),
    [],
  ),
});

export interface RootsListing {
  /** In lower case. */
  readonly trustDomain: string;
  /**
   * Each once, the oldest first by CreateIndex. Some programs read only the first certificate of a
   * file, as Caddy before 2.8 does, and the chains of newer leaves lead to the oldest root.
   */
  readonly roots: readonly Certificate[];
  readonly activeRootId: string;
  /** SHA-256 of the public keys of dropped roots, in colon hex: leaves are not to lead through them. */
  readonly droppedKeys: readonly string[];
}

/**
 * Reads a listing whole, or not at all: with one root left out, peers under it would be refused.
 * @throws {FormatError} with the listing as subject
 */
export function readRootsListing(json: string): RootsListing {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new FormatError("the listing of roots is not JSON");
  }
  const listing = v.safeParse(Listing, parsed);
  if (!listing.success) {
    const path = v.getDotPath(listing.issues[0]);
    throw new FormatError(
      path === "Roots" && isEmptyList(parsed)
        ? "the listing of roots has no root"
        : `the listing of roots has no valid ${path ?? "object"}`,
    );
  }
  const { TrustDomain, ActiveRootID, Roots, Dropped } = listing.output;
  const roots = new Map<string, Certificate>();
  const oldestFirst = Roots.toSorted((a, b) => a.CreateIndex - b.CreateIndex);
  for (const { ID, RootCert } of oldestFirst) roots.set(ID, readRoot(ID, RootCert));
  if (!roots.has(ActiveRootID))
    throw new FormatError("the listing of roots does not have the root that it names as active");
  return {
    trustDomain: TrustDomain,
    roots: [...roots.values()],
    activeRootId: ActiveRootID,
    droppedKeys: Dropped.map(({ KeyID }) => KeyID),
  };
}

/** A bundle for a listing. @param index X-Consul-Index of the response. */
export function bundleOf(listing: RootsListing, json: string, index: number): TrustBundle {
  const { trustDomain, roots, activeRootId } = listing;
  const bundle = { trustDomain, roots: roots.map(({ der }) => der), activeRootId, index, json };
  parsed.set(bundle, roots);
  dropped.set(bundle, new Set(listing.droppedKeys));
  return bundle;
}

const dropped = new WeakMap<TrustBundle, ReadonlySet<string>>();

/**
 * Whether the path from a leaf to the active root leads through a dropped one: whoever has the key of
 * that one could have made the leaf.
 * @param chain the leaf first.
 */
export function leadsThroughDropped(chain: readonly Certificate[], bundle: TrustBundle): boolean {
  const keys = dropped.get(bundle);
  if (keys === undefined || keys.size === 0) return false;
  const active = rootsOf(bundle).find(({ id }) => id === bundle.activeRootId);
  for (const [i, certificate] of chain.entries()) {
    if (i > 0 && keys.has(colonHex(keyIdOf(certificate.key.spki)))) return true;
    if (active !== undefined && couldHaveIssued(active, certificate)) return false;
  }
  return false;
}

const parsed = new WeakMap<TrustBundle, readonly Certificate[]>();

/** The roots of a bundle, parsed once. @throws {FormatError} if one cannot be read */
export function rootsOf(bundle: TrustBundle): readonly Certificate[] {
  const known = parsed.get(bundle) ?? bundle.roots.map((der) => readCertificate(der));
  parsed.set(bundle, known);
  return known;
}

function isEmptyList(listing: unknown): boolean {
  return (
    typeof listing === "object" &&
    listing !== null &&
    "Roots" in listing &&
    Array.isArray(listing.Roots) &&
    listing.Roots.length === 0
  );
}

function readRoot(id: string, pem: string): Certificate {
  const quoted = JSON.stringify(id.slice(0, 80));
  let root: Certificate;
  try {
    root = readCertificatePem(pem);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`the root ${quoted} cannot be read: ${error.message}`);
  }
  // agent/connect/ca: the ID is the SHA-1 of the certificate.
  if (root.id !== id)
    throw new FormatError(`the root ${quoted} has another certificate than its ID`);
  if (!root.isCa) throw new FormatError(`the root ${quoted} is not a CA certificate`);
  return root;
}
