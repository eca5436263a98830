/**
 * Writes PKCS#10 requests (RFC 2986): for the certificate of this CA's own server, for an intermediate
 * that another CA certifies, and for leaves of the agent.
 * @module
 */
import { type Bytes, utf8 } from "../bytes.ts";
import { writePem } from "../pem.ts";
import type { CaKey } from "./authority.ts";
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
} from "./der.ts";
import { caHash, caScheme, encodeSignature, type SignatureScheme, sign } from "./keys.ts";
import type { LeafNames } from "./leaf.ts";
import { nameOf } from "./names.ts";
import { OID } from "./oids.ts";

/** Subject names of a request. */
export interface RequestedNames {
  /** The SPIFFE ID, or null if the CA derives it. */
  readonly uri: string | null;
  readonly dnsNames: readonly string[];
  /** Four or sixteen octets each. */
  readonly ipAddresses: readonly Bytes[];
}

/** The key that a request is for, and signed with. */
export interface RequestKey {
  readonly privateKey: CryptoKey;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Bytes;
  readonly scheme: SignatureScheme;
}

/** Version 0 (RFC 2986 section 4.1). */
const VERSION = element(TAG.integer, Uint8Array.of(0));
const EXTENSION_REQUEST = encode(oid(oidContent(OID.extensionRequest)));
const SUBJECT_ALT_NAME = encode(oid(oidContent(OID.subjectAltName)));

/** Makes a request for `names`, without a subject. @returns PEM */
export async function makeRequest(key: CaKey, names: LeafNames): Promise<string> {
  return writePem("CERTIFICATE REQUEST", await signRequest(requestKey(key), names));
}

/** Makes the request of a CA, with its name and SPIFFE ID. @returns PEM */
export async function makeCaRequest(key: CaKey, commonName: string, uri: string): Promise<string> {
  const names = { uri, dnsNames: [], ipAddresses: [] };
  const der = await signRequest(requestKey(key), names, nameOf(commonName));
  return writePem("CERTIFICATE REQUEST", der);
}

function requestKey({ privateKey, info }: CaKey): RequestKey {
  return { privateKey, spki: info.spki, scheme: caScheme(info, caHash(info)) };
}

/** Makes a request. @param subject empty by default. @returns DER */
export async function signRequest(
  { privateKey, spki, scheme }: RequestKey,
  names: RequestedNames,
  subject: DerNode = sequence(),
): Promise<Bytes> {
  const info = encode(sequence(VERSION, subject, spki, attributes(names)));
  const signature = encodeSignature(scheme, await sign(privateKey, scheme, info));
  return encode(sequence(info, scheme.identifier, bitString(signature)));
}

function attributes({ uri, dnsNames, ipAddresses }: RequestedNames): DerNode {
  const names = [
    ...(uri === null ? [] : [element(contextPrimitive(6), utf8(uri))]),
    ...dnsNames.map((name) => element(contextPrimitive(2), utf8(name))),
    ...ipAddresses.map((address) => element(contextPrimitive(7), address)),
  ];
  if (names.length === 0) return element(contextConstructed(0));
  const extensions = sequence(sequence(SUBJECT_ALT_NAME, octetString(sequence(...names))));
  const attribute = sequence(EXTENSION_REQUEST, element(TAG.set, extensions));
  return element(contextConstructed(0), attribute);
}

/** The PKCS#8 PEM of a key that can be exported. */
export async function privateKeyPem(key: CryptoKey): Promise<string> {
  return writePem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)));
}
