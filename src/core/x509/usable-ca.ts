/**
 * Whether leaves verify below a CA certificate that was made elsewhere, by what OpenSSL (with and
 * without -x509_strict), Go, Java and rustls do with it: RFC 5280 §6, with the certificate's own
 * constraints, as all of them apply those of a root too.
 * @module
 */
import { type Bytes, equal, utf8 } from "../bytes.ts";
import { FormatError, type Violation } from "../errors.ts";
import { formatSpiffeId, trustDomainOf } from "../spiffe/id.ts";
import { checkName, extensionFault, requiresPolicies } from "./ca-extensions.ts";
import { type Certificate, type CertificateExtension, KEY_USAGE } from "./certificate.ts";
import {
  contextConstructed,
  contextPrimitive,
  DerError,
  DerReader,
  element,
  encode,
  oidContent,
  oid as oidOf,
  sequence,
  TAG,
} from "./der.ts";
import {
  constrainsUris,
  excludesUnusual,
  forbiddenBy,
  hasUnusualKind,
  isUnreadableByJava,
  type NameConstraints,
  type NamesBelow,
  readNameConstraints,
} from "./name-constraints.ts";
import { comparableParts, nameFault, WIDE_OID } from "./names.ts";
import { extensionText, OID } from "./oids.ts";

export interface CaUse {
  readonly clusterId: string;
  /** The certificate that certifies it; itself for a root. */
  readonly issuer: Certificate;
  /** How many CA certificates must have room below it. */
  readonly casBelow: number;
}

/**
 * How many CA certificates must have room below a root that signs leaves or their issuer: as many
 * as stand in the longest chain beside the leaf when roots were rotated again and again, each
 * cross-signed by the one before it.
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
 * Those that few do not, with their names. Every other critical extension is refused by two of them
 * at least.
 */
const REFUSED_BY_FEW: ReadonlyMap<string, string> = new Map([
  [OID.nameConstraints, "mbed TLS"],
  [OID.crlDistributionPoints, "mbed TLS"],
  [OID.certificatePolicies, "mbed TLS"],
  [OID.inhibitAnyPolicy, "mbed TLS and Go before 1.24"],
]);
/** Of those, the ones that rustls refuses unless the certificate is a root. */
const REFUSED_BELOW_ROOT: readonly string[] = [OID.certificatePolicies, OID.inhibitAnyPolicy];

/**
 * RFC 7633 §4.2.2: a feature of a CA must be one of all certificates below, which GnuTLS checks.
 */
const TLS_FEATURE = "1.3.6.1.5.5.7.1.24";

/**
 * Looks for everything for which a verifier would refuse leaves below a certificate. Its signature
 * and its time are not looked at.
 * @returns each fault by field, and as the rest of a sentence that the certificate is the subject
 * of, such as `has no key
 *   usage`, with what to do about it.
 */
export function caFaults(certificate: Certificate, use: CaUse): Violation[] {
  return [
    ...basicFaults(certificate, use),
    ...nameFaults(certificate),
    ...keyIdFaults(certificate, use.issuer),
    ...certificate.extensions.flatMap((extension) => extensionFaults(extension, certificate, use)),
  ];
}

function fault(field: string, message: string, reference: string): Violation {
  return { code: "config_invalid", field, message, reference };
}

function basicFaults(
  { isCa, keyUsage, extKeyUsage, pathLength, serial, extensions }: Certificate,
  { casBelow }: CaUse,
): Violation[] {
  const faults: Violation[] = [];
  const demand = (holds: boolean, ...rest: Parameters<typeof fault>) => {
    if (!holds) faults.push(fault(...rest));
  };
  demand(isCa, "basicConstraints", "is not a CA certificate", "RFC 5280 §4.2.1.9");
  demand(
    !isCa || extensions.some(({ oid, critical }) => critical && oid === OID.basicConstraints),
    "basicConstraints",
    "has basic constraints that are not critical, so that OpenSSL with -x509_strict and Python refuse every leaf below it: make it again with basicConstraints=critical,CA:TRUE",
    "RFC 5280 §4.2.1.9",
  );
  demand(
    keyUsage === null || (keyUsage & KEY_USAGE.keyCertSign) !== 0,
    "keyUsage",
    "may not sign certificates: its key usage lacks keyCertSign",
    "RFC 5280 §4.2.1.3",
  );
  demand(
    keyUsage !== null,
    "keyUsage",
    "has no key usage: make it again with keyUsage=critical,keyCertSign,cRLSign",
    "RFC 5280 §4.2.1.3",
  );
  demand(
    extKeyUsage === null ||
      [OID.clientAuth, OID.serverAuth].every((purpose) => extKeyUsage.includes(purpose)),
    "extKeyUsage",
    "has an extended key usage without clientAuth and serverAuth, which its leaves need (OpenSSL does not take anyExtendedKeyUsage for them): make it again without extended key usage",
    "RFC 5280 §4.2.1.12",
  );
  demand(
    pathLength === null || pathLength >= casBelow,
    "basicConstraints",
    `has a path length constraint of ${pathLength}, and ${casBelow} CA certificates must have room below it${casBelow === CAS_BELOW_ROOT ? ", since it cross-signs the roots that follow it" : ""}: make it again without, or with a larger one`,
    "RFC 5280 §4.2.1.9",
  );
  demand(
    serial.length <= 20,
    "serialNumber",
    "has a serial number of more than 20 octets",
    "RFC 5280 §4.1.2.2",
  );
  return faults;
}

/** The issuer is the subject of the certificate above, or the certificate's own. */
function nameFaults({ subject, subjectEmpty }: Certificate): Violation[] {
  if (subjectEmpty) return [fault("subject", "has an empty subject", "RFC 5280 §4.1.2.6")];
  const found = nameFault(subject);
  const text = `has a subject that not every verifier can decode: it ${found}. Make it again with letters of ASCII`;
  return found === null ? [] : [fault("subject", text, "RFC 5280 §4.1.2.4")];
}

const NO_KEY_ID =
  "has no authority key identifier with its issuer's key identifier, without which OpenSSL with -x509_strict refuses it";

function keyIdFaults(certificate: Certificate, issuer: Certificate): Violation[] {
  const { subjectKeyId, extensions } = certificate;
  const faults: Violation[] = [];
  if (subjectKeyId === null || subjectKeyId.length === 0)
    faults.push(
      fault("subjectKeyIdentifier", "has no subject key identifier", "RFC 5280 §4.2.1.2"),
    );
  const extension = extensions.find(({ oid }) => oid === OID.authorityKeyIdentifier);
  const isRoot = issuer === certificate;
  if (extension === undefined)
    return isRoot
      ? faults
      : [...faults, fault("authorityKeyIdentifier", NO_KEY_ID, "RFC 5280 §4.2.1.1")];
  const of = isRoot ? "its own" : "its issuer's";
  const refused = (what: string) =>
    faults.push(
      fault(
        "authorityKeyIdentifier",
        `has an authority key identifier ${what}, so that OpenSSL finds no issuer: make it again without, or with the right one`,
        "RFC 5280 §4.2.1.1",
      ),
    );
  const found = readAuthorityKeyId(extension.value);
  if (found === null) {
    const text = `has the malformed extension ${extensionText(OID.authorityKeyIdentifier)}: make it again without, or with the right one`;
    return [...faults, fault("authorityKeyIdentifier", text, "RFC 5280 §4.2.1.1")];
  }
  const { keyId, issuerName, serial } = found;
  if (keyId !== null && (issuer.subjectKeyId === null || !equal(keyId, issuer.subjectKeyId)))
    refused(`that is not ${of} key identifier`);
  if (issuerName !== null && !isSameName(issuerName, issuer.issuer))
    refused(`whose issuer is not the one of ${isRoot ? "the certificate itself" : "its issuer"}`);
  if (serial !== null && !equal(serial, issuer.serial))
    refused(`whose serial number is not ${of}, as of a root that was renewed`);
  if (!isRoot && keyId === null)
    faults.push(fault("authorityKeyIdentifier", NO_KEY_ID, "RFC 5280 §4.2.1.1"));
  return faults;
}

/**
 * Whether two names are the same for OpenSSL (X509_NAME_cmp), which takes no note of case, white
 * space and type of string.
 */
function isSameName(name: Bytes, other: Bytes): boolean {
  if (equal(name, other)) return true;
  try {
    const [parts, others] = [comparableParts(name), comparableParts(other)];
    return parts.length === others.length && parts.every((part, i) => part === others[i]);
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}

interface AuthorityKeyId {
  readonly keyId: Bytes | null;
  /** The Name among authorityCertIssuer. */
  readonly issuerName: Bytes | null;
  /** The magnitude, as in Certificate. */
  readonly serial: Bytes | null;
}

/** RFC 5280 §4.2.1.1. @returns null if it is malformed. */
function readAuthorityKeyId(value: Bytes): AuthorityKeyId | null {
  try {
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
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

function extensionFaults(
  extension: CertificateExtension,
  certificate: Certificate,
  use: CaUse,
): Violation[] {
  const { oid, critical } = extension;
  const text = extensionText(oid);
  // The numbers as they are encoded, the first two as one (X.690 §8.19.4).
  const [top = 0, second = 0, ...more] = oid.split(".").map(Number);
  if ([40 * top + second, ...more].some((number) => number >= 2 ** 31))
    return [
      fault(
        oid,
        `has the extension ${text}, which keeps Go from reading it: ${WIDE_OID}`,
        "RFC 5280 §4.2",
      ),
    ];
  const malformed = extensionFault(extension);
  if (malformed !== null)
    return [fault(oid, `has the malformed extension ${text}, which ${malformed}`, "RFC 5280 §4.2")];
  if (oid === OID.nameConstraints) return constraintFaults(extension, use);
  if (oid === OID.proxyCertInfo)
    return [fault(oid, `has the extension ${text}, which a CA must not have`, "RFC 3820 §3.8")];
  if (oid === TLS_FEATURE)
    return [
      fault(
        oid,
        "has the extension TLS feature, which GnuTLS then demands of every leaf",
        "RFC 7633 §4.2.2",
      ),
    ];
  // The policies of a trust anchor are no input of RFC 5280 §6.1.1; those of what stands below it
  // are.
  if (oid === OID.policyConstraints && use.issuer !== certificate && requiresPolicies(extension))
    return [
      fault(
        oid,
        "has policy constraints that demand a policy of every leaf, and leaves have none",
        "RFC 5280 §4.2.1.11",
      ),
    ];
  const isRoot = use.issuer === certificate;
  const isAccepted = REFUSED_BY_FEW.has(oid) && (isRoot || !REFUSED_BELOW_ROOT.includes(oid));
  if (!critical || PROCESSED_BY_ALL.includes(oid) || isAccepted) return [];
  const why = "which not every verifier processes: some refuse all leaves below it";
  return [
    fault(
      oid,
      `has the critical extension ${text}, ${why}. Make it again without, or not critical`,
      "RFC 5280 §4.2",
    ),
  ];
}

function constraintFaults(
  { oid, value, critical }: CertificateExtension,
  { clusterId }: CaUse,
): Violation[] {
  const refused = (what: string) =>
    fault(oid, `has name constraints that ${what}`, "RFC 5280 §4.2.1.10");
  let constraints: NameConstraints;
  try {
    constraints = readNameConstraints(value);
  } catch (error) {
    if (error instanceof DerError) return [refused(`cannot be read: a part ${error.predicate}`)];
    if (error instanceof FormatError) return [refused(error.message)];
    throw error;
  }
  const faults = forbiddenBy(constraints, namesBelow(clusterId)).map((what) =>
    refused(`${what}, which certificates below it have`),
  );
  if (critical && hasUnusualKind(constraints))
    faults.push(
      refused("are critical and speak of directory names or other names that Go does not process"),
    );
  if (critical && isUnreadableByJava(constraints))
    faults.push(
      refused(
        "are critical and have a name that Java does not read: a URI constraint must be a host, without scheme and port",
      ),
    );
  return faults;
}

/**
 * What certificates of this CA have in them, of every kind: leaves of services, agents and
 * gateways, and CA certificates.
 */
function namesBelow(clusterId: string): NamesBelow {
  const trustDomain = trustDomainOf(clusterId);
  return {
    uris: [formatSpiffeId({ kind: "signing", trustDomain })],
    // As in `dnsNamesFor` and LOOPBACK of profile.ts; any datacenter's name stands below the same
    // domains.
    dnsNames: ["localhost", `server.dc1.peering.${trustDomain}`],
    ipAddresses: [
      Uint8Array.of(127, 0, 0, 1),
      Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    ],
    // As `caCommonName` makes them, whatever the letters that are random.
    subjects: [
      encode(
        sequence(
          element(
            TAG.set,
            sequence(
              oidOf(oidContent(OID.commonName)),
              element(TAG.utf8String, utf8("pri-root.ca.consul")),
            ),
          ),
        ),
      ),
    ],
  };
}

/**
 * What an operator should know of a certificate that is usable: which verifiers do not take it all
 * the same.
 * @param certificate without faults. @returns each as the rest of a sentence that the certificate
 * is the subject of.
 */
export function caWarnings({ extensions }: Certificate): string[] {
  const warnings: string[] = [];
  const extension = extensions.find(({ oid }) => oid === OID.nameConstraints);
  const constraints = extension === undefined ? null : constraintsOf(extension);
  if (constraints !== null && constrainsUris(constraints))
    warnings.push(
      "has name constraints on URIs or directory names, which rustls does not process: it refuses every leaf below it",
    );
  if (constraints !== null && excludesUnusual(constraints))
    warnings.push(
      "has name constraints that exclude other names than DNS names, IP and e-mail addresses, for which GnuTLS refuses every leaf",
    );
  for (const { oid, critical } of extensions) {
    const refusing = REFUSED_BY_FEW.get(oid);
    if (critical && refusing !== undefined)
      warnings.push(
        `has the critical extension ${extensionText(oid)}, for which ${refusing} refuse every leaf below it`,
      );
  }
  return warnings;
}

/**
 * Looks whether a constraint of a path forbids a name of what stands below it (RFC 5280 §6.1.3 b
 * and c).
 * @param path leaf first, root last, as `findPath` gives it.
 * @param more names that other leaves of the issuer have, which are looked at like those of the
 * leaf.
 * @returns each fault as a sentence without a period.
 */
export function pathConstraintFaults(
  path: readonly Certificate[],
  more: Pick<NamesBelow, "dnsNames" | "ipAddresses">,
): string[] {
  return path.flatMap((certificate, i) => {
    const extension = certificate.extensions.find(({ oid }) => oid === OID.nameConstraints);
    const constraints = extension === undefined ? null : constraintsOf(extension);
    if (constraints === null) return [];
    const below = path.slice(0, i);
    const names: NamesBelow = {
      uris: below.flatMap(({ uris }) => uris),
      dnsNames: [...below.flatMap(({ dnsNames }) => dnsNames), ...more.dnsNames],
      ipAddresses: [...below.flatMap(({ ipAddresses }) => ipAddresses), ...more.ipAddresses],
      subjects: below.map(({ subject }) => subject),
    };
    return forbiddenBy(constraints, names).map(
      (what) =>
        `name constraints of ${i === path.length - 1 ? "the root" : "a certificate below the root"} ${what}`,
    );
  });
}

/**
 * @returns null for constraints that cannot be read: roots with such ones may be in use since an
 * earlier version.
 */
function constraintsOf({ value }: CertificateExtension): NameConstraints | null {
  try {
    return readNameConstraints(value);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
