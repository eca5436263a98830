/**
 * Plans a change of configuration, with the root that it may bring: from the present state and a
 * request to the next state, proved and within its size limits. Nothing is in use until the result
 * is committed.
 * @module
 */

import { hex } from "../bytes.ts";
import { ConfigError, ConflictError, InvariantError, NotReadyError } from "../errors.ts";
import type { Random } from "../ports/clock.ts";
import type { CommonConfig, Prepared, Provider, ProviderType } from "../ports/provider.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import type { CaState, ConfigMap, PreparedRoot } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { pathConstraintFaults } from "../x509/constraint-faults.ts";
import { clashAmong, clashText } from "../x509/service-names.ts";
import { requireChainSize } from "./chain-size.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { redact, requireDistinctFields, requireKept, sameJson } from "./config-fields.ts";
import { buildCrossChain, requireCrossSigning } from "./cross-sign.ts";
import { requireNotDropped } from "./dropped-roots.ts";
import { withGarbage } from "./garbage.ts";
import { proveCrossing, proveTemplate, type Snapshot, snapshotOf, typeOf } from "./snapshot.ts";
import { changeConfig, type Issuing, type NewConfig, type NewRoot, rotate } from "./transitions.ts";

/** A secondary datacenter has no root of its own. */
type DatacenterRole = "primary" | "secondary";

export interface ConfigurationRequest {
  readonly provider: string;
  /** Keys as the operator wrote them; a secret may be HIDDEN, which keeps the stored one. */
  readonly config: ConfigMap | null;
  /** The provider state sent back: null, empty or what it is. */
  readonly state: Readonly<Record<string, unknown>> | null;
  readonly forceWithoutCrossSigning: boolean;
  /** 0 or null: no comparison. */
  readonly modifyIndex: bigint | null;
}

/** A configuration that was read. */
export interface RequestedConfig {
  readonly type: ProviderType;
  /** With the secrets that were sent, for the change only. */
  readonly sent: CommonConfig;
  /** Without them. */
  readonly config: CommonConfig;
  /** What is to be stored. */
  readonly stored: NewConfig;
}

type Providers = Pick<ChangeContext, "providers">;

/** A configuration with its provider's type. */
interface Target {
  readonly type: ProviderType;
  readonly config: CommonConfig;
}

/** The root that a configuration describes, new or the active one, with that configuration. */
interface Candidate extends Target {
  /** The configuration to be stored. */
  readonly stored: NewConfig;
  readonly prepared: Prepared;
  /**
   * Whether the prepared state continues that of the root's retired record, which leaves nothing
   * behind then. @default false
   */
  readonly continuesRecord?: boolean;
}

/** A fresh commit id: 128 random bits in hex. */
export function newCommitId(random: Random): string {
  return hex(random.bytes(16));
}

/**
 * Plans a change of configuration.
 * @returns null if it is what is stored already.
 * @throws {ConfigError} @throws {ConflictError} @throws {SealError} @throws {ProviderError}
 */
export async function planConfiguration(
  snapshot: Snapshot,
  request: ConfigurationRequest,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const requested = readChangedConfig(state, request, change);
  if (requested === null) return null;
  const { type, sent, isSame, ...kept } = requested;
  const force = request.forceWithoutCrossSigning;
  const prepared = await prepare(snapshot, { type, config: sent }, { fresh: false, force }, change);
  // The secrets in use were sent again in full.
  if (isSame && sameJson(prepared.state, state.provider.active)) return null;
  const candidate = { type, prepared, ...kept };
  if (prepared.root.id !== snapshot.active.id)
    return planRotation(snapshot, candidate, force, change);
  return { ...(await planSameRoot(snapshot, candidate, change)), kind: "configure" };
}

/** The active root stays; its issuer may be another. */
export async function planSameRoot(
  snapshot: Snapshot,
  candidate: Candidate,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { config, stored, prepared } = candidate;
  const provider = await providerFor(snapshot, candidate, change);
  const next = changeConfig(snapshot.state, newCommitId(change.random), {
    config: stored,
    provider: prepared.state,
    leafTtlMs: config.leafTtlMs,
    issuing: issuingOf(provider, change.now),
  });
  return {
    kind: "renew",
    snapshot: snapshotOf(next, config, provider),
    warnings: prepared.warnings,
  };
}

/** Another root becomes active, certified by those that are still trusted. */
export async function planRotation(
  snapshot: Snapshot,
  candidate: Candidate,
  force: boolean,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, active } = snapshot;
  const { now, policy, random } = change;
  const { type, config, stored, prepared, continuesRecord = false } = candidate;
  requireNotDropped(state, prepared.root, "Cannot rotate");
  const provider = await openProved(state, candidate, change);
  requireValid(provider, prepared.root, now);
  const { chain, abandonedRoots, forceWouldAbandon } = await buildCrossChain(
    snapshot,
    provider,
    prepared.root,
    force,
    change,
  );
  const rotated = rotate(state, newCommitId(random), {
    config: stored,
    root: newRoot(type, prepared, provider, now),
    chain,
    abandonedRoots,
    leafTtlMs: config.leafTtlMs,
    now,
  });
  await requireChainSize({ next: rotated, retiring: active.id, force, forceWouldAbandon }, change);
  const continued = continuesRecord ? prepared.root.id : null;
  const next = withGarbage(state, rotated, { types: change.providers, policy, now, continued });
  return {
    kind: "rotate",
    snapshot: snapshotOf(next, config, provider),
    abandonedRoots,
    warnings: prepared.warnings,
  };
}

/**
 * Creates or finds the root that a configuration describes. The active one stays in use.
 * @throws {ConfigError} without force, if the active root is not allowed to certify it
 */
export function prepare(
  snapshot: Snapshot,
  { type, config }: Target,
  { fresh, force }: { readonly fresh: boolean; readonly force: boolean },
  change: ChangeContext,
): Promise<Prepared> {
  const { state, active } = snapshot;
  const { now, onRollback } = change;
  const previous =
    type.name === state.config.provider
      ? { config: snapshot.config, state: state.provider.active, root: active.certificate }
      : null;
  const checkRoot = async (root: Certificate | null) => {
    if (root !== null) requireNotDropped(state, root, "Cannot rotate");
    if (!force) await requireCrossSigning(snapshot, root, change);
  };
  const request = { previous, fresh, now, onRollback, checkRoot };
  return type.prepare(config, request, change.contextFor(state));
}

/**
 * The provider of what was prepared: the one in use if that signs alike, else one that is opened and
 * proved to sign leaves that are well formed and verify.
 */
async function providerFor(
  snapshot: Snapshot,
  candidate: Pick<Candidate, "type" | "config" | "prepared">,
  change: ChangeContext,
): Promise<Provider> {
  const { state, active, provider: present } = snapshot;
  const { type, config, prepared } = candidate;
  const { root } = prepared;
  const isSameKey =
    present !== null &&
    root.id === active.id &&
    type.name === state.config.provider &&
    sameJson(prepared.state, state.provider.active);
  if (!isSameKey) return openProved(state, candidate, change);
  // The server may have a new name since this root became active.
  requireNamesPermitted(present, root, change);
  if (type.opensAlike?.(snapshot.config, config)) return present;
  const provider = await change.open(type, { config, state: prepared.state, root, cluster: state });
  // A key that is held here signs as before. What signs elsewhere may have been set up differently.
  if (provider.remote) await proveLeaves(provider, root, state, change);
  return provider;
}

/** Opens what was prepared, and proves that its leaves will be well formed and verify. */
export async function openProved(
  cluster: ClusterIdentity,
  { type, config, prepared }: Pick<Candidate, "type" | "config" | "prepared">,
  change: ChangeContext,
): Promise<Provider> {
  const { root, state } = prepared;
  const provider = await change.open(type, { config, state, root, cluster });
  requireNamesPermitted(provider, root, change);
  await proveLeaves(provider, root, cluster, change);
  return provider;
}

/** @throws {ConfigError} if a name constraint forbids this server's own certificate */
function requireNamesPermitted(
  { issuerChain }: Provider,
  root: Certificate,
  { serverNames }: ChangeContext,
): void {
  const [forbidden] = pathConstraintFaults([...issuerChain, root], serverNames);
  if (forbidden !== undefined)
    throw new ConfigError(
      `The root cannot be used: ${forbidden}, which the certificate of this server has`,
    );
}

/** @throws {InvariantError} if a leaf would be malformed, or would not verify under its root */
async function proveLeaves(
  provider: Provider,
  root: Certificate,
  { trustDomain }: ClusterIdentity,
  change: ChangeContext,
): Promise<void> {
  const { random, now } = change;
  if (!inForce(provider.issuer, now)) return;
  await proveTemplate(provider.issuer, root, { trustDomain, random, now });
  const failed = await proveCrossing(provider, root, [], [root], { trustDomain, random, now });
  if (failed.size > 0)
    throw new InvariantError("A leaf signed by the new root does not verify under it");
}

/**
 * Requires that the root and its issuer are valid by now: the clock of a Vault may be ahead of the
 * store's.
 * @throws {NotReadyError} `ca_not_valid_yet`
 */
export function requireValid({ issuer }: Provider, root: Certificate, now: Date): void {
  const later = [root, issuer].find(({ notBefore }) => notBefore > now);
  if (later === undefined) return;
  const what = later === root ? "root" : "issuer";
  throw new NotReadyError(
    "ca_not_valid_yet",
    `Cannot use the new ${what}: it is not valid before ${later.notBefore.toISOString()}, and the store's clock is at ${now.toISOString()}: the clock where the ${what} was made is ahead, or the store's is behind`,
    { retryAfterMs: later.notBefore.getTime() - now.getTime() },
  );
}

export function activeTarget({ state, config }: Snapshot, { providers }: ChangeContext): Target {
  return { type: typeOf(providers, state.config.provider), config };
}

export function newRoot(
  type: ProviderType,
  prepared: Prepared,
  provider: Provider,
  now: Date,
): NewRoot {
  const { root: certificate, state } = prepared;
  return { name: type.rootName, certificate, ...issuingOf(provider, now), state };
}

export function issuingOf({ issuer, issuerChain }: Provider, now: Date): Issuing {
  return { issuerKeyId: issuer.subjectKeyId as Uint8Array, issuers: issuerChain, now };
}

/** Reads the configuration of a first start. @throws {ConfigError} */
export function readFirstConfig(
  { trustDomain }: Pick<ClusterIdentity, "trustDomain">,
  request: NewConfig,
  role: DatacenterRole,
  change: Providers,
): RequestedConfig {
  const type = requireType(request.provider, change);
  wrapConfigError(() => requireDistinctFields(request.config));
  const sent = wrapConfigError(() => parseFor(trustDomain, type, request.config, role));
  return { type, sent, ...withoutSecrets(type, sent, request, role) };
}

/**
 * Reads a configuration that takes the place of the stored one.
 * @returns null if no field has changed and no secret was sent; else with whether it is the stored
 * one but for secrets.
 * @throws {ConfigError} @throws {ConflictError} `index_mismatch`
 */
export function readChangedConfig(
  state: CaState,
  request: ConfigurationRequest,
  change: Providers,
): (RequestedConfig & { readonly isSame: boolean }) | null {
  const type = requireType(request.provider, change);
  requireReadOnlyState(request);
  wrapConfigError(() => requireDistinctFields(request.config));
  requireKept(request, state.config, type.secretFields);
  const redacted = redact(request.config, type.secretFields);
  const isSame =
    request.provider === state.config.provider && sameJson(redacted, state.config.config);
  if (isSame && sameJson(redacted, request.config)) return null;
  requireIndex(state, request.modifyIndex);
  const role = state.primary === null ? "primary" : "secondary";
  const sent = wrapConfigError(() => parseFor(state.trustDomain, type, request.config, role));
  return { type, sent, isSame, ...withoutSecrets(type, sent, request, role) };
}

/**
 * Reads a configuration, whose names no two services may share in a trust domain.
 * @throws {ConfigError}
 */
function parseFor(
  trustDomain: string,
  type: ProviderType,
  config: ConfigMap | null,
  role: DatacenterRole,
): CommonConfig {
  const parsed = type.parse(config, role);
  const clash = clashAmong(parsed.serviceDnsNames, trustDomain);
  if (clash === null) return parsed;
  const message = clashText(clash);
  throw new ConfigError(message, [{ field: "ServiceDNSNames", message }]);
}

/**
 * A configuration as it is kept, without the secrets that were sent: in memory parsed a second time
 * if there are some.
 */
function withoutSecrets(
  type: ProviderType,
  sent: CommonConfig,
  { provider, config: raw, forceWithoutCrossSigning }: NewConfig,
  role: DatacenterRole,
): Pick<RequestedConfig, "config" | "stored"> {
  const redacted = redact(raw, type.secretFields);
  return {
    config: sameJson(redacted, raw) ? sent : wrapConfigError(() => type.parse(redacted, role)),
    stored: { provider, config: redacted, forceWithoutCrossSigning },
  };
}

/** @throws {ConfigError} if a provider state is sent that is not empty */
function requireReadOnlyState({ state }: ConfigurationRequest): void {
  // Consul's text.
  if (state !== null && Object.keys(state).length > 0)
    throw new ConfigError(
      "Provider State is read-only. It must be omitted or identical to the current value",
    );
}

export function requireType(
  name: string,
  { providers }: Pick<ChangeContext, "providers">,
): ProviderType {
  const type = providers.get(name);
  // Consul's text (agent/consul/leader_connect_ca.go).
  if (type === undefined)
    throw new ConfigError(
      `could not initialize provider: unknown CA provider ${JSON.stringify(name)}`,
    );
  return type;
}

/** @throws {ConflictError} `index_mismatch` */
export function requireIndex(state: CaState, modifyIndex: bigint | null): void {
  if (
    modifyIndex !== null &&
    modifyIndex !== 0n &&
    modifyIndex !== BigInt(state.config.modifyIndex)
  )
    throw new ConflictError("index_mismatch", "ModifyIndex did not match existing");
}

/** @throws {ConflictError} `transition_invalid` while a root is prepared */
export function requireNothingPrepared({ provider: { prepared } }: CaState): void {
  if (prepared === null) return;
  throw new ConflictError("transition_invalid", `Cannot change the CA: ${preparedText(prepared)}`);
}

/** Why changes wait, and until when. */
export function preparedText({ rootId, activateAt }: PreparedRoot): string {
  return `root ${rootId} is prepared and becomes active at ${activateAt.toISOString()}; wait until then`;
}

/** Runs `parse`; a `ConfigError` of it gets Consul's prefix (agent/consul/leader_connect_ca.go). */
export function wrapConfigError<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof ConfigError)
      throw new ConfigError(`error configuring provider: ${error.message}`, error.violations);
    throw error;
  }
}
