/**
 * The object identifiers that certificates, requests and keys of a mesh use.
 * @module
 */
import { type DerReader, oidContent } from "./der.ts";

/** Dotted forms, by what they mean. */
export const OID = {
  // RFC 5480 §2.1.1
  ecPublicKey: "1.2.840.10045.2.1",
  p256: "1.2.840.10045.3.1.7",
  p384: "1.3.132.0.34",
  p521: "1.3.132.0.35",
  // RFC 5758 §3.2
  ecdsaSha256: "1.2.840.10045.4.3.2",
  ecdsaSha384: "1.2.840.10045.4.3.3",
  ecdsaSha512: "1.2.840.10045.4.3.4",
  // RFC 8017 appendix A
  rsaEncryption: "1.2.840.113549.1.1.1",
  rsaSha256: "1.2.840.113549.1.1.11",
  rsaSha384: "1.2.840.113549.1.1.12",
  rsaSha512: "1.2.840.113549.1.1.13",
  // RFC 8410 §3
  ed25519: "1.3.101.112",
  // RFC 5280 §4.2
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  authorityKeyIdentifier: "2.5.29.35",
  extKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  // RFC 2985 §5.4.2
  commonName: "2.5.4.3",
  extensionRequest: "1.2.840.113549.1.9.14",
  // Microsoft's older form of it, which certreq wrote and OpenSSL reads as well
  microsoftExtensionRequest: "1.3.6.1.4.1.311.2.1.14",
  // RFC 5280 §4.2, only in CA certificates
  issuerAltName: "2.5.29.18",
  crlDistributionPoints: "2.5.29.31",
  certificatePolicies: "2.5.29.32",
  anyPolicy: "2.5.29.32.0",
  policyMappings: "2.5.29.33",
  policyConstraints: "2.5.29.36",
  freshestCrl: "2.5.29.46",
  inhibitAnyPolicy: "2.5.29.54",
  authorityInfoAccess: "1.3.6.1.5.5.7.1.1",
  subjectInfoAccess: "1.3.6.1.5.5.7.1.11",
  // RFC 3779 §2.2.1 and §3.2.1
  ipAddressBlocks: "1.3.6.1.5.5.7.1.7",
  autonomousSystems: "1.3.6.1.5.5.7.1.8",
  // RFC 3820 §3.8
  proxyCertInfo: "1.3.6.1.5.5.7.1.14",
  // Netscape's, which OpenSSL still reads
  netscapeCertType: "2.16.840.1.113730.1.1",
} as const;

export type OidName = keyof typeof OID;

const NAMES = Object.entries(OID).map(([name, dotted]) => ({
  name: name as OidName,
  content: oidContent(dotted),
}));

/**
 * Reads an object identifier.
 * @returns its name, or undefined for one that is not in the table.
 * @throws {FormatError}
 */
export function readOid(reader: DerReader): OidName | undefined {
  reader.oid();
  for (const known of NAMES) if (reader.contentIs(known.content)) return known.name;
  return undefined;
}

/** The names of extensions in texts (RFC 5280 §4.2). */
const EXTENSION_NAMES: Readonly<Partial<Record<OidName, string>>> = {
  subjectKeyIdentifier: "subject key identifier",
  keyUsage: "key usage",
  subjectAltName: "subject alternative name",
  basicConstraints: "basic constraints",
  nameConstraints: "name constraints",
  authorityKeyIdentifier: "authority key identifier",
  extKeyUsage: "extended key usage",
  issuerAltName: "issuer alternative name",
  crlDistributionPoints: "CRL distribution points",
  certificatePolicies: "certificate policies",
  policyMappings: "policy mappings",
  policyConstraints: "policy constraints",
  freshestCrl: "freshest CRL",
  inhibitAnyPolicy: "inhibit anyPolicy",
  authorityInfoAccess: "authority information access",
  subjectInfoAccess: "subject information access",
  ipAddressBlocks: "IP address blocks",
  autonomousSystems: "autonomous system identifiers",
  proxyCertInfo: "proxy certificate information",
  netscapeCertType: "Netscape certificate type",
};

/** An extension in a text: its identifier, with its name if it has one. */
export function extensionText(dotted: string): string {
  const name = Object.entries(EXTENSION_NAMES).find(([key]) => OID[key as OidName] === dotted)?.[1];
  return name === undefined ? dotted : `${dotted} (${name})`;
}
