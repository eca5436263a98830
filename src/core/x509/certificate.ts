/**
 * Reads a certificate (RFC 5280 §4.1). Names and the signed part are kept as the octets that were
 * read, since issuer and subject match by octets.
 * @module
 */
import { type Bytes, colonHex, fromUtf8, sha1 } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import { certificatePem, noPemReason, readPem } from "../pem.ts";
import { contextConstructed, contextPrimitive, DerReader, inWords, TAG } from "./der.ts";
import { type PublicKeyInfo, readPublicKey, readScheme, type SignatureScheme } from "./keys.ts";
import { extensionText, OID } from "./oids.ts";

/** KeyUsage bits (RFC 5280 §4.2.1.3), bit 0 first. */
export const KEY_USAGE = {
  digitalSignature: 1 << 0,
  keyEncipherment: 1 << 2,
  keyCertSign: 1 << 5,
  cRLSign: 1 << 6,
} as const;

export interface CertificateExtension {
  /** Dotted object identifier. */
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Bytes;
}

export interface Certificate {
  readonly der: Bytes;
  /** SHA-1 of the DER in colon hex: Consul's root ID. */
  readonly id: string;
  /** Big-endian octets without a sign octet. */
  readonly serial: Bytes;
  readonly issuer: Bytes;
  readonly subject: Bytes;
  /** Whether the subject has no attribute. */
  readonly subjectEmpty: boolean;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly key: PublicKeyInfo;
  readonly extensions: readonly CertificateExtension[];
  readonly isCa: boolean;
  readonly pathLength: number | null;
  /** Bits as in KEY_USAGE, or null if the extension is missing. */
  readonly keyUsage: number | null;
  /** Dotted object identifiers, or null if the extension is missing. */
  readonly extKeyUsage: readonly string[] | null;
  readonly subjectKeyId: Bytes | null;
  readonly authorityKeyId: Bytes | null;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly Bytes[];
  readonly signed: Bytes;
  readonly scheme: SignatureScheme;
  readonly signature: Bytes;
}

/** The PEM text of a certificate. */
export function pemOf(certificate: Certificate): string {
  return certificatePem(certificate.der);
}

/**
 * Reads one DER certificate. Copies the input.
 * @throws {FormatError} with "it" or "its" for the certificate as subject
 */
export function readCertificate(input: Uint8Array): Certificate {
  const walk: Walk = { part: "it", extension: null };
  try {
    return readParts(new Uint8Array(input), walk);
  } catch (error) {
    throw inWords(partOf(walk), error);
  }
}

/** Which part of a certificate is being read. */
interface Walk {
  /** As the subject of a sentence. */
  part: string;
  /** The object identifier of the extension that is being interpreted, or null. */
  extension: string | null;
}

function partOf({ part, extension }: Walk): string {
  return extension === null ? part : `its extension ${extensionText(extension)}`;
}

function readParts(der: Bytes, walk: Walk): Certificate {
  const certificate = new DerReader(der).enterLast(TAG.sequence);
  const body = certificate.enter(TAG.sequence);
  const signed = certificate.element();
  walk.part = "its signature algorithm";
  const scheme = readScheme(certificate);
  walk.part = "its signature";
  const signature = certificate.bitString();
  certificate.finish();

  walk.part = "its version";
  const version = body.optional(contextConstructed(0)) ? readVersion(body.inside()) : 0;
  walk.part = "its serial number";
  const serial = body.unsigned();
  walk.part = "its signature algorithm";
  body.expect(TAG.sequence);
  if (!body.elementIs(scheme.identifier))
    throw new FormatError("its two signature algorithms differ (RFC 5280 §4.1.1.2)");
  walk.part = "its issuer";
  body.expect(TAG.sequence);
  const issuer = body.element();
  walk.part = "its validity";
  const validity = body.enter(TAG.sequence);
  const notBefore = validity.time();
  const notAfter = validity.time();
  validity.finish();
  walk.part = "its subject";
  body.expect(TAG.sequence);
  const subject = body.element();
  const subjectEmpty = body.contentStart === body.contentEnd;
  walk.part = "its public key";
  body.expect(TAG.sequence);
  const key = readPublicKey(body.element());
  walk.part = "it";
  if (body.peek() === contextPrimitive(1) || body.peek() === contextPrimitive(2))
    throw new FormatError(
      "it has a unique identifier, which a certificate must not have (RFC 5280 §4.1.2.8)",
    );
  if (version !== 2 && !body.done)
    throw new FormatError("it has extensions, but is not of version 3 (RFC 5280 §4.1.2.1)");
  const extensions: CertificateExtension[] = [];
  walk.part = "its list of extensions";
  if (body.optional(contextConstructed(3))) {
    readExtensions(body.inside().enterLast(TAG.sequence), extensions);
  }
  walk.part = "it";
  body.finish();
  return {
    der,
    id: colonHex(sha1(der)),
    serial,
    issuer,
    subject,
    subjectEmpty,
    notBefore,
    notAfter,
    key,
    extensions,
    ...interpret(extensions, walk),
    signed,
    scheme,
    signature,
  };
}

/**
 * Reads a text that must be exactly one PEM certificate.
 * @throws {FormatError}
 */
export function readCertificatePem(pem: string): Certificate {
  const [block, ...more] = readPem(pem);
  if (block === undefined) throw new FormatError(noPemReason(pem));
  if (block.label !== "CERTIFICATE")
    throw new FormatError("first PEM-block should be CERTIFICATE type");
  if (more.length > 0)
    throw new FormatError(`there must be exactly one PEM block, not ${more.length + 1}`);
  return readCertificate(block.bytes);
}

function readVersion(reader: DerReader): number {
  const version = reader.small();
  reader.finish();
  return version;
}

/** Reads any object identifier in dotted form. */
function readDotted(reader: DerReader): string {
  reader.oid();
  const content = reader.content();
  if (reader.oidIsWide) return wideDotted(content);
  const arcs: number[] = [];
  let value = 0;
  for (const byte of content) {
    value = value * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (arcs.length === 0)
      arcs.push(
        Math.min(2, Math.floor(value / 40)),
        value - 40 * Math.min(2, Math.floor(value / 40)),
      );
    else arcs.push(value);
    value = 0;
  }
  return arcs.join(".");
}

/** The same for numbers above 2^53, such as the UUIDs below 2.25 (X.667). */
function wideDotted(content: Bytes): string {
  const arcs: bigint[] = [];
  let value = 0n;
  for (const byte of content) {
    value = (value << 7n) | BigInt(byte & 0x7f);
    if (byte >= 0x80) continue;
    const top = value < 80n ? value / 40n : 2n;
    if (arcs.length === 0) arcs.push(top, value - 40n * top);
    else arcs.push(value);
    value = 0n;
  }
  return arcs.join(".");
}

function readExtensions(list: DerReader, extensions: CertificateExtension[]): void {
  while (!list.done) {
    const extension = list.enter(TAG.sequence);
    const oid = readDotted(extension);
    const critical = extension.peek() === TAG.boolean && extension.boolean();
    extension.expect(TAG.octetString);
    const value = extension.content();
    extension.finish();
    if (extensions.some((other) => other.oid === oid))
      throw new FormatError(`its extension ${extensionText(oid)} appears twice`);
    extensions.push({ oid, critical, value });
  }
}

function interpret(extensions: readonly CertificateExtension[], walk: Walk) {
  const open = (oid: string): DerReader | null => {
    walk.extension = oid;
    const found = extensions.find((extension) => extension.oid === oid);
    return found === undefined ? null : new DerReader(found.value);
  };
  return {
    ...readBasicConstraints(open(OID.basicConstraints)),
    keyUsage: readKeyUsage(open(OID.keyUsage)),
    extKeyUsage: readExtKeyUsage(open(OID.extKeyUsage)),
    subjectKeyId: readSubjectKeyId(open(OID.subjectKeyIdentifier)),
    authorityKeyId: readAuthorityKeyId(open(OID.authorityKeyIdentifier)),
    ...readSubjectNames(open(OID.subjectAltName), walk),
  };
}

function readBasicConstraints(value: DerReader | null): Pick<Certificate, "isCa" | "pathLength"> {
  if (value === null) return { isCa: false, pathLength: null };
  const fields = value.enterLast(TAG.sequence);
  const isCa = fields.peek() === TAG.boolean && fields.boolean();
  const pathLength = fields.done ? null : fields.small();
  fields.finish();
  return { isCa, pathLength };
}

function readKeyUsage(value: DerReader | null): number | null {
  if (value === null) return null;
  value.expect(TAG.bitString);
  value.finish();
  const [unused = 8, ...octets] = value.content();
  if (unused > 7) throw new FormatError("its key usage is not a bit string");
  let usage = 0;
  // RFC 5280 §4.2.1.3 names nine bits; bits after them have no meaning.
  for (const [octet, byte] of octets.slice(0, 2).entries())
    for (let bit = 0; bit < 8; bit++) if (byte & (0x80 >> bit)) usage |= 1 << (8 * octet + bit);
  return usage;
}

function readExtKeyUsage(value: DerReader | null): string[] | null {
  if (value === null) return null;
  const list = value.enterLast(TAG.sequence);
  const purposes: string[] = [];
  while (!list.done) purposes.push(readDotted(list));
  return purposes;
}

function readSubjectKeyId(value: DerReader | null): Bytes | null {
  if (value === null) return null;
  value.expect(TAG.octetString);
  value.finish();
  return value.content();
}

function readAuthorityKeyId(value: DerReader | null): Bytes | null {
  if (value === null) return null;
  const fields = value.enterLast(TAG.sequence);
  let keyId: Bytes | null = null;
  while (!fields.done) {
    fields.next();
    if (fields.tag === contextPrimitive(0)) keyId = fields.content();
  }
  return keyId;
}

function readSubjectNames(
  value: DerReader | null,
  walk: Walk,
): Pick<Certificate, "uris" | "dnsNames" | "ipAddresses"> {
  const names = { uris: [] as string[], dnsNames: [] as string[], ipAddresses: [] as Bytes[] };
  if (value === null) return names;
  const text = (content: Bytes): string => {
    try {
      return fromUtf8(content);
    } catch {
      throw new FormatError(`${partOf(walk)} has a name that is not text`);
    }
  };
  const list = value.enterLast(TAG.sequence);
  while (!list.done) {
    list.next();
    if (list.tag === contextPrimitive(6)) names.uris.push(text(list.content()));
    else if (list.tag === contextPrimitive(2)) names.dnsNames.push(text(list.content()));
    else if (list.tag === contextPrimitive(7)) names.ipAddresses.push(list.content());
  }
  return names;
}

/** Whether a certificate is valid at an instant; notAfter is inclusive (RFC 5280 §4.1.2.5). */
export function inForce(
  certificate: Pick<Certificate, "notBefore" | "notAfter">,
  at: Date,
): boolean {
  return (
    certificate.notBefore.getTime() <= at.getTime() &&
    at.getTime() <= certificate.notAfter.getTime() + 999
  );
}
