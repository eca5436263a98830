/**
 * Whether verifiers accept leaves below a CA certificate that was made elsewhere: OpenSSL (with and
 * without -x509_strict), Go, Java, GnuTLS, rustls and mbed TLS. They validate a path by RFC 5280 §6,
 * and apply the constraints of a root too.
 * @module
 */
import { type Bytes, equal } from "../bytes.ts";
import { readOrNull } from "../errors.ts";
import { checkName, extensionFault, requiresPolicies } from "./ca-extensions.ts";
import { type Certificate, type CertificateExtension, KEY_USAGE } from "./certificate.ts";
import { constraintFaults, constraintWarnings } from "./constraint-faults.ts";
import { contextConstructed, contextPrimitive, DerReader, element, encode, TAG } from "./der.ts";
import { comparableParts, nameFault, WIDE_OID } from "./names.ts";
import { extensionText, OID } from "./oids.ts";

interface CaUse {
  readonly trustDomain: string;
  /** The certificate that certifies it; itself for a root. */
  readonly issuer: Certificate;
  /** How many CA certificates its path length constraint must allow below it. */
  readonly casBelow: number;
}

/**
 * How many CA certificates must be allowed below a root that signs leaves or their issuer: as many as
 * the longest chain has besides the leaf, when each of several roots was cross-signed by the one
 * before it.
 */
export const CAS_BELOW_ROOT = 6;

/** Critical extensions that OpenSSL, Go, Java, GnuTLS, rustls and mbed TLS all process. */
const PROCESSED_BY_ALL: readonly string[] = [
  OID.basicConstraints,
  OID.keyUsage,
  OID.extKeyUsage,
  OID.subjectAltName,
];
/**
 * Critical extensions that a few do not process, and their names. Every other critical extension is
 * refused by at least two of them.
 */
const REFUSED_BY_FEW: ReadonlyMap<string, string> = new Map([
  [OID.nameConstraints, "mbed TLS"],
  [OID.crlDistributionPoints, "mbed TLS"],
  [OID.certificatePolicies, "mbed TLS"],
  [OID.inhibitAnyPolicy, "mbed TLS and Go before 1.24"],
]);
/** Of those, the ones that rustls refuses unless the certificate is a root. */
const REFUSED_BELOW_ROOT: readonly string[] = [OID.certificatePolicies, OID.inhibitAnyPolicy];

/** RFC 7633 §4.2.2: all certificates below must have the features of a CA, which GnuTLS checks. */
const TLS_FEATURE = "1.3.6.1.5.5.7.1.24";

/**
 * Finds everything for which a verifier would refuse leaves below a certificate. Its signature and
 * its validity are not checked.
 * @returns each fault as the predicate of a sentence whose subject is the certificate, such as `has
 * no key usage`, with what to do about it.
 */
export function caFaults(certificate: Certificate, use: CaUse): string[] {
  return [
    ...basicFaults(certificate, use),
    ...subjectFaults(certificate),
    ...keyIdFaults(certificate, use.issuer),
    ...certificate.extensions.flatMap((extension) => extensionFaults(extension, certificate, use)),
  ];
}

function basicFaults(
  { isCa, keyUsage, extKeyUsage, pathLength, serial, extensions }: Certificate,
  { casBelow }: CaUse,
): string[] {
  const rules: readonly (readonly [holds: boolean, fault: string])[] = [
    // RFC 5280 §4.2.1.9.
    [isCa, "is not a CA certificate"],
    [
      !isCa || extensions.some(({ oid, critical }) => critical && oid === OID.basicConstraints),
      "has basic constraints that are not critical, so that OpenSSL with -x509_strict and Python refuse every leaf below it: make it again with basicConstraints=critical,CA:TRUE",
    ],
    // RFC 5280 §4.2.1.3.
    [
      keyUsage === null || (keyUsage & KEY_USAGE.keyCertSign) !== 0,
      "is not allowed to sign certificates: its key usage lacks keyCertSign",
    ],
    [
      keyUsage !== null,
      "has no key usage: make it again with keyUsage=critical,keyCertSign,cRLSign",
    ],
    // RFC 5280 §4.2.1.12.
    [
      extKeyUsage === null ||
        [OID.clientAuth, OID.serverAuth].every((purpose) => extKeyUsage.includes(purpose)),
      "has an extended key usage without clientAuth and serverAuth, which its leaves need (OpenSSL does not take anyExtendedKeyUsage for them): make it again without extended key usage",
    ],
    // RFC 5280 §4.2.1.9.
    [
      pathLength === null || pathLength >= casBelow,
      `has a path length constraint of ${pathLength}, and ${casBelow} CA certificates must be allowed below it${casBelow === CAS_BELOW_ROOT ? ", since it cross-signs the roots that follow it" : ""}: make it again without, or with a larger one`,
    ],
    // RFC 5280 §4.1.2.2.
    [serial.length <= 20, "has a serial number of more than 20 octets"],
  ];
  return rules.filter(([holds]) => !holds).map(([, fault]) => fault);
}

/** RFC 5280 §4.1.2.4 and §4.1.2.6. Leaves have this subject as their issuer. */
function subjectFaults({ subject, subjectEmpty }: Certificate): string[] {
  if (subjectEmpty) return ["has an empty subject"];
  const fault = nameFault(subject);
  if (fault === null) return [];
  return [
    `has a subject that not every verifier can decode: it ${fault}. Make it again with letters of ASCII`,
  ];
}

const NO_KEY_ID =
  "has no authority key identifier with its issuer's key identifier, without which OpenSSL with -x509_strict refuses it";

/** RFC 5280 §4.2.1.1 and §4.2.1.2. */
function keyIdFaults(certificate: Certificate, issuer: Certificate): string[] {
  const { subjectKeyId, extensions } = certificate;
  const isRoot = issuer === certificate;
  const faults: string[] = [];
  if (subjectKeyId === null || subjectKeyId.length === 0)
    faults.push("has no subject key identifier");
  const extension = extensions.find(({ oid }) => oid === OID.authorityKeyIdentifier);
  if (extension === undefined) return isRoot ? faults : [...faults, NO_KEY_ID];
  const found = readOrNull(() => readAuthorityKeyId(extension.value));
  if (found === null)
    return [
      ...faults,
      `has the malformed extension ${extensionText(OID.authorityKeyIdentifier)}: make it again without, or with the right one`,
    ];
  const { keyId, issuerName, serial } = found;
  const owner = isRoot ? "its own" : "its issuer's";
  const refuse = (what: string) =>
    faults.push(
      `has an authority key identifier ${what}, so that OpenSSL finds no issuer: make it again without, or with the right one`,
    );
  if (keyId !== null && (issuer.subjectKeyId === null || !equal(keyId, issuer.subjectKeyId)))
    refuse(`that is not ${owner} key identifier`);
  if (issuerName !== null && !isSameName(issuerName, issuer.issuer))
    refuse(`whose issuer is not the one of ${isRoot ? "the certificate itself" : "its issuer"}`);
  if (serial !== null && !equal(serial, issuer.serial))
    refuse(`whose serial number is not ${owner}, as of a root that was renewed`);
  if (!isRoot && keyId === null) faults.push(NO_KEY_ID);
  return faults;
}

/** Whether two names are equal for OpenSSL (X509_NAME_cmp): case, white space and string type do not count. */
function isSameName(name: Bytes, other: Bytes): boolean {
  if (equal(name, other)) return true;
  const [parts, others] = [name, other].map((each) => readOrNull(() => comparableParts(each)));
  if (!parts || !others) return false;
  return parts.length === others.length && parts.every((part, i) => part === others[i]);
}

/**
 * Reads an authority key identifier (RFC 5280 §4.2.1.1): the Name among authorityCertIssuer, and the
 * magnitude of the serial number. @throws {FormatError}
 */
function readAuthorityKeyId(value: Bytes) {
  const fields = new DerReader(value).enter(TAG.sequence);
  const keyId = fields.optional(contextPrimitive(0)) ? fields.content() : null;
  let issuerName: Bytes | null = null;
  if (fields.optional(contextConstructed(1))) {
    const names = fields.inside();
    while (!names.done) {
      checkName(names);
      if (names.tag === contextConstructed(4)) issuerName ??= names.content();
    }
  }
  const serial = fields.optional(contextPrimitive(2))
    ? new DerReader(encode(element(TAG.integer, fields.content()))).unsigned()
    : null;
  fields.finish();
  return { keyId, issuerName, serial };
}

/**
 * Whether the authority key identifier of a certificate can be read, and whether serial number and
 * name in it are those of an issuer: OpenSSL takes another one for no issuer.
 */
export function namesIssuer({ extensions }: Certificate, issuer: Certificate): boolean {
  const extension = extensions.find(({ oid }) => oid === OID.authorityKeyIdentifier);
  if (extension === undefined) return true;
  const found = readOrNull(() => readAuthorityKeyId(extension.value));
  return (
    found !== null &&
    (found.serial === null || equal(found.serial, issuer.serial)) &&
    (found.issuerName === null || isSameName(found.issuerName, issuer.issuer))
  );
}

function extensionFaults(
  extension: CertificateExtension,
  certificate: Certificate,
  { issuer, trustDomain }: CaUse,
): string[] {
  const { oid, critical } = extension;
  const isRoot = issuer === certificate;
  const text = extensionText(oid);
  // The numbers as they are encoded, the first two as one (X.690 §8.19.4).
  const [top = 0, second = 0, ...more] = oid.split(".").map(Number);
  if ([40 * top + second, ...more].some((number) => number >= 2 ** 31))
    return [`has the extension ${text}, which keeps Go from reading it: ${WIDE_OID}`];
  const malformed = extensionFault(extension);
  if (malformed !== null) return [`has the malformed extension ${text}, which ${malformed}`];
  if (oid === OID.nameConstraints) return constraintFaults(extension, trustDomain);
  // RFC 3820 §3.8.
  if (oid === OID.proxyCertInfo)
    return [`has the extension ${text}, which a CA is not allowed to have`];
  if (oid === TLS_FEATURE)
    return ["has the extension TLS feature, which GnuTLS then demands of every leaf"];
  // RFC 5280 §4.2.1.11. The policies of a trust anchor are no input of RFC 5280 §6.1.1, those of
  // certificates below it are.
  if (oid === OID.policyConstraints && !isRoot && requiresPolicies(extension))
    return ["has policy constraints that demand a policy of every leaf, and leaves have none"];
  // RFC 5280 §4.2.
  const isAccepted = REFUSED_BY_FEW.has(oid) && (isRoot || !REFUSED_BELOW_ROOT.includes(oid));
  if (!critical || PROCESSED_BY_ALL.includes(oid) || isAccepted) return [];
  return [
    `has the critical extension ${text}, which not every verifier processes: some refuse all leaves below it. Make it again without, or not critical`,
  ];
}

/**
 * Which verifiers do not accept leaves below a certificate although it is usable.
 * @param certificate one without faults. @returns each as the predicate of a sentence whose subject
 * is the certificate.
 */
export function caWarnings({ extensions }: Certificate): string[] {
  const warnings = constraintWarnings(extensions);
  for (const { oid, critical } of extensions) {
    const refusing = REFUSED_BY_FEW.get(oid);
    if (critical && refusing !== undefined)
      warnings.push(
        `has the critical extension ${extensionText(oid)}, for which ${refusing} refuse every leaf below it`,
      );
  }
  return warnings;
}
