/**
 * Reads a certificate (RFC 5280 §4.1) into what the CA decides on. Names and the signed part are
 * kept as the octets they came in, since issuer and subject match by octets.
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
  /** Whether the subject names nobody: it has no attribute. */
  readonly subjectEmpty: boolean;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly key: PublicKeyInfo;
  readonly extensions: readonly CertificateExtension[];
  readonly isCa: boolean;
  readonly pathLength: number | null;
  /** Bits as in KEY_USAGE, or null where the extension is missing. */
  readonly keyUsage: number | null;
  /** Dotted object identifiers, or null where the extension is missing. */
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
 * @throws {FormatError} naming the part that is at fault
 */
export function readCertificate(input: Uint8Array): Certificate {
  const walk: Walk = { part: "it" };
  try {
    return readParts(new Uint8Array(input), walk);
  } catch (error) {
    throw inWords(walk.part, error);
  }
}

/** Which part of a certificate is being read, as the subject of a sentence. */
interface Walk {
  part: string;
}

function readParts(der: Bytes, walk: Walk): Certificate {
  const outer = new DerReader(der);
  const certificate = outer.enter(TAG.sequence);
  outer.finish();
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
    const wrapper = body.inside();
    readExtensions(wrapper.enter(TAG.sequence), extensions);
    wrapper.finish();
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

/**
 * The same for numbers that are larger than a Number holds exactly, such as the UUIDs below 2.25
 * (X.667).
 */
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
      throw new FormatError(`extension ${extensionText(oid)} appears twice`);
    extensions.push({ oid, critical, value });
  }
}

type Interpreted = Pick<
  Certificate,
  | "isCa"
  | "pathLength"
  | "keyUsage"
  | "extKeyUsage"
  | "subjectKeyId"
  | "authorityKeyId"
  | "uris"
  | "dnsNames"
  | "ipAddresses"
>;

function interpret(extensions: readonly CertificateExtension[], walk: Walk): Interpreted {
  const open = (oid: string): DerReader | null => {
    walk.part = `its extension ${extensionText(oid)}`;
    const found = extensions.find((extension) => extension.oid === oid);
    return found === undefined ? null : new DerReader(found.value);
  };
  const text = (content: Bytes): string => {
    try {
      return fromUtf8(content);
    } catch {
      throw new FormatError(`${walk.part} has a name that is not text`);
    }
  };
  const whole = <T>(reader: DerReader, value: T): T => {
    reader.finish();
    return value;
  };

  const basic = open(OID.basicConstraints);
  let isCa = false;
  let pathLength: number | null = null;
  if (basic !== null) {
    const fields = basic.enter(TAG.sequence);
    basic.finish();
    isCa = fields.peek() === TAG.boolean && fields.boolean();
    if (!fields.done) pathLength = fields.small();
    fields.finish();
  }

  const usage = open(OID.keyUsage);
  let keyUsage: number | null = null;
  if (usage !== null) {
    usage.expect(TAG.bitString);
    usage.finish();
    const [unused = 8, ...octets] = usage.content();
    if (unused > 7) throw new FormatError("its key usage is not a bit string");
    keyUsage = 0;
    // RFC 5280 §4.2.1.3 names nine bits; what comes behind them has no meaning.
    for (const [octet, byte] of octets.slice(0, 2).entries())
      for (let bit = 0; bit < 8; bit++)
        if (byte & (0x80 >> bit)) keyUsage |= 1 << (8 * octet + bit);
  }

  const purposes = open(OID.extKeyUsage);
  let extKeyUsage: string[] | null = null;
  if (purposes !== null) {
    const list = purposes.enter(TAG.sequence);
    purposes.finish();
    extKeyUsage = [];
    while (!list.done) extKeyUsage.push(readDotted(list));
  }

  const subjectKey = open(OID.subjectKeyIdentifier);
  subjectKey?.expect(TAG.octetString);
  const subjectKeyId = subjectKey === null ? null : whole(subjectKey, subjectKey.content());

  const authorityKey = open(OID.authorityKeyIdentifier);
  let authorityKeyId: Bytes | null = null;
  if (authorityKey !== null) {
    const fields = authorityKey.enter(TAG.sequence);
    authorityKey.finish();
    while (!fields.done) {
      fields.next();
      if (fields.tag === contextPrimitive(0)) authorityKeyId = fields.content();
    }
  }

  const uris: string[] = [];
  const dnsNames: string[] = [];
  const ipAddresses: Bytes[] = [];
  const names = open(OID.subjectAltName);
  if (names !== null) {
    const list = names.enter(TAG.sequence);
    names.finish();
    while (!list.done) {
      list.next();
      if (list.tag === contextPrimitive(6)) uris.push(text(list.content()));
      else if (list.tag === contextPrimitive(2)) dnsNames.push(text(list.content()));
      else if (list.tag === contextPrimitive(7)) ipAddresses.push(list.content());
    }
  }
  return {
    isCa,
    pathLength,
    keyUsage,
    extKeyUsage,
    subjectKeyId,
    authorityKeyId,
    uris,
    dnsNames,
    ipAddresses,
  };
}

/** Whether the certificate is in force at an instant; NotAfter is inclusive (RFC 5280 §4.1.2.5). */
export function inForce(
  certificate: Pick<Certificate, "notBefore" | "notAfter">,
  at: Date,
): boolean {
  return (
    certificate.notBefore.getTime() <= at.getTime() &&
    at.getTime() <= certificate.notAfter.getTime() + 999
  );
}
