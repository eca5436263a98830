/**
 * Certificates for the CAs of other datacenters of this trust domain: whom one is issued for, and
 * the record of those that are not expired. A holder of one can sign a leaf with any identity of the
 * trust domain, until it expires or its root is removed.
 * @module
 */
import { type Bytes, colonHex } from "../bytes.ts";
import { ConflictError, InvariantError, RequestError } from "../errors.ts";
import type { Caller } from "../ports/audit.ts";
import {
  type CaState,
  INTERMEDIATES_SCHEMA,
  type IssuedIntermediate,
  MAX_INTERMEDIATES,
} from "../state.ts";
import { signingUri } from "../x509/authority.ts";
import { readCaRequest } from "../x509/ca-request.ts";
import type { Certificate } from "../x509/certificate.ts";
import { keyIdOf } from "../x509/keys.ts";
import { lint } from "../x509/lint.ts";
import { readName } from "../x509/peculiar.ts";
import type { Change, PlannedChange } from "./change.ts";
import { newCommitId } from "./plan-change.ts";
import { requireAbleToSign, requireKeyIsNotOurs } from "./signer.ts";
import { type Snapshot, withState } from "./snapshot.ts";
import { recordIntermediates } from "./transitions.ts";

/** Who asks for an intermediate, and may refuse its key. */
export interface IntermediateRequest {
  /** PEM. */
  readonly csr: string;
  readonly caller: Caller;
  /** @param spki DER of the requested key. @throws {DeniedError} if the key is denied */
  readonly permit: (spki: Bytes) => Promise<void> | void;
}

interface PlannedIntermediate {
  readonly planned: PlannedChange;
  /** The certificate of the request, then those between it and the root. */
  readonly path: readonly Certificate[];
}

/**
 * Has the active root certify the key of another datacenter's CA.
 * @throws {RequestError} for a request with another name, key or subject than such a CA may have
 * @throws {DeniedError} @throws {NotReadyError} if the root or its provider cannot sign
 * @throws {ConflictError} if this datacenter is not the primary one, or too many are recorded
 * @throws {ProviderError}
 */
export async function planIntermediate(
  snapshot: Snapshot,
  { csr, caller, permit }: IntermediateRequest,
  change: Pick<Change, "now" | "random" | "requireSchema">,
): Promise<PlannedIntermediate> {
  const { state, active } = snapshot;
  const { now, random } = change;
  const { provider } = requireAbleToSign(snapshot, now);
  const { primary } = state;
  if (primary !== null || provider.crossSigner === null)
    throw new ConflictError(
      "transition_invalid",
      // Consul's text (agent/consul/connect_ca_endpoint.go), and what to do.
      `not the primary datacenter${primary === null ? "" : `: ask datacenter ${primary.datacenter} for an intermediate`}`,
    );
  const request = await readCaRequest(csr, signingUri(state));
  requireKeyIsNotOurs(request, snapshot);
  await requireOwnSubject(request.commonName, state);
  await permit(request.key.spki);
  const alive = state.intermediates.filter(({ notAfter }) => notAfter > now);
  if (alive.length >= MAX_INTERMEDIATES)
    throw new ConflictError(
      "budget_exceeded",
      `Cannot sign intermediate: ${MAX_INTERMEDIATES} intermediates of other datacenters are not expired; delete the token that requests too many, which the list of intermediates shows, or wait until ${soonest(alive).toISOString()}`,
    );
  requireShare(alive, caller.accessor);
  // Before something is signed that could not be recorded.
  change.requireSchema(INTERMEDIATES_SCHEMA);
  const path = await provider.crossSigner.signIntermediate(csr, now);
  const [certificate] = path;
  if (certificate === undefined) throw new InvariantError("The provider returned no intermediate");
  const faults = await lint(certificate, "intermediate", path[1] ?? active.certificate);
  if (faults.length > 0)
    throw new InvariantError(`An intermediate would break rules: ${faults.join("; ")}`);
  const issued: IssuedIntermediate = {
    serial: colonHex(certificate.serial),
    keyId: colonHex(keyIdOf(certificate.key.spki)),
    rootId: active.id,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    accessor: caller.accessor,
    address: caller.address,
  };
  const next = recordIntermediates(state, newCommitId(random), [issued, ...alive]);
  return { planned: { kind: "intermediate", snapshot: withState(snapshot, next) }, path };
}

/** The recorded intermediates of other datacenters that are not expired. */
export interface UnexpiredIntermediates {
  readonly count: number;
  /** When the first of them expires; null if there is none. */
  readonly firstNotAfter: Date | null;
}

/** @param state null: there is none yet. */
export function unexpiredIntermediates(state: CaState | null, now: Date): UnexpiredIntermediates {
  const alive = (state?.intermediates ?? []).filter(({ notAfter }) => notAfter > now);
  return { count: alive.length, firstNotAfter: alive.length === 0 ? null : soonest(alive) };
}

/**
 * A datacenter that requests intermediates and takes none must not use up those of the others.
 * @param accessor of the token; null without access control, where callers cannot be told apart.
 * @throws {ConflictError} `budget_exceeded`
 */
function requireShare(alive: readonly IssuedIntermediate[], accessor: string | null): void {
  const own = alive.filter((issued) => accessor !== null && issued.accessor === accessor);
  if (own.length < MAX_INTERMEDIATES / 2) return;
  throw new ConflictError(
    "budget_exceeded",
    `Cannot sign intermediate: ${own.length} intermediates that the token ${accessor} requested are not expired, half of those that can be recorded; see why its datacenter requests that many, then give it another token, or wait until ${soonest(own).toISOString()}`,
  );
}

/** The octets of a SHA-256, in colon hex. */
const SHA_256_LENGTH = 32 * 3 - 1;

/**
 * Until when the last intermediate of a key can be valid; null if none is recorded.
 * @param keyId of the public key in colon hex: its SHA-256, or 20 octets, which may be its SHA-1 and
 * then belong to any key.
 */
export function intermediateEnd({ intermediates }: CaState, keyId: string): Date | null {
  const ends = intermediates
    .filter((issued) => keyId.length < SHA_256_LENGTH || issued.keyId === keyId)
    .map(({ notAfter }) => notAfter.getTime());
  return ends.length === 0 ? null : new Date(Math.max(...ends));
}

/**
 * Two CAs of one name break path building: verifiers go by the name, without regard to case (RFC 5280
 * section 7.1).
 * @throws {RequestError} `profile_violation`
 */
async function requireOwnSubject(commonName: string, { roots }: CaState): Promise<void> {
  const subjects = roots.flatMap(({ certificate, intermediates, leafIssuers }) =>
    [certificate, ...intermediates, ...leafIssuers.map((issuer) => issuer.certificate)].map(
      ({ subject }) => subject,
    ),
  );
  const names = (await Promise.all(subjects.map(readName))).flat();
  const folded = (text: string) => text.trim().replaceAll(/\s+/g, " ").toLowerCase();
  if (names.some(({ value }) => folded(value) === folded(commonName)))
    throw new RequestError(
      "profile_violation",
      "Cannot sign intermediate: its request has the subject of a CA of this datacenter",
    );
}

const soonest = (alive: readonly IssuedIntermediate[]): Date =>
  new Date(Math.min(...alive.map(({ notAfter }) => notAfter.getTime())));
