/**
 * Encodes leaves. This is the hot path: all that an issuer's leaves share is encoded once, in its
 * template; for each leaf every length is computed first, and then each field written once, into an
 * array of the right size.
 * @module
 */

import type { Bytes } from "../bytes.ts";
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
  writeLength,
} from "./der.ts";
import { ecdsaLength, keyIdOf, type SignatureScheme, writeEcdsa } from "./keys.ts";
import { OID } from "./oids.ts";
import { type LeafNames, SERIAL_LENGTH } from "./profile.ts";

/** What varies from leaf to leaf. */
export interface LeafFields extends LeafNames {
  /** SERIAL_LENGTH octets, positive. */
  readonly serial: Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Bytes;
  /** Bits as in KEY_USAGE. */
  readonly keyUsage: number;
}

/** A leaf that lacks its signature. */
export interface LeafDraft {
  /** What it was made of. */
  readonly fields: LeafFields;
  /** The TBSCertificate, to be signed. */
  readonly signed: Bytes;
  /** Appends the signature, given in WebCrypto's form. @returns the DER certificate. */
  complete(signature: Bytes): Bytes;
}

export interface LeafTemplate {
  readonly scheme: SignatureScheme;
  encode(fields: LeafFields): LeafDraft;
}

const VERSION_3 = encode(element(contextConstructed(0), element(TAG.integer, Uint8Array.of(2))));

function extension(dotted: string, critical: boolean, value: DerNode): DerNode {
  const flag = critical ? [element(TAG.boolean, Uint8Array.of(0xff))] : [];
  return sequence(oid(oidContent(dotted)), ...flag, octetString(value));
}

/**
 * The named bits that a leaf may have all lie in the first octet; trailing zero bits are not
 * encoded (X.690 §11.2.2).
 */
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

/**
 * Extended key usage (client, then server, as in Consul) and basic constraints (not a CA), which no
 * leaf varies.
 */
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

/**
 * Prepares all that leaves of one issuer share.
 * @param issuer has a subject key identifier; without one there is no authority key identifier to
 * write.
 */
export function createLeafTemplate(issuer: Certificate, scheme: SignatureScheme): LeafTemplate {
  if (issuer.subjectKeyId === null) throw new TypeError("Issuer has no subject key identifier");
  const authorityKeyId = encode(
    extension(
      OID.authorityKeyIdentifier,
      false,
      sequence(element(contextPrimitive(0), issuer.subjectKeyId)),
    ),
  );
  const identifierAndIssuer = encode(sequence(scheme.identifier, issuer.subject)).subarray(
    -(scheme.identifier.length + issuer.subject.length),
  );
  let validity: { notBefore: number; notAfter: number; der: Bytes } | undefined;

  const validityOf = (notBefore: Date, notAfter: Date): Bytes => {
    // Leaves come by the thousand in a second, and certificates hold whole seconds.
    if (validity?.notBefore !== notBefore.getTime() || validity.notAfter !== notAfter.getTime())
      validity = {
        notBefore: notBefore.getTime(),
        notAfter: notAfter.getTime(),
        der: encode(sequence(time(notBefore), time(notAfter))),
      };
    return validity.der;
  };

  return {
    scheme,
    encode(fields) {
      if (fields.serial.length !== SERIAL_LENGTH)
        throw new RangeError(`Serial must have ${SERIAL_LENGTH} octets`);
      const keyUsage =
        fields.keyUsage & KEY_USAGE.keyEncipherment ? KEY_USAGE_SIGN_AND_ENCIPHER : KEY_USAGE_SIGN;
      const dates = validityOf(fields.notBefore, fields.notAfter);
      const namesBody = namesLength(fields);
      const sanValue = 1 + lengthSize(namesBody) + namesBody;
      const sanBody =
        SUBJECT_ALT_NAME_OID.length + CRITICAL.length + 1 + lengthSize(sanValue) + sanValue;
      const extensionsBody =
        keyUsage.length +
        FIXED_EXTENSIONS.length +
        SUBJECT_KEY_ID_HEAD.length +
        32 +
        authorityKeyId.length +
        1 +
        lengthSize(sanBody) +
        sanBody;
      const extensions = 1 + lengthSize(extensionsBody) + extensionsBody;
      const body =
        VERSION_3.length +
        2 +
        SERIAL_LENGTH +
        identifierAndIssuer.length +
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
      put(identifierAndIssuer);
      put(dates);
      put(EMPTY_SUBJECT);
      put(fields.spki);
      open(contextConstructed(3), extensions);
      open(TAG.sequence, extensionsBody);
      put(keyUsage);
      put(FIXED_EXTENSIONS);
      put(SUBJECT_KEY_ID_HEAD);
      put(keyIdOf(fields.spki));
      put(authorityKeyId);
      open(TAG.sequence, sanBody);
      put(SUBJECT_ALT_NAME_OID);
      put(CRITICAL);
      open(TAG.octetString, sanValue);
      open(TAG.sequence, namesBody);
      at = writeNames(out, at, fields);

      return {
        fields,
        signed: out,
        complete: (signature) => complete(out, scheme, signature),
      };
    },
  };
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
  // One octet more: how many bits of the last one are unused, which is none.
  at = writeLength(out, at + 1, signatureLength + 1) + 1;
  if (scheme.type === "ec") writeEcdsa(out, at, signature);
  else out.set(signature, at);
  return out;
}

const nameLength = (length: number): number => 1 + lengthSize(length) + length;

/**
 * Octets of the content of GeneralNames. All names are ASCII: SPIFFE IDs are percent-encoded, DNS
 * names checked.
 */
function namesLength({ dnsNames, ipAddresses, uri }: LeafNames): number {
  let length = nameLength(uri.length);
  for (const name of dnsNames) length += nameLength(name.length);
  for (const address of ipAddresses) length += nameLength(address.length);
  return length;
}

/**
 * Writes the content of GeneralNames in Go's order: DNS, IP, URI (consul-ca.md §3.1).
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
