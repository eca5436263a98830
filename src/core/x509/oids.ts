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
  anyExtendedKeyUsage: "2.5.29.37.0",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  // RFC 2985 §5.4.2
  commonName: "2.5.4.3",
  extensionRequest: "1.2.840.113549.1.9.14",
} as const;

export type OidName = keyof typeof OID;

const NAMES = Object.entries(OID).map(([name, dotted]) => ({ name: name as OidName, content: oidContent(dotted) }));

/** Reads an object identifier. @returns its name, or undefined for one that is not in the table. @throws {FormatError} */
export function readOid(reader: DerReader): OidName | undefined {
  reader.oid();
  for (const known of NAMES) if (reader.contentIs(known.content)) return known.name;
  return undefined;
}
