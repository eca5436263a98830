/**
 * Names of certificates (RFC 5280 §4.1.2.4) as verifiers read them. Leaves contain the subject of their
 * issuer, so a verifier that cannot decode it refuses all of them.
 * @module
 */
import { type Bytes, equal, fromUtf8, hex, latin1, utf8 } from "../bytes.ts";
import { readOrNull } from "../errors.ts";
import {
  DerError,
  type DerNode,
  DerReader,
  element,
  encode,
  oid,
  oidContent,
  sequence,
  TAG,
} from "./der.ts";
import { OID } from "./oids.ts";

/**
 * PrintableString as Go reads it (crypto/x509, isPrintable): X.680 §41.4, with `*` and `&`, which
 * old CAs wrote into it.
 */
const PRINTABLE = /^[A-Za-z0-9 '()+,\-./:=?*&]*$/;

/** The fault of a string's content, or null. */
type CheckString = (content: Bytes) => string | null;

/** By tag. Go reads only these types. */
const STRINGS: ReadonlyMap<number, CheckString> = new Map<number, CheckString>([
  [0x0c, (content) => (isUtf8(content) ? null : "a UTF8String that is not UTF-8")],
  [
    0x12,
    (content) =>
      /^[0-9 ]*$/.test(latin1(content))
        ? null
        : "a NumericString with other characters than digits",
  ],
  [
    0x13,
    (content) =>
      PRINTABLE.test(latin1(content))
        ? null
        : "a PrintableString with a character that it is not allowed to have, such as _ or @",
  ],
  [0x14, () => null],
  [
    0x16,
    (content) => (content.every((octet) => octet < 0x80) ? null : "an IA5String that is not ASCII"),
  ],
  [
    0x1e,
    (content) =>
      isBmp(content)
        ? null
        : "a BMPString that is not of whole characters of UCS-2, or has a surrogate or a noncharacter",
  ],
]);

function isUtf8(content: Bytes): boolean {
  return readOrNull(() => fromUtf8(content)) !== null;
}

/**
 * UCS-2 has no surrogates (X.680 §41.3); Go takes none of Unicode's noncharacters either
 * (crypto/x509, parseASN1String).
 */
function isBmp(content: Bytes): boolean {
  if (content.length % 2 !== 0) return false;
  for (let i = 0; i < content.length; i += 2) {
    const unit = ((content[i] as number) << 8) | (content[i + 1] as number);
    if ((unit & 0xf800) === 0xd800 || unit >= 0xfffe || (unit >= 0xfdd0 && unit <= 0xfdef))
      return false;
  }
  return true;
}

/**
 * Why a verifier cannot decode a Name.
 * @param name in DER.
 * @returns the predicate of a sentence whose subject is the name, such as `has an empty value`, or
 * null.
 */
export function nameFault(name: Bytes): string | null {
  try {
    let isEmpty = true;
    for (const { typeIsWide, tag, content } of attributesOf(name)) {
      isEmpty = false;
      if (typeIsWide) return `has an attribute type that Go does not read: ${WIDE_OID}`;
      // RFC 5280 appendix A.1: SIZE (1..MAX). GnuTLS reads no name with an empty value.
      if (content.length === 0) return "has an empty value";
      const check = STRINGS.get(tag);
      if (check === undefined) return `has a value of a type that Go does not read (tag ${tag})`;
      const fault = check(content);
      if (fault !== null) return `has ${fault}`;
    }
    return isEmpty ? "has no attribute" : null;
  } catch (error) {
    if (error instanceof DerError) return error.predicate;
    throw error;
  }
}

/** The fault of an object identifier if `oidIsWide`. */
export const WIDE_OID = "its object identifier has a number of 2^31 or more";

/** Types of a value that OpenSSL reads in a Name (B_ASN1_PRINTABLE of asn1.h, and UTF8String). */
const TYPES_OF_OPENSSL: readonly number[] = [
  TAG.bitString,
  0x0c,
  0x12,
  0x13,
  0x14,
  0x16,
  0x1c,
  0x1e,
  TAG.sequence,
];

/**
 * Why OpenSSL cannot decode a Name in an extension. Other verifiers do not read it, so the rules are
 * laxer than for a subject.
 * @param name in DER. @returns the predicate of a sentence whose subject is the name, or null.
 */
export function embeddedNameFault(name: Bytes): string | null {
  try {
    for (const { tag, content } of attributesOf(name)) {
      if (!TYPES_OF_OPENSSL.includes(tag))
        return `has a value of a type that OpenSSL does not read (tag ${tag})`;
      const fault = tag === 0x0c || tag === 0x1e ? STRINGS.get(tag)?.(content) : null;
      if (fault) return `has ${fault}`;
    }
    return null;
  } catch (error) {
    if (error instanceof DerError) return error.predicate;
    throw error;
  }
}

/** A Name with one common name, as a UTF8String. */
export function nameOf(commonName: string): DerNode {
  const attribute = sequence(oid(COMMON_NAME), element(TAG.utf8String, utf8(commonName)));
  return sequence(element(TAG.set, attribute));
}

interface Attribute {
  readonly type: Bytes;
  readonly typeIsWide: boolean;
  readonly tag: number;
  readonly content: Bytes;
}

/** @throws {DerError} */
function* attributesOf(name: Bytes): Generator<Attribute> {
  for (const relative of relativeNames(name)) {
    const set = new DerReader(relative).enter(TAG.set);
    while (!set.done) {
      const attribute = set.enter(TAG.sequence);
      attribute.oid();
      const [type, typeIsWide] = [attribute.content(), attribute.oidIsWide];
      attribute.next();
      yield { type, typeIsWide, tag: attribute.tag, content: attribute.content() };
      attribute.finish();
    }
  }
}

/** The relative distinguished names of a Name, each in DER. @throws {DerError} */
export function relativeNames(name: Bytes): Bytes[] {
  const list = new DerReader(name).enterLast(TAG.sequence);
  const found: Bytes[] = [];
  while (!list.done) {
    list.expect(TAG.set);
    found.push(list.element());
  }
  return found;
}

/**
 * The parts of a Name as texts that are the same if the parts are equal by RFC 5280 §7.1 and OpenSSL:
 * string type, case and white space do not count. @throws {DerError}
 */
export function comparableParts(name: Bytes): string[] {
  return relativeNames(name).map((relative) =>
    [...attributesOf(encode(sequence(relative)))]
      .map(
        ({ type, tag, content }) =>
          `${hex(type)}=${textOf(tag, content).trim().toLowerCase().replaceAll(/\s+/g, " ")}`,
      )
      .toSorted((a, b) => a.localeCompare(b))
      .join("+"),
  );
}

/** Short names of attributes (RFC 4514 §3 and OpenSSL's), by the octets of their identifiers in hex. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  "0992268993f22c640101": "UID",
  "0992268993f22c640119": "DC",
  "2a864886f70d010901": "emailAddress",
  "550403": "CN",
  "550404": "SN",
  "550405": "serialNumber",
  "550406": "C",
  "550407": "L",
  "550408": "ST",
  "550409": "street",
  "55040a": "O",
  "55040b": "OU",
  "55040c": "title",
  "550411": "postalCode",
  "55042a": "GN",
};

/** A Name for people, in the order in which it is encoded: `CN=root, O=Example`. @throws {DerError} */
export function nameText(name: Bytes): string {
  return [...attributesOf(name)]
    .map(
      ({ type, tag, content }) => `${SHORT_NAMES[hex(type)] ?? hex(type)}=${textOf(tag, content)}`,
    )
    .join(", ");
}

function textOf(tag: number, content: Bytes): string {
  if (tag === 0x1e)
    return String.fromCharCode(
      ...Array.from(
        { length: content.length >> 1 },
        (_, i) => ((content[2 * i] ?? 0) << 8) | (content[2 * i + 1] ?? 0),
      ),
    );
  return tag === 0x0c && isUtf8(content) ? fromUtf8(content) : latin1(content);
}

export interface SubjectEmail {
  readonly text: string;
  /**
   * Whether OpenSSL compares it with constraints instead of refusing it: an IA5String with an `@`
   * (nc_email).
   */
  readonly isComparable: boolean;
}

/**
 * The e-mail addresses in a Name (RFC 5280 §4.1.2.6), which constraints bind too.
 * @throws {DerError}
 */
export function emailsIn(name: Bytes): SubjectEmail[] {
  return [...attributesOf(name)]
    .filter(({ type }) => equal(type, EMAIL_ADDRESS))
    .map(({ tag, content }) => {
      const text = textOf(tag, content);
      return { text, isComparable: tag === TAG.ia5String && text.includes("@") };
    });
}

const COMMON_NAME = oidContent(OID.commonName);
const EMAIL_ADDRESS = oidContent("1.2.840.113549.1.9.1");
