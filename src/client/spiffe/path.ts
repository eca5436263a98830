/**
 * Finds a path from a leaf to a trust anchor (RFC 5280 §6.1), with backtracking: cross-signed
 * certificates have the name and key of a root, so the first that fits may lead nowhere.
 * @module
 */
import { equal } from "../../core/bytes.ts";
import { readOrNull } from "../../core/errors.ts";
import { extensionFault } from "../../core/x509/ca-extensions.ts";
import {
  type Certificate,
  type CertificateExtension,
  inForce,
} from "../../core/x509/certificate.ts";
import { couldHaveIssued, isSignedBy, sameAuthority } from "../../core/x509/chain.ts";
import { pathConstraintFaults } from "../../core/x509/constraint-faults.ts";
import { readNameConstraints } from "../../core/x509/name-constraints.ts";
import { OID } from "../../core/x509/oids.ts";
import { namesIssuer } from "../../core/x509/usable-ca.ts";

/** Certificates of a path, the root included: more than any chain within meshca's bounds has. */
const MAX_PATH = 12;
/** Certificates that a peer may send next to its leaf. */
export const MAX_INTERMEDIATES = 32;
/** Signatures that one search verifies, against chains made to be expensive. */
const MAX_SIGNATURES = 64;

/** The critical extensions that are processed (RFC 5280 §4.2). */
const PROCESSED: readonly string[] = [
  OID.basicConstraints,
  OID.keyUsage,
  OID.subjectAltName,
  OID.extKeyUsage,
  // RFC 5280 §6.1.1: every policy is accepted, and none is required.
  OID.certificatePolicies,
];

interface Search {
  readonly intermediates: readonly Certificate[];
  readonly roots: readonly Certificate[];
  readonly at: Date;
  signatures: number;
}

/**
 * Finds a path.
 * @param intermediates as the peer sent them, in any order.
 * @param roots trust anchors; of them only name, key, constraints and validity count.
 * @param at the instant at which each certificate must be in force.
 * @returns leaf first, root last, or null if there is none.
 */
export async function findTrustPath(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  roots: readonly Certificate[],
  at: Date,
): Promise<readonly Certificate[] | null> {
  if (!isUsable(leaf, at) || intermediates.length > MAX_INTERMEDIATES) return null;
  const search: Search = {
    intermediates: intermediates.filter((candidate) => isUsable(candidate, at)),
    roots: roots.filter((candidate) => isUsable(candidate, at)),
    at,
    signatures: 0,
  };
  return extend([leaf], search);
}

/** Extends a path upwards: by each root that fits, then by each intermediate. */
async function extend(
  path: readonly Certificate[],
  search: Search,
): Promise<readonly Certificate[] | null> {
  const last = path.at(-1) as Certificate;
  for (const root of search.roots) {
    const whole = [...path, root];
    if ((await issued(root, last, path, search)) && allowsNames(whole)) return whole;
  }
  // With one more, and a root.
  if (path.length + 2 > MAX_PATH) return null;
  for (const candidate of search.intermediates) {
    if (path.some((passed) => sameAuthority(passed, candidate))) continue;
    if (!(await issued(candidate, last, path, search))) continue;
    const found = await extend([...path, candidate], search);
    if (found !== null) return found;
  }
  return null;
}

async function issued(
  issuer: Certificate,
  subject: Certificate,
  path: readonly Certificate[],
  search: Search,
): Promise<boolean> {
  if (!couldHaveIssued(issuer, subject) || !namesIssuer(subject, issuer)) return false;
  if (issuer.pathLength !== null && issuer.pathLength < intermediatesIn(path)) return false;
  search.signatures++;
  return search.signatures <= MAX_SIGNATURES && isSignedBy(subject, issuer);
}

/** RFC 5280 §4.2.1.9: self-issued certificates do not count, nor does the leaf. */
function intermediatesIn(path: readonly Certificate[]): number {
  return path.slice(1).filter(({ issuer, subject }) => !equal(issuer, subject)).length;
}

function isUsable(certificate: Certificate, at: Date): boolean {
  return inForce(certificate, at) && refusedExtension(certificate) === null;
}

/** The extension for which a certificate is on no path, or null. */
export function refusedExtension({ extensions }: Certificate): CertificateExtension | null {
  return extensions.find((extension) => !isProcessed(extension)) ?? null;
}

/**
 * Whether an extension is processed, or may be ignored. One that cannot be read is neither: name
 * constraints forbid everything then (RFC 5280 §4.2.1.10), and OpenSSL and Go refuse any other.
 */
function isProcessed(extension: CertificateExtension): boolean {
  const { oid, critical, value } = extension;
  if (oid === OID.nameConstraints) return readOrNull(() => readNameConstraints(value)) !== null;
  return extensionFault(extension) === null && (!critical || PROCESSED.includes(oid));
}

const NO_MORE = { dnsNames: [], ipAddresses: [] };

function allowsNames(path: readonly Certificate[]): boolean {
  return pathConstraintFaults(path, NO_MORE).length === 0;
}
