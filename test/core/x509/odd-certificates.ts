/**
 * Certificates that the CA itself would not make: signed ones through @peculiar/x509, unsigned ones
 * octet by octet.
 * @module
 */
import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralName,
  KeyUsagesExtension,
  Name,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { type Bytes, hex, utf8 } from "../../../src/core/bytes.ts";
import { type Authority, generateCaKey } from "../../../src/core/x509/authority.ts";
import {
  type Certificate,
  KEY_USAGE,
  readCertificate,
} from "../../../src/core/x509/certificate.ts";
import {
  bitString,
  contextConstructed,
  type DerNode,
  element,
  encode,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";
import { type CaKeySpec, caHash, caScheme, keyIdOf, SCHEMES } from "../../../src/core/x509/keys.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import { NOW, YEAR_MS } from "./cas.ts";
import { publicKey, URI } from "./requests.ts";

/** The extensions of a certificate by what they are; null leaves one out. */
export interface Extensions {
  readonly keyUsage: Extension | null;
  readonly extKeyUsage: Extension | null;
  readonly basic: Extension | null;
  readonly subjectKey: Extension | null;
  readonly authorityKey: Extension | null;
  readonly names: Extension | null;
  /** Any other one. */
  readonly more: Extension | null;
}

export interface OddCertificate {
  readonly serial?: string;
  /** Names in text form, `CN=a`; an empty text for an empty name. */
  readonly subject?: string;
  readonly issuer?: string;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly spki?: Bytes;
  readonly extensions?: Partial<Extensions>;
}

export const usage = (bits: number, critical = true): Extension =>
  new KeyUsagesExtension(bits, critical);
export const basic = (ca: boolean, pathLength?: number, critical = true): Extension =>
  new BasicConstraintsExtension(ca, pathLength, critical);
export const purposes = (...oids: readonly string[]): Extension =>
  new ExtendedKeyUsageExtension([...oids]);
/** An extension that no program knows, with the value NULL. */
export const unknownExtension = (dotted: string, critical: boolean): Extension =>
  new Extension(dotted, critical, Uint8Array.of(5, 0));
export const subjectKey = (id: Uint8Array): Extension => new SubjectKeyIdentifierExtension(hex(id));
export const authorityKey = (id: Uint8Array): Extension =>
  new AuthorityKeyIdentifierExtension(hex(id));
export const uris = (
  values: readonly string[],
  critical = true,
  dnsName = "localhost",
): Extension => {
  const names: JsonGeneralName[] = values.map((value) => ({ type: "url", value }));
  return new SubjectAlternativeNameExtension([...names, { type: "dns", value: dnsName }], critical);
};

/** One URI, not critical, as in the certificates of a CA. */
export const onlyUri = (value: string): Extension =>
  new SubjectAlternativeNameExtension([{ type: "url", value }], false);

/** Signs a certificate; fields that `odd` omits are as in a good leaf of `by`. */
export async function makeOdd(by: Authority, odd: OddCertificate = {}): Promise<Certificate> {
  const spki = odd.spki ?? publicKey("EC 256");
  const extensions: Extensions = {
    keyUsage: usage(KEY_USAGE.digitalSignature),
    extKeyUsage: purposes(OID.clientAuth, OID.serverAuth),
    basic: basic(false),
    subjectKey: subjectKey(keyIdOf(spki)),
    authorityKey: authorityKey(by.certificate.subjectKeyId ?? new Uint8Array(32)),
    names: uris([URI]),
    more: null,
    ...odd.extensions,
  };
  const certificate = await X509CertificateGenerator.create({
    serialNumber: odd.serial ?? "4001020304",
    issuer: odd.issuer === undefined ? new Name(by.certificate.subject) : new Name(odd.issuer),
    subject: new Name(odd.subject ?? ""),
    notBefore: odd.notBefore ?? NOW,
    notAfter: odd.notAfter ?? new Date(NOW.getTime() + YEAR_MS),
    publicKey: new PublicKey(spki),
    signingKey: by.privateKey,
    signingAlgorithm: caScheme(by.certificate.key, caHash(by.certificate.key))
      .params as EcdsaParams,
    extensions: Object.values(extensions).filter(
      (extension): extension is Extension => extension !== null,
    ),
  });
  return readCertificate(new Uint8Array(certificate.rawData));
}

/** What makes a certificate a CA's. */
export const CA_EXTENSIONS: Partial<Extensions> = {
  keyUsage: usage(KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign),
  extKeyUsage: null,
  basic: basic(true),
  names: uris(["spiffe://a.consul"], false),
};

/**
 * Makes a CA with a new key, EC on P-256 without `keySpec`. `by` is null for one that signs itself; `key` gives it the key of
 * another CA.
 */
export async function makeOddCa(
  by: Authority | null,
  odd: OddCertificate & { readonly key?: Authority; readonly keySpec?: CaKeySpec } = {},
): Promise<Authority> {
  const keySpec = odd.keySpec ?? { type: "ec", bits: 256 };
  const fresh = odd.key === undefined ? await generateCaKey(keySpec) : null;
  const spki = fresh?.info.spki ?? odd.key?.certificate.key.spki ?? new Uint8Array();
  const privateKey = fresh?.privateKey ?? odd.key?.privateKey;
  if (privateKey === undefined) throw new RangeError("No key");
  const signer = by ?? {
    privateKey,
    certificate: {
      ...(await template()),
      key: fresh?.info ?? { type: "ec", bits: 256, spki },
      subjectKeyId: keyIdOf(spki),
    },
  };
  const subject = odd.subject ?? "CN=root";
  const certificate = await makeOdd(signer, {
    ...odd,
    subject,
    ...(by === null ? { issuer: odd.issuer ?? subject } : {}),
    spki,
    extensions: { ...CA_EXTENSIONS, ...odd.extensions },
  });
  return { certificate, privateKey };
}

/** Any certificate, as a stand-in for the issuer of one that signs itself. */
async function template(): Promise<Certificate> {
  return readCertificate(craftCertificate());
}

export const rawExtension = (
  dotted: string,
  value: DerNode,
  ...flag: readonly DerNode[]
): DerNode => sequence(oid(oidContent(dotted)), ...flag, octetString(encode(value)));

export interface CraftedCertificate {
  readonly version?: readonly DerNode[];
  readonly serial?: DerNode;
  readonly innerIdentifier?: Uint8Array;
  readonly notBefore?: DerNode;
  readonly spki?: Uint8Array;
  readonly behindKey?: readonly DerNode[];
  readonly extensions?: readonly DerNode[];
}

export const utcTime = (text: string): DerNode => element(TAG.utcTime, utf8(text));
export const generalizedTime = (text: string): DerNode => element(TAG.generalizedTime, utf8(text));

/** The DER of a certificate with a signature that does not verify. */
export function craftCertificate(parts: CraftedCertificate = {}): Bytes {
  const identifier = SCHEMES.ecdsaSha256?.identifier ?? new Uint8Array();
  const extensions = parts.extensions ?? [];
  const body = sequence(
    ...(parts.version ?? [element(contextConstructed(0), element(TAG.integer, Uint8Array.of(2)))]),
    parts.serial ?? element(TAG.integer, Uint8Array.of(1)),
    parts.innerIdentifier ?? identifier,
    sequence(),
    sequence(parts.notBefore ?? utcTime("260101000000Z"), utcTime("300101000000Z")),
    sequence(),
    parts.spki ?? publicKey("EC 256"),
    ...(parts.behindKey ?? []),
    ...(extensions.length === 0 ? [] : [element(contextConstructed(3), sequence(...extensions))]),
  );
  return encode(sequence(body, identifier, bitString(new Uint8Array(64))));
}
