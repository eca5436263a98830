/**
 * Validates the X509-SVID of a peer (SPIFFE X509-SVID §5).
 * @module
 */
import { FormatError, RequestError } from "../../core/errors.ts";
import { requireSegment, splitSpiffeUri } from "../../core/spiffe/id.ts";
import {
  type Certificate,
  inForce,
  KEY_USAGE,
  readCertificate,
} from "../../core/x509/certificate.ts";
import { ClientError } from "../errors.ts";
import { rootsOf } from "../roots-listing.ts";
import type { TrustBundle } from "../svid.ts";
import { findTrustPath } from "./path.ts";

/** A peer that was validated. */
interface VerifiedPeer {
  /** In canonical form. */
  readonly spiffeId: string;
  /** Leaf first, root last. */
  readonly path: readonly Certificate[];
}

/**
 * Validates a chain that a peer presented, after the TLS handshake proved its key.
 * @param chain DER, the leaf first. @param bundle of the peer's trust domain.
 * @param expectedIds canonical SPIFFE IDs, one of which the peer must have; null for any of the trust
 * domain: the caller decides then.
 * @throws {ClientError} `unusable` with what is wrong
 */
export async function verifyPeer(
  chain: readonly Uint8Array[],
  bundle: TrustBundle,
  expectedIds: readonly string[] | null,
  now: Date,
): Promise<VerifiedPeer> {
  const [leaf, ...intermediates] = chain.map(readOne);
  if (leaf === undefined) throw refused("The peer sent no certificate");
  const spiffeId = svidId(leaf, bundle.trustDomain);
  if (expectedIds !== null && !expectedIds.includes(spiffeId))
    throw refused(`The peer is ${JSON.stringify(spiffeId)}, which is not expected here`);
  if (!inForce(leaf, now)) throw refused(`The certificate of the peer ${timeFault(leaf, now)}`);
  const path = await findTrustPath(leaf, intermediates, rootsOf(bundle), now);
  if (path === null)
    throw refused(
      `The certificate of the peer does not verify under a root of ${JSON.stringify(bundle.trustDomain)}`,
    );
  return { spiffeId, path };
}

/**
 * The SPIFFE ID of a leaf (SPIFFE X509-SVID §2 to §4 and §5.2): exactly one URI, which is an ID of the
 * trust domain with a path; not a CA; a key that signs handshakes and neither certificates nor
 * revocation lists.
 * @returns it in canonical form.
 * @throws {ClientError} `unusable`
 */
export function svidId(leaf: Certificate, trustDomain: string): string {
  const [uri, ...more] = leaf.uris;
  if (uri === undefined || more.length > 0)
    throw refused(`The certificate has ${leaf.uris.length} URIs in place of one SPIFFE ID`);
  const id = canonicalId(uri);
  if (id.trustDomain !== trustDomain)
    throw refused(`The certificate is of the trust domain ${JSON.stringify(id.trustDomain)}`);
  if (id.isTrustDomain) throw refused("The certificate has the SPIFFE ID of a trust domain itself");
  if (leaf.isCa) throw refused("The certificate is a CA certificate");
  if (leaf.keyUsage === null || (leaf.keyUsage & KEY_USAGE.digitalSignature) === 0)
    throw refused("The certificate has no key usage that allows signing handshakes");
  if ((leaf.keyUsage & (KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)) !== 0)
    throw refused("The certificate has a key usage that only CA certificates have");
  return id.text;
}

/** Why a certificate is not in force, as the predicate of a sentence. */
export function timeFault({ notBefore, notAfter }: Certificate, now: Date): string {
  return notBefore.getTime() > now.getTime()
    ? `is not valid before ${notBefore.toISOString()}, and it is ${now.toISOString()} by the clock of this machine`
    : `expired at ${notAfter.toISOString()}`;
}

function canonicalId(uri: string): { text: string; trustDomain: string; isTrustDomain: boolean } {
  try {
    const { trustDomain, segments } = splitSpiffeUri(uri);
    for (const segment of segments) requireSegment(segment, "path segment");
    return {
      text: ["spiffe:/", trustDomain, ...segments].join("/"),
      trustDomain,
      isTrustDomain: segments.length === 0,
    };
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw refused(`The certificate has no SPIFFE ID: ${error.message}`);
  }
}

function readOne(der: Uint8Array): Certificate {
  try {
    return readCertificate(der);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw refused(`A certificate of the peer cannot be read: ${error.message}`);
  }
}

function refused(message: string): ClientError {
  return new ClientError("unusable", message);
}
