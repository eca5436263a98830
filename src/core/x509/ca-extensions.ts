/**
 * Whether extensions are well formed that only verifiers read: Go and OpenSSL refuse every
 * certificate of a path in which one of them is malformed.
 * @module
 */
import { type Bytes, hex } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import type { CertificateExtension } from "./certificate.ts";
import {
  contextConstructed,
  contextPrimitive,
  DerError,
  DerReader,
  element,
  encode,
  oidContent,
  TAG,
} from "./der.ts";
import { embeddedNameFault, WIDE_OID } from "./names.ts";
import { OID } from "./oids.ts";

type Check = (value: DerReader) => void;

const CHECKS: ReadonlyMap<string, Check> = new Map<string, Check>([
  [OID.keyUsage, checkBits],
  [OID.netscapeCertType, checkBits],
  [OID.subjectAltName, checkNames],
  [OID.issuerAltName, checkNames],
  [OID.extKeyUsage, (value) => each(value.enter(TAG.sequence), readOidOfGo)],
  [OID.crlDistributionPoints, checkDistributionPoints],
  [OID.freshestCrl, checkDistributionPoints],
  [OID.certificatePolicies, checkPolicies],
  [OID.policyMappings, checkMappings],
  [OID.policyConstraints, (value) => void readPolicyConstraints(value)],
  [OID.inhibitAnyPolicy, (value) => void value.small()],
  [OID.authorityInfoAccess, checkAccess],
  [OID.subjectInfoAccess, checkAccess],
  [OID.ipAddressBlocks, checkAddressBlocks],
  [OID.autonomousSystems, checkAutonomousSystems],
]);

/**
 * Why a verifier cannot read an extension. One without a rule in CHECKS is not read.
 * @returns the predicate of a sentence whose subject is the extension, or null.
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

/** Reads an object identifier that Go can read. */
function readOidOfGo(list: DerReader): void {
  list.oid();
  if (list.oidIsWide) throw new FormatError(`has a value that Go does not read: ${WIDE_OID}`);
}

/** X.690 §11.2: unused bits are zero. */
function checkBits(value: DerReader): void {
  value.expect(TAG.bitString);
  requireBits(value.content());
}

function requireBits([unused, ...octets]: Bytes): void {
  if (unused === undefined || unused > 7 || (octets.length === 0 && unused > 0))
    throw new FormatError("is not a bit string");
  if (((octets.at(-1) ?? 0) & ((1 << unused) - 1)) !== 0)
    throw new FormatError("has bits set that it does not use");
}

function checkNames(value: DerReader): void {
  each(value.enter(TAG.sequence), checkName);
}

/** Reads a GeneralName (RFC 5280 §4.2.1.6) of any kind. @throws {FormatError} */
export function checkName(list: DerReader): void {
  list.next();
  switch (list.tag) {
    case contextPrimitive(1):
    case contextPrimitive(2):
    case contextPrimitive(6):
      // In a critical extension it keeps Java from reading the certificate.
      if (list.tag === contextPrimitive(1) && list.contentStart === list.contentEnd)
        throw new FormatError("has an empty e-mail address");
      if (list.content().some((octet) => octet >= 0x80))
        throw new FormatError("has a name that is not ASCII");
      return;
    case contextPrimitive(7):
      if (![4, 16].includes(list.contentEnd - list.contentStart))
        throw new FormatError("has an IP address that is not of 4 or 16 octets");
      return;
    default:
      checkRareName(list);
  }
}

/**
 * Checks a GeneralName of a rare kind: OpenSSL reads no certificate in which one is malformed.
 * @param list the reader, positioned after the name. @throws {FormatError}
 */
export function checkRareName(list: DerReader): void {
  switch (list.tag) {
    case contextConstructed(0): {
      const name = list.inside();
      name.oid();
      const value = name.enter(contextConstructed(0));
      value.next();
      value.finish();
      name.finish();
      return;
    }
    case contextConstructed(3):
      return;
    case contextConstructed(4): {
      const found = embeddedNameFault(list.content());
      if (found !== null) throw new FormatError(`has a directory name that ${found}`);
      return;
    }
    case contextConstructed(5): {
      const name = list.inside();
      if (name.optional(contextConstructed(0))) checkPartyName(name);
      name.expect(contextConstructed(1));
      checkPartyName(name);
      name.finish();
      return;
    }
    case contextPrimitive(8):
      new DerReader(encode(element(TAG.oid, list.content()))).oid();
      return;
    default:
      throw new FormatError("has a name of an unknown kind");
  }
}

/** @param name the reader, positioned after a part of an EDIPartyName: one string. */
function checkPartyName(name: DerReader): void {
  const part = name.inside();
  part.next();
  part.finish();
}

/** RFC 5280 §4.2.1.13. */
function checkDistributionPoints(value: DerReader): void {
  each(value.enter(TAG.sequence), (list) => {
    const point = list.enter(TAG.sequence);
    const isNamed = point.optional(contextConstructed(0));
    if (isNamed) {
      const name = point.inside();
      if (name.peek() === contextConstructed(1))
        throw new FormatError("names a point relative to its issuer, which Go does not read");
      each(name.enter(contextConstructed(0)), checkName);
      name.finish();
    }
    if (point.optional(contextPrimitive(1))) requireBits(point.content());
    const hasIssuer = point.optional(contextConstructed(2));
    if (hasIssuer) each(point.inside(), checkName);
    point.finish();
    if (!isNamed && !hasIssuer) throw new FormatError("has a point without a name and an issuer");
  });
}

/** RFC 3779 §2.2.3, which OpenSSL reads in every certificate. */
function checkAddressBlocks(value: DerReader): void {
  each(value.enter(TAG.sequence), (list) => {
    const family = list.enter(TAG.sequence);
    family.expect(TAG.octetString);
    if (family.optional(TAG.null)) family.finish();
    else
      each(family.enter(TAG.sequence), (addresses) => {
        if (addresses.peek() !== TAG.sequence) return checkBits(addresses);
        const range = addresses.enter(TAG.sequence);
        checkBits(range);
        checkBits(range);
        range.finish();
      });
    family.finish();
  });
}

/** RFC 3779 §3.2.3. */
function checkAutonomousSystems(value: DerReader): void {
  const fields = value.enter(TAG.sequence);
  for (const number of [0, 1]) {
    if (!fields.optional(contextConstructed(number))) continue;
    const choice = fields.inside();
    if (!choice.optional(TAG.null))
      each(choice.enter(TAG.sequence), (systems) => {
        if (systems.peek() !== TAG.sequence) return void systems.unsigned();
        const range = systems.enter(TAG.sequence);
        range.unsigned();
        range.unsigned();
        range.finish();
      });
    choice.finish();
  }
  fields.finish();
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
    readOidOfGo(description);
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
  if (content.length === 0 || (content[0] as number) >= 0x80)
    throw new FormatError("has a number that is empty or negative");
  if (content.length > 4) throw new FormatError("has a number that is too large");
}

/** Whether policy constraints require a policy of certificates below, which leaves do not have. */
export function requiresPolicies({ value }: CertificateExtension): boolean {
  return readPolicyConstraints(new DerReader(value)).requiresExplicit;
}
