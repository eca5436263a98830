/**
 * The one file that knows @peculiar/x509: makes CA certificates, and reads any certificate a second time for lint.ts.
 * It is off the hot path; a certificate through it costs milliseconds.
 * @module
 */
import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  Extension,
  KeyUsagesExtension,
  Name,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { type Bytes, hex } from "../bytes.ts";
import type { SignatureScheme } from "./keys.ts";

/** An extension to write: one by meaning, or one copied from another certificate as it stands. */
export type ExtensionSpec =
  | { readonly kind: "ca"; readonly pathLength: number | null }
  | { readonly kind: "keyUsage"; readonly bits: number }
  | { readonly kind: "subjectKeyId"; readonly id: Bytes }
  | { readonly kind: "authorityKeyId"; readonly id: Bytes }
  | { readonly kind: "uri"; readonly uri: string; readonly critical: boolean }
  | { readonly kind: "raw"; readonly oid: string; readonly critical: boolean; readonly value: Bytes };

export interface CertificateSpec {
  /** Big-endian octets of a positive number. */
  readonly serial: Bytes;
  /** A common name, or a DER Name to be copied as it stands. */
  readonly issuer: string | Bytes;
  readonly subject: string | Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Bytes;
  readonly extensions: readonly ExtensionSpec[];
  readonly signingKey: CryptoKey;
  readonly scheme: SignatureScheme;
}

const name = (value: string | Bytes): Name => (typeof value === "string" ? new Name([{ CN: [value] }]) : new Name(value));

function extension(spec: ExtensionSpec): Extension {
  switch (spec.kind) {
    case "ca":
      return new BasicConstraintsExtension(true, spec.pathLength ?? undefined, true);
    case "keyUsage":
      return new KeyUsagesExtension(spec.bits, true);
    case "subjectKeyId":
      return new SubjectKeyIdentifierExtension(hex(spec.id));
    case "authorityKeyId":
      return new AuthorityKeyIdentifierExtension(hex(spec.id));
    case "uri":
      return new SubjectAlternativeNameExtension([{ type: "url", value: spec.uri }], spec.critical);
    case "raw":
      return new Extension(spec.oid, spec.critical, spec.value);
  }
}

/** Makes and signs a certificate. @returns its DER. */
export async function makeCertificate(spec: CertificateSpec): Promise<Bytes> {
  const certificate = await X509CertificateGenerator.create({
    serialNumber: hex(spec.serial),
    issuer: name(spec.issuer),
    subject: name(spec.subject),
    notBefore: spec.notBefore,
    notAfter: spec.notAfter,
    publicKey: new PublicKey(spec.spki),
    signingKey: spec.signingKey,
    signingAlgorithm: spec.scheme.params as EcdsaParams,
    extensions: spec.extensions.map(extension),
  });
  return new Uint8Array(certificate.rawData);
}

/** The fields of a certificate as @peculiar/x509 reads them: a second opinion on certificate.ts. */
export interface SecondReading {
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Bytes;
  readonly isCa: boolean;
  readonly extensionOids: readonly string[];
  readonly uris: readonly string[];
}

/** Reads a DER certificate. @throws whatever @peculiar/x509 throws on what it cannot read. */
export function readAgain(der: Bytes): SecondReading {
  const certificate = new X509Certificate(der);
  const names = certificate.getExtension(SubjectAlternativeNameExtension);
  return {
    serial: certificate.serialNumber,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    spki: new Uint8Array(certificate.publicKey.rawData),
    isCa: certificate.getExtension(BasicConstraintsExtension)?.ca ?? false,
    extensionOids: certificate.extensions.map(({ type }) => type),
    uris: (names?.names.toJSON() ?? []).filter(({ type }) => type === "url").map(({ value }) => value),
  };
}
