/**
 * Rules that every certificate we issue must keep, whatever made it. A broken rule here is a bug of
 * ours.
 * @module
 */
import { equal, hex } from "../bytes.ts";
import type { Violation } from "../errors.ts";
import { type Certificate, KEY_USAGE } from "./certificate.ts";
import { keyIdOf } from "./keys.ts";
import { OID } from "./oids.ts";
import { readAgain } from "./peculiar.ts";

/** `remote-leaf`: one that is encoded and signed elsewhere, by rules that we set. */
export type CertificateKind = "root" | "cross-signed" | "intermediate" | "leaf" | "remote-leaf";

/**
 * Checks a certificate against the rules of its kind, and that a second reader reads the same in
 * it.
 * @param issuer the certificate whose key signed it; itself for a root.
 */
export async function lint(
  certificate: Certificate,
  kind: CertificateKind,
  issuer: Certificate,
): Promise<Violation[]> {
  return [...lintFields(certificate, kind, issuer), ...(await compareReadings(certificate))];
}

/** Checks a certificate against the rules of its kind, fast enough for every leaf. */
export function lintFields(
  certificate: Certificate,
  kind: CertificateKind,
  issuer: Certificate,
): Violation[] {
  const violations: Violation[] = [];
  const demand = (holds: boolean, field: string, message: string, reference: string) => {
    if (!holds) violations.push({ code: "lint", field, message, reference });
  };
  const critical = (oid: string) =>
    certificate.extensions.find((extension) => extension.oid === oid)?.critical === true;
  const usage = certificate.keyUsage ?? 0;

  demand(
    certificate.serial.length <= 20 && certificate.serial.some((byte) => byte !== 0),
    "serialNumber",
    "Must be positive and at most 20 octets",
    "RFC 5280 §4.1.2.2",
  );
  demand(
    equal(certificate.issuer, issuer.subject),
    "issuer",
    "Must be the issuer's subject",
    "RFC 5280 §4.1.2.4",
  );
  demand(!issuer.subjectEmpty, "issuer", "Must not be empty", "RFC 5280 §4.1.2.4");
  demand(
    certificate.notBefore <= certificate.notAfter,
    "validity",
    "Must not end before it starts",
    "RFC 5280 §4.1.2.5",
  );
  demand(
    certificate.notAfter <= issuer.notAfter,
    "validity",
    "Must not outlive its issuer",
    "design: a leaf never outlives what signed it",
  );
  demand(
    // Vault dates an intermediate 30 seconds back, which may be before a root that somebody has
    // just made. Verifiers look at each by itself.
    certificate.notBefore >= issuer.notBefore || kind === "root" || kind === "intermediate",
    "validity",
    "Must not start before its issuer",
    "design: backdating stops at the issuer",
  );
  demand(critical(OID.keyUsage), "keyUsage", "Must be present and critical", "RFC 5280 §4.2.1.3");
  demand(
    critical(OID.basicConstraints),
    "basicConstraints",
    "Must be present and critical",
    "RFC 5280 §4.2.1.9",
  );
  demand(
    certificate.subjectKeyId !== null,
    "subjectKeyIdentifier",
    "Must be present",
    "RFC 5280 §4.2.1.2",
  );
  demand(
    certificate.authorityKeyId === null
      ? kind === "root"
      : issuer.subjectKeyId !== null && equal(certificate.authorityKeyId, issuer.subjectKeyId),
    "authorityKeyIdentifier",
    "Must be the issuer's subject key identifier",
    "RFC 5280 §4.2.1.1",
  );
  // A root that was made elsewhere may have no SPIFFE ID, and then its cross-signed certificate has
  // none.
  const mayLackUri = kind === "cross-signed" && certificate.uris.length === 0;
  demand(
    mayLackUri || certificate.uris.length === 1,
    "subjectAltName",
    "Must have exactly one URI",
    "SPIFFE X509-SVID §2",
  );

  if (kind === "leaf" || kind === "remote-leaf") {
    demand(!certificate.isCa, "basicConstraints", "Must not be a CA", "SPIFFE X509-SVID §4.1");
    demand(
      (usage & KEY_USAGE.digitalSignature) !== 0,
      "keyUsage",
      "Must have digitalSignature",
      "SPIFFE X509-SVID §4.3",
    );
    demand(
      (usage & (KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)) === 0,
      "keyUsage",
      "Must not sign certificates",
      "SPIFFE X509-SVID §4.3",
    );
    demand(
      certificate.key.type === "rsa" || (usage & KEY_USAGE.keyEncipherment) === 0,
      "keyUsage",
      "Must not have keyEncipherment with this key",
      "RFC 8813 §3",
    );
    demand(
      (kind === "leaf"
        ? certificate.extKeyUsage
        : certificate.extKeyUsage?.toSorted().reverse()
      )?.join() === `${OID.clientAuth},${OID.serverAuth}`,
      "extKeyUsage",
      "Must be clientAuth and serverAuth",
      "SPIFFE X509-SVID §4.4",
    );
    demand(
      !certificate.subjectEmpty || critical(OID.subjectAltName),
      "subjectAltName",
      "Must be critical with an empty subject",
      "RFC 5280 §4.2.1.6",
    );
    demand(
      /^spiffe:\/\/[^/]+\/./.test(certificate.uris[0] ?? ""),
      "subjectAltName",
      "Must be a SPIFFE ID with a path",
      "SPIFFE X509-SVID §2",
    );
    demand(
      kind === "remote-leaf" ||
        (certificate.subjectKeyId !== null &&
          equal(certificate.subjectKeyId, keyIdOf(certificate.key.spki))),
      "subjectKeyIdentifier",
      "Must be the SHA-256 of the public key",
      "consul-ca.md §3.3",
    );
  } else {
    demand(certificate.isCa, "basicConstraints", "Must be a CA", "RFC 5280 §4.2.1.9");
    demand(!certificate.subjectEmpty, "subject", "Must not be empty", "RFC 5280 §4.1.2.6");
    demand(
      (usage & KEY_USAGE.keyCertSign) !== 0,
      "keyUsage",
      "Must have keyCertSign",
      "RFC 5280 §4.2.1.3",
    );
    demand(
      mayLackUri || /^spiffe:\/\/[^/]+$/.test(certificate.uris[0] ?? ""),
      "subjectAltName",
      "Must be the trust domain's SPIFFE ID",
      "SPIFFE X509-SVID §2",
    );
    demand(
      kind !== "intermediate" || certificate.pathLength === 0,
      "basicConstraints",
      "Must have pathLen 0",
      "consul-ca.md §3.1",
    );
    demand(
      kind === "intermediate" || certificate.pathLength === null,
      "basicConstraints",
      "Must have no pathLen",
      "design: a root may be cross-signed",
    );
  }
  return violations;
}

/** What certificate.ts read must be what @peculiar/x509 reads. */
async function compareReadings(certificate: Certificate): Promise<Violation[]> {
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
    subjectAltName: again.uris.join() !== certificate.uris.join(),
  };
  return Object.entries(differs)
    .filter(([, unequal]) => unequal)
    .map(([field]) => ({ code: "lint", field, message: "Two readers disagree on it" }));
}
