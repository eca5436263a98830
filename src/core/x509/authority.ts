/**
 * Makes CA keys and CA certificates: roots, cross-signed roots, intermediates. Each is linted
 * before it is returned.
 * @module
 */
import { type Bytes, equal } from "../bytes.ts";
import { InvariantError } from "../errors.ts";
import type { Random } from "../ports/clock.ts";
import { formatSpiffeId } from "../spiffe/id.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import { type Certificate, KEY_USAGE, readCertificate } from "./certificate.ts";
import { wholeSecond } from "./der.ts";
import {
  type CaKeySpec,
  caHash,
  caScheme,
  type EcBits,
  keyAlgorithm,
  keyIdOf,
  type PublicKeyInfo,
  readPublicKey,
} from "./keys.ts";
import { createSerials } from "./leaf.ts";
import { type CertificateKind, lint } from "./lint.ts";
import { type CertificateSpec, type ExtensionSpec, makeCertificate } from "./peculiar.ts";

/**
 * CA certificates are valid from an hour before they are made, so that verifiers whose clock is behind
 * accept them at once.
 */
const CA_BACKDATE_MS = 3_600_000;

/** CA certificates sign certificates and revocation lists only (RFC 5280 §4.2.1.3). */
const CA_KEY_USAGE = KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign;

/** A key pair: of a CA, of its server, or of a leaf that is made to be verified. */
export interface CaKey {
  readonly privateKey: CryptoKey;
  readonly info: PublicKeyInfo;
}

/** A CA that can sign: its certificate and its key. */
export interface Authority {
  readonly certificate: Certificate;
  readonly privateKey: CryptoKey;
}

/** Generates a key. It is extractable so that it can be sealed, or given to a TLS library. */
export async function generateCaKey(spec: CaKeySpec): Promise<CaKey> {
  const algorithm = { ...keyAlgorithm(spec, caHash(spec)) };
  const parameters =
    spec.type === "rsa"
      ? { ...algorithm, modulusLength: spec.bits, publicExponent: Uint8Array.of(1, 0, 1) }
      : algorithm;
  const pair = (await crypto.subtle.generateKey(parameters as EcKeyGenParams, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
  return {
    privateKey: pair.privateKey,
    info: readPublicKey(new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey))),
  };
}

interface Making {
  readonly now: Date;
  readonly random: Random;
}

interface CaCertificateOptions extends Making, ClusterIdentity {
  /** The provider's wire name, which is part of the common name (Consul's agent/connect/common_names.go). */
  readonly provider: string;
  /** How long the certificate lives from now on, in milliseconds. */
  readonly ttlMs: number;
}

/** Makes a self-signed root. */
export async function createRoot(key: CaKey, options: CaCertificateOptions): Promise<Certificate> {
  const { now, random, clusterId, provider } = options;
  const commonName = caCommonName("pri", provider, clusterId, random);
  const keyId = keyIdOf(key.info.spki);
  return finish("root", null, {
    serial: createSerials(random)(),
    issuer: commonName,
    subject: commonName,
    notBefore: wholeSecond(new Date(now.getTime() - CA_BACKDATE_MS)),
    notAfter: wholeSecond(new Date(now.getTime() + options.ttlMs)),
    spki: key.info.spki,
    extensions: caExtensions(null, keyId, keyId, signingUri(options)),
    signingKey: key.privateKey,
    scheme: caScheme(key.info, caHash(key.info)),
  });
}

export interface CrossSignOptions extends Making {
  /** The latest expiry; the certificate expires sooner if one of the two roots does. */
  readonly until: Date;
}

/**
 * Certifies a root by another one: with the same subject and key, and new extensions, those that path
 * validation needs (RFC 5280 §6.1). Nothing else is copied: it would be in every chain, and a
 * constraint of the root would bind clients that do not trust that root. The signature algorithm
 * follows the key that signs.
 * @param root not expired, with a subject key identifier. @param by not expired, with a subject key
 * identifier.
 */
export async function crossSign(
  root: Certificate,
  by: Authority,
  options: CrossSignOptions,
): Promise<Certificate> {
  return finish("cross-signed", by.certificate, {
    serial: createSerials(options.random)(),
    issuer: by.certificate.subject,
    subject: root.subject,
    ...crossValidity(root, by.certificate, options),
    spki: root.key.spki,
    extensions: crossExtensions(root, by.certificate),
    signingKey: by.privateKey,
    scheme: caScheme(by.certificate.key, caHash(by.certificate.key)),
  });
}

/**
 * Makes the input of an external CA that is to certify a root and copies validity and extensions from
 * its input: a self-issued certificate with the root's name and key and the validity of the result.
 * It is signed with a throw-away key of the kind that `by` has, so it is not a valid root.
 * @param root not expired. @param by the certificate whose key is to sign; not expired.
 * @throws {InvariantError}
 */
export async function crossSignTemplate(
  root: Certificate,
  by: Certificate,
  options: CrossSignOptions,
): Promise<Certificate> {
  // Its signature algorithm is that of the result.
  const signer = await generateCaKey(
    by.key.type === "rsa" ? { type: "rsa", bits: 2048 } : { type: "ec", bits: ecBits(by.key) },
  );
  const spec = {
    serial: createSerials(options.random)(),
    issuer: root.subject,
    subject: root.subject,
    ...crossValidity(root, by, options),
    spki: root.key.spki,
    extensions: crossExtensions(root, by),
    signingKey: signer.privateKey,
    scheme: caScheme(signer.info, caHash(signer.info)),
  };
  return readCertificate(await makeCertificate(spec));
}

function ecBits({ bits }: PublicKeyInfo): EcBits {
  return bits === 384 || bits === 521 ? bits : 256;
}

function crossExtensions(root: Certificate, by: Certificate): readonly ExtensionSpec[] {
  const uri = root.uris.find((each) => /^spiffe:\/\/[^/?#]+$/i.test(each));
  return caExtensions(
    null,
    root.subjectKeyId as Bytes,
    by.subjectKeyId as Bytes,
    uri?.toLowerCase(),
  );
}

function caExtensions(
  pathLength: number | null,
  subjectKeyId: Bytes,
  authorityKeyId: Bytes,
  uri: string | undefined,
): readonly ExtensionSpec[] {
  return [
    { kind: "keyUsage", bits: CA_KEY_USAGE },
    { kind: "ca", pathLength },
    { kind: "subjectKeyId", id: subjectKeyId },
    { kind: "authorityKeyId", id: authorityKeyId },
    ...(uri === undefined ? [] : ([{ kind: "uri", uri }] as const)),
  ];
}

/**
 * Starts when both roots are valid, whatever the clock is, so that a clock that is ahead makes no
 * certificate that is not valid yet.
 * @throws {InvariantError} if the roots are never valid together
 */
function crossValidity(
  root: Certificate,
  by: Certificate,
  { until }: CrossSignOptions,
): Pick<CertificateSpec, "notBefore" | "notAfter"> {
  const notBefore = laterOf(root.notBefore.getTime(), by.notBefore);
  const notAfter = wholeSecond(
    new Date(Math.min(root.notAfter.getTime(), by.notAfter.getTime(), until.getTime())),
  );
  if (notBefore > notAfter)
    throw new InvariantError(
      "Cannot cross-sign: the validity of the certificate would end before it begins",
    );
  return { notBefore, notAfter };
}

/**
 * Makes an intermediate for a public key: a CA below which only leaves are allowed. It never outlives
 * `by`.
 */
export function createIntermediate(
  key: PublicKeyInfo,
  by: Authority,
  options: CaCertificateOptions,
): Promise<Certificate> {
  const { now, random, clusterId, provider } = options;
  return finish("intermediate", by.certificate, {
    serial: createSerials(random)(),
    issuer: by.certificate.subject,
    subject: caCommonName("sec", provider, clusterId, random),
    notBefore: laterOf(now.getTime() - CA_BACKDATE_MS, by.certificate.notBefore),
    notAfter: wholeSecond(
      new Date(Math.min(now.getTime() + options.ttlMs, by.certificate.notAfter.getTime())),
    ),
    spki: key.spki,
    extensions: caExtensions(
      0,
      keyIdOf(key.spki),
      by.certificate.subjectKeyId as Bytes,
      signingUri(options),
    ),
    signingKey: by.privateKey,
    scheme: caScheme(by.certificate.key, "SHA-256"),
  });
}

/** The SPIFFE ID of every CA certificate of a trust domain. */
export function signingUri({ trustDomain }: Pick<ClusterIdentity, "trustDomain">): string {
  return formatSpiffeId({ kind: "signing", trustDomain });
}

/**
 * `pri-<uid>.<provider>.ca.<first 8 of the cluster ID>.consul` (Consul's agent/connect/common_names.go). The uid, 40
 * random bits, makes the name of every CA certificate unique; else verifiers would try each root.
 */
export function caCommonName(
  prefix: "pri" | "sec",
  provider: string,
  clusterId: string,
  random: Random,
): string {
  const uid = Array.from(
    random.bytes(8),
    (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte & 31],
  ).join("");
  const label = provider
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .slice(0, 32);
  return `${prefix}-${uid}.${label}.ca.${clusterId.slice(0, 8).toLowerCase()}.consul`;
}

function laterOf(ms: number, other: Date): Date {
  return wholeSecond(new Date(Math.max(ms, other.getTime())));
}

async function finish(
  kind: CertificateKind,
  issuer: Certificate | null,
  spec: CertificateSpec,
): Promise<Certificate> {
  const certificate = readCertificate(await makeCertificate(spec));
  // Names match by octets, and a library that encodes a name again may change them.
  if (spec.subject instanceof Uint8Array && !equal(certificate.subject, spec.subject))
    throw new InvariantError(
      `Cannot issue ${kind} certificate: its subject differs from the requested one`,
    );
  const violations = await lint(certificate, kind, issuer ?? certificate);
  if (violations.length > 0)
    throw new InvariantError(`Cannot issue ${kind} certificate: ${violations.join("; ")}`);
  return certificate;
}
