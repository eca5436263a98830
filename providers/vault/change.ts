/**
 * Changes in Vault: inspect, plan, check permissions, and only then apply. What is created stands
 * beside what is in use.
 * @module
 */
import { ConfigError } from "../../src/core/errors.ts";
import type {
  ExternalWork,
  Prepared,
  PrepareRequest,
  ProviderContext,
  Provisioned,
  RenewRequest,
  RequestedIntermediate,
  SecondaryRequest,
} from "../../src/core/ports/provider.ts";
import type { ProviderState } from "../../src/core/state.ts";
import type { Certificate } from "../../src/core/x509/certificate.ts";
import { requireIntermediates } from "../../src/core/x509/intermediate.ts";
import { applySteps, need, type Progress } from "./apply.ts";
import type { VaultConfig } from "./config.ts";
import { openConfig, resolveConfig, type SentVaultConfig } from "./config-secrets.ts";
import { type ChangeContext, type Connect, withClient } from "./context.ts";
import { failedBy } from "./errors.ts";
import { identifyServer, inspectIntermediate, inspectVault } from "./inspect.ts";
import { requirePermissionsOf } from "./permissions.ts";
import type { PkiApi } from "./pki-api.ts";
import {
  type Found,
  type FoundEngine,
  intermediateUse,
  type Previous,
  planImport,
  planIntermediate,
  planKey,
  planVault,
  requireLeafTtlFits,
  standingSteps,
} from "./plan.ts";
import type { VaultRoot } from "./root.ts";
import {
  isSameServer,
  readState,
  requireRoot,
  type Server,
  supersededBy,
  type VaultState,
  writeState,
} from "./vault-state.ts";

/** How many LeafCertTTLs a superseded intermediate is kept, as retired roots are. */
const KEEP_FACTOR = 2;

/** Finds or creates the root and the intermediate that a configuration describes. */
export async function prepare(
  connect: Connect,
  sent: SentVaultConfig,
  request: PrepareRequest<SentVaultConfig>,
  context: ProviderContext,
): Promise<Prepared> {
  const { config, sealed } = await resolveConfig(sent, request.previous, context, "primary");
  return asConfigError(
    inChange(connect, config, request, context, async (change, warnings) => {
      const { api, now } = change;
      requireFiles(api);
      await api.connect();
      const server = await identifyServer(api, config);
      const previous = await previousOf(request.previous, server, context);
      const found = await inspectVault(change, config, server, previous);
      const steps = planVault(found, config, { ...request, owner: change, now });
      const standing = standingSteps(config, api.token, "primary");
      await requirePermissionsOf(api, [...standing, ...steps]);
      const used = steps.find((step) => step.kind === "use-root");
      await request.checkRoot(used?.root.certificate ?? null);
      const progress = await applySteps(steps, change, config);
      const root = need(progress.root);
      const isSameRoot = request.previous?.root.id === root.certificate.id;
      const isKept = steps.some(({ kind }) => kind === "keep-intermediate");
      const superseded =
        previous === null || !isSameRoot
          ? []
          : isKept
            ? previous.state.superseded
            : supersededBy(previous.state, keptUntil(now, config));
      const state = stateOf(server, root, progress, superseded);
      return { root: root.certificate, state: { ...sealed, ...state }, warnings };
    }),
  );
}

/** Creates a new intermediate under the root in use. */
export async function renew(
  connect: Connect,
  stored: SentVaultConfig,
  request: RenewRequest,
  context: ProviderContext,
): Promise<Provisioned> {
  const config = await openConfig(stored, request.state, context);
  const state = readState(request.state);
  const root = { certificate: request.root, state: requireRoot(state), path: state.path };
  return inChange(connect, config, request, context, async (change, warnings) => {
    const use = intermediateUse(change, config, { state }, "primary");
    const engine = await inspectIntermediate(change, config, use);
    const steps = planIntermediate(engine, config, use);
    const progress = await applySteps(steps, change, config, { root });
    const superseded = supersededBy(state, keptUntil(request.now, config));
    const { secrets } = request.state;
    return {
      state: {
        ...(secrets === undefined ? {} : { secrets }),
        ...stateOf(state, root, progress, superseded),
      },
      warnings,
    };
  });
}

/**
 * Creates the issuer's key of a secondary datacenter. With LeafSigning "local" it is created
 * without Vault.
 */
export async function requestIntermediate(
  connect: Connect,
  sent: SentVaultConfig,
  request: SecondaryRequest<SentVaultConfig>,
  context: ProviderContext,
): Promise<RequestedIntermediate> {
  const { config, sealed } = await resolveConfig(sent, request.previous, context, "secondary");
  const { server, previous, engine, progress } = await asConfigError(
    inChange(connect, config, request, context, async (change) => {
      requireFiles(change.api);
      const found = await inspectSecondary(change, config, request.previous);
      const { engine } = found;
      const use = intermediateUse(change, config, found.previous, "secondary");
      const steps = planKey(engine, config, use);
      if (engine !== null) await requirePermissionsOf(change.api, steps);
      return { ...found, progress: await applySteps(steps, change, config) };
    }),
  );
  const { csr, info } = need(progress.keyInVault ?? progress.localKey);
  return {
    csr,
    async accept(answered, root, now) {
      const path = await requireIntermediates(answered, info, root, context, now);
      const [certificate, ...above] = path as [Certificate, ...Certificate[]];
      const work = { ...request, now };
      return inChange(connect, config, work, context, async (change, warnings) => {
        const steps = planImport(engine, config);
        const done = await applySteps(steps, change, config, { ...progress, certificate });
        const superseded =
          previous === null ? [] : supersededBy(previous.state, keptUntil(now, config));
        const state = stateOf(server, { state: null, path: above }, done, superseded);
        const dropsPrevious = request.previous !== null && previous === null;
        return { state: { ...sealed, ...state }, warnings, dropsPrevious };
      });
    },
  };
}

/** @throws {ConfigError} if the mount cannot be used, or the token lacks permissions */
async function inspectSecondary(
  change: ChangeContext,
  config: VaultConfig,
  before: SecondaryRequest<SentVaultConfig>["previous"],
): Promise<Pick<Found, "server" | "previous"> & { readonly engine: FoundEngine | null }> {
  const { api } = change;
  if (config.leafSigning === "local") {
    const server = { address: config.connection.address, cluster: null };
    return { server, previous: await previousOf(before, server, change), engine: null };
  }
  await api.connect();
  await requirePermissionsOf(api, standingSteps(config, api.token, "secondary"));
  const server = await identifyServer(api, config);
  const previous = await previousOf(before, server, change);
  const use = intermediateUse(change, config, previous, "secondary");
  const engine = await inspectIntermediate(change, config, use);
  if (engine !== null) requireLeafTtlFits(config, engine.mount);
  return { server, previous, engine };
}

/** Runs a change with a client of its own; compensating actions get another one. */
function inChange<T>(
  connect: Connect,
  config: VaultConfig,
  { now, onRollback }: ExternalWork,
  context: ProviderContext,
  work: (change: ChangeContext, warnings: readonly string[]) => Promise<T>,
): Promise<T> {
  const { connection } = config;
  const warnings: string[] = [];
  return withClient(connect, connection, (api) => {
    const change: ChangeContext = {
      ...context,
      api,
      now,
      onRollback: (compensation) => onRollback(() => withClient(connect, connection, compensation)),
      warn: (warning) => void warnings.push(warning),
    };
    return work(change, warnings);
  });
}

/** Failures that an operator can mend in a configuration that is being changed are its faults. */
async function asConfigError<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const isTheirs = failedBy(
      error,
      "token_invalid",
      "login_refused",
      "denied",
      "mount_type",
      "namespace_missing",
      "not_allowed",
      "tls",
      // A server that is not Vault, or a mount whose responses differ.
      "malformed_response",
    );
    if (!isTheirs) throw error;
    throw new ConfigError(`error configuring provider: ${error.message}`, [], { cause: error });
  }
}

/** Refuses a configuration with files that cannot be used, also those not needed yet. */
function requireFiles({ fileFaults }: PkiApi): void {
  if (fileFaults.length > 0)
    throw new ConfigError(`error configuring provider: Vault: ${fileFaults.join("; ")}`);
}

/** What was in use before, if it is in the same Vault. */
async function previousOf(
  before: {
    readonly config: SentVaultConfig;
    readonly state: ProviderState;
    readonly root?: Certificate;
  } | null,
  server: Server,
  context: ProviderContext,
): Promise<Previous | null> {
  if (before === null) return null;
  const state = readState(before.state);
  if (!isSameServer(state, server)) return null;
  const config = await openConfig(before.config, before.state, context);
  const root =
    state.root === null || before.root === undefined
      ? null
      : { certificate: before.root, state: state.root, path: state.path };
  return { config, state, root, key: before.state.key ?? null };
}

function keptUntil(now: Date, { leafTtlMs }: VaultConfig): Date {
  return new Date(now.getTime() + KEEP_FACTOR * leafTtlMs);
}

function stateOf(
  { address, cluster }: Server,
  root: Pick<VaultRoot, "path"> & { readonly state: VaultState["root"] },
  progress: Progress,
  superseded: VaultState["superseded"],
): ProviderState {
  const { key } = progress;
  const path = [...root.path];
  const intermediate = need(progress.intermediate);
  const state = { address, cluster, root: root.state, path, intermediate, superseded };
  return { facts: writeState(state), ...(key === undefined ? {} : { key }) };
}
