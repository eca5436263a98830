/**
 * A new key and the CSR for it (RFC 2986).
 * @module
 */
import type { Bytes } from "../core/bytes.ts";
import { writePem } from "../core/pem.ts";
import { SCHEMES, type SignatureScheme } from "../core/x509/keys.ts";
import { type RequestedNames, signRequest } from "../core/x509/request.ts";

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

/** Makes an EC P-256 key, as Consul's agent does, and a request for names. */
export async function makeKeyAndRequest(names: RequestedNames): Promise<KeyAndRequest> {
  const pair = await crypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const [spki, privateKey] = await Promise.all([
    crypto.subtle.exportKey("spki", pair.publicKey),
    crypto.subtle.exportKey("pkcs8", pair.privateKey),
  ]);
  const publicKey = new Uint8Array(spki);
  const key = { privateKey: pair.privateKey, spki: publicKey, scheme: SCHEME };
  const der = await signRequest(key, names);
  return {
    csr: writePem("CERTIFICATE REQUEST", der),
    der,
    privateKey: new Uint8Array(privateKey),
    spki: publicKey,
  };
}
