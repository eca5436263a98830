/**
 * Leaves: which key usage, validity and serial number each gets, and their encoding. The encoding is the hot path: all that an
 * issuer's leaves share is encoded once, in its template; for each leaf every length is computed
 * first, and then each field written once.
 * @module
 */
import { type Bytes, concat, hex } from "../bytes.ts";
import type { Random } from "../ports/clock.ts";
import { type Certificate, KEY_USAGE } from "./certificate.ts";
import {
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  encode,
  lengthSize,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
  time,
  wholeSecond,
  writeLength,
} from "./der.ts";
import { ecdsaLength, type KeyType, keyIdOf, type SignatureScheme, writeEcdsa } from "./keys.ts";
import { OID } from "./oids.ts";

/**
 * Leaves are valid from a minute before they are signed (Consul's
 * agent/connect/ca/provider_consul.go); one that lives for less than ten, from a tenth of its life.
 */
export const LEAF_BACKDATE_MS = 60_000;
const BACKDATED_PART = 10;

/** The limits of leaves that are encoded here. A leaf of less than a minute has no time to be renewed. */
export const LOCAL_LEAF_LIMITS = { minTtlMs: 60_000, backdateMs: LEAF_BACKDATE_MS } as const;

/** No keyEncipherment for an EC key (RFC 8813 §3); RSA key exchange needs it (RFC 5246 §7.4.2). */
export function leafKeyUsage(type: KeyType): number {
  return type === "rsa"
    ? KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment
    : KEY_USAGE.digitalSignature;
}

/** How long a leaf lives. */
export interface LeafLife {
  /** From the moment when it is signed, in milliseconds. */
  readonly ttlMs: number;
  /** How long before that moment it is valid at most, in milliseconds. */
  readonly backdateMs: number;
}

/** How long before it is signed a leaf is valid, in milliseconds: whole seconds. */
export function backdateOf({ ttlMs, backdateMs }: LeafLife): number {
  return Math.min(backdateMs, wholeSeconds(ttlMs / BACKDATED_PART));
}

/**
 * The longest life whose validity, the time before it is signed included, has at most `spanMs`.
 * @param spanMs whole seconds. @returns whole seconds, in milliseconds
 */
export function longestLife(spanMs: number, backdateMs: number): number {
  // Where a tenth is back-dated, 11 seconds of validity are 10 of life.
  const short = wholeSeconds((spanMs + 1000) * (BACKDATED_PART / (BACKDATED_PART + 1)));
  const fits = (ttlMs: number) => ttlMs + backdateOf({ ttlMs, backdateMs }) <= spanMs;
  const candidates = [spanMs - backdateMs, short, short - 1000];
  return Math.max(0, ...candidates.filter(fits));
}

/**
 * The validity of a leaf that is signed now, within those of its issuer and of the active root.
 * Cross-signed certificates do not count.
 */
export function leafValidity(
  issuer: Certificate,
  root: Certificate,
  life: LeafLife,
  now: Date,
): { notBefore: Date; notAfter: Date } {
  const signed = wholeSecond(now).getTime();
  const start = Math.max(
    signed - backdateOf(life),
    issuer.notBefore.getTime(),
    root.notBefore.getTime(),
  );
  const end = Math.min(signed + life.ttlMs, issuer.notAfter.getTime(), root.notAfter.getTime());
  return { notBefore: wholeSecond(new Date(start)), notAfter: wholeSecond(new Date(end)) };
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

/** Octets of a serial number: 128 bits, below the 20 octets that RFC 5280 §4.1.2.2 allows. */
export const SERIAL_LENGTH = 16;

/**
 * Makes random serial numbers (RFC 5280 §4.1.2.2) of 16 octets, as DER INTEGER content. The top two
 * bits are 01, so that each is positive, minimal and of the same length; the other 126 bits are
 * random, of which the CA/Browser Forum's baseline requirements (§7.1) ask for 64. Randomness is
 * taken in blocks, since a call for 16 octets costs as much as one for 4096.
 */
export function createSerials(random: Random): () => Bytes {
  let pool = new Uint8Array(0) as Bytes;
  let offset = 0;
  return () => {
    if (offset + SERIAL_LENGTH > pool.length) {
      pool = random.bytes(256 * SERIAL_LENGTH);
      offset = 0;
    }
    const serial = pool.slice(offset, offset + SERIAL_LENGTH);
    offset += SERIAL_LENGTH;
    serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
    return serial;
  };
}

/** The subject names of a leaf. */
export interface LeafNames {
  /** The canonical SPIFFE ID. */
  readonly uri: string;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly Bytes[];
}

/** The DNS and IP names of this CA's servers, which only their own identity is allowed to have. */
export type ServerNames = Omit<LeafNames, "uri">;
export const NO_SERVER_NAMES: ServerNames = { dnsNames: [], ipAddresses: [] };

/** Dotted for IPv4, groups without abbreviation for IPv6. */
export function ipText(address: Bytes): string {
  return address.length === 4 ? address.join(".") : (hex(address).match(/.{4}/g) ?? []).join(":");
}

/** The fields that differ from leaf to leaf. */
export interface LeafFields extends LeafNames {
  /** SERIAL_LENGTH octets, positive. */
  readonly serial: Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Bytes;
  /** Bits as in KEY_USAGE. */
  readonly keyUsage: number;
}

/** A leaf without its signature. */
export interface LeafDraft {
  readonly fields: LeafFields;
  /** The TBSCertificate, to be signed. */
  readonly signed: Bytes;
  /** Appends the signature, given in WebCrypto's form. @returns the DER certificate. */
  complete(signature: Bytes): Bytes;
}

const VERSION_3 = encode(element(contextConstructed(0), element(TAG.integer, Uint8Array.of(2))));

function extension(dotted: string, critical: boolean, value: DerNode): DerNode {
  const flag = critical ? [element(TAG.boolean, Uint8Array.of(0xff))] : [];
  return sequence(oid(oidContent(dotted)), ...flag, octetString(value));
}

/** All bits of a leaf are in the first octet; trailing zero bits are not encoded (X.690 §11.2.2). */
function keyUsageExtension(usage: number): Bytes {
  const octet = usage & KEY_USAGE.keyEncipherment ? 0xa0 : 0x80;
  const unused = octet === 0xa0 ? 5 : 7;
  return encode(
    extension(OID.keyUsage, true, element(TAG.bitString, Uint8Array.of(unused, octet))),
  );
}

const KEY_USAGE_SIGN = keyUsageExtension(KEY_USAGE.digitalSignature);
const KEY_USAGE_SIGN_AND_ENCIPHER = keyUsageExtension(
  KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment,
);

/** The constant extensions: extended key usage (client, server, as in Consul), basic constraints. */
const FIXED_EXTENSIONS = encode(
  sequence(
    extension(
      OID.extKeyUsage,
      false,
      sequence(oid(oidContent(OID.clientAuth)), oid(oidContent(OID.serverAuth))),
    ),
    extension(OID.basicConstraints, true, sequence()),
  ),
).subarray(2);

const SUBJECT_KEY_ID_HEAD = encode(
  extension(OID.subjectKeyIdentifier, false, octetString(new Uint8Array(32))),
).slice(0, -32);
const SUBJECT_ALT_NAME_OID = encode(oid(oidContent(OID.subjectAltName)));
const CRITICAL = encode(element(TAG.boolean, Uint8Array.of(0xff)));
const EMPTY_SUBJECT = encode(sequence());

/** What all leaves of an issuer share, encoded once. */
export class LeafTemplate {
  readonly scheme: SignatureScheme;
  readonly #authorityKeyId: Bytes;
  readonly #identifierAndIssuer: Bytes;
  #validity: { notBefore: number; notAfter: number; der: Bytes } | undefined;

  /** @param issuer one with a subject key identifier, which is the leaves' authority key identifier. */
  constructor(issuer: Certificate, scheme: SignatureScheme) {
    if (issuer.subjectKeyId === null) throw new TypeError("Issuer has no subject key identifier");
    this.scheme = scheme;
    this.#authorityKeyId = encode(
      extension(
        OID.authorityKeyIdentifier,
        false,
        sequence(element(contextPrimitive(0), issuer.subjectKeyId)),
      ),
    );
    this.#identifierAndIssuer = concat(scheme.identifier, issuer.subject);
  }

  /** Encodes a leaf without its signature. @throws {RangeError} for a serial of another length */
  encode(fields: LeafFields): LeafDraft {
    if (fields.serial.length !== SERIAL_LENGTH)
      throw new RangeError(`Serial must have ${SERIAL_LENGTH} octets`);
    const keyUsage =
      fields.keyUsage & KEY_USAGE.keyEncipherment ? KEY_USAGE_SIGN_AND_ENCIPHER : KEY_USAGE_SIGN;
    const dates = this.#validityOf(fields.notBefore, fields.notAfter);
    const namesBody = namesLength(fields);
    const sanValue = 1 + lengthSize(namesBody) + namesBody;
    const sanBody =
      SUBJECT_ALT_NAME_OID.length + CRITICAL.length + 1 + lengthSize(sanValue) + sanValue;
    const extensionsBody =
      keyUsage.length +
      FIXED_EXTENSIONS.length +
      SUBJECT_KEY_ID_HEAD.length +
      32 +
      this.#authorityKeyId.length +
      1 +
      lengthSize(sanBody) +
      sanBody;
    const extensions = 1 + lengthSize(extensionsBody) + extensionsBody;
    const body =
      VERSION_3.length +
      2 +
      SERIAL_LENGTH +
      this.#identifierAndIssuer.length +
      dates.length +
      EMPTY_SUBJECT.length +
      fields.spki.length +
      1 +
      lengthSize(extensions) +
      extensions;
    const out = new Uint8Array(1 + lengthSize(body) + body);

    let at = 0;
    const put = (bytes: Uint8Array) => {
      out.set(bytes, at);
      at += bytes.length;
    };
    const open = (tag: number, length: number) => {
      out[at] = tag;
      at = writeLength(out, at + 1, length);
    };
    open(TAG.sequence, body);
    put(VERSION_3);
    open(TAG.integer, SERIAL_LENGTH);
    put(fields.serial);
    put(this.#identifierAndIssuer);
    put(dates);
    put(EMPTY_SUBJECT);
    put(fields.spki);
    open(contextConstructed(3), extensions);
    open(TAG.sequence, extensionsBody);
    put(keyUsage);
    put(FIXED_EXTENSIONS);
    put(SUBJECT_KEY_ID_HEAD);
    put(keyIdOf(fields.spki));
    put(this.#authorityKeyId);
    open(TAG.sequence, sanBody);
    put(SUBJECT_ALT_NAME_OID);
    put(CRITICAL);
    open(TAG.octetString, sanValue);
    open(TAG.sequence, namesBody);
    at = writeNames(out, at, fields);

    const { scheme } = this;
    return { fields, signed: out, complete: (signature) => complete(out, scheme, signature) };
  }

  #validityOf(notBefore: Date, notAfter: Date): Bytes {
    const [from, to] = [notBefore.getTime(), notAfter.getTime()];
    // Certificates hold whole seconds, so thousands of leaves have the same validity.
    if (this.#validity?.notBefore !== from || this.#validity.notAfter !== to)
      this.#validity = {
        notBefore: from,
        notAfter: to,
        der: encode(sequence(time(notBefore), time(notAfter))),
      };
    return this.#validity.der;
  }
}

/**
 * Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue } (RFC 5280 §4.1).
 */
function complete(signed: Bytes, scheme: SignatureScheme, signature: Bytes): Bytes {
  const signatureLength = scheme.type === "ec" ? ecdsaLength(signature) : signature.length;
  const bits = 1 + lengthSize(signatureLength + 1) + 1 + signatureLength;
  const body = signed.length + scheme.identifier.length + bits;
  const out = new Uint8Array(1 + lengthSize(body) + body);
  out[0] = TAG.sequence;
  let at = writeLength(out, 1, body);
  out.set(signed, at);
  at += signed.length;
  out.set(scheme.identifier, at);
  at += scheme.identifier.length;
  out[at] = TAG.bitString;
  // One octet more, 0: how many bits of the last octet are unused.
  at = writeLength(out, at + 1, signatureLength + 1) + 1;
  if (scheme.type === "ec") writeEcdsa(out, at, signature);
  else out.set(signature, at);
  return out;
}

const nameLength = (length: number): number => 1 + lengthSize(length) + length;

/** Octets of the content of GeneralNames. All names are ASCII, as `readCsr` checked. */
export function namesLength({ dnsNames, ipAddresses, uri }: LeafNames): number {
  let length = nameLength(uri.length);
  for (const name of dnsNames) length += nameLength(name.length);
  for (const address of ipAddresses) length += nameLength(address.length);
  return length;
}

/**
 * Writes the content of GeneralNames in the order of Go, as in Consul's leaves: DNS, IP, URI.
 * @returns the offset behind it.
 */
function writeNames(
  out: Uint8Array,
  offset: number,
  { dnsNames, ipAddresses, uri }: LeafNames,
): number {
  let at = offset;
  for (const name of dnsNames) at = writeAscii(out, at, contextPrimitive(2), name);
  for (const address of ipAddresses) {
    out[at] = contextPrimitive(7);
    at = writeLength(out, at + 1, address.length);
    out.set(address, at);
    at += address.length;
  }
  return writeAscii(out, at, contextPrimitive(6), uri);
}

function writeAscii(out: Uint8Array, offset: number, tag: number, text: string): number {
  out[offset] = tag;
  const at = writeLength(out, offset + 1, text.length);
  for (let i = 0; i < text.length; i++) out[at + i] = text.charCodeAt(i);
  return at + text.length;
}
