/**
 * Encodes leaves. This is the hot path: all that an issuer's leaves share is encoded once, in its template; for each
 * leaf the varying fields are written into one buffer, which is signed and completed in place.
 * @module
 */
import { type Bytes, utf8 } from "../bytes.ts";
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
  writeLength,
} from "./der.ts";
import { sha256 } from "./digest.ts";
import type { SignatureScheme } from "./keys.ts";
import { OID } from "./oids.ts";
import type { LeafNames } from "./profile.ts";
import { SERIAL_LENGTH } from "./serial.ts";
import { encodeValidity } from "./time.ts";

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
  /** The TBSCertificate, to be signed. */
  readonly signed: Bytes;
  /** Appends the signature and returns the DER certificate. Call once: it shares the buffer with `signed`. */
  complete(signature: Bytes): Bytes;
}

export interface LeafTemplate {
  readonly issuer: Certificate;
  readonly scheme: SignatureScheme;
  encode(fields: LeafFields): LeafDraft;
}

/** RSA-4096's signature is the longest, 512 octets; its BIT STRING takes five more. */
const MAX_SIGNATURE = 517;
/** Every certificate here is longer than 255 and shorter than 65536 octets, so that its header takes four. */
const HEADER = 4;

const VERSION_3 = encode(element(contextConstructed(0), element(TAG.integer, Uint8Array.of(2))));

function extension(dotted: string, critical: boolean, value: DerNode): DerNode {
  const flag = critical ? [element(TAG.boolean, Uint8Array.of(0xff))] : [];
  return sequence(oid(oidContent(dotted)), ...flag, octetString(value));
}

/** The named bits that a leaf may have all lie in the first octet; trailing zero bits are not encoded (X.690 §11.2.2). */
function keyUsageExtension(usage: number): Bytes {
  const octet = usage & KEY_USAGE.keyEncipherment ? 0xa0 : 0x80;
  const unused = octet === 0xa0 ? 5 : 7;
  return encode(extension(OID.keyUsage, true, element(TAG.bitString, Uint8Array.of(unused, octet))));
}

const KEY_USAGE_SIGN = keyUsageExtension(KEY_USAGE.digitalSignature);
const KEY_USAGE_SIGN_AND_ENCIPHER = keyUsageExtension(KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment);

/** Extended key usage (client, then server, as in Consul) and basic constraints (not a CA), which no leaf varies. */
const FIXED_EXTENSIONS = encode(
  sequence(
    extension(OID.extKeyUsage, false, sequence(oid(oidContent(OID.clientAuth)), oid(oidContent(OID.serverAuth)))),
    extension(OID.basicConstraints, true, sequence()),
  ),
).subarray(2);

const SUBJECT_KEY_ID_HEAD = encode(extension(OID.subjectKeyIdentifier, false, octetString(new Uint8Array(32)))).slice(0, -32);
const SUBJECT_ALT_NAME_OID = encode(oid(oidContent(OID.subjectAltName)));
const CRITICAL = encode(element(TAG.boolean, Uint8Array.of(0xff)));
const EMPTY_SUBJECT = encode(sequence());

/**
 * Prepares all that leaves of one issuer share.
 * @param issuer has a subject key identifier; without one there is no authority key identifier to write.
 */
export function createLeafTemplate(issuer: Certificate, scheme: SignatureScheme): LeafTemplate {
  if (issuer.subjectKeyId === null) throw new TypeError("Issuer has no subject key identifier");
  const authorityKeyId = encode(extension(OID.authorityKeyIdentifier, false, sequence(element(contextPrimitive(0), issuer.subjectKeyId))));
  const identifierAndIssuer = encode(sequence(scheme.identifier, issuer.subject)).subarray(
    -(scheme.identifier.length + issuer.subject.length),
  );
  let validity: { notBefore: number; notAfter: number; der: Bytes } | undefined;

  const validityOf = (notBefore: Date, notAfter: Date): Bytes => {
    // Leaves come by the thousand in a second, and certificates hold whole seconds.
    if (validity?.notBefore !== notBefore.getTime() || validity.notAfter !== notAfter.getTime())
      validity = { notBefore: notBefore.getTime(), notAfter: notAfter.getTime(), der: encode(encodeValidity(notBefore, notAfter)) };
    return validity.der;
  };

  return {
    issuer,
    scheme,
    encode(fields) {
      if (fields.serial.length !== SERIAL_LENGTH) throw new RangeError(`Serial must have ${SERIAL_LENGTH} octets`);
      const keyUsage = fields.keyUsage & KEY_USAGE.keyEncipherment ? KEY_USAGE_SIGN_AND_ENCIPHER : KEY_USAGE_SIGN;
      const dates = validityOf(fields.notBefore, fields.notAfter);
      const names = encodeNames(fields);
      const sanValue = names.length;
      const sanBody = SUBJECT_ALT_NAME_OID.length + CRITICAL.length + 1 + lengthSize(sanValue) + sanValue;
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
      const signedLength = 1 + lengthSize(body) + body;
      const out = new Uint8Array(HEADER + signedLength + scheme.identifier.length + MAX_SIGNATURE);

      let at = HEADER;
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
      put(sha256(fields.spki));
      put(authorityKeyId);
      open(TAG.sequence, sanBody);
      put(SUBJECT_ALT_NAME_OID);
      put(CRITICAL);
      open(TAG.octetString, sanValue);
      put(names);

      return {
        signed: out.subarray(HEADER, at),
        complete(signature) {
          let end = HEADER + signedLength;
          out.set(scheme.identifier, end);
          end += scheme.identifier.length;
          out[end] = TAG.bitString;
          end = writeLength(out, end + 1, signature.length + 1);
          out[end] = 0;
          out.set(signature, end + 1);
          end += 1 + signature.length;
          out[0] = TAG.sequence;
          writeLength(out, 1, end - HEADER);
          return out.subarray(0, end);
        },
      };
    },
  };
}

/** GeneralNames in Go's order: DNS, IP, URI (consul-ca.md §3.1). */
function encodeNames(names: LeafNames): Bytes {
  const uri = element(contextPrimitive(6), utf8(names.uri));
  if (names.dnsNames.length === 0 && names.ipAddresses.length === 0) return encode(sequence(uri));
  const dnsNames = names.dnsNames.map((name) => element(contextPrimitive(2), utf8(name)));
  const ipAddresses = names.ipAddresses.map((address) => element(contextPrimitive(7), address));
  return encode(sequence(...dnsNames, ...ipAddresses, uri));
}
