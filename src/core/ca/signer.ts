/**
 * The way of a request: read, checked, prepared, signed. What was checked is what is signed:
 * `prepare` gives a value that can be signed once, and nothing else can be signed.
 * @module
 */

import { type Bytes, colonHex, equal } from "../bytes.ts";
import { CaError, ConflictError, InvariantError, NotReadyError, RequestError } from "../errors.ts";
import { certificatePem } from "../pem.ts";
import { type Audit, type AuditRecord, type Caller, NOBODY } from "../ports/audit.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { SignedLeaf } from "../ports/provider.ts";
import {
  formatSpiffeId,
  type LeafId,
  parseSpiffeId,
  requireDefaultScope,
  type SpiffeId,
  trustDomainOf,
} from "../spiffe/id.ts";
import type { RootEntry } from "../state.ts";
import { type Certificate, pemOf } from "../x509/certificate.ts";
import { type CertificateRequest, readCsr, verifyProof } from "../x509/csr.ts";
import { keyIdOf } from "../x509/keys.ts";
import type { LeafFields } from "../x509/leaf.ts";
import {
  createSerials,
  type LeafNames,
  leafKeyUsage,
  leafNames,
  leafValidity,
  type ServerNames,
} from "../x509/profile.ts";
import { issuersOf, lineOf } from "./cross-chain.ts";
import type { Limiter, Priority } from "./limiter.ts";
import type { Snapshot } from "./snapshot.ts";

/** A signed leaf, as the edges need it. */
export interface IssuedLeaf {
  readonly id: LeafId;
  readonly uri: string;
  /** Colon hex. */
  readonly serialNumber: string;
  /** The leaf, then all that goes with it, in path order; the root is not among them. */
  readonly certificatePem: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Index of the state it was signed under. */
  readonly index: number;
}

/** Who a request would become. */
export interface LeafSubject {
  readonly id: LeafId;
  /** The canonical SPIFFE ID, which the leaf will have. */
  readonly uri: string;
  /** DER of the SubjectPublicKeyInfo that the leaf will have. */
  readonly spki: Bytes;
}

/**
 * Says whether a caller may have an identity. It is asked when the request has been read, again
 * right before the leaf is signed, and once more after a remote signature, since rights may be
 * taken away while a request waits: each time it answers by what is so at that time.
 * @throws {DeniedError}
 */
export type Permit = (subject: LeafSubject) => void | Promise<void>;

/**
 * A leaf whose every field was checked and decided. It can be spent once, and only what it gives is
 * signed.
 */
class PreparedLeaf {
  readonly snapshot: Snapshot;
  readonly id: LeafId;
  #fields: LeafFields | null;

  constructor(snapshot: Snapshot, id: LeafId, fields: LeafFields) {
    this.snapshot = snapshot;
    this.id = id;
    this.#fields = fields;
  }

  /** @throws {ConflictError} `prepared_spent` the second time */
  spend(): LeafFields {
    const fields = this.#fields;
    if (fields === null)
      throw new ConflictError(
        "prepared_spent",
        "Cannot sign leaf: what was prepared has been signed already",
      );
    this.#fields = null;
    return fields;
  }
}

export interface IssuerOptions {
  readonly datacenter: string;
  readonly serverNames: ServerNames;
  readonly clock: Clock;
  readonly random: Random;
  readonly limiter: Limiter;
  readonly metrics: Metrics;
  readonly audit: Audit | null;
  /** The snapshot to sign under. @throws {NotReadyError} */
  readonly snapshot: () => Snapshot;
}

export interface SignOptions {
  /** @default "issue" */
  readonly priority?: Priority;
  /** @default NOBODY */
  readonly caller?: Caller;
  /**
   * Checks who asks, once the request has its place to work and before it is read; what it costs
   * counts against the limiter.
   * @throws {DeniedError}
   * @default undefined: the caller is known
   */
  readonly authenticate?: (snapshot: Snapshot) => Promise<void>;
  /** @default undefined: everybody may */
  readonly permit?: Permit | undefined;
}

export type Issue = (csr: string, options?: SignOptions) => Promise<IssuedLeaf>;

const FIRST_ISSUE: SignOptions = {};

/**
 * Signs requests.
 * @returns a function from one PEM request to its leaf, with the errors of `readCsr`,
 * `verifyProof`, `leafNames` and the limiter.
 */
export function createIssuer(options: IssuerOptions): Issue {
  const { clock, metrics, limiter, random, audit } = options;
  const nextSerial = createSerials(random);

  /** Decides every field of a leaf for a request whose proof of possession was verified. */
  const prepare = (
    request: CertificateRequest,
    id: LeafId,
    names: LeafNames,
    snapshot: Snapshot,
  ): PreparedLeaf => {
    const now = clock.now();
    const { issuer, root } = requireInForce(snapshot, now);
    const fields = {
      ...names,
      ...leafValidity(issuer, root, snapshot.config.leafTtlMs, now),
      serial: nextSerial(),
      spki: request.key.spki,
      keyUsage: leafKeyUsage(request.key.type),
    };
    return new PreparedLeaf(snapshot, id, requireLife(fields));
  };

  const answer = (
    { snapshot, id }: PreparedLeaf,
    { uri }: LeafFields,
    issued: SignedLeaf,
  ): IssuedLeaf => ({
    id,
    uri,
    serialNumber: colonHex(issued.serial),
    certificatePem: certificatePem(issued.der) + chainPemAt(snapshot, clock.now()),
    notBefore: issued.notBefore,
    notAfter: issued.notAfter,
    index: snapshot.state.index,
  });

  return async (
    csr,
    { priority = "issue", caller = NOBODY, authenticate, permit } = FIRST_ISSUE,
  ) => {
    const started = clock.now().getTime();
    let uri: string | null = null;
    let decided = false;
    try {
      const snapshot = options.snapshot();
      limiter.arrive(priority);
      let working = false;
      try {
        const place = limiter.work(priority);
        if (place !== null) await place;
        working = true;
        if (authenticate !== undefined) await authenticate(snapshot);
        const request = readCsr(csr);
        uri = request.uri;
        requireForeignKey(request, snapshot);
        const named = parseSpiffeId(request.uri);
        uri = formatSpiffeId(named);
        const id = requireLeafId(named, snapshot, options.datacenter);
        const subject: LeafSubject = { id, uri, spki: request.key.spki };
        const permitted = permit?.(subject);
        if (permitted !== undefined) await permitted;
        const names = leafNames(id, request, options.serverNames);
        await verifyProof(request);
        // Only what will be signed counts against Consul's limits (consul-ca.md §4.9).
        const turn = limiter.enter(snapshot.config, priority);
        if (turn !== null) {
          // A request that waits for Consul's limits does not work.
          working = false;
          limiter.pause();
          await turn;
        }
        try {
          const permittedAgain = permit?.(subject);
          if (permittedAgain !== undefined) await permittedAgain;
          // Not the snapshot that it began with: the process may have been suspended since, until
          // that one's root was pruned.
          const prepared = prepare(request, id, names, options.snapshot());
          const provider = requireProvider(prepared.snapshot);
          const fields = prepared.spend();
          if (audit !== null && !provider.remote)
            audit.record(allowed(caller, fields, fields.serial));
          decided = true;
          const issued = await provider.signLeaf(provider.template.encode(fields), csr);
          if (provider.remote) {
            // Nobody was given it until here, and the right to it may have been taken away while it
            // was signed elsewhere.
            decided = false;
            await permit?.(subject);
            decided = true;
            // Its serial number is known only now.
            audit?.record(allowed(caller, fields, issued.serial));
          }
          metrics.leafIssued(id.kind, (clock.now().getTime() - started) / 1000);
          return answer(prepared, fields, issued);
        } finally {
          limiter.leave(snapshot.config);
        }
      } finally {
        if (working) limiter.pause();
        limiter.depart();
      }
    } catch (error) {
      metrics.leafRefused(error instanceof CaError ? error.code : "internal");
      audit?.refusal(error, (code) => ({
        caller,
        action: "sign",
        subject: uri,
        outcome: decided ? "failed" : "refused",
        code,
      }));
      throw error;
    }
  };
}

function allowed(caller: Caller, { uri, spki }: LeafFields, serial: Uint8Array): AuditRecord {
  return {
    caller,
    action: "sign",
    subject: uri,
    outcome: "allowed",
    code: null,
    serial: colonHex(serial),
    keyId: colonHex(keyIdOf(spki)),
  };
}

/**
 * A leaf with the CA's own key could stand for the CA wherever keys are compared, not certificates.
 * @throws {RequestError} `profile_violation`
 */
function requireForeignKey(
  { key: { spki } }: CertificateRequest,
  { state, provider }: Snapshot,
): void {
  const isOurs = ({ key }: Certificate) => equal(key.spki, spki);
  const isOfRoot = ({ certificate, leafIssuers }: RootEntry) =>
    isOurs(certificate) || leafIssuers.some((issuer) => isOurs(issuer.certificate));
  if ((provider !== null && isOurs(provider.issuer)) || state.roots.some(isOfRoot))
    throw new RequestError(
      "profile_violation",
      "Cannot accept CSR: its public key is one of the CA's own",
    );
}

function requireLeafId(id: SpiffeId, snapshot: Snapshot, datacenter: string): LeafId {
  // Consul's texts, in its order (agent/consul/leader_connect_ca.go).
  if (id.kind === "signing")
    throw new RequestError(
      "spiffe_id_malformed",
      "SPIFFE ID in CSR must be a service, mesh-gateway, or agent ID",
    );
  requireDefaultScope(id);
  const trustDomain = trustDomainOf(snapshot.state.clusterId);
  if (id.datacenter !== datacenter)
    throw new RequestError(
      "profile_violation",
      `SPIFFE ID in CSR from a different datacenter: ${id.datacenter}, we are ${datacenter}`,
    );
  if (id.trustDomain !== trustDomain)
    throw new RequestError(
      "profile_violation",
      `SPIFFE ID in CSR from a different trust domain: ${id.trustDomain}, we are ${trustDomain}`,
    );
  return id;
}

function requireProvider(snapshot: Snapshot) {
  if (snapshot.provider === null)
    throw new NotReadyError(
      "ca_uninitialized",
      "CA is uninitialized and unable to sign certificates yet: the signing key cannot be opened",
      { cause: snapshot.fault },
    );
  return snapshot.provider;
}

/**
 * The PEM of what goes with a leaf at an instant: a cross-signed certificate that has expired, and
 * what follows it, only lengthens a chain for verifiers. It stays in the state until looks at the
 * clock have confirmed that it has expired.
 */
function chainPemAt({ active, chainPem, chainEndsAt }: Snapshot, now: Date): string {
  if (chainEndsAt === null || now < chainEndsAt) return chainPem;
  const line = lineOf(active);
  const ended = line.findIndex(({ notAfter }) => notAfter <= now);
  return [...issuersOf(active), ...line.slice(0, ended)].map(pemOf).join("");
}

/**
 * The two certificates outside whose validity nothing is signed.
 * @throws {NotReadyError} `ca_expired`, with Consul's text; `ca_not_valid_yet`
 */
export function requireInForce(
  snapshot: Snapshot,
  now: Date,
): { issuer: Certificate; root: Certificate } {
  const root = snapshot.active.certificate;
  const { issuer } = requireProvider(snapshot);
  for (const [what, certificate] of [
    ["root", root],
    ["intermediate", issuer],
  ] as const) {
    if (certificate.notAfter <= now)
      throw new NotReadyError(
        "ca_expired",
        `${what} expired: certificate expired, expiration date: ${goTime(certificate.notAfter)} `,
      );
    if (certificate.notBefore > now)
      throw new NotReadyError(
        "ca_not_valid_yet",
        `Cannot sign leaf: the ${what} is not valid before ${certificate.notBefore.toISOString()}, and the clock here says ${now.toISOString()}. If this clock is right, the ${what} was made while a clock was ahead: rotate, with ForceWithoutCrossSigning if that is refused`,
      );
  }
  return { issuer, root };
}

/** @throws {InvariantError} for a leaf that could never be valid (RFC 5280 section 4.1.2.5) */
function requireLife(fields: LeafFields): LeafFields {
  if (fields.notBefore < fields.notAfter) return fields;
  throw new InvariantError("Cannot sign leaf: it would end before it begins");
}

/** `2006-01-02 15:04:05 +0000 UTC`, as Go prints an instant. */
function goTime(instant: Date): string {
  return `${instant.toISOString().slice(0, 19).replace("T", " ")} +0000 UTC`;
}
