/**
 * Renewal by the certificate itself: a JWT signed with a leaf's key, which carries the leaf (RFC 7515
 * §4.1.6, `x5c`) and names the CSR that it is for. The CA's state is enough to check it, so that
 * renewal works at the edge, behind any proxy and while the store is away; a replay only gives
 * another certificate for the same key.
 * @module
 */
import { decodeProtectedHeader, errors, importSPKI, type JWTPayload, jwtVerify } from "jose";
import * as v from "valibot";
import { fromBase64 } from "../core/bytes.ts";
import { denied } from "../core/ca/renewal-check.ts";
import { readOrNull } from "../core/errors.ts";
import { writePem } from "../core/pem.ts";
import type { RenewalToken } from "../core/ports/renewal-token.ts";
import { type Certificate, readCertificate } from "../core/x509/certificate.ts";
import type { PublicKeyInfo } from "../core/x509/keys.ts";

/** The largest chain that a leaf has here, 16 KiB, in base64 twice over, and the claims. */
const MAX_LENGTH = 48 * 1024;
/** More certificates than a chain within its bounds has. Only the first of them is read. */
const MAX_CHAIN = 32;
/** How old a proof may be, and how far clocks may be apart, in seconds. */
const [MAX_AGE, LEEWAY] = [300, 30];

/**
 * The algorithms that a key of a kind can sign with (RFC 7518 §3.1, RFC 8037 §3.1), by type and
 * bits.
 */
const ALGORITHMS: Readonly<Record<string, readonly string[]>> = {
  "ec 256": ["ES256"],
  "ec 384": ["ES384"],
  "ec 521": ["ES512"],
  rsa: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  ed25519: ["EdDSA", "Ed25519"],
};

const Header = v.object({
  alg: v.string(),
  x5c: v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(MAX_CHAIN)),
});
/** The SHA-256 of a CSR's DER, in base64url. */
const CsrDigest = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));
const CLAIMS =
  "the proof must have the claims aud, iat and csr, the SHA-256 of the request's DER in base64url; iat, nbf and exp must be numbers";

/**
 * Reads a proof. Of the certificates in it only the leaf is read: what stands above it is known to
 * the CA.
 * @throws {DeniedError} `permission_denied`
 */
export function readRenewalToken(jwt: string): RenewalToken {
  if (jwt.length > MAX_LENGTH) throw denied("the proof is too long");
  const { alg, x5c } = readHeader(jwt);
  const leaf = certificateOf(x5c[0] as string);
  const allowed = ALGORITHMS[kindOf(leaf.key)] ?? [];
  if (!allowed.includes(alg)) throw denied(`a key of this kind signs with ${allowed.join(" or ")}`);
  return { leaf, verify: (audience, now) => verify(jwt, leaf, alg, audience, now) };
}

async function verify(
  jwt: string,
  leaf: Certificate,
  alg: string,
  audience: string,
  now: Date,
): Promise<string> {
  let payload: JWTPayload & { readonly csr?: unknown };
  try {
    const key = await importSPKI(writePem("PUBLIC KEY", leaf.key.spki), alg);
    ({ payload } = await jwtVerify(jwt, key, {
      algorithms: [alg],
      audience,
      currentDate: now,
      maxTokenAge: MAX_AGE,
      clockTolerance: LEEWAY,
      requiredClaims: ["aud", "iat", "csr"],
    }));
  } catch (error) {
    throw refusalOf(error, audience);
  }
  const csr = v.safeParse(CsrDigest, payload.csr);
  if (!csr.success) throw denied(CLAIMS);
  return csr.output;
}

/** The refusal of a proof that does not verify; any other error as it is. */
function refusalOf(error: unknown, audience: string): unknown {
  if (error instanceof errors.JWTExpired)
    return denied(
      error.claim === "iat" ? "the proof is more than 5 minutes old" : "the proof has expired",
    );
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason !== "check_failed") return denied(CLAIMS);
    return denied(
      error.claim === "aud"
        ? `the proof is for another audience than ${audience}`
        : `the proof is from the future by its claim ${error.claim}: compare the clocks of the client and this server`,
    );
  }
  if (error instanceof errors.JWTInvalid) return denied(CLAIMS);
  return error instanceof errors.JOSEError ||
    error instanceof TypeError ||
    error instanceof DOMException
    ? denied("the proof is not signed with the leaf's key")
    : error;
}

function readHeader(jwt: string): v.InferOutput<typeof Header> {
  try {
    const header = v.safeParse(Header, decodeProtectedHeader(jwt));
    if (header.success) return header.output;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  throw denied("the proof must be a JWT with the leaf in x5c");
}

function certificateOf(text: string): Certificate {
  const der = fromBase64(text);
  const certificate = der === null ? null : readOrNull(() => readCertificate(der));
  if (certificate !== null) return certificate;
  throw denied("x5c must hold certificates, DER in base64");
}

function kindOf({ type, bits }: PublicKeyInfo): string {
  return type === "ec" ? `ec ${bits}` : type;
}
