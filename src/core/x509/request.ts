/**
 * Writes PKCS#10 requests (RFC 2986): for the certificate of this CA's own server, and for an
 * intermediate that another CA certifies.
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
import {
  caHash,
  caScheme,
  encodeSignature,
  readPublicKey,
  SCHEMES,
  type SignatureScheme,
  sign,
} from "./keys.ts";
import type { LeafNames } from "./leaf.ts";
import { OID } from "./oids.ts";

/** Generates a key pair on P-256, which every TLS client supports. It is extractable for TLS libraries. */
export async function generateRequestKey(): Promise<CryptoKeyPair> {
  return (await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
}

/** Makes a request for `names`, signed with a P-256 key. @returns PEM */
export async function makeRequest(
  { privateKey, publicKey }: CryptoKeyPair,
  names: LeafNames,
): Promise<string> {
  const { spki } = readPublicKey(new Uint8Array(await crypto.subtle.exportKey("spki", publicKey)));
  return request(spki, sequence(), names, privateKey, SCHEMES.ecdsaSha256 as SignatureScheme);
}

/**
 * Makes a request of a CA for its own certificate, with its name and its SPIFFE ID.
 * @returns PEM
 */
export function makeCaRequest(
  { privateKey, info }: CaKey,
  commonName: string,
  uri: string,
): Promise<string> {
  const name = sequence(
    element(
      TAG.set,
      sequence(oid(oidContent(OID.commonName)), element(TAG.utf8String, utf8(commonName))),
    ),
  );
  return request(
    info.spki,
    name,
    { uri, dnsNames: [], ipAddresses: [] },
    privateKey,
    caScheme(info, caHash(info)),
  );
}

async function request(
  spki: Bytes,
  subject: DerNode,
  names: LeafNames,
  privateKey: CryptoKey,
  scheme: SignatureScheme,
): Promise<string> {
  const alternatives = sequence(
    element(contextPrimitive(6), utf8(names.uri)),
    ...names.dnsNames.map((name) => element(contextPrimitive(2), utf8(name))),
    ...names.ipAddresses.map((address) => element(contextPrimitive(7), address)),
  );
  const extensions = sequence(
    sequence(oid(oidContent(OID.subjectAltName)), octetString(alternatives)),
  );
  const attribute = sequence(oid(oidContent(OID.extensionRequest)), element(TAG.set, extensions));
  const version = element(TAG.integer, Uint8Array.of(0));
  const info: Bytes = encode(
    sequence(version, subject, spki, element(contextConstructed(0), attribute)),
  );
  const signature = encodeSignature(scheme, await sign(privateKey, scheme, info));
  return writePem(
    "CERTIFICATE REQUEST",
    encode(sequence(info, scheme.identifier, bitString(signature))),
  );
}

/** The PKCS#8 PEM of a key that can be exported. */
export async function privateKeyPem(key: CryptoKey): Promise<string> {
  return writePem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)));
}
