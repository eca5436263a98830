/**
 * The form of extensions that nothing here interprets, but that verifiers read: Go and OpenSSL refuse a certificate if one of
 * them is malformed, wherever it stands in a path.
 * @module
 */
import { type Bytes, hex } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import type { CertificateExtension } from "./certificate.ts";
import { contextConstructed, contextPrimitive, DerError, DerReader, oidContent, TAG } from "./der.ts";
import { OID } from "./oids.ts";

type Check = (value: DerReader) => void;

const CHECKS: ReadonlyMap<string, Check> = new Map<string, Check>([
  [OID.keyUsage, checkBits],
  [OID.netscapeCertType, checkBits],
  [OID.subjectAltName, checkNames],
  [OID.issuerAltName, checkNames],
  [OID.extKeyUsage, (value) => each(value.enter(TAG.sequence), (list) => list.oid())],
  [OID.crlDistributionPoints, checkDistributionPoints],
  [OID.freshestCrl, checkDistributionPoints],
  [OID.certificatePolicies, checkPolicies],
  [OID.policyMappings, checkMappings],
  [OID.policyConstraints, (value) => void readPolicyConstraints(value)],
  [OID.inhibitAnyPolicy, (value) => void value.small()],
  [OID.authorityInfoAccess, checkAccess],
  [OID.subjectInfoAccess, checkAccess],
]);

/**
 * Looks for what keeps a verifier from reading an extension. The value of an extension without a rule in CHECKS is not read.
 * @returns the rest of a sentence that the extension is the subject of, or null.
 */
export function extensionFault({ oid, value }: CertificateExtension): string | null {
  const check = CHECKS.get(oid);
  if (check === undefined) return null;
  try {
    const reader = new DerReader(value);
    check(reader);
    reader.finish();
    return null;
  } catch (error) {
    if (error instanceof DerError) return error.predicate;
    if (error instanceof FormatError) return error.message;
    throw error;
  }
}

/** Reads each element of a list, which must have one (RFC 5280: SIZE (1..MAX)). */
function each(list: DerReader, read: (list: DerReader) => void): void {
  if (list.done) throw new FormatError("is empty");
  while (!list.done) read(list);
}

/** X.690 §11.2: bits that are not used are zero. */
function checkBits(value: DerReader): void {
  value.expect(TAG.bitString);
  const [unused, ...octets] = value.content();
  if (unused === undefined || unused > 7 || (octets.length === 0 && unused > 0)) throw new FormatError("is not a bit string");
  if (((octets.at(-1) ?? 0) & ((1 << unused) - 1)) !== 0) throw new FormatError("has bits set that it does not use");
}

function checkNames(value: DerReader): void {
  each(value.enter(TAG.sequence), checkName);
}

/** A GeneralName (RFC 5280 §4.2.1.6). */
function checkName(list: DerReader): void {
  list.next();
  const content = list.content();
  switch (list.tag) {
    case contextPrimitive(1):
    case contextPrimitive(2):
    case contextPrimitive(6):
      if (content.some((octet) => octet >= 0x80)) throw new FormatError("has a name that is not ASCII");
      return;
    case contextPrimitive(7):
      if (content.length !== 4 && content.length !== 16) throw new FormatError("has an IP address that is not of 4 or 16 octets");
      return;
    case contextPrimitive(8):
    case contextConstructed(0):
    case contextConstructed(3):
    case contextConstructed(4):
    case contextConstructed(5):
      return;
    default:
      throw new FormatError("has a name of an unknown kind");
  }
}

/** RFC 5280 §4.2.1.13. */
function checkDistributionPoints(value: DerReader): void {
  each(value.enter(TAG.sequence), (list) => {
    const point = list.enter(TAG.sequence);
    if (point.optional(contextConstructed(0))) {
      const name = point.inside();
      if (name.optional(contextConstructed(0))) each(name.inside(), checkName);
      else name.expect(contextConstructed(1));
      name.finish();
    }
    point.optional(contextPrimitive(1));
    if (point.optional(contextConstructed(2))) each(point.inside(), checkName);
    point.finish();
  });
}

/** RFC 5280 §4.2.1.4: no policy appears twice. */
function checkPolicies(value: DerReader): void {
  const seen = new Set<string>();
  each(value.enter(TAG.sequence), (list) => {
    const policy = list.enter(TAG.sequence);
    policy.oid();
    const name = hex(policy.content());
    if (seen.has(name)) throw new FormatError("names a policy twice");
    seen.add(name);
    if (!policy.done)
      each(policy.enter(TAG.sequence), (qualifiers) => {
        const qualifier = qualifiers.enter(TAG.sequence);
        qualifier.oid();
        qualifier.next();
        qualifier.finish();
      });
    policy.finish();
  });
}

const ANY_POLICY = oidContent(OID.anyPolicy);

/** RFC 5280 §4.2.1.5: no mapping from or to anyPolicy. */
function checkMappings(value: DerReader): void {
  each(value.enter(TAG.sequence), (list) => {
    const mapping = list.enter(TAG.sequence);
    for (let i = 0; i < 2; i++) {
      mapping.oid();
      if (mapping.contentIs(ANY_POLICY)) throw new FormatError("maps anyPolicy");
    }
    mapping.finish();
  });
}

/** RFC 5280 §4.2.2.1. */
function checkAccess(value: DerReader): void {
  each(value.enter(TAG.sequence), (list) => {
    const description = list.enter(TAG.sequence);
    description.oid();
    checkName(description);
    description.finish();
  });
}

/** RFC 5280 §4.2.1.11; both numbers are INTEGERs under an implicit tag. @throws {FormatError} */
function readPolicyConstraints(value: DerReader): { readonly requiresExplicit: boolean } {
  const fields = value.enter(TAG.sequence);
  if (fields.done) throw new FormatError("is empty");
  const requiresExplicit = fields.optional(contextPrimitive(0));
  if (requiresExplicit) requireNumber(fields.content());
  if (fields.optional(contextPrimitive(1))) requireNumber(fields.content());
  fields.finish();
  return { requiresExplicit };
}

function requireNumber(content: Bytes): void {
  if (content.length === 0 || (content[0] as number) >= 0x80) throw new FormatError("has a number that is empty or negative");
}

/** Whether policy constraints demand that certificates below have a policy, which leaves do not have. */
export function requiresPolicies({ value }: CertificateExtension): boolean {
  return readPolicyConstraints(new DerReader(value)).requiresExplicit;
}
