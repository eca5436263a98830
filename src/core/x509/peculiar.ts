/**
 * The only file that uses @peculiar/x509: makes CA certificates, and reads certificates and requests a
 * second time. Each takes milliseconds, so the hot path does not use it.
 * @module
 */
import type { Extension, Name } from "@peculiar/x509";
import { type Bytes, hex } from "../bytes.ts";
import type { SignatureScheme } from "./keys.ts";

/** An extension to write: by its fields, a URI not critical, or as raw octets. */
export type ExtensionSpec =
  | { readonly kind: "ca"; readonly pathLength: number | null }
  | { readonly kind: "keyUsage"; readonly bits: number }
  | { readonly kind: "subjectKeyId"; readonly id: Bytes }
  | { readonly kind: "authorityKeyId"; readonly id: Bytes }
  | { readonly kind: "uri"; readonly uri: string }
  | {
      readonly kind: "raw";
      readonly oid: string;
      readonly critical: boolean;
      readonly value: Bytes;
    };

export interface CertificateSpec {
  /** Big-endian octets of a positive number. */
  readonly serial: Bytes;
  /** A common name, or a DER Name that is copied. */
  readonly issuer: string | Bytes;
  readonly subject: string | Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Bytes;
  readonly extensions: readonly ExtensionSpec[];
  readonly signingKey: CryptoKey;
  readonly scheme: SignatureScheme;
}

/** Loaded at the first use: it is large, and no request needs it. */
const load = async () => {
  await import("reflect-metadata");
  return import("@peculiar/x509");
};
type Peculiar = Awaited<ReturnType<typeof load>>;

const name = ({ Name: PeculiarName }: Peculiar, value: string | Bytes): Name =>
  typeof value === "string" ? new PeculiarName([{ CN: [value] }]) : new PeculiarName(value);

function extension(x509: Peculiar, spec: ExtensionSpec): Extension {
  switch (spec.kind) {
    case "ca":
      return new x509.BasicConstraintsExtension(true, spec.pathLength ?? undefined, true);
    case "keyUsage":
      return new x509.KeyUsagesExtension(spec.bits, true);
    case "subjectKeyId":
      return new x509.SubjectKeyIdentifierExtension(hex(spec.id));
    case "authorityKeyId":
      return new x509.AuthorityKeyIdentifierExtension(hex(spec.id));
    case "uri":
      return new x509.SubjectAlternativeNameExtension([{ type: "url", value: spec.uri }], false);
    case "raw":
      return new x509.Extension(spec.oid, spec.critical, spec.value);
  }
}

/** Makes and signs a certificate. @returns its DER. */
export async function makeCertificate(spec: CertificateSpec): Promise<Bytes> {
  const x509 = await load();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: hex(spec.serial),
    issuer: name(x509, spec.issuer),
    subject: name(x509, spec.subject),
    notBefore: spec.notBefore,
    notAfter: spec.notAfter,
    publicKey: new x509.PublicKey(spec.spki),
    signingKey: spec.signingKey,
    signingAlgorithm: spec.scheme.params as EcdsaParams,
    extensions: spec.extensions.map((one) => extension(x509, one)),
  });
  return new Uint8Array(certificate.rawData);
}

/**
 * Reads the fields of a DER certificate: a second opinion on certificate.ts.
 * @throws whatever @peculiar/x509 throws on what it cannot read.
 */
export async function readAgain(der: Bytes) {
  const x509 = await load();
  const certificate = new x509.X509Certificate(der);
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension);
  const named = (wanted: string) =>
    (names?.names.toJSON() ?? [])
      .filter(({ type }) => type === wanted)
      .map(({ value }) => String(value));
  return {
    serial: certificate.serialNumber,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    spki: new Uint8Array(certificate.publicKey.rawData),
    isCa: certificate.getExtension(x509.BasicConstraintsExtension)?.ca ?? false,
    extensionOids: certificate.extensions.map(({ type }) => type),
    uris: named("url"),
    dnsNames: named("dns"),
    ipAddresses: named("ip"),
  };
}

/** An attribute of a Name: its short name, such as CN, or its object identifier, and its text. */
interface NameAttribute {
  readonly type: string;
  readonly value: string;
}

function attributesOf(of: Name): NameAttribute[] {
  return of
    .toJSON()
    .flatMap((set) =>
      Object.entries(set).flatMap(([type, values]) => values.map((value) => ({ type, value }))),
    );
}

/**
 * Reads the subject and the requested extensions of a DER certificate request.
 * @throws whatever @peculiar/x509 throws on what it cannot read.
 */
export async function readRequestAgain(der: Bytes) {
  const x509 = await load();
  const request = new x509.Pkcs10CertificateRequest(der);
  return {
    subject: attributesOf(request.subjectName),
    extensionOids: request.extensions.map(({ type }) => type),
  };
}

/**
 * The attributes of a Name in DER, in its order.
 * @throws whatever @peculiar/x509 throws on what it cannot read.
 */
export async function readName(der: Bytes): Promise<readonly NameAttribute[]> {
  const x509 = await load();
  return attributesOf(new x509.Name(der));
}
