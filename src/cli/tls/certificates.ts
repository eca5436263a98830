/**
 * The certificates of `meshca tls`: a CA, and leaves below it for servers and clients. They have the
 * names, extensions and lives of those that Consul's command makes.
 * @module
 */
import type { Bytes } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import type { Random } from "../../core/ports/clock.ts";
import { type CaKey, generateCaKey } from "../../core/x509/authority.ts";
import { type Certificate, KEY_USAGE, readCertificate } from "../../core/x509/certificate.ts";
import { isSignedBy } from "../../core/x509/chain.ts";
import { pathConstraintFaults } from "../../core/x509/constraint-faults.ts";
import {
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  encode,
  oid,
  oidContent,
  sequence,
} from "../../core/x509/der.ts";
import { type CaKeySpec, caHash, caScheme, keyIdOf } from "../../core/x509/keys.ts";
import { OID } from "../../core/x509/oids.ts";
import { type ExtensionSpec, makeCertificate } from "../../core/x509/peculiar.ts";

/** Octets of a serial number (Consul's tlsutil.GenerateSerialNumber: 128 bits). */
const SERIAL_LENGTH = 16;
const DAY_MS = 86_400_000;

interface Making {
  readonly random: Random;
  readonly now: Date;
  /** How long the certificate is valid, in days from now on. */
  readonly days: number;
}

export interface CaOptions extends Making {
  readonly key: CaKeySpec;
  /** Null or empty: `Consul Agent CA` and the serial number, as in Consul. */
  readonly commonName: string | null;
  /** The trust domain whose root it is, or null: it is of no mesh. */
  readonly trustDomain: string | null;
  /** DNS names below which it may sign, or null: any. */
  readonly permitted: readonly string[] | null;
}

export interface MadeCertificate {
  readonly certificate: Certificate;
  readonly key: CaKey;
}

/** Makes a self-signed CA, its key included. */
export async function createTlsCa(options: CaOptions): Promise<MadeCertificate> {
  const { random, trustDomain, permitted } = options;
  const key = await generateCaKey(options.key);
  const serial = serialNumber(random);
  const name = options.commonName || `Consul Agent CA ${BigInt(`0x${hexOf(serial)}`)}`;
  const keyId = keyIdOf(key.info.spki);
  const { keyCertSign, cRLSign, digitalSignature } = KEY_USAGE;
  const der = await makeCertificate({
    serial,
    issuer: name,
    subject: name,
    ...validity(options),
    spki: key.info.spki,
    extensions: [
      { kind: "keyUsage", bits: keyCertSign | cRLSign | digitalSignature },
      { kind: "ca", pathLength: null },
      { kind: "subjectKeyId", id: keyId },
      { kind: "authorityKeyId", id: keyId },
      ...(trustDomain === null
        ? []
        : [{ kind: "uri", uri: `spiffe://${trustDomain}` } satisfies ExtensionSpec]),
      ...(permitted === null ? [] : [nameConstraints(permitted)]),
    ],
    signingKey: key.privateKey,
    scheme: caScheme(key.info, caHash(key.info)),
  });
  return { certificate: readCertificate(der), key };
}

/** Who presents a leaf: a server to clients and servers, a client, or the command line. */
export type LeafRole = "server" | "client" | "cli";

export interface LeafOptions extends Making {
  readonly ca: MadeCertificate;
  readonly role: LeafRole;
  readonly commonName: string;
  readonly dnsNames: readonly string[];
  /** Four or sixteen octets each. */
  readonly ipAddresses: readonly Bytes[];
}

/**
 * Makes a leaf with a new EC P-256 key, which does not outlive its CA, and verifies it.
 * @throws {FormatError} if it would not verify: the key is of another CA, the CA has expired, or a name
 * is not permitted
 */
export async function createTlsLeaf(options: LeafOptions): Promise<MadeCertificate> {
  const { ca, random, role, commonName, dnsNames, ipAddresses } = options;
  const end = ca.certificate.notAfter;
  if (end <= options.now) throw new FormatError(`the CA expired at ${end.toISOString()}`);
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const { notBefore, notAfter } = validity(options);
  const { digitalSignature, keyEncipherment } = KEY_USAGE;
  const der = await makeCertificate({
    serial: serialNumber(random),
    issuer: ca.certificate.subject,
    subject: commonName,
    notBefore,
    notAfter: notAfter < end ? notAfter : end,
    spki: key.info.spki,
    extensions: [
      { kind: "keyUsage", bits: digitalSignature | keyEncipherment },
      ...(role === "cli" ? [] : [purposes(role)]),
      raw(OID.basicConstraints, true, sequence()),
      { kind: "subjectKeyId", id: keyIdOf(key.info.spki) },
      {
        kind: "authorityKeyId",
        id: ca.certificate.subjectKeyId ?? keyIdOf(ca.certificate.key.spki),
      },
      raw(OID.subjectAltName, false, sequence(...generalNames(dnsNames, ipAddresses))),
    ],
    signingKey: ca.key.privateKey,
    scheme: caScheme(ca.key.info, caHash(ca.key.info)),
  });
  const certificate = readCertificate(der);
  if (!(await isSignedBy(certificate, ca.certificate)))
    throw new FormatError("the key of the CA does not belong to its certificate");
  const faults = pathConstraintFaults([certificate, ca.certificate], {
    dnsNames: [],
    ipAddresses: [],
  });
  if (faults.length > 0) throw new FormatError(faults.join("; "));
  return { certificate, key };
}

/** A positive number of 128 random bits. */
function serialNumber(random: Random): Bytes {
  const serial = new Uint8Array(random.bytes(SERIAL_LENGTH));
  // RFC 5280 §4.1.2.2: positive. The first octet is neither 0 nor has its sign bit.
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

const hexOf = (bytes: Bytes): string =>
  [...bytes].map((octet) => octet.toString(16).padStart(2, "0")).join("");

/** From now on, in whole seconds. */
function validity({ now, days }: Making): { notBefore: Date; notAfter: Date } {
  const begin = Math.floor(now.getTime() / 1000) * 1000;
  return { notBefore: new Date(begin), notAfter: new Date(begin + days * DAY_MS) };
}

const raw = (dotted: string, critical: boolean, value: DerNode): ExtensionSpec => ({
  kind: "raw",
  oid: dotted,
  critical,
  value: encode(value),
});

/** Servers are clients of each other; a client serves nothing that matters, as in Consul. */
function purposes(role: "server" | "client"): ExtensionSpec {
  const both = [OID.serverAuth, OID.clientAuth];
  const ordered = role === "server" ? both : both.toReversed();
  return raw(OID.extKeyUsage, false, sequence(...ordered.map((one) => oid(oidContent(one)))));
}

/** RFC 5280 §4.2.1.6: dNSName [2], iPAddress [7]. */
function generalNames(dnsNames: readonly string[], ipAddresses: readonly Bytes[]): DerNode[] {
  return [
    ...dnsNames.map((name) => element(contextPrimitive(2), new TextEncoder().encode(name))),
    ...ipAddresses.map((address) => element(contextPrimitive(7), address)),
  ];
}

/** RFC 5280 §4.2.1.10: permittedSubtrees [0] of dNSName [2]; each is the name and what is below it. */
function nameConstraints(permitted: readonly string[]): ExtensionSpec {
  const subtrees = generalNames(permitted, []).map((name) => sequence(name));
  return raw(OID.nameConstraints, true, sequence(element(contextConstructed(0), ...subtrees)));
}
