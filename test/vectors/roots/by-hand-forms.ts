/**
 * Roots by hand in which a part has a form that some verifier does not read: what stands in names, in the extensions that
 * OpenSSL and Go parse in every certificate, and in name constraints.
 * @module
 */
import { utf8 } from "../../../src/core/bytes.ts";
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  octetString,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import {
  attribute,
  constraints,
  garbage,
  type HandRow,
  id,
  integer,
  nameOf,
  nc,
  type Parts,
  subtree,
  UTF8,
} from "./by-hand.ts";
import { URI } from "./vector.ts";

const UUID = "2.25.2147483648";
const PAST_INT = "1.3.6.1.4.1.2147483648";
const LARGEST = "1.3.6.1.4.1.2147483647";
const KEY_ID = utf8("root-1");
const EKU = [id(OID.clientAuth), id(OID.serverAuth)];

const extension = (oid: string, value: DerNode, critical = false): Parts => ({
  extensions: [{ oid, critical, value }],
});
const names = (...more: readonly DerNode[]): DerNode =>
  sequence(element(contextPrimitive(6), utf8(URI)), ...more);
const san = (...more: readonly DerNode[]): Parts => extension(OID.subjectAltName, names(...more));
/** An authority key identifier in a root whose key identifier is KEY_ID. */
const aki = (...fields: readonly DerNode[]): Parts => ({
  keyId: KEY_ID,
  ...extension(OID.authorityKeyIdentifier, sequence(...fields)),
});
const keyId = element(contextPrimitive(0), KEY_ID);
const serial = (...octets: readonly number[]) =>
  element(contextPrimitive(2), Uint8Array.from(octets));
const crl = (...fields: readonly DerNode[]): Parts =>
  extension(OID.crlDistributionPoints, sequence(sequence(...fields)));
const excluded = (tag: number, content: DerNode | Uint8Array, critical = true): Parts =>
  nc(constraints([], [subtree(tag, content)]), critical);
const [EMAIL, DNS, HOST] = [1, 2, 6].map(contextPrimitive) as [number, number, number];
const DIRECTORY = contextConstructed(4);
const WIDE = "2^31 or more";
const AKI = "malformed extension 2.5.29.35 (authority key identifier)";
const SAN = "malformed extension 2.5.29.17 (subject alternative name)";
const CRL = "malformed extension 2.5.29.31 (CRL distribution points)";
const JAVA = "that Java does not read";

export const FORMS: readonly HandRow[] = [
  [
    "a subject in UTF8String with a NUL",
    { subject: nameOf(UTF8, Uint8Array.of(0x52, 0, 0x53)) },
    null,
  ],
  [
    "a subject in BMPString with U+FFFF",
    { subject: nameOf(0x1e, Uint8Array.of(0, 0x52, 0xff, 0xff)) },
    "a noncharacter",
  ],
  [
    "a subject in BMPString with U+FDD0",
    { subject: nameOf(0x1e, Uint8Array.of(0, 0x52, 0xfd, 0xd0)) },
    "a noncharacter",
  ],
  [
    "a subject of nothing but an empty part",
    { subject: sequence(element(TAG.set)) },
    "has no attribute",
  ],
  ["a subject with an attribute below a UUID", { subject: nameOf(UTF8, utf8("Root"), UUID) }, WIDE],
  [
    "a subject with an attribute of a number of 2^31",
    { subject: nameOf(UTF8, utf8("Root"), PAST_INT) },
    WIDE,
  ],
  [
    "a subject with an attribute of a number below 2^31",
    { subject: nameOf(UTF8, utf8("Root"), LARGEST) },
    null,
  ],
  ["an extension below a UUID", extension(UUID, element(TAG.null)), WIDE],
  [
    "an extension whose first two numbers make 2^31",
    extension("2.2147483568", element(TAG.null)),
    WIDE,
  ],
  ["an extension of a number of 2^31", extension(PAST_INT, element(TAG.null)), WIDE],
  ["an extension of a number below 2^31", extension(LARGEST, element(TAG.null)), null],
  [
    "an extended key usage below a UUID",
    extension(OID.extKeyUsage, sequence(...EKU, id(UUID))),
    WIDE,
  ],
  [
    "authority information of a method below a UUID",
    extension(
      OID.authorityInfoAccess,
      sequence(sequence(id(UUID), element(HOST, utf8("http://ca.example/")))),
    ),
    WIDE,
  ],
  ["a policy below a UUID", extension(OID.certificatePolicies, sequence(sequence(id(UUID)))), null],
  [
    "policy constraints of a number that is too large",
    extension(
      OID.policyConstraints,
      sequence(element(contextPrimitive(0), Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0))),
    ),
    "has a number that is too large",
  ],
  [
    "malformed IP address blocks",
    extension(OID.ipAddressBlocks, garbage),
    "malformed extension 1.3.6.1.5.5.7.1.7",
  ],
  [
    "IP address blocks",
    extension(
      OID.ipAddressBlocks,
      sequence(
        sequence(octetString(Uint8Array.of(0, 1)), sequence(bitString(Uint8Array.of(10)))),
        sequence(octetString(Uint8Array.of(0, 2)), element(TAG.null)),
      ),
    ),
    null,
  ],
  [
    "malformed autonomous systems",
    extension(OID.autonomousSystems, garbage),
    "malformed extension 1.3.6.1.5.5.7.1.8",
  ],
  [
    "autonomous systems",
    extension(
      OID.autonomousSystems,
      sequence(
        element(contextConstructed(0), sequence(integer(5), sequence(integer(7), integer(9)))),
      ),
    ),
    null,
  ],
  ["an authority key identifier in a wrong order", aki(serial(7), keyId), AKI],
  [
    "an authority key identifier with an unknown field",
    aki(keyId, element(contextPrimitive(3), KEY_ID)),
    AKI,
  ],
  [
    "an authority key identifier with a key identifier in parts",
    aki(element(contextConstructed(0), octetString(KEY_ID))),
    AKI,
  ],
  [
    "an authority key identifier with a truncated name",
    aki(keyId, element(contextConstructed(1), Uint8Array.of(0x30, 0x85)), serial(7)),
    AKI,
  ],
  ["an authority key identifier with a padded serial number", aki(keyId, serial(0, 7)), AKI],
  [
    "an authority key identifier with a negative serial number",
    { ...aki(keyId, serial(0x87)), serial: integer(0, 0x87) },
    AKI,
  ],
  [
    "an authority key identifier with a serial number of eight bits",
    { ...aki(keyId, serial(0, 0x87)), serial: integer(0, 0x87) },
    null,
  ],
  [
    "an authority key identifier with its own name in other letters",
    aki(
      keyId,
      element(contextConstructed(1), element(DIRECTORY, nameOf(0x13, utf8("ROOT  by hand")))),
      serial(7),
    ),
    null,
  ],
  ["a directory name that is none among its names", san(element(DIRECTORY, garbage)), SAN],
  [
    "a directory name of a type that OpenSSL does not read",
    san(element(DIRECTORY, nameOf(0x1a, utf8("x")))),
    SAN,
  ],
  [
    "a directory name with _ in a PrintableString",
    san(element(DIRECTORY, nameOf(0x13, utf8("a_b")))),
    null,
  ],
  ["an otherName without a value", san(element(contextConstructed(0), id("1.2.3.4"))), SAN],
  ["a registered ID that is none", san(element(contextPrimitive(8), Uint8Array.of(0x80))), SAN],
  ["a registered ID", san(element(contextPrimitive(8), Uint8Array.of(0x2a, 3))), null],
  ["an EDI party name that is none", san(element(contextConstructed(5), garbage)), SAN],
  [
    "an EDI party name",
    san(element(contextConstructed(5), element(contextConstructed(1), element(UTF8, utf8("x"))))),
    null,
  ],
  [
    "an empty e-mail address among critical names",
    extension(OID.subjectAltName, names(element(EMAIL)), true),
    SAN,
  ],
  [
    "a distribution point relative to its issuer",
    crl(element(contextConstructed(0), element(contextConstructed(1), attribute(UTF8, utf8("x"))))),
    CRL,
  ],
  [
    "a distribution point of reasons only",
    crl(element(contextPrimitive(1), Uint8Array.of(6, 0x40))),
    CRL,
  ],
  ["an empty distribution point", crl(), CRL],
  [
    "a distribution point of an issuer",
    crl(element(contextConstructed(2), element(DIRECTORY, nameOf(UTF8, utf8("x"))))),
    null,
  ],
  [
    "constraints on the URIs of an IP address",
    excluded(HOST, utf8("10.0.0.1"), false),
    'the malformed name "10.0.0.1"',
  ],
  ["constraints on the URIs of .", excluded(HOST, utf8("."), false), 'the malformed name "."'],
  ["constraints on the DNS name .", excluded(DNS, utf8("."), false), 'the malformed name "."'],
  ["critical constraints on the URIs of a wildcard", excluded(HOST, utf8("*.example.com")), JAVA],
  ["constraints on the URIs of a wildcard", excluded(HOST, utf8("*.example.com"), false), null],
  ["critical constraints on URIs with a scheme", excluded(HOST, utf8("https://example.com")), JAVA],
  ["critical constraints on URIs with a port", excluded(HOST, utf8("example.com:80")), JAVA],
  ["critical constraints on every e-mail address", excluded(EMAIL, new Uint8Array()), JAVA],
  [
    "constraints on an e-mail address without a local part",
    excluded(EMAIL, utf8("@example.com"), false),
    'the malformed name "@example.com"',
  ],
  [
    "constraints on an e-mail address without a host",
    excluded(EMAIL, utf8("a@")),
    'the malformed name "a@"',
  ],
  [
    "constraints on an e-mail address with a blank",
    excluded(EMAIL, utf8("a b@example.com"), false),
    "the malformed name",
  ],
  ["constraints on an e-mail address in quotes", excluded(EMAIL, utf8('"a b"@example.com')), null],
  [
    "constraints on a directory name of garbage",
    excluded(DIRECTORY, sequence(element(TAG.set, element(TAG.null))), false),
    "a malformed directory name",
  ],
  [
    "constraints on an otherName of garbage",
    excluded(contextConstructed(0), garbage, false),
    "a malformed directory name or other name",
  ],
  [
    "constraints on a name of an unknown kind",
    excluded(contextPrimitive(15), utf8("x"), false),
    "a malformed directory name or other name",
  ],
];
