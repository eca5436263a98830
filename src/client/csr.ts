/**
 * A new key and the CSR for it (RFC 2986). It is written in one pass: a thousand identities may start
 * at once.
 * @module
 */
import { type Bytes, utf8 } from "../core/bytes.ts";
import { writePem } from "../core/pem.ts";
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
} from "../core/x509/der.ts";
import { encodeSignature, SCHEMES, type SignatureScheme, sign } from "../core/x509/keys.ts";
import { OID } from "../core/x509/oids.ts";

/** Subject names of a CSR. */
export interface RequestedNames {
  /** The SPIFFE ID, or null if the server derives it. */
  readonly uri: string | null;
  readonly dnsNames: readonly string[];
  /** Four or sixteen octets each. */
  readonly ipAddresses: readonly Bytes[];
}

/** A key and the request that was signed with it. */
export interface KeyAndRequest {
  /** PEM. */
  readonly csr: string;
  /** DER of the request. */
  readonly der: Bytes;
  /** DER of a PKCS#8 PrivateKeyInfo. */
  readonly privateKey: Bytes;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Bytes;
}

const KEY: EcKeyGenParams = { name: "ECDSA", namedCurve: "P-256" };
const SCHEME = SCHEMES.ecdsaSha256 as SignatureScheme;
/** Version 0 and an empty subject, as in the requests of Consul's agent. */
const HEAD = [element(TAG.integer, Uint8Array.of(0)), sequence()] as const;
const NO_ATTRIBUTES = element(contextConstructed(0));
const EXTENSION_REQUEST = encode(oid(oidContent(OID.extensionRequest)));
const SUBJECT_ALT_NAME = encode(oid(oidContent(OID.subjectAltName)));

/** Makes an EC P-256 key, as Consul's agent does, and a request for names. */
export async function makeKeyAndRequest(names: RequestedNames): Promise<KeyAndRequest> {
  const pair = await crypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const [spki, privateKey] = await Promise.all([
    crypto.subtle.exportKey("spki", pair.publicKey),
    crypto.subtle.exportKey("pkcs8", pair.privateKey),
  ]);
  const publicKey = new Uint8Array(spki);
  const info = encode(sequence(...HEAD, publicKey, attributes(names)));
  const signature = encodeSignature(SCHEME, await sign(pair.privateKey, SCHEME, info));
  const der = encode(sequence(info, SCHEME.identifier, bitString(signature)));
  return {
    csr: writePem("CERTIFICATE REQUEST", der),
    der,
    privateKey: new Uint8Array(privateKey),
    spki: publicKey,
  };
}

function attributes({ uri, dnsNames, ipAddresses }: RequestedNames): DerNode {
  const names = [
    ...dnsNames.map((name) => element(contextPrimitive(2), utf8(name))),
    ...ipAddresses.map((address) => element(contextPrimitive(7), address)),
    ...(uri === null ? [] : [element(contextPrimitive(6), utf8(uri))]),
  ];
  if (names.length === 0) return NO_ATTRIBUTES;
  const extensions = sequence(sequence(SUBJECT_ALT_NAME, octetString(sequence(...names))));
  return element(contextConstructed(0), sequence(EXTENSION_REQUEST, element(TAG.set, extensions)));
}
