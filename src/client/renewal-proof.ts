/**
 * The proof by which a leaf's own key renews it: a JWT that carries the leaf (RFC 7515 §4.1.6, `x5c`)
 * and names the CSR.
 * @module
 */
import { base64url, SignJWT } from "jose";
import { type Bytes, base64, sha256 } from "../core/bytes.ts";
import type { X509Svid } from "./svid.ts";

/**
 * Makes the proof. It is signed with the key of the leaf, and useless for another CSR.
 * @param csr DER. @param trustDomain whose CA the proof is for. @param now of this machine's clock
 * @throws {DOMException} if the key of the SVID is not EC P-256
 */
export async function renewalProof(
  { chain, privateKey }: Pick<X509Svid, "chain" | "privateKey">,
  csr: Bytes,
  trustDomain: string,
  now: Date,
): Promise<string> {
  const [leaf] = chain;
  if (leaf === undefined) throw new TypeError("An SVID must have a leaf");
  const key = await crypto.subtle.importKey(
    "pkcs8",
    privateKey as Bytes,
    { name: "ECDSA", namedCurve: "P-256" },
    false,
    ["sign"],
  );
  return new SignJWT({ csr: base64url.encode(sha256(csr)) })
    .setProtectedHeader({ alg: "ES256", x5c: [base64(leaf)] })
    .setAudience(`spiffe://${trustDomain}`)
    .setIssuedAt(now)
    .sign(key);
}
