/**
 * Works out a change of configuration or of the root: from the present state and a request to the
 * next state, proved and within its budget. It commits nothing; until its result is committed,
 * nothing has changed.
 * @module
 */

import { hex } from "../bytes.ts";
import type { DeletionTime } from "../deletion-time.ts";
import { ConfigError, ConflictError, InvariantError, NotReadyError } from "../errors.ts";
import type { Random } from "../ports/clock.ts";
import type {
  CommonConfig,
  Compensation,
  Prepared,
  Provider,
  ProviderContext,
  ProviderType,
  ProviderTypes,
} from "../ports/provider.ts";
import type { CaState, ConfigMap } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { NO_SERVER_NAMES, type ServerNames } from "../x509/profile.ts";
import { pathConstraintFaults } from "../x509/usable-ca.ts";
import { requireChainSize } from "./chain-size.ts";
import { requireDistinctFields } from "./config-names.ts";
import { crossChainOf } from "./cross-chain.ts";
import { buildCrossChain, contextOf, requireCrossSigning } from "./cross-sign.ts";
import { withRemnants } from "./garbage.ts";
import type { Policy } from "./policy.ts";
import { redact, requireKept, sameJson } from "./sealed-config.ts";
import { proveCrossing, proveTemplate, type Snapshot, snapshotOf, typeOf } from "./snapshot.ts";
import {
  bootstrap,
  changeConfig,
  crossAgain,
  type Issuing,
  type NewConfig,
  type NewRoot,
  renewIssuer,
  rotate,
} from "./transitions.ts";

export interface ConfigurationRequest {
  readonly provider: string;
  /** Keys as the operator wrote them; a secret may be HIDDEN, which keeps the stored one. */
  readonly config: ConfigMap | null;
  /** Provider state as sent back: it may be left out, or be what it is. */
  readonly state: Readonly<Record<string, unknown>> | null;
  readonly forceWithoutCrossSigning: boolean;
  /** 0 or null: no comparison. */
  readonly modifyIndex: bigint | null;
}

export interface RotationRequest {
  readonly forceWithoutCrossSigning: boolean;
  readonly modifyIndex: bigint | null;
}

export interface ChangeContext {
  readonly types: ProviderTypes;
  readonly sealer: ProviderContext["sealer"];
  readonly random: Random;
  readonly policy: Policy;
  /** The store's clock. */
  readonly now: Date;
  /** Looks at the store's clock, for what will be deleted and when. @throws {StoreError} */
  readonly look: () => Promise<DeletionTime>;
  /** Takes how to undo what is about to be made outside. */
  readonly onRollback: (compensation: Compensation) => void;
  /** Names of this server's own certificate, which the root must not forbid. @default none */
  readonly serverNames?: ServerNames;
}

/** A change that is ready to be committed. */
export interface Change {
  readonly snapshot: Snapshot;
  /** For the log: what happens, in one word. */
  readonly kind: "bootstrap" | "configure" | "rotate" | "renew" | "resolve" | "restore";
  /** Roots that are left by force. */
  readonly abandonedRoots: readonly string[];
  /** What an operator should know of how it came out. */
  readonly warnings?: readonly string[];
}

/** A fresh commit id: 128 random bits in hex. */
export function newCommitId(random: Random): string {
  return hex(random.bytes(16));
}

/**
 * 16 random bytes printed 8-4-4-4-12, without a UUID's version bits, as Consul does (consul-ca.md
 * §3.3).
 */
export function newClusterId(random: Random): string {
  return newCommitId(random).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * Works out what a configuration changes.
 * @returns null where it is what is stored already (consul-ca.md §4.5, step 5).
 * @throws {ConfigError} @throws {ConflictError} @throws {SealError} @throws {ProviderError}
 */
export async function planConfiguration(
  snapshot: Snapshot,
  request: ConfigurationRequest,
  context: ChangeContext,
): Promise<Change | null> {
  const { state } = snapshot;
  const type = context.types.get(request.provider);
  // Consul's texts throughout (consul-ca.md §1.4).
  if (type === undefined)
    throw new ConfigError(
      `could not initialize provider: unknown CA provider ${JSON.stringify(request.provider)}`,
    );
  if (request.state !== null && Object.keys(request.state).length > 0)
    throw new ConfigError(
      "Provider State is read-only. It must be omitted or identical to the current value",
    );
  configured(() => requireDistinctFields(request.config));
  requireKept(request, state.config, type.secretFields);
  const stored = redact(request.config, type.secretFields);
  if (
    sameJson(stored, request.config) &&
    request.provider === state.config.provider &&
    sameJson(stored, state.config.config)
  )
    return null;
  requireIndex(state, request.modifyIndex);
  const asked = configured(() => type.parse(request.config));
  const force = request.forceWithoutCrossSigning;
  const prepared = await prepareBeside(snapshot, type, asked, false, force, context);
  // What is kept has no secrets in it.
  const config = sameJson(stored, request.config) ? asked : configured(() => type.parse(stored));
  const next: NewConfig = {
    provider: request.provider,
    config: stored,
    forceWithoutCrossSigning: force,
  };
  // The key in use was sent again in full.
  if (
    request.provider === state.config.provider &&
    sameJson(stored, state.config.config) &&
    sameJson(prepared.state, state.provider.active)
  )
    return null;
  if (prepared.root.id !== snapshot.active.id)
    return planRotation(snapshot, type, prepared, next, config, force, context);
  return {
    ...(await planSameRoot(snapshot, type, prepared, next, config, context)),
    kind: "configure",
  };
}

/** The active root stays, and what signs leaves may be another. */
async function planSameRoot(
  { state }: Snapshot,
  type: ProviderType,
  prepared: Prepared,
  next: NewConfig,
  config: CommonConfig,
  context: ChangeContext,
): Promise<Change> {
  const provider = await openChecked(type, prepared, config, state, context);
  const changed = changeConfig(
    state,
    newCommitId(context.random),
    next,
    prepared.state,
    config.leafTtlMs,
    issuingOf(provider, context.now),
  );
  return {
    snapshot: snapshotOf(changed, config, provider),
    kind: "renew",
    abandonedRoots: [],
    ...warningsOf(prepared),
  };
}

/**
 * Takes up what another root than the active one has become of the stored configuration outside,
 * without force.
 * @returns null where it is the active one.
 * @throws {ConfigError} where no path leads to the other root @throws {SealError} @throws
 * {ProviderError}
 */
export async function planReplacedRoot(
  snapshot: Snapshot,
  context: ChangeContext,
): Promise<Change | null> {
  const { state } = snapshot;
  const type = typeOf(context.types, state.config.provider);
  const { config } = snapshot;
  const prepared = await prepareBeside(snapshot, type, config, false, false, context);
  if (prepared.root.id !== snapshot.active.id)
    return planRotation(snapshot, type, prepared, state.config, config, false, context);
  if (sameJson(prepared.state, state.provider.active)) return null;
  return planSameRoot(snapshot, type, prepared, state.config, snapshot.config, context);
}

/** Works out a new issuer under the active root. @throws {SealError} @throws {ProviderError} */
export async function planRenewal(snapshot: Snapshot, context: ChangeContext): Promise<Change> {
  const { state, active } = snapshot;
  const type = typeOf(context.types, state.config.provider);
  if (type.renew === undefined) throw new InvariantError("The provider has no issuer to renew");
  const { now, onRollback } = context;
  const root = active.certificate;
  const renewed = await type.renew(
    snapshot.config,
    { state: state.provider.active, root, now, onRollback },
    contextOf(state, context),
  );
  const made = { root, ...renewed };
  const provider = await openChecked(type, made, snapshot.config, state, context);
  await requireBegun(provider, root, now);
  const next = renewIssuer(
    state,
    newCommitId(context.random),
    renewed.state,
    issuingOf(provider, now),
  );
  return {
    snapshot: snapshotOf(next, snapshot.config, provider),
    kind: "renew",
    abandonedRoots: [],
    ...warningsOf(renewed),
  };
}

/**
 * Works out the cross-signed certificates of the active root again, where one of them is needed for
 * longer than it lives.
 * @returns null if there is nothing to change.
 * @throws {ConfigError} if a root cannot certify it any more @throws {ProviderError} @throws
 * {SealError}
 */
export async function planCrossing(
  snapshot: Snapshot,
  context: ChangeContext,
): Promise<CaState | null> {
  const { state, active, provider, fault } = snapshot;
  if (provider === null) throw fault;
  const { chain } = await buildCrossChain(snapshot, provider, active.certificate, false, context);
  const ids = (certificates: readonly Certificate[]) => certificates.map(({ id }) => id).join();
  if (ids(chain) === ids(crossChainOf(active))) return null;
  return crossAgain(state, newCommitId(context.random), chain);
}

/**
 * Works out "rotate now": a new root with the stored configuration.
 * @throws {ConfigError} where the root was supplied @throws {ConflictError} @throws {SealError}
 * @throws {ProviderError}
 */
export async function planNewRoot(
  snapshot: Snapshot,
  request: RotationRequest,
  context: ChangeContext,
): Promise<Change> {
  const { state } = snapshot;
  requireIndex(state, request.modifyIndex);
  const { config } = snapshot;
  const type = typeOf(context.types, state.config.provider);
  const obstacle = type.rotateObstacle(config);
  if (obstacle !== null) throw new ConfigError(obstacle);
  const force = request.forceWithoutCrossSigning;
  const prepared = await prepareBeside(snapshot, type, config, true, force, context);
  // What stands below an external root was replaced.
  if (prepared.root.id === snapshot.active.id)
    return planSameRoot(snapshot, type, prepared, state.config, config, context);
  return planRotation(snapshot, type, prepared, state.config, config, force, context);
}

/** Makes or finds a root beside what is active, unless the active one may not certify it. */
function prepareBeside(
  snapshot: Snapshot,
  type: ProviderType,
  config: CommonConfig,
  fresh: boolean,
  force: boolean,
  context: ChangeContext,
): Promise<Prepared> {
  const { now, onRollback } = context;
  const { state, active } = snapshot;
  const previous =
    type.name === state.config.provider
      ? { config: snapshot.config, state: state.provider.active, root: active.certificate }
      : null;
  const checkRoot = async (root: Certificate | null) =>
    force ? undefined : requireCrossSigning(snapshot, root, context);
  const request = { previous, fresh, now, onRollback, checkRoot };
  return type.prepare(config, request, contextOf(state, context));
}

async function planRotation(
  snapshot: Snapshot,
  type: ProviderType,
  prepared: Prepared,
  config: NewConfig,
  parsed: CommonConfig,
  force: boolean,
  context: ChangeContext,
): Promise<Change> {
  const { state } = snapshot;
  const { now, policy, random } = context;
  const provider = await openChecked(type, prepared, parsed, state, context);
  await requireBegun(provider, prepared.root, now);
  try {
    const { chain, abandonedRoots, forceWouldAbandon } = await buildCrossChain(
      snapshot,
      provider,
      prepared.root,
      force,
      context,
    );
    const root: NewRoot = {
      name: type.rootName,
      certificate: prepared.root,
      ...issuingOf(provider, now),
      state: prepared.state,
    };
    const rotated = rotate(state, newCommitId(random), {
      config,
      root,
      chain,
      abandonedRoots,
      leafTtlMs: parsed.leafTtlMs,
      now,
    });
    await requireChainSize(
      { next: rotated, retiring: snapshot.active.id, force, forceWouldAbandon },
      context,
    );
    const next = withRemnants(state, rotated, context.types, policy, now);
    return {
      snapshot: snapshotOf(next, parsed, provider),
      kind: "rotate",
      abandonedRoots,
      ...warningsOf(prepared),
    };
  } catch (error) {
    void provider.close();
    throw error;
  }
}

/** Opens what `prepare` made and proves that its leaves will be well formed. */
export async function openChecked(
  type: ProviderType,
  prepared: Prepared,
  config: CommonConfig,
  state: CaState,
  context: ChangeContext,
): Promise<Provider> {
  const provider = await type.open(
    config,
    prepared.state,
    prepared.root,
    contextOf(state, context),
  );
  try {
    await prove(provider, prepared.root, state.clusterId, context);
    return provider;
  } catch (error) {
    void provider.close();
    throw error;
  }
}

/**
 * Looks whether what was made can sign now: the clock of a Vault may be ahead of the store's. Else
 * the provider is closed.
 * @throws {NotReadyError} `ca_not_valid_yet`
 */
async function requireBegun(provider: Provider, root: Certificate, now: Date): Promise<void> {
  const later = [root, provider.issuer].find(({ notBefore }) => notBefore > now);
  if (later === undefined) return;
  void provider.close();
  const what = later === root ? "root" : "issuer";
  throw new NotReadyError(
    "ca_not_valid_yet",
    `Cannot use the new ${what}: it is not valid before ${later.notBefore.toISOString()}, and the store's clock says ${now.toISOString()}: the clock where it was made is ahead, or the store's is behind`,
    { retryAfterMs: later.notBefore.getTime() - now.getTime() },
  );
}

/**
 * @throws {InvariantError} where a leaf would be malformed, or would not verify under its own root
 */
async function prove(
  provider: Provider,
  root: Certificate,
  clusterId: string,
  { random, now, serverNames }: ChangeContext,
): Promise<void> {
  const [forbidden] = pathConstraintFaults(
    [...provider.issuerChain, root],
    serverNames ?? NO_SERVER_NAMES,
  );
  if (forbidden !== undefined)
    throw new ConfigError(
      `The root cannot be used: ${forbidden}, which the certificate of this server has`,
    );
  if (!inForce(provider.issuer, now)) return;
  await proveTemplate(provider.issuer, root, { clusterId, random, now });
  const failed = await proveCrossing(provider, root, [], [root], { clusterId, random, now });
  if (failed.size > 0)
    throw new InvariantError("A leaf signed by the new root does not verify under it");
}

function issuingOf({ issuer, issuerChain }: Provider, now: Date): Issuing {
  return { issuerKeyId: issuer.subjectKeyId as Uint8Array, issuers: issuerChain, now };
}

function warningsOf({ warnings = [] }: Pick<Prepared, "warnings">): Pick<Change, "warnings"> {
  return warnings.length === 0 ? {} : { warnings };
}

export interface BootstrapConfig extends NewConfig {
  /** Null: a random one. */
  readonly clusterId: string | null;
}

/** Works out the first state of all. @throws {ConfigError} @throws {ProviderError} */
export async function planBootstrap(
  clusterId: string,
  request: NewConfig,
  context: ChangeContext,
): Promise<Change> {
  const { now, random, types, sealer } = context;
  const type = types.get(request.provider);
  if (type === undefined)
    throw new ConfigError(
      `could not initialize provider: unknown CA provider ${JSON.stringify(request.provider)}`,
    );
  configured(() => requireDistinctFields(request.config));
  const asked = configured(() => type.parse(request.config));
  const { onRollback } = context;
  const prepared = await type.prepare(
    asked,
    { previous: null, fresh: false, now, onRollback, checkRoot: async () => undefined },
    { clusterId, sealer, random },
  );
  const stored = redact(request.config, type.secretFields);
  const config = sameJson(stored, request.config) ? asked : configured(() => type.parse(stored));
  const provider = await type.open(config, prepared.state, prepared.root, {
    clusterId,
    sealer,
    random,
  });
  await requireBegun(provider, prepared.root, now);
  await prove(provider, prepared.root, clusterId, context).catch((error: unknown) => {
    void provider.close();
    throw error;
  });
  const root: NewRoot = {
    name: type.rootName,
    certificate: prepared.root,
    ...issuingOf(provider, now),
    state: prepared.state,
  };
  const state = bootstrap(
    clusterId,
    newCommitId(random),
    { ...request, config: stored },
    root,
    config.leafTtlMs,
    now,
  );
  return {
    snapshot: snapshotOf(state, config, provider),
    kind: "bootstrap",
    abandonedRoots: [],
    ...warningsOf(prepared),
  };
}

/** Consul's prefix for a configuration that its provider refuses. */
export function configured<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof ConfigError)
      throw new ConfigError(`error configuring provider: ${error.message}`, error.violations);
    throw error;
  }
}

/** @throws {ConflictError} `index_mismatch` */
function requireIndex(state: CaState, modifyIndex: bigint | null): void {
  if (
    modifyIndex !== null &&
    modifyIndex !== 0n &&
    modifyIndex !== BigInt(state.config.modifyIndex)
  )
    throw new ConflictError("index_mismatch", "ModifyIndex did not match existing");
}
