/**
 * Verification of login tokens: the signature of a JWT, its claims, and the fields of the login. The
 * rules for times are Consul's, which derives a missing exp or nbf from the other claims, as
 * jose's `jwtVerify` does not.
 * @module
 */
import {
  compactVerify,
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  importSPKI,
  importX509,
  type JSONWebKeySet,
  type CryptoKey as Key,
} from "jose";
import * as v from "valibot";
import { fromUtf8, hex, sha256, utf8 } from "../core/bytes.ts";
import { readOrNull } from "../core/errors.ts";
import { KUBERNETES_FIELDS, MAX_LEEWAY_MS, type MethodSettings } from "./auth-methods.ts";
import { loginDenied } from "./errors.ts";
import type { LoginFields } from "./selector.ts";
import type { ReviewedAccount } from "./token-review.ts";

/** Kubernetes' are about 1 KiB; a header line is 8 KiB at most in most servers. */
const MAX_LENGTH = 16 * 1024;

export interface LoginToken {
  readonly fields: LoginFields;
  /** The subject, of a Kubernetes token with its pod; without subject the fields in JSON. */
  readonly subject: string;
  readonly expiresAt: Date;
  /** Identifies the token in all auth methods: issuer, audiences and `jti`; null without `jti`. */
  readonly name: string | null;
  /** When no auth method accepts it any more, with the largest leeways. */
  readonly deadAt: Date;
}

/** @param missing whether the last key set lacks a key. @returns the key set of the issuer */
type GetKeySet = (missing: boolean) => Promise<JSONWebKeySet>;

/** NumericDate (RFC 7519 §2), up to the year 9999. */
const LAST_SECOND = 253_402_300_799;
const seconds = v.optional(v.pipe(v.number(), v.finite(), v.minValue(0), v.maxValue(LAST_SECOND)));
const Claims = v.looseObject({
  iss: v.optional(v.string()),
  aud: v.optional(v.union([v.string(), v.array(v.string())])),
  exp: seconds,
  nbf: seconds,
  iat: seconds,
  jti: v.optional(v.pipe(v.string(), v.nonEmpty(), v.maxLength(512))),
  sub: v.optional(v.unknown()),
});
const Kubernetes = v.looseObject({
  "kubernetes.io": v.looseObject({
    namespace: v.string(),
    serviceaccount: v.looseObject({ name: v.string(), uid: v.string() }),
    pod: v.optional(
      v.looseObject({ name: v.optional(v.string(), ""), uid: v.optional(v.string(), "") }),
    ),
  }),
});
const Payload = v.pipe(v.string(), v.parseJson(), Claims);
type ClaimSet = v.InferOutput<typeof Claims>;

/**
 * Verifies a login token.
 * @throws {DeniedError} `permission_denied`, whose text has nothing of the token
 * @throws {CaError} of `getKeySet`
 */
export async function verifyLoginToken(
  jwt: string,
  type: "jwt" | "kubernetes",
  settings: MethodSettings,
  getKeySet: GetKeySet | null,
  now: Date,
): Promise<LoginToken> {
  if (jwt.length > MAX_LENGTH) throw loginDenied("is too long");
  const payload = await verifySignature(jwt, settings, getKeySet);
  const json = v.safeParse(
    Payload,
    readOrNull(() => fromUtf8(payload)),
  );
  if (!json.success) throw loginDenied("has malformed claims");
  const claims = json.output;
  const expiresAt = requireTime(claims, settings, now);
  if (settings.issuer !== null && claims.iss !== settings.issuer)
    throw loginDenied("is from another issuer");
  const audiences = audiencesOf(claims);
  if (
    settings.audiences.length > 0 &&
    !audiences.some((audience) => settings.audiences.includes(audience))
  )
    throw loginDenied("is for another audience");
  if (settings.once && claims.jti === undefined)
    throw loginDenied("has no jti, and this auth method accepts each token once");
  const { fields, subject } =
    type === "kubernetes" ? kubernetesLogin(claims) : mappedLogin(claims, settings);
  return {
    fields,
    subject,
    expiresAt,
    name: nameOf(jwt, claims, audiences),
    deadAt: deathOf(claims),
  };
}

/** Without issuer the digest of the signed part identifies a token: methods can have other keys. */
function nameOf(jwt: string, { iss, jti }: ClaimSet, audiences: readonly string[]): string | null {
  if (jti === undefined) return null;
  const issuer = iss ?? { signed: hex(sha256(utf8(jwt.slice(0, jwt.lastIndexOf("."))))) };
  return JSON.stringify([issuer, audiences.toSorted(), jti]);
}

/** MAX_LEEWAY_MS bounds every leeway of a method. */
function deathOf({ exp, nbf, iat }: ClaimSet): Date {
  const end = exp === undefined ? Math.max(nbf ?? 0, iat ?? 0) * 1000 + MAX_LEEWAY_MS : exp * 1000;
  return new Date(Math.ceil(end) + MAX_LEEWAY_MS);
}

/** How long a token without exp that Kubernetes has reviewed is valid, in milliseconds. */
const REVIEWED_MS = 24 * 3_600_000;

/**
 * Verifies a login token by Kubernetes' TokenReview. Malformed and expired tokens are refused without
 * a review.
 * @param review requests the review.
 * @throws {DeniedError} `permission_denied`
 * @throws {CaError} of `review`
 */
export async function reviewLoginToken(
  jwt: string,
  settings: MethodSettings,
  review: () => Promise<ReviewedAccount>,
  now: Date,
): Promise<LoginToken> {
  if (jwt.length > MAX_LENGTH) throw loginDenied("is too long");
  const claims = v.safeParse(Claims, claimsOf(jwt));
  if (!claims.success) throw loginDenied("has malformed claims");
  const { exp, jti } = claims.output;
  const expiresAt =
    exp === undefined ? new Date(now.getTime() + REVIEWED_MS) : new Date(Math.ceil(exp * 1000));
  if (expiresAt <= now) throw loginDenied("has expired");
  if (settings.once && jti === undefined)
    throw loginDenied("has no jti, and this auth method accepts each token once");
  const { name, namespace, uid, subject } = await review();
  return {
    fields: kubernetesFields(name, namespace, uid),
    subject,
    expiresAt,
    name: nameOf(jwt, claims.output, audiencesOf(claims.output)),
    deadAt: new Date(expiresAt.getTime() + MAX_LEEWAY_MS),
  };
}

/** The claims of a JWT, unverified; null if it is malformed. */
function claimsOf(jwt: string): unknown {
  try {
    return decodeJwt(jwt);
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof TypeError) return null;
    throw error;
  }
}

function audiencesOf({ aud }: ClaimSet): readonly string[] {
  return typeof aud === "string" ? [aud] : (aud ?? []);
}

/** @returns the payload */
async function verifySignature(
  jwt: string,
  { algorithms, keys }: MethodSettings,
  getKeySet: GetKeySet | null,
): Promise<Uint8Array> {
  const options = { algorithms: [...algorithms] };
  try {
    const { alg } = decodeProtectedHeader(jwt);
    if (alg === undefined || !algorithms.includes(alg))
      throw loginDenied("has a signature algorithm that this auth method does not allow");
    if (getKeySet === null) return await verifyByAny(jwt, alg, keys, options);
    const verify = async (missing: boolean) =>
      compactVerify(jwt, createLocalJWKSet(publicKeys(await getKeySet(missing))), options);
    try {
      return (await verify(false)).payload;
    } catch (error) {
      // The issuer may have a new key.
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      return (await verify(true)).payload;
    }
  } catch (error) {
    // WebCrypto throws a DOMException for an invalid key of the issuer.
    if (
      error instanceof errors.JOSEError ||
      error instanceof TypeError ||
      error instanceof DOMException
    )
      throw loginDenied("is not signed by a key of the issuer");
    throw error;
  }
}

/** The public keys of a set: keys with a secret part and shared secrets are left out. */
function publicKeys({ keys }: JSONWebKeySet): JSONWebKeySet {
  return {
    keys: keys.filter(({ kty, d, k }) => kty !== "oct" && d === undefined && k === undefined),
  };
}

async function verifyByAny(
  jwt: string,
  alg: string,
  keys: readonly string[],
  options: { algorithms: string[] },
): Promise<Uint8Array> {
  for (const pem of keys) {
    try {
      const key: Key = await (pem.includes("BEGIN CERTIFICATE")
        ? importX509(pem, alg)
        : importSPKI(pem, alg));
      return (await compactVerify(jwt, key, options)).payload;
    } catch {
      // Not a key for this algorithm, or not the one that signed.
    }
  }
  throw loginDenied("is not signed by a key of the issuer");
}

/**
 * Consul's rules for times: a token needs one of exp, nbf and iat, from which the missing ones follow.
 * @returns when it expires, with the leeway.
 */
function requireTime({ exp, nbf, iat }: ClaimSet, settings: MethodSettings, now: Date): Date {
  const leeway = settings.clockLeewayMs;
  const at = now.getTime();
  if (exp === undefined && nbf === undefined && iat === undefined)
    throw loginDenied("has none of the claims exp, nbf and iat");
  const expires =
    exp === undefined
      ? Math.max(nbf ?? 0, iat ?? 0) * 1000 + settings.expirationLeewayMs
      : exp * 1000;
  const begins =
    nbf !== undefined
      ? nbf * 1000
      : iat !== undefined
        ? iat * 1000
        : expires - settings.notBeforeLeewayMs;
  if (at >= expires + leeway) throw loginDenied("has expired");
  if (at < begins - leeway || (iat !== undefined && at < iat * 1000 - leeway))
    throw loginDenied("is not valid yet");
  return new Date(expires + leeway);
}

type Presented = Pick<LoginToken, "fields" | "subject">;

function kubernetesLogin(claims: ClaimSet): Presented {
  const read = v.safeParse(Kubernetes, claims);
  if (!read.success) throw loginDenied("is not a token of a Kubernetes service account");
  const { namespace, serviceaccount, pod } = read.output["kubernetes.io"];
  const { name, uid } = serviceaccount;
  const account = `system:serviceaccount:${namespace}:${name}`;
  return {
    fields: kubernetesFields(name, namespace, uid),
    // Each pod of a service account has a token of its own.
    subject: pod === undefined ? account : `${account} pod ${pod.name} ${pod.uid}`,
  };
}

function kubernetesFields(...values: [name: string, namespace: string, uid: string]): LoginFields {
  return new Map(KUBERNETES_FIELDS.map((field, i) => [field, values[i] as string]));
}

function mappedLogin(claims: ClaimSet, settings: MethodSettings): Presented {
  const fields = mappedFields(claims, settings);
  const { iss, sub } = claims;
  const name = typeof sub === "string" && sub !== "" ? sub : JSON.stringify([...fields]);
  return {
    fields,
    subject: settings.issuer === null && iss !== undefined ? `${iss} ${name}` : name,
  };
}

function mappedFields(claims: ClaimSet, settings: MethodSettings): LoginFields {
  const fields = new Map<string, string | readonly string[]>();
  for (const [claim, name] of settings.claims) {
    const value = textOf(find(claims, claim));
    if (value !== null) fields.set(`value.${name}`, value);
  }
  for (const [claim, name] of settings.listClaims) {
    const found = find(claims, claim);
    if (found === undefined) continue;
    // Consul: a single value counts as a list of one.
    const values = (Array.isArray(found) ? (found as readonly unknown[]) : [found]).map(textOf);
    if (values.includes(null))
      throw loginDenied(`has a claim for list.${name} that is not a list of strings`);
    fields.set(`list.${name}`, values as string[]);
  }
  return fields;
}

function textOf(value: unknown): string | null {
  return typeof value === "string"
    ? value
    : typeof value === "number" || typeof value === "boolean"
      ? String(value)
      : null;
}

/** A claim by its name or by a JSON pointer (RFC 6901). */
function find(claims: ClaimSet, name: string): unknown {
  if (!name.startsWith("/")) return Object.hasOwn(claims, name) ? claims[name] : undefined;
  let at: unknown = claims;
  for (const part of name.slice(1).split("/")) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}
