/**
 * Roots put together octet by octet, as no tool at hand makes them, or none any more.
 * @module
 */
import { type Bytes, concat, utf8 } from "../../../src/core/bytes.ts";
import { certificatePem, writePem } from "../../../src/core/pem.ts";
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  encode,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
  time,
} from "../../../src/core/x509/der.ts";
import {
  encodeSignature,
  keyIdOf,
  SCHEMES,
  type SignatureScheme,
  sign,
} from "../../../src/core/x509/keys.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import { type RootVector, URI } from "./vector.ts";

export const UTF8 = 0x0c;
const NOT_BEFORE = new Date("2026-01-01T00:00:00Z");
const NOT_AFTER = new Date("2046-01-01T00:00:00Z");

export const id = (dotted: string): DerNode => oid(oidContent(dotted));
const flag = (value: boolean): DerNode => element(TAG.boolean, Uint8Array.of(value ? 0xff : 0));
export const integer = (...octets: readonly number[]): DerNode =>
  element(TAG.integer, Uint8Array.from(octets));
export const attribute = (
  tag: number,
  content: Uint8Array,
  type: string = OID.commonName,
): DerNode => sequence(id(type), element(tag, content));
export const nameOf = (tag: number, content: Uint8Array, type?: string): DerNode =>
  sequence(element(TAG.set, attribute(tag, content, type)));

interface Extension {
  readonly oid: string;
  readonly critical?: boolean | "false";
  readonly value: DerNode;
}

function extension({ oid: dotted, critical = false, value }: Extension): DerNode {
  const spelled = critical === "false" ? [flag(false)] : critical ? [flag(true)] : [];
  return sequence(id(dotted), ...spelled, octetString(value));
}

export interface Parts {
  readonly rsa?: boolean;
  readonly version?: DerNode | null;
  readonly serial?: DerNode;
  readonly inner?: DerNode;
  readonly outer?: DerNode;
  readonly issuer?: DerNode;
  readonly subject?: DerNode;
  readonly notBefore?: DerNode;
  readonly notAfter?: DerNode;
  readonly uniqueId?: DerNode;
  readonly keyId?: Uint8Array;
  /** In place of those of a good root with the same identifier, else behind them. */
  readonly extensions?: readonly Extension[];
  /** Identifiers of those of a good root to be left out. */
  readonly without?: readonly string[];
  readonly change?: (der: Bytes) => Bytes;
}

export async function make(parts: Parts): Promise<Pick<RootVector, "cert" | "key">> {
  const algorithm =
    parts.rsa === true
      ? {
          name: "RSASSA-PKCS1-v1_5",
          hash: "SHA-256",
          modulusLength: 2048,
          publicExponent: Uint8Array.of(1, 0, 1),
        }
      : { name: "ECDSA", namedCurve: "P-256" };
  const pair = (await crypto.subtle.generateKey(algorithm as EcKeyGenParams, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
  const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  const scheme = SCHEMES[parts.rsa === true ? "rsaSha256" : "ecdsaSha256"] as SignatureScheme;
  const keyId = parts.keyId ?? keyIdOf(spki);
  const good: readonly Extension[] = [
    { oid: OID.basicConstraints, critical: true, value: sequence(flag(true)) },
    { oid: OID.keyUsage, critical: true, value: element(TAG.bitString, Uint8Array.of(1, 0x06)) },
    { oid: OID.subjectKeyIdentifier, value: octetString(keyId) },
    { oid: OID.authorityKeyIdentifier, value: sequence(element(contextPrimitive(0), keyId)) },
    { oid: OID.subjectAltName, value: sequence(element(contextPrimitive(6), utf8(URI))) },
  ];
  const { extensions = [], without = [] } = parts;
  const replaced = [...without, ...extensions.map((one) => one.oid)];
  const all = [...good.filter((one) => !replaced.includes(one.oid)), ...extensions];
  const subject = parts.subject ?? nameOf(UTF8, utf8("Root by hand"));
  const version =
    parts.version === undefined
      ? [element(contextConstructed(0), integer(2))]
      : parts.version === null
        ? []
        : [parts.version];
  const signed = encode(
    sequence(
      ...version,
      parts.serial ?? integer(7),
      parts.inner ?? scheme.identifier,
      parts.issuer ?? subject,
      sequence(parts.notBefore ?? time(NOT_BEFORE), parts.notAfter ?? time(NOT_AFTER)),
      subject,
      spki,
      ...(parts.uniqueId === undefined ? [] : [parts.uniqueId]),
      ...(all.length === 0
        ? []
        : [element(contextConstructed(3), sequence(...all.map(extension)))]),
    ),
  );
  const signature = encodeSignature(scheme, await sign(pair.privateKey, scheme, signed));
  const der = encode(
    sequence(signed, parts.outer ?? parts.inner ?? scheme.identifier, bitString(signature)),
  );
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  return { cert: certificatePem(parts.change?.(der) ?? der), key: writePem("PRIVATE KEY", pkcs8) };
}

export const subtree = (
  tag: number,
  content: DerNode | Uint8Array,
  ...more: readonly DerNode[]
): DerNode => sequence(element(tag, content), ...more);
export const constraints = (
  permitted: readonly DerNode[],
  excluded: readonly DerNode[] = [],
): DerNode =>
  sequence(
    ...(permitted.length === 0 ? [] : [element(contextConstructed(0), ...permitted)]),
    ...(excluded.length === 0 ? [] : [element(contextConstructed(1), ...excluded)]),
  );
const dns = (text: string) => subtree(contextPrimitive(2), utf8(text));
export const nc = (value: DerNode, critical = true): Parts => ({
  extensions: [{ oid: OID.nameConstraints, critical, value }],
});
const policy = (dotted: string): DerNode => sequence(id(dotted));
const anotherName = nameOf(UTF8, utf8("Another root"));
export const garbage = Uint8Array.of(0x02, 0x80, 0xff);
const general = (date: Date): DerNode =>
  element(
    TAG.generalizedTime,
    utf8(`${date.toISOString().replaceAll(/[-:T]/g, "").slice(0, 14)}Z`),
  );

export type HandRow = readonly [what: string, parts: Parts, refused: string | null];

/** What each root is, the parts in which it differs from a good one, and what must be said of it; null: it is taken. */
const ROOTS: readonly HandRow[] = [
  ["a good root", {}, null],
  [
    "a subject in PrintableString with _",
    { subject: nameOf(0x13, utf8("Corp_Root_CA")) },
    "a PrintableString with a character",
  ],
  [
    "a subject in PrintableString with @",
    { subject: nameOf(0x13, utf8("ca@corp")) },
    "a PrintableString with a character",
  ],
  ["a subject in PrintableString with * and &", { subject: nameOf(0x13, utf8("A & B *")) }, null],
  [
    "a subject in UTF8String that is not UTF-8",
    { subject: nameOf(UTF8, Uint8Array.of(0xff, 0xfe)) },
    "a UTF8String that is not UTF-8",
  ],
  [
    "a subject in UTF8String with letters of all kinds",
    { subject: nameOf(UTF8, utf8("Wurzel ü 根 🌱")) },
    null,
  ],
  ["a subject in BMPString", { subject: nameOf(0x1e, Uint8Array.of(0, 0x52, 0x20, 0xac)) }, null],
  [
    "a subject in BMPString of three octets",
    { subject: nameOf(0x1e, Uint8Array.of(0, 0x52, 0x20)) },
    "a BMPString that is not of whole",
  ],
  [
    "a subject in BMPString with a surrogate",
    { subject: nameOf(0x1e, Uint8Array.of(0xd8, 0x3c, 0, 0x52)) },
    "a BMPString that is not of whole",
  ],
  ["a subject in T61String", { subject: nameOf(0x14, Uint8Array.of(0x52, 0xe9)) }, null],
  [
    "a subject in UniversalString",
    { subject: nameOf(0x1c, Uint8Array.of(0, 0, 0, 0x52)) },
    "a type that Go does not read",
  ],
  [
    "a subject in VisibleString",
    { subject: nameOf(0x1a, utf8("Root")) },
    "a type that Go does not read",
  ],
  ["a subject in IA5String", { subject: nameOf(0x16, utf8("Root_@")) }, null],
  [
    "a subject in IA5String that is not ASCII",
    { subject: nameOf(0x16, Uint8Array.of(0x52, 0xe9)) },
    "an IA5String that is not ASCII",
  ],
  ["a subject in NumericString", { subject: nameOf(0x12, utf8("12 34")) }, null],
  [
    "a subject in NumericString with letters",
    { subject: nameOf(0x12, utf8("12a")) },
    "a NumericString with other characters",
  ],
  [
    "a subject with a BIT STRING",
    { subject: nameOf(TAG.bitString, Uint8Array.of(0, 1), "2.5.4.45") },
    "a type that Go does not read",
  ],
  [
    "a subject with an empty part",
    { subject: sequence(element(TAG.set), element(TAG.set, attribute(UTF8, utf8("Root")))) },
    null,
  ],
  [
    "a subject with an empty value",
    {
      subject: sequence(
        element(TAG.set, attribute(UTF8, utf8("Root"))),
        element(TAG.set, attribute(UTF8, new Uint8Array(), "2.5.4.11")),
      ),
    },
    "has an empty value",
  ],
  ["an empty subject", { subject: sequence() }, "has an empty subject"],
  ["a subject that is no Name", { subject: sequence(element(TAG.null)) }, "decode"],
  [
    "an issuer in another type of string than the subject",
    { issuer: nameOf(0x13, utf8("Root by hand")) },
    "its issuer is not its subject",
  ],
  ["a serial number of zero", { serial: integer(0) }, null],
  ["a negative serial number", { serial: integer(0x80) }, "its serial number is negative"],
  ["a serial number of 20 octets", { serial: integer(0x7f, ...Array(19).fill(1)) }, null],
  [
    "a serial number of 21 octets",
    { serial: integer(0x7f, ...Array(20).fill(1)) },
    "serial number of more than 20 octets",
  ],
  [
    "a serial number with leading zeros",
    { serial: integer(0, 7) },
    "its serial number has a number with needless leading zeros",
  ],
  ["version 1 with extensions", { version: null }, "it has extensions, but is not of version 3"],
  ["version 1", { version: null, without: Object.values(OID) }, "is not a CA certificate"],
  [
    "version 2 with extensions",
    { version: element(contextConstructed(0), integer(1)) },
    "it has extensions, but is not of version 3",
  ],
  [
    "a unique identifier of the issuer",
    { uniqueId: element(contextPrimitive(1), Uint8Array.of(0, 1)) },
    "it has a unique identifier",
  ],
  [
    "two signature algorithms",
    { outer: encode(sequence(id(OID.ecdsaSha384))) },
    "its two signature algorithms differ",
  ],
  ["NULL parameters of ECDSA", { inner: sequence(id(OID.ecdsaSha256), element(TAG.null)) }, null],
  ["absent parameters of RSA", { rsa: true, inner: sequence(id(OID.rsaSha256)) }, null],
  [
    "NULL parameters in one of the two signature algorithms",
    {
      inner: SCHEMES.ecdsaSha256?.identifier ?? sequence(),
      outer: sequence(id(OID.ecdsaSha256), element(TAG.null)),
    },
    "its two signature algorithms differ",
  ],
  [
    "GeneralizedTime before 2050",
    { notBefore: general(NOT_BEFORE), notAfter: general(NOT_AFTER) },
    null,
  ],
  ["the year 9999", { notAfter: general(new Date("9999-12-31T23:59:59Z")) }, null],
  [
    "UTCTime without seconds",
    { notAfter: element(TAG.utcTime, utf8("4601010000Z")) },
    "its validity is not in whole seconds of UTC",
  ],
  [
    "UTCTime with an offset",
    { notAfter: element(TAG.utcTime, utf8("460101000000+0100")) },
    "its validity is not in whole seconds of UTC",
  ],
  [
    "GeneralizedTime with fractions",
    { notAfter: element(TAG.generalizedTime, utf8("20460101000000.5Z")) },
    "its validity is not in whole seconds of UTC",
  ],
  [
    "a 30th of February",
    { notAfter: element(TAG.utcTime, utf8("460230000000Z")) },
    "its validity has a time that is not a date",
  ],
  [
    "an end before its start",
    { notBefore: time(NOT_AFTER), notAfter: time(NOT_BEFORE) },
    "expired on",
  ],
  ["a subject key identifier of its own making", { keyId: utf8("root-1") }, null],
  [
    "a critical subject key identifier",
    {
      extensions: [
        { oid: OID.subjectKeyIdentifier, critical: true, value: octetString(utf8("root-1")) },
      ],
      without: [OID.authorityKeyIdentifier],
    },
    "critical extension 2.5.29.14 (subject key identifier)",
  ],
  [
    "an empty subject key identifier",
    {
      extensions: [{ oid: OID.subjectKeyIdentifier, value: octetString(new Uint8Array()) }],
      without: [OID.authorityKeyIdentifier],
    },
    "no subject key identifier",
  ],
  [
    "a critical authority key identifier",
    {
      keyId: utf8("root-1"),
      extensions: [
        {
          oid: OID.authorityKeyIdentifier,
          critical: true,
          value: sequence(element(contextPrimitive(0), utf8("root-1"))),
        },
      ],
    },
    "critical extension 2.5.29.35 (authority key identifier)",
  ],
  [
    "an authority key identifier of another key",
    {
      extensions: [
        {
          oid: OID.authorityKeyIdentifier,
          value: sequence(element(contextPrimitive(0), utf8("another"))),
        },
      ],
    },
    "that is not its own key identifier",
  ],
  [
    "an authority key identifier with its own name and serial number",
    {
      extensions: [
        {
          oid: OID.authorityKeyIdentifier,
          value: sequence(
            element(
              contextConstructed(1),
              element(contextConstructed(4), nameOf(UTF8, utf8("Root by hand"))),
            ),
            element(contextPrimitive(2), Uint8Array.of(7)),
          ),
        },
      ],
    },
    null,
  ],
  [
    "an authority key identifier with another name",
    {
      extensions: [
        {
          oid: OID.authorityKeyIdentifier,
          value: sequence(
            element(contextConstructed(1), element(contextConstructed(4), anotherName)),
            element(contextPrimitive(2), Uint8Array.of(7)),
          ),
        },
      ],
    },
    "whose issuer is not the one of the certificate itself",
  ],
  [
    "an authority key identifier with another serial number",
    {
      extensions: [
        {
          oid: OID.authorityKeyIdentifier,
          value: sequence(
            element(
              contextConstructed(1),
              element(contextConstructed(4), nameOf(UTF8, utf8("Root by hand"))),
            ),
            element(contextPrimitive(2), Uint8Array.of(8)),
          ),
        },
      ],
    },
    "whose serial number is not its own",
  ],
  ["no authority key identifier", { without: [OID.authorityKeyIdentifier] }, null],
  [
    "malformed certificate policies",
    { extensions: [{ oid: OID.certificatePolicies, value: garbage }] },
    "malformed extension 2.5.29.32 (certificate policies)",
  ],
  [
    "a certificate policy twice",
    {
      extensions: [
        { oid: OID.certificatePolicies, value: sequence(policy("1.2.3.4"), policy("1.2.3.4")) },
      ],
    },
    "names a policy twice",
  ],
  [
    "empty certificate policies",
    { extensions: [{ oid: OID.certificatePolicies, value: sequence() }] },
    "malformed extension 2.5.29.32 (certificate policies), which is empty",
  ],
  [
    "a mapping of anyPolicy",
    {
      extensions: [
        { oid: OID.policyMappings, value: sequence(sequence(id(OID.anyPolicy), id("1.2.3"))) },
      ],
    },
    "which maps anyPolicy",
  ],
  [
    "malformed CRL distribution points",
    { extensions: [{ oid: OID.crlDistributionPoints, value: sequence(element(TAG.null)) }] },
    "malformed extension 2.5.29.31 (CRL distribution points)",
  ],
  [
    "malformed authority information access",
    {
      extensions: [
        { oid: OID.authorityInfoAccess, value: sequence(sequence(id("1.3.6.1.5.5.7.48.1"))) },
      ],
    },
    "malformed extension 1.3.6.1.5.5.7.1.1 (authority information access)",
  ],
  [
    "a critical authority information access",
    {
      extensions: [
        {
          oid: OID.authorityInfoAccess,
          critical: true,
          value: sequence(
            sequence(
              id("1.3.6.1.5.5.7.48.1"),
              element(contextPrimitive(6), utf8("http://ca.example/")),
            ),
          ),
        },
      ],
    },
    "critical extension 1.3.6.1.5.5.7.1.1",
  ],
  [
    "a key usage with bits that are not used",
    {
      extensions: [
        {
          oid: OID.keyUsage,
          critical: true,
          value: element(TAG.bitString, Uint8Array.of(3, 0x07)),
        },
      ],
    },
    "malformed extension 2.5.29.15 (key usage)",
  ],
  [
    "an empty extended key usage",
    { extensions: [{ oid: OID.extKeyUsage, value: sequence() }] },
    "extended key usage",
  ],
  ["malformed name constraints", nc(garbage, false), "name constraints that cannot be read"],
  ["empty name constraints", nc(sequence()), "name constraints that are empty"],
  [
    "a name constraint with a maximum",
    nc(
      constraints([
        subtree(
          contextPrimitive(6),
          utf8(".consul"),
          element(contextPrimitive(1), Uint8Array.of(1)),
        ),
      ]),
    ),
    "minimum or maximum distance",
  ],
  [
    "a name constraint with a mask of separate parts",
    nc(constraints([], [subtree(contextPrimitive(7), Uint8Array.of(10, 0, 0, 0, 255, 0, 255, 0))])),
    "a mask of separate parts",
  ],
  [
    "a name constraint with an IP range of five octets",
    nc(constraints([], [subtree(contextPrimitive(7), Uint8Array.of(10, 0, 0, 0, 8))])),
    "not of 8 or 32 octets",
  ],
  [
    "a name constraint that is not a domain",
    nc(constraints([], [dns("a..b")])),
    'the malformed name "a..b"',
  ],
  [
    "a name constraint that is not ASCII",
    nc(constraints([], [dns("bücher.example")])),
    "a name that is not ASCII",
  ],
  [
    "a name constraint that excludes all DNS names",
    nc(constraints([], [dns("")])),
    "exclude the DNS name localhost",
  ],
  [
    "a name constraint that permits no URI",
    nc(constraints([subtree(contextPrimitive(6), utf8(""))])),
    "do not permit the URI",
  ],
  [
    "a name constraint that permits the top-level domain without its subdomains",
    nc(constraints([subtree(contextPrimitive(6), utf8("consul"))])),
    "do not permit the URI",
  ],
  [
    "a name constraint with a URI in place of a host",
    nc(constraints([subtree(contextPrimitive(6), utf8(URI))])),
    "do not permit the URI",
  ],
  [
    "a critical name constraint on an otherName",
    nc(
      constraints(
        [],
        [
          subtree(
            contextConstructed(0),
            encode(
              sequence(id("1.2.3.4"), element(contextConstructed(0), element(UTF8, utf8("x")))),
            ).slice(2),
          ),
        ],
      ),
    ),
    "other names that Go does not process",
  ],
  [
    "a name constraint on a registered ID that is not critical",
    nc(constraints([], [subtree(contextPrimitive(8), oidContent("1.2.3.4"))]), false),
    null,
  ],
  [
    "an unknown critical extension",
    { extensions: [{ oid: "1.2.3.4", critical: true, value: element(TAG.null) }] },
    "critical extension 1.2.3.4",
  ],
  ["an unknown extension of garbage", { extensions: [{ oid: "1.2.3.4", value: garbage }] }, null],
  [
    "a critical FALSE that is spelled out",
    { extensions: [{ oid: "1.2.3.4", critical: "false", value: element(TAG.null) }] },
    null,
  ],
  [
    "an extension twice",
    {
      extensions: [
        { oid: "1.2.3.4", value: element(TAG.null) },
        { oid: "1.2.3.4", value: element(TAG.null) },
      ],
    },
    "extension 1.2.3.4 appears twice",
  ],
  [
    "proxy certificate information",
    {
      extensions: [
        {
          oid: OID.proxyCertInfo,
          critical: true,
          value: sequence(sequence(id("1.3.6.1.5.5.7.21.1"))),
        },
      ],
    },
    "which a CA is not allowed to have",
  ],
  [
    "a subject alternative name with an IP address of five octets",
    {
      extensions: [
        {
          oid: OID.subjectAltName,
          value: sequence(
            element(contextPrimitive(6), utf8(URI)),
            element(contextPrimitive(7), Uint8Array.of(1, 2, 3, 4, 5)),
          ),
        },
      ],
    },
    "malformed extension 2.5.29.17 (subject alternative name)",
  ],
  [
    "a subject alternative name with an otherName",
    {
      extensions: [
        {
          oid: OID.subjectAltName,
          value: sequence(
            element(contextPrimitive(6), utf8(URI)),
            element(
              contextConstructed(0),
              id("1.2.3.4"),
              element(contextConstructed(0), element(UTF8, utf8("x"))),
            ),
          ),
        },
      ],
    },
    null,
  ],
  [
    "octets behind its end",
    { change: (der) => concat(der, Uint8Array.of(0)) },
    "it has trailing data",
  ],
  ["an end that is cut off", { change: (der) => der.slice(0, -1) }, "it ends too early"],
];

/** Makes roots, each with a key of its own. */
export async function rootsByHand(rows: readonly HandRow[] = ROOTS): Promise<RootVector[]> {
  const made: RootVector[] = [];
  for (const [what, parts, refused] of rows)
    made.push({ name: what, how: "by hand", ...(await make(parts)), refused });
  return made;
}
