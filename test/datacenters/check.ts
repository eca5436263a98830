/**
 * The invariants of several datacenters, as pure functions from a history to its violations.
 * @module
 */
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { type Certificate, inForce } from "../../src/core/x509/certificate.ts";
import { couldHaveIssued, findPath, isSignedBy } from "../../src/core/x509/chain.ts";
import { certificatesOf } from "../faults/pairs.ts";
import type { LeafRead, ListingRead, MeshHistory, PublishedRoot } from "./history.ts";

export interface MeshViolation {
  readonly rule:
    | "identity-changed"
    | "leaf-unverifiable"
    | "root-unverifiable"
    | "chain-duplicate"
    | "chain-self-signed"
    | "chain-order"
    | "chain-too-long"
    | "root-needed"
    | "index-back"
    | "index-reused"
    | "modify-index-back";
  readonly text: string;
}

/** A leaf with its chain, read. */
interface Presented extends LeafRead {
  readonly leaf: Certificate;
  readonly chain: readonly Certificate[];
}

/** A certificate is valid until then; verifiers differ at that very second. */
const END_MS = 1000;

/** Everything in a history of several datacenters that must not be. */
export async function checkMesh({ reads, leaves }: MeshHistory): Promise<MeshViolation[]> {
  const presented = leaves.map((read): Presented => {
    const [leaf, ...chain] = certificatesOf(read.pem);
    return { ...read, leaf: leaf as Certificate, chain };
  });
  const verifier = new Verifier();
  return [
    ...checkIdentity(reads),
    ...checkIndexes(reads),
    ...(await Promise.all(presented.map(checkChain))).flat(),
    ...(await checkListings(reads, presented, verifier)),
    ...(await checkSingleRoots(reads, presented, verifier)),
    ...(await checkRemovals(reads, presented, verifier)),
  ];
}

/** Verifies by roots, each pair of leaf and root at an instant once. */
class Verifier {
  readonly #known = new Map<string, Promise<boolean>>();
  readonly #roots = new Map<string, Certificate>();

  /** The certificate of a root. */
  certificateOf({ pem }: PublishedRoot): Certificate {
    const found = this.#roots.get(pem) ?? (certificatesOf(pem)[0] as Certificate);
    this.#roots.set(pem, found);
    return found;
  }

  /** Whether a leaf verifies under one root by itself. */
  under({ leaf, chain }: Presented, root: PublishedRoot, at: Date): Promise<boolean> {
    const key = `${leaf.id} ${root.id} ${at.getTime()}`;
    const certificate = this.certificateOf(root);
    const found =
      this.#known.get(key) ?? findPath(leaf, chain, certificate, at).then((path) => path !== null);
    this.#known.set(key, found);
    return found;
  }

  /** Whether a leaf verifies under one of several roots. */
  async underAny(leaf: Presented, roots: readonly PublishedRoot[], at: Date): Promise<boolean> {
    for (const root of roots) if (await this.under(leaf, root, at)) return true;
    return false;
  }
}

/** One trust domain and one cluster id, in every datacenter, for ever. */
function checkIdentity(reads: readonly ListingRead[]): MeshViolation[] {
  const identities = reads.flatMap(({ datacenter, trustDomain, roots }) =>
    roots.map(({ clusterId }) => ({
      datacenter,
      identity: `${trustDomain}, cluster ${clusterId}`,
    })),
  );
  const [first] = identities;
  return identities
    .filter(({ identity }) => identity !== first?.identity)
    .map(({ datacenter, identity }) => ({
      rule: "identity-changed",
      text: `${datacenter} is of ${identity}, and ${first?.datacenter} of ${first?.identity}`,
    }));
}

/** X-Consul-Index and ModifyIndex do not go back, and an index stands for one listing. */
function checkIndexes(reads: readonly ListingRead[]): MeshViolation[] {
  const found: MeshViolation[] = [];
  const listings = new Map(reads.map((read) => [read, listingOf(read)]));
  for (const [i, read] of reads.entries()) {
    const { datacenter, replica, index } = read;
    const isLater = (other: ListingRead) => other.begin >= read.end && other.replica === replica;
    const later = reads.slice(i + 1);
    const back = later.find((other) => isLater(other) && other.index < index);
    if (back !== undefined)
      found.push({
        rule: "index-back",
        text: `${replica} answered with index ${index}, and later with ${back.index}`,
      });
    const twin = later.find(
      (other) =>
        other.datacenter === datacenter &&
        other.index === index &&
        listings.get(other) !== listings.get(read),
    );
    if (twin !== undefined)
      found.push({
        rule: "index-reused",
        text: `${datacenter} answered with index ${index} and two listings of roots`,
      });
    for (const root of read.roots) {
      const isBack = later.filter(isLater).some(({ roots }) => {
        const same = roots.find(({ id }) => id === root.id);
        return same !== undefined && same.modifyIndex < root.modifyIndex;
      });
      if (isBack || root.modifyIndex > index)
        found.push({
          rule: "modify-index-back",
          text: `${replica}: the ModifyIndex ${root.modifyIndex} of root ${root.id} at index ${index} went back, or is above the index`,
        });
    }
  }
  return found;
}

const listingOf = ({ activeRootId, roots }: ListingRead): string =>
  JSON.stringify([activeRootId, roots.map(({ id }) => id).toSorted()]);

/** A chain is in path order, without duplicates and self-signed certificates, and bounded. */
async function checkChain({ datacenter, pem, leaf, chain }: Presented): Promise<MeshViolation[]> {
  const found: MeshViolation[] = [];
  const fault = (rule: MeshViolation["rule"], text: string) =>
    found.push({ rule, text: `A leaf of ${datacenter}: ${text}` });
  if (new Set([leaf, ...chain].map(({ id }) => id)).size !== chain.length + 1)
    fault("chain-duplicate", "its chain has a certificate twice");
  let last = leaf;
  for (const [i, certificate] of chain.entries()) {
    const isSelfSigned =
      couldHaveIssued(certificate, certificate) && (await isSignedBy(certificate, certificate));
    if (isSelfSigned)
      fault("chain-self-signed", `certificate ${i + 1} of its chain is self-signed`);
    if (!couldHaveIssued(certificate, last) || !(await isSignedBy(last, certificate)))
      fault("chain-order", `certificate ${i + 1} of its chain did not issue the one before`);
    last = certificate;
  }
  const { maxChainLength, maxChainBytes } = DEFAULT_POLICY;
  if (chain.length + 1 > maxChainLength || pem.length > maxChainBytes)
    fault("chain-too-long", `${chain.length + 1} certificates of ${pem.length} octets`);
  return found;
}

/**
 * A leaf verifies under every listing that a client of any datacenter may have while it is alive: a
 * client has fetched the roots since it got its own leaf.
 */
async function checkListings(
  reads: readonly ListingRead[],
  leaves: readonly Presented[],
  verifier: Verifier,
): Promise<MeshViolation[]> {
  const found: MeshViolation[] = [];
  for (const read of distinctListings(reads)) {
    const livesMs = leaves
      .filter(({ datacenter }) => datacenter === read.datacenter)
      .map(({ leaf, at }) => leaf.notAfter.getTime() - at.getTime());
    const usedUntil = read.lastAt.getTime() + Math.max(0, ...livesMs);
    for (const leaf of leaves) {
      const from = Math.max(read.at.getTime(), leaf.at.getTime());
      const to = Math.min(usedUntil, leaf.leaf.notAfter.getTime()) - END_MS;
      if (from > to) continue;
      for (const time of [from, to]) {
        const at = new Date(time);
        if (await verifier.underAny(leaf, read.roots, at)) continue;
        found.push({
          rule: "leaf-unverifiable",
          text: `a leaf of ${leaf.datacenter} does not verify at ${at.toISOString()} under the roots that ${read.datacenter} published with index ${read.index}`,
        });
        break;
      }
    }
  }
  return found;
}

/** Each listing of a datacenter once, as it was read first, with when it was read last. */
function distinctListings(reads: readonly ListingRead[]) {
  const found = new Map<string, ListingRead & { lastAt: Date }>();
  for (const read of reads) {
    const key = `${read.datacenter} ${listingOf(read)}`;
    const known = found.get(key);
    if (known === undefined) found.set(key, { ...read, lastAt: read.at });
    else known.lastAt = read.at;
  }
  return found.values();
}

/**
 * A leaf verifies under each root by itself that every datacenter, and its own server, published before:
 * a client may have fetched it when it was the only one. A root that one datacenter has removed was
 * another one's only root too long ago.
 */
async function checkSingleRoots(
  reads: readonly ListingRead[],
  leaves: readonly Presented[],
  verifier: Verifier,
): Promise<MeshViolation[]> {
  const found: MeshViolation[] = [];
  const datacenters = [...new Set(reads.map(({ datacenter }) => datacenter))];
  for (const leaf of leaves) {
    const before = reads.filter(({ end }) => end <= leaf.begin);
    const own = before.findLast(({ replica }) => replica === leaf.replica);
    const latest = datacenters.map((name) =>
      before.findLast(({ datacenter }) => datacenter === name),
    );
    const everywhere = (own?.roots ?? []).filter(({ id }) =>
      latest.every((read) => read?.roots.some((root) => root.id === id) === true),
    );
    for (const root of everywhere) {
      const certificate = verifier.certificateOf(root);
      if (!inForce(certificate, leaf.at) || (await verifier.under(leaf, root, leaf.at))) continue;
      found.push({
        rule: "root-unverifiable",
        text: `a leaf of ${leaf.datacenter} does not verify under root ${root.id} by itself, which every datacenter published before`,
      });
    }
  }
  return found;
}

/** A root leaves the listing of a datacenter only when no leaf of that datacenter needs it. */
async function checkRemovals(
  reads: readonly ListingRead[],
  leaves: readonly Presented[],
  verifier: Verifier,
): Promise<MeshViolation[]> {
  const found: MeshViolation[] = [];
  const last = new Map<string, ListingRead>();
  for (const read of reads) {
    const gone = (last.get(read.replica)?.roots ?? []).filter(
      ({ id }) => !read.roots.some((root) => root.id === id),
    );
    last.set(read.replica, read);
    for (const root of gone)
      for (const leaf of leaves) {
        const isAlive = leaf.at <= read.at && leaf.leaf.notAfter > read.at;
        if (
          leaf.datacenter === read.datacenter &&
          isAlive &&
          (await verifier.under(leaf, root, read.at)) &&
          !(await verifier.underAny(leaf, read.roots, read.at))
        )
          found.push({
            rule: "root-needed",
            text: `${read.datacenter} removed root ${root.id} at index ${read.index}, and a live leaf of it verifies under no other`,
          });
      }
  }
  return found;
}
