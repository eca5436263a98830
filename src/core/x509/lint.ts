/**
 * The rules that every certificate must keep that is issued, by this CA or for it by a provider.
 * @module
 */
import { equal, hex } from "../bytes.ts";
import { type Certificate, KEY_USAGE } from "./certificate.ts";
import { keyIdOf } from "./keys.ts";
import { OID } from "./oids.ts";
import { readAgain } from "./peculiar.ts";
import { isDnsName } from "./service-names.ts";

/** `remote-leaf`: encoded and signed by an external CA. */
export type CertificateKind = "root" | "cross-signed" | "intermediate" | "leaf" | "remote-leaf";

/**
 * Checks a certificate against the rules of its kind, and that a second reader reads the same in
 * it.
 * @param issuer the certificate whose key signed it; itself for a root.
 * @returns the faults, each as `field: rule`.
 */
export async function lint(
  certificate: Certificate,
  kind: CertificateKind,
  issuer: Certificate,
): Promise<string[]> {
  return [...lintFields(certificate, kind, issuer), ...(await compareReadings(certificate))];
}

/**
 * Checks a certificate against the rules of its kind, fast enough for every leaf.
 * @returns as `lint`.
 */
export function lintFields(
  certificate: Certificate,
  kind: CertificateKind,
  issuer: Certificate,
): string[] {
  const rules = [
    ...commonRules(certificate, kind, issuer),
    ...(kind === "leaf" || kind === "remote-leaf"
      ? leafRules(certificate, kind)
      : caRules(certificate, kind)),
  ];
  return rules.filter(([holds]) => !holds).map(([, fault]) => fault);
}

/** Whether a rule holds, and the fault if it does not. */
type Rule = readonly [holds: boolean, fault: string];

function isCritical({ extensions }: Certificate, wanted: string): boolean {
  return extensions.find(({ oid }) => oid === wanted)?.critical === true;
}

/** A supplied root may have no SPIFFE ID, and then its cross-signed certificate has none. */
function mayLackUri({ uris }: Certificate, kind: CertificateKind): boolean {
  return kind === "cross-signed" && uris.length === 0;
}

function commonRules(certificate: Certificate, kind: CertificateKind, issuer: Certificate): Rule[] {
  const { serial, notBefore, notAfter, subjectKeyId, authorityKeyId, uris } = certificate;
  return [
    // RFC 5280 §4.1.2.2.
    [
      serial.length <= 20 && serial.some((byte) => byte !== 0),
      "serialNumber: Must be positive and at most 20 octets",
    ],
    // RFC 5280 §4.1.2.4.
    [equal(certificate.issuer, issuer.subject), "issuer: Must be the issuer's subject"],
    [!issuer.subjectEmpty, "issuer: Must not be empty"],
    // RFC 5280 §4.1.2.5.
    [notBefore <= notAfter, "validity: Must not end before it starts"],
    [notAfter <= issuer.notAfter, "validity: Must not outlive its issuer"],
    [
      // Vault dates an intermediate 30 seconds back, which may be before the start of a new root.
      // Verifiers check each validity separately.
      notBefore >= issuer.notBefore || kind === "root" || kind === "intermediate",
      "validity: Must not start before its issuer",
    ],
    // RFC 5280 §4.2.1.3 and §4.2.1.9.
    [isCritical(certificate, OID.keyUsage), "keyUsage: Must be present and critical"],
    [
      isCritical(certificate, OID.basicConstraints),
      "basicConstraints: Must be present and critical",
    ],
    // RFC 5280 §4.2.1.1 and §4.2.1.2.
    [subjectKeyId !== null, "subjectKeyIdentifier: Must be present"],
    [
      authorityKeyId === null
        ? kind === "root"
        : issuer.subjectKeyId !== null && equal(authorityKeyId, issuer.subjectKeyId),
      "authorityKeyIdentifier: Must be the issuer's subject key identifier",
    ],
    // SPIFFE X509-SVID §2.
    [
      mayLackUri(certificate, kind) || uris.length === 1,
      "subjectAltName: Must have exactly one URI",
    ],
  ];
}

function leafRules(certificate: Certificate, kind: "leaf" | "remote-leaf"): Rule[] {
  const { extKeyUsage, key, subjectKeyId, uris } = certificate;
  const usage = certificate.keyUsage ?? 0;
  return [
    // SPIFFE X509-SVID §4.1.
    [!certificate.isCa, "basicConstraints: Must not be a CA"],
    // SPIFFE X509-SVID §4.3.
    [(usage & KEY_USAGE.digitalSignature) !== 0, "keyUsage: Must have digitalSignature"],
    [
      (usage & (KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)) === 0,
      "keyUsage: Must not sign certificates",
    ],
    // RFC 8813 §3.
    [
      key.type === "rsa" || (usage & KEY_USAGE.keyEncipherment) === 0,
      "keyUsage: Must not have keyEncipherment with this key",
    ],
    // SPIFFE X509-SVID §4.4.
    [
      (kind === "leaf" ? extKeyUsage : extKeyUsage?.toSorted().reverse())?.join() ===
        `${OID.clientAuth},${OID.serverAuth}`,
      "extKeyUsage: Must be clientAuth and serverAuth",
    ],
    // RFC 5280 §4.2.1.6.
    [
      !certificate.subjectEmpty || isCritical(certificate, OID.subjectAltName),
      "subjectAltName: Must be critical with an empty subject",
    ],
    // SPIFFE X509-SVID §2.
    [/^spiffe:\/\/[^/]+\/./.test(uris[0] ?? ""), "subjectAltName: Must be a SPIFFE ID with a path"],
    // RFC 5280 §4.2.1.6, RFC 6125 §6.4.3.
    [
      certificate.dnsNames.every(isDnsName),
      "subjectAltName: Must have DNS names in lower case, a wildcard as the first of three labels",
    ],
    // Consul's agent/connect/parsing.go (KeyId).
    [
      kind === "remote-leaf" || (subjectKeyId !== null && equal(subjectKeyId, keyIdOf(key.spki))),
      "subjectKeyIdentifier: Must be the SHA-256 of the public key",
    ],
  ];
}

function caRules(certificate: Certificate, kind: CertificateKind): Rule[] {
  const { isCa, keyUsage, pathLength, subjectEmpty, uris } = certificate;
  return [
    // RFC 5280 §4.2.1.9, §4.1.2.6 and §4.2.1.3.
    [isCa, "basicConstraints: Must be a CA"],
    [!subjectEmpty, "subject: Must not be empty"],
    [((keyUsage ?? 0) & KEY_USAGE.keyCertSign) !== 0, "keyUsage: Must have keyCertSign"],
    // SPIFFE X509-SVID §2.
    [
      mayLackUri(certificate, kind) || /^spiffe:\/\/[^/]+$/.test(uris[0] ?? ""),
      "subjectAltName: Must be the trust domain's SPIFFE ID",
    ],
    // As Consul's agent/connect/ca/provider_consul.go sets it. A root can be cross-signed.
    [kind !== "intermediate" || pathLength === 0, "basicConstraints: Must have pathLen 0"],
    [kind === "intermediate" || pathLength === null, "basicConstraints: Must have no pathLen"],
  ];
}

/** What certificate.ts read must be what @peculiar/x509 reads. */
async function compareReadings(certificate: Certificate): Promise<string[]> {
  const again = await readAgain(certificate.der);
  const differs = {
    serialNumber: BigInt(`0x${again.serial}`) !== BigInt(`0x${hex(certificate.serial)}`),
    notBefore: again.notBefore.getTime() !== certificate.notBefore.getTime(),
    notAfter: again.notAfter.getTime() !== certificate.notAfter.getTime(),
    subjectPublicKeyInfo: !equal(again.spki, certificate.key.spki),
    basicConstraints: again.isCa !== certificate.isCa,
    extensions:
      again.extensionOids.join() !==
      certificate.extensions.map((extension) => extension.oid).join(),
    subjectAltName:
      again.uris.join() !== certificate.uris.join() ||
      // A supplied root may have any others, which have no effect.
      (!certificate.isCa &&
        (again.dnsNames.join() !== certificate.dnsNames.join() ||
          again.ipAddresses.length !== certificate.ipAddresses.length)),
  };
  return Object.entries(differs)
    .filter(([, unequal]) => unequal)
    .map(([field]) => `${field}: Two readers disagree on it`);
}
