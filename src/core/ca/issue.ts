/**
 * The way of a request: read, checked, prepared, signed. What was checked is what is signed: `prepare` gives a value
 * that can be signed once, and nothing else can be signed.
 * @module
 */
import { colonHex } from "../bytes.ts";
import type { Clock, Random } from "../clock.ts";
import { CaError, ConflictError, NotReadyError, RequestError } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { certificatePem } from "../pem.ts";
import { type LeafId, parseSpiffeId, trustDomainOf } from "../spiffe/kinds.ts";
import type { Certificate } from "../x509/certificate.ts";
import { type CertificateRequest, readCsr, verifyProof } from "../x509/csr.ts";
import type { LeafFields } from "../x509/leaf.ts";
import { type LeafNames, leafKeyUsage, leafNames } from "../x509/profile.ts";
import { createSerials } from "../x509/serial.ts";
import type { Limiter } from "./limiter.ts";
import { leafValidity, type Snapshot } from "./snapshot.ts";

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

/** A leaf whose every field was checked and decided. It can be spent once, and only what it gives is signed. */
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
    if (fields === null) throw new ConflictError("prepared_spent", "Cannot sign leaf: what was prepared has been signed already");
    this.#fields = null;
    return fields;
  }
}

export interface IssuerOptions {
  readonly datacenter: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly limiter: Limiter;
  readonly metrics: Metrics;
  /** The snapshot to sign under. @throws {NotReadyError} */
  readonly snapshot: () => Snapshot;
}

/** Signs requests. @returns a function from one PEM request to its leaf, with the errors of `readCsr`, `verifyProof`, `leafNames` and the limiter. */
export function createIssuer(options: IssuerOptions): (csr: string) => Promise<IssuedLeaf> {
  const { clock, metrics, limiter, random } = options;
  const nextSerial = createSerials(random);

  /** Decides every field of a leaf for a request whose proof of possession was verified. */
  const prepare = (request: CertificateRequest, id: LeafId, names: LeafNames, snapshot: Snapshot): PreparedLeaf => {
    const now = clock.now();
    const { issuer, root } = requireInForce(snapshot, now);
    return new PreparedLeaf(snapshot, id, {
      ...names,
      ...leafValidity(issuer, root, snapshot.config.leafTtlMs, now),
      serial: nextSerial(),
      spki: request.key.spki,
      keyUsage: leafKeyUsage(request.key.type),
    });
  };

  const answer = ({ snapshot, id }: PreparedLeaf, fields: LeafFields, der: Uint8Array): IssuedLeaf => ({
    id,
    uri: fields.uri,
    serialNumber: colonHex(fields.serial),
    certificatePem: certificatePem(der) + snapshot.chainPem,
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
    index: snapshot.state.index,
  });

  return async (csr) => {
    const started = clock.now().getTime();
    try {
      const snapshot = options.snapshot();
      limiter.arrive();
      try {
        const request = readCsr(csr);
        const id = requireLeafId(request.uri, snapshot, options.datacenter);
        const names = leafNames(id, request);
        await verifyProof(request);
        // Only what will be signed counts against Consul's limits (consul-ca.md §4.9).
        const turn = limiter.enter(snapshot.config);
        if (turn !== null) await turn;
        try {
          // Not the snapshot that it began with: the process may have been suspended since, until that one's root was pruned.
          const prepared = prepare(request, id, names, options.snapshot());
          const provider = requireProvider(prepared.snapshot);
          const fields = prepared.spend();
          const der = await provider.signLeaf(provider.template.encode(fields));
          metrics.leafIssued(id.kind, (clock.now().getTime() - started) / 1000);
          return answer(prepared, fields, der);
        } finally {
          limiter.leave(snapshot.config);
        }
      } finally {
        limiter.depart();
      }
    } catch (error) {
      metrics.leafRefused(error instanceof CaError ? error.code : "internal");
      throw error;
    }
  };
}

function requireLeafId(uri: string, snapshot: Snapshot, datacenter: string): LeafId {
  const id = parseSpiffeId(uri);
  // Consul's texts (consul-ca.md §1.8).
  if (id.kind === "signing") throw new RequestError("spiffe_id_malformed", "SPIFFE ID in CSR must be a service, mesh-gateway, or agent ID");
  const trustDomain = trustDomainOf(snapshot.state.clusterId);
  if (id.datacenter !== datacenter)
    throw new RequestError("profile_violation", `SPIFFE ID in CSR from a different datacenter: ${id.datacenter}, we are ${datacenter}`);
  if (id.trustDomain !== trustDomain)
    throw new RequestError("profile_violation", `SPIFFE ID in CSR from a different trust domain: ${id.trustDomain}, we are ${trustDomain}`);
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

/** The two certificates whose end ends signing. @throws {NotReadyError} `ca_expired`, with Consul's text. */
export function requireInForce(snapshot: Snapshot, now: Date): { issuer: Certificate; root: Certificate } {
  const root = snapshot.active.certificate;
  const { issuer } = requireProvider(snapshot);
  for (const [what, certificate] of [
    ["root", root],
    ["intermediate", issuer],
  ] as const)
    if (certificate.notAfter <= now)
      throw new NotReadyError("ca_expired", `${what} expired: certificate expired, expiration date: ${goTime(certificate.notAfter)} `);
  return { issuer, root };
}

/** `2006-01-02 15:04:05 +0000 UTC`, as Go prints an instant. */
function goTime(instant: Date): string {
  return `${instant.toISOString().slice(0, 19).replace("T", " ")} +0000 UTC`;
}
