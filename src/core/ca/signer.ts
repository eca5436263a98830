/**
 * From a CSR to a leaf: parsed, checked, every field decided, signed by the provider.
 * @module
 */

import { type Bytes, colonHex, equal } from "../bytes.ts";
import { CaError, InvariantError, NotReadyError, RequestError } from "../errors.ts";
import { certificatePem } from "../pem.ts";
import { type Audit, type AuditRecord, type Caller, NOBODY } from "../ports/audit.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { Provider } from "../ports/provider.ts";
import { formatSpiffeId, type LeafId } from "../spiffe/id.ts";
import type { RootEntry } from "../state.ts";
import { type Certificate, pemOf } from "../x509/certificate.ts";
import { type CertificateRequest, readCsr, verifyProof } from "../x509/csr.ts";
import { keyIdOf } from "../x509/keys.ts";
import {
  createSerials,
  type LeafFields,
  type LeafNames,
  leafKeyUsage,
  leafValidity,
  type ServerNames,
} from "../x509/leaf.ts";
import type { Hints } from "./ca-ports.ts";
import { crossChainOf, issuerChainOf } from "./cross-chain.ts";
import type { LeafCounter } from "./leaf-counter.ts";
import { type IdentitySource, mayLackUri, requestedId, requireLeafId } from "./leaf-identity.ts";
import { leafLife, leafTtlOf, type RenewedLeaf, renewAfter, requireTtl } from "./leaf-life.ts";
import { leafNames, requireNamesPermitted } from "./leaf-names.ts";
import type { Limiter, Priority } from "./limiter.ts";
import type { Snapshot } from "./snapshot.ts";

/** A signed leaf and what is answered of it. */
export interface IssuedLeaf {
  readonly id: LeafId;
  readonly uri: string;
  /** Colon hex. */
  readonly serialNumber: string;
  /** The leaf, then its chain in path order, without the root. */
  readonly certificatePem: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** When its holder should ask for the next one. */
  readonly renewAfter: Date;
  /** Index of the state it was signed under. */
  readonly index: number;
}

/** What a CSR asks for. */
export interface RequestedLeaf {
  readonly id: LeafId;
  /** The canonical SPIFFE ID. */
  readonly uri: string;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Bytes;
}

/**
 * Decides whether the caller is allowed to have a leaf. It is called when the CSR has been read,
 * again right before the leaf is signed, and once more after a remote signature, since rights may be
 * revoked while a request waits; each call decides by the rights at that time.
 * @throws {DeniedError}
 */
export type Permit = (leaf: RequestedLeaf) => void | Promise<void>;

interface LeafSignerOptions {
  readonly datacenter: string;
  /** The DNS and IP names that only this CA's own servers are allowed to have. */
  readonly serverNames: ServerNames;
  /** The DNS and IP names of this CA's servers, which no service is allowed to have. */
  readonly reservedNames: () => ServerNames;
  readonly hints: Hints;
  readonly clock: Clock;
  readonly random: Random;
  readonly limiter: Limiter;
  readonly metrics: Metrics;
  readonly audit: Audit | null;
  /** Null if leaves are not counted. */
  readonly leaves: Pick<LeafCounter, "count"> | null;
  /** The snapshot to sign under. @throws {NotReadyError} */
  readonly snapshot: () => Snapshot;
}

export interface SignOptions extends IdentitySource {
  /** @default "issue" */
  readonly priority?: Priority;
  /** @default NOBODY */
  readonly caller?: Caller;
  /**
   * Authenticates the caller, once the request has its place to be processed and before the CSR is
   * read; its cost counts against the limiter.
   * @returns the leaf that the caller renews, by proof of its key.
   * @throws {DeniedError}
   * @default undefined: the caller is authenticated already
   */
  readonly authenticate?: (snapshot: Snapshot) => Promise<RenewedLeaf>;
  /** The requested lifetime from the moment of signing, in milliseconds. @default the longest one */
  readonly ttlMs?: number | null;
  /** @default undefined: every caller is allowed */
  readonly permit?: Permit | undefined;
}

const NO_OPTIONS: SignOptions = {};

/** A CSR that passed all checks. The leaf is made of nothing else. */
interface CheckedRequest {
  readonly csr: string;
  readonly request: CertificateRequest;
  readonly leaf: RequestedLeaf;
  readonly names: LeafNames;
  /** The snapshot by which the names were checked. */
  readonly checkedWith: Snapshot;
  readonly renewed: RenewedLeaf | null;
}

/** What is known of a request when it fails, for the audit log. */
interface Progress {
  /** The SPIFFE ID, canonical once it is valid. */
  uri: string | null;
  /** Whether all checks passed. */
  allowed: boolean;
}

/** From a CSR to a leaf: parse, check, decide every field, sign. */
export class LeafSigner {
  readonly #options: LeafSignerOptions;
  readonly #nextSerial: () => Bytes;

  constructor(options: LeafSignerOptions) {
    this.#options = options;
    this.#nextSerial = createSerials(options.random);
  }

  /**
   * Signs one CSR, in PEM.
   * @throws {CaError} those of `readCsr`, `requestedId`, `requireLeafId`, `leafNames`, `verifyProof`, the limiter,
   * `permit` and the provider.
   */
  async sign(csr: string, options: SignOptions = NO_OPTIONS): Promise<IssuedLeaf> {
    const { clock, limiter, metrics, audit } = this.#options;
    const started = clock.now().getTime();
    const progress: Progress = { uri: null, allowed: false };
    try {
      const snapshot = this.#options.snapshot();
      limiter.arrive(options.priority ?? "issue");
      try {
        const leaf = await this.#process(csr, snapshot, options, progress);
        limiter.signed();
        metrics.leafIssued(leaf.id.kind, (clock.now().getTime() - started) / 1000);
        return leaf;
      } finally {
        limiter.depart();
      }
    } catch (error) {
      metrics.leafRefused(error instanceof CaError ? error.code : "internal");
      audit?.refusal(error, (code) => ({
        caller: options.caller ?? NOBODY,
        action: "sign",
        subject: progress.uri,
        outcome: progress.allowed ? "failed" : "refused",
        code,
      }));
      throw error;
    }
  }

  /** Checks a request, in the places that the limiter gives it, and has it signed. */
  async #process(
    csr: string,
    snapshot: Snapshot,
    options: SignOptions,
    progress: Progress,
  ): Promise<IssuedLeaf> {
    const { limiter, datacenter } = this.#options;
    const { priority = "issue", authenticate, permit, ttlMs = null } = options;
    const place = limiter.work(priority);
    if (place !== null) await place;
    let working = true;
    try {
      const renewed = authenticate === undefined ? null : await authenticate(snapshot);
      const request = readCsr(csr, mayLackUri(options));
      progress.uri = request.uri;
      requireKeyIsNotOurs(request, snapshot);
      requireKeyOfNoDatacenter(request, snapshot);
      const scope = { trustDomain: snapshot.state.trustDomain, datacenter };
      const named = requestedId(request.uri, options, scope);
      progress.uri = formatSpiffeId(named);
      const id = requireLeafId(named, scope, options.service);
      const leaf: RequestedLeaf = { id, uri: progress.uri, spki: request.key.spki };
      const permitted = permit?.(leaf);
      if (permitted !== undefined) await permitted;
      const names = this.#namesOf(id, request, snapshot);
      if (ttlMs !== null && snapshot.provider !== null)
        requireTtl(ttlMs, leafTtlOf(snapshot), snapshot.provider.leafLimits);
      await verifyProof(request);
      // Only requests that passed all checks count against Consul's limits.
      const turn = limiter.enter(snapshot.config, priority);
      if (turn !== null) {
        // A request that waits for its turn gives back its place to be processed.
        working = false;
        limiter.pause();
        await turn;
      }
      try {
        const permittedAgain = permit?.(leaf);
        if (permittedAgain !== undefined) await permittedAgain;
        const checked = { csr, request, leaf, names, checkedWith: snapshot, renewed };
        return await this.#issue(checked, options, progress);
      } finally {
        limiter.leave(snapshot.config);
      }
    } finally {
      if (working) limiter.pause();
    }
  }

  /** The names of a leaf, which the name constraints above it must allow too. */
  #namesOf(id: LeafId, request: CertificateRequest, snapshot: Snapshot): LeafNames {
    const { serverNames, reservedNames: reserved, hints } = this.#options;
    const { serviceDnsNames: templates, serviceIpRanges: ranges } = snapshot.config;
    const names = leafNames(id, request, { serverNames, reserved, templates, ranges, hints });
    requireNamesPermitted(names, snapshot);
    return names;
  }

  /** Decides every field of the leaf, and has the provider sign it. */
  async #issue(
    { csr, request, leaf, renewed, ...checked }: CheckedRequest,
    { caller = NOBODY, permit, ttlMs = null }: SignOptions,
    progress: Progress,
  ): Promise<IssuedLeaf> {
    const { clock, audit, random } = this.#options;
    // Not the snapshot that the request began with: the process may have been suspended since, until
    // the root of that one was pruned.
    const snapshot = this.#options.snapshot();
    const now = clock.now();
    const { provider, root } = requireAbleToSign(snapshot, now);
    const names =
      snapshot === checked.checkedWith ? checked.names : this.#namesOf(leaf.id, request, snapshot);
    const fields: LeafFields = {
      ...names,
      ...leafValidity(
        provider.issuer,
        root,
        leafLife(ttlMs, leafTtlOf(snapshot), provider.leafLimits, renewed),
        now,
      ),
      serial: this.#nextSerial(),
      spki: leaf.spki,
      keyUsage: leafKeyUsage(request.key.type),
    };
    requireLife(fields);
    if (!provider.remote) audit?.record(allowed(caller, fields, fields.serial));
    progress.allowed = true;
    const signed = await provider.signLeaf(provider.template.encode(fields), csr);
    if (provider.remote) {
      // The rights may have been revoked during the remote signature; the leaf is not handed out
      // then. Its serial number is known only now.
      progress.allowed = false;
      await permit?.(leaf);
      progress.allowed = true;
      audit?.record(allowed(caller, fields, signed.serial));
    }
    this.#options.leaves?.count(root.id, provider.issuer.id, signed.notAfter);
    return {
      id: leaf.id,
      uri: leaf.uri,
      serialNumber: colonHex(signed.serial),
      certificatePem: certificatePem(signed.der) + chainPemAt(snapshot, clock.now()),
      notBefore: signed.notBefore,
      notAfter: signed.notAfter,
      renewAfter: renewAfter(now, signed.notAfter, random.fraction()),
      index: snapshot.state.index,
    };
  }
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
 * A leaf with a key of the CA would pass for the CA in programs that compare keys instead of
 * certificates.
 * @throws {RequestError} `profile_violation`
 */
export function requireKeyIsNotOurs(
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

/** @throws {RequestError} `profile_violation` for the key of the CA of another datacenter */
function requireKeyOfNoDatacenter(
  { key: { spki } }: CertificateRequest,
  { state: { intermediates } }: Snapshot,
): void {
  if (intermediates.length === 0) return;
  const keyId = colonHex(keyIdOf(spki));
  if (intermediates.some((issued) => issued.keyId === keyId))
    throw new RequestError(
      "profile_violation",
      "Cannot accept CSR: its public key is that of another datacenter's CA",
    );
}

/**
 * The PEM of a leaf's chain at an instant: without the first expired cross-signed certificate and
 * what follows it, which would only lengthen the chain for verifiers.
 */
function chainPemAt({ active, chainPem, chainEndsAt }: Snapshot, now: Date): string {
  if (chainEndsAt === null || now < chainEndsAt) return chainPem;
  const line = crossChainOf(active);
  const ended = line.findIndex(({ notAfter }) => notAfter <= now);
  return [...issuerChainOf(active), ...line.slice(0, ended)].map(pemOf).join("");
}

/**
 * The provider and the active root, if a leaf can be signed with them.
 * @throws {NotReadyError} `ca_uninitialized` if the signing key could not be opened; `ca_expired`
 * or `ca_not_valid_yet` if the root or the issuer is outside its validity.
 */
export function requireAbleToSign(
  { active, provider, fault }: Snapshot,
  now: Date,
): { provider: Provider; root: Certificate } {
  if (provider === null)
    throw new NotReadyError(
      "ca_uninitialized",
      "Cannot sign leaf: the signing key of the CA cannot be opened; the roots are still served",
      { cause: fault },
    );
  const root = active.certificate;
  for (const [name, { notBefore, notAfter }] of [
    ["root", root],
    ["intermediate", provider.issuer],
  ] as const) {
    // Consul's text (agent/consul/leader_connect_ca.go).
    if (notAfter <= now)
      throw new NotReadyError(
        "ca_expired",
        `${name} expired: certificate expired, expiration date: ${goTime(notAfter)} `,
      );
    if (notBefore > now)
      throw new NotReadyError(
        "ca_not_valid_yet",
        `Cannot sign leaf: the ${name} is not valid before ${notBefore.toISOString()}, and the clock of this server is at ${now.toISOString()}. If this clock is right, the ${name} was made while a clock was ahead: rotate, with ForceWithoutCrossSigning if that is refused`,
      );
  }
  return { provider, root };
}

/** @throws {InvariantError} for a leaf that could never be valid (RFC 5280 section 4.1.2.5) */
function requireLife({ notBefore, notAfter }: LeafFields): void {
  if (notBefore < notAfter) return;
  throw new InvariantError("Cannot sign leaf: its validity would end before it begins");
}

/** `2006-01-02 15:04:05 +0000 UTC`, as Go prints an instant. */
function goTime(instant: Date): string {
  return `${instant.toISOString().slice(0, 19).replace("T", " ")} +0000 UTC`;
}
