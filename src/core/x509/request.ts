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
import { caHash, caScheme, encodeSignature, sign } from "./keys.ts";
import type { LeafNames } from "./leaf.ts";
import { nameOf } from "./names.ts";
import { OID } from "./oids.ts";

/** Makes a request for `names`, without a subject. @returns PEM */
export function makeRequest(key: CaKey, names: LeafNames): Promise<string> {
  return request(key, sequence(), names);
}

/** Makes the request of a CA, with its name and SPIFFE ID. @returns PEM */
export function makeCaRequest(key: CaKey, commonName: string, uri: string): Promise<string> {
  return request(key, nameOf(commonName), { uri, dnsNames: [], ipAddresses: [] });
}

async function request(
  { privateKey, info: key }: CaKey,
  subject: DerNode,
  names: LeafNames,
): Promise<string> {
  const scheme = caScheme(key, caHash(key));
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
    sequence(version, subject, key.spki, element(contextConstructed(0), attribute)),
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
