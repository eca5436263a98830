/**
 * Changes in Vault: looks at what is there and at what the token may do, and only then makes what
 * is missing, beside what is in use.
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
import type { VaultClient } from "./client.ts";
import type { VaultConfig, VaultConnection } from "./config.ts";
import { configOf, type SentVaultConfig, settle } from "./config-secrets.ts";
import type { Work } from "./context.ts";
import { VaultError, type VaultReason } from "./errors.ts";
import { certify, requestKey, type VaultIntermediate } from "./intermediate.ts";
import { findMount, requireRoomFor } from "./mounts.ts";
import { mountNeeds, rootNeeds, standingNeeds } from "./needs.ts";
import { preflight } from "./preflight.ts";
import { ensureRole, roleFields } from "./role.ts";
import { makeRoot, planRoot, rootMount, type VaultRoot } from "./root.ts";
import {
  type Facts,
  isSameServer,
  litterOf,
  readFacts,
  requireRoot,
  type Server,
  sameMount,
  writeFacts,
} from "./vault-state.ts";

export type Connect = (connection: VaultConnection) => VaultClient;

/** Runs work with a client of its own. A token that it logged in for does not outlive it. */
export async function withClient<T>(
  connect: Connect,
  connection: VaultConnection,
  work: (client: VaultClient) => Promise<T>,
): Promise<T> {
  const client = connect(connection);
  try {
    return await work(client);
  } finally {
    // One that cannot be revoked expires.
    await client.revoke().catch(() => undefined);
    client.close();
  }
}

/** What an operator set up wrongly, in a configuration that is being changed. */
const OPERATORS: readonly VaultReason[] = [
  "token_invalid",
  "login_refused",
  "denied",
  "mount_type",
  "namespace_missing",
  "not_allowed",
  "tls",
  // A server that is no Vault, or one whose mounts make something else than what is asked for.
  "answer",
];

async function blamed<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof VaultError) || !OPERATORS.includes(error.reason)) throw error;
    throw new ConfigError(`error configuring provider: ${error.message}`, [], { cause: error });
  }
}

/** What stays of a replaced intermediate for so long, in LeafCertTTLs, as roots do. */
const KEEP_FACTOR = 2;

/** Makes or finds the root and the intermediate that a configuration asks for. */
export function prepare(
  connect: Connect,
  sent: SentVaultConfig,
  request: PrepareRequest<SentVaultConfig>,
  context: ProviderContext,
): Promise<Prepared> {
  return blamed(prepareIn(connect, sent, request, context));
}

async function prepareIn(
  connect: Connect,
  sent: SentVaultConfig,
  request: PrepareRequest<SentVaultConfig>,
  context: ProviderContext,
): Promise<Prepared> {
  const { previous, now, fresh } = request;
  const { config, sealed } = await settle(sent, previous, context, true);
  const warnings: string[] = [];
  return withClient(connect, config.connection, async (client) => {
    const work = workOf(connect, config, request, context, client, warnings);
    requireFiles(client);
    await client.connect();
    const server = await serverOf(client, config);
    const before = previous === null ? null : await recordOf(previous, server, context);
    const { facts } = before ?? { facts: null };
    if (before !== null) requireKeySpec(before.config, config);
    await preflightAll(client, standingNeeds(config, true, client.token));
    const pinned =
      previous === null ||
      facts === null ||
      facts.root === null ||
      !sameMount(facts.root.mount, rootMount(config))
        ? null
        : { certificate: previous.root, facts: facts.root, path: facts.path };
    const plan = await planRoot(work, config, pinned, fresh);
    const found =
      config.leafSigning === "vault"
        ? await findMount(client, config.intermediate, "IntermediatePKIPath", context.clusterId)
        : null;
    // A rotation, which may be forced, is not kept from what was configured before.
    const isKept =
      before?.config.leafTtlMs === config.leafTtlMs &&
      before.facts.intermediate.issuerId !== null &&
      sameMount(before.facts.intermediate.mount, config.intermediate);
    if (found !== null && !isKept) requireRoomFor(config.leafTtlMs, config.intermediate, found);
    await preflightAll(client, [...rootNeeds(config, plan), ...mountNeeds(config, found)]);
    await request.checkRoot(plan.kind === "use" ? plan.root.certificate : null);

    const root = await makeRoot(work, config, plan);
    const same = previous !== null && root.certificate.id === previous.root.id;
    const isBelow = facts?.root?.issuerId === root.facts.issuerId;
    const kept =
      same && facts !== null && isBelow && (await isStillGood(client, facts, config, now))
        ? facts
        : null;
    const made =
      kept === null
        ? await make(work, config, root)
        : { facts: kept.intermediate, key: previous?.state.key ?? null };
    if (kept !== null && config.leafSigning === "vault")
      await ensureRole(
        client,
        config.intermediate,
        roleFields(context.clusterId, config.leafTtlMs),
        work.onAbandon,
      );
    const litter =
      kept !== null
        ? kept.litter
        : same && facts !== null
          ? litterOf(facts, keptUntil(now, config))
          : [];
    return {
      root: root.certificate,
      state: { ...sealed, ...stateOf(server, of(root), made, litter) },
      warnings,
    };
  });
}

/** Makes a new intermediate under the root that there is. */
export async function renew(
  connect: Connect,
  stored: SentVaultConfig,
  request: RenewRequest,
  context: ProviderContext,
): Promise<Provisioned> {
  const { state, root, now } = request;
  const config = await configOf(stored, state, context);
  const facts = readFacts(state);
  const known = { certificate: root, facts: requireRoot(facts), path: facts.path };
  const warnings: string[] = [];
  return withClient(connect, config.connection, async (client) => {
    const made = await make(
      workOf(connect, config, request, context, client, warnings),
      config,
      known,
    );
    const { secrets } = state;
    const litter = litterOf(facts, keptUntil(now, config));
    return {
      state: {
        ...(secrets === undefined ? {} : { secrets }),
        ...stateOf(facts, of(known), made, litter),
      },
      warnings,
    };
  });
}

async function make(work: Work, config: VaultConfig, root: VaultRoot): Promise<VaultIntermediate> {
  const requested = await requestKey(work, config);
  return requested.finish(work, await certify(work, config, root, requested));
}

/**
 * Makes a key for what signs leaves in a secondary datacenter. With LeafSigning "local" Vault has
 * no part in it.
 */
export function requestIntermediate(
  connect: Connect,
  sent: SentVaultConfig,
  request: SecondaryRequest<SentVaultConfig>,
  context: ProviderContext,
): Promise<RequestedIntermediate> {
  return blamed(requestIn(connect, sent, request, context));
}

async function requestIn(
  connect: Connect,
  sent: SentVaultConfig,
  request: SecondaryRequest<SentVaultConfig>,
  context: ProviderContext,
): Promise<RequestedIntermediate> {
  const { previous } = request;
  const { config, sealed } = await settle(sent, previous, context, false);
  const warnings: string[] = [];
  await withClient(connect, config.connection, async (client) => requireFiles(client));
  const within = <T>(work: (open: Work) => Promise<T>, now = request.now): Promise<T> =>
    withClient(connect, config.connection, (client) =>
      work(workOf(connect, config, { ...request, now }, context, client, warnings)),
    );
  const { server, requested } = await within(async (work) => ({
    server:
      config.leafSigning === "vault"
        ? await requireMount(work, config)
        : { address: config.connection.address, cluster: null },
    requested: await requestKey(work, config),
  }));
  const before = previous === null ? null : await recordOf(previous, server, context);
  return {
    csr: requested.csr,
    async accept(answered, root, now) {
      const path = await requireIntermediates(
        answered,
        requested.key,
        root,
        context.clusterId,
        now,
      );
      const [certificate, ...above] = path as [Certificate, ...Certificate[]];
      const made = await within((work) => requested.finish(work, certificate), now);
      const litter = before === null ? [] : litterOf(before.facts, keptUntil(now, config));
      return {
        state: { ...sealed, ...stateOf(server, { root: null, path: above }, made, litter) },
        warnings,
      };
    },
  };
}

/** @throws {ConfigError} where the mount cannot be used, or the token lacks permissions */
async function requireMount({ client, clusterId }: Work, config: VaultConfig): Promise<Server> {
  await client.connect();
  await preflightAll(client, standingNeeds(config, false, client.token));
  const found = await findMount(client, config.intermediate, "IntermediatePKIPath", clusterId);
  requireRoomFor(config.leafTtlMs, config.intermediate, found);
  await preflightAll(client, mountNeeds(config, found));
  return serverOf(client, config);
}

/**
 * Refuses a configuration that names files which cannot be used, also those that nothing has asked
 * for yet.
 * @throws {ConfigError}
 */
function requireFiles({ fileFaults: faults }: VaultClient): void {
  if (faults.length > 0)
    throw new ConfigError(`error configuring provider: Vault: ${faults.join("; ")}`);
}

function keptUntil(now: Date, { leafTtlMs }: VaultConfig): Date {
  return new Date(now.getTime() + KEEP_FACTOR * leafTtlMs);
}

function of({ facts, path }: VaultRoot): Pick<Facts, "root" | "path"> {
  return { root: facts, path: [...path] };
}

function stateOf(
  { address, cluster }: Server,
  root: Pick<Facts, "root" | "path">,
  { facts: intermediate, key }: VaultIntermediate,
  litter: Facts["litter"],
): ProviderState {
  const facts = { address, cluster, ...root, intermediate, litter };
  return { facts: writeFacts(facts), ...(key === null ? {} : { key }) };
}

function workOf(
  connect: Connect,
  config: VaultConfig,
  { now, onRollback }: ExternalWork,
  { clusterId, sealer, random }: ProviderContext,
  client: VaultClient,
  warnings: string[],
): Work {
  return {
    client,
    clusterId,
    sealer,
    random,
    now,
    onAbandon: (undo) => onRollback(() => withClient(connect, config.connection, undo)),
    warn: (warning) => void warnings.push(warning),
  };
}

async function serverOf(client: VaultClient, { connection }: VaultConfig): Promise<Server> {
  // What stands before Vault may not let it be asked.
  const health = await client.health().catch((error: unknown) => {
    if (
      error instanceof VaultError &&
      ["answer", "refused", "denied", "not_found"].includes(error.reason)
    )
      return null;
    throw error;
  });
  return { address: connection.address, cluster: health?.clusterId ?? null };
}

/** What was in use before, where it is in the same Vault. */
async function recordOf(
  { config, state }: { readonly config: SentVaultConfig; readonly state: ProviderState },
  server: Server,
  context: ProviderContext,
) {
  const facts = readFacts(state);
  if (!isSameServer(facts, server)) return null;
  return { config: await configOf(config, state, context), facts };
}

/** Consul's rule and text (vault.md §1.3): a root's key does not change by itself. */
function requireKeySpec(before: VaultConfig, { keySpec, ...config }: VaultConfig): void {
  if (before.root === null || config.root === null || !sameMount(before.root, config.root)) return;
  const field =
    before.keySpec.type !== keySpec.type
      ? "PrivateKeyType"
      : before.keySpec.bits !== keySpec.bits
        ? "PrivateKeyBits"
        : null;
  if (field !== null)
    throw new ConfigError(
      `cannot update the ${field} field without choosing a new PKI mount for the root CA`,
      [
        {
          code: "config_invalid",
          field,
          message: "the root's mount stays, and with it the root's key",
          reference: "vault.md §1.3",
        },
      ],
    );
}

/**
 * Whether what signs leaves can stay: a restart, or a change of what does not concern it, makes no
 * new one.
 */
async function isStillGood(
  client: VaultClient,
  { intermediate }: Facts,
  config: VaultConfig,
  now: Date,
): Promise<boolean> {
  const { certificate, issuerId, keyId, mount } = intermediate;
  const isHalf =
    now.getTime() > (certificate.notBefore.getTime() + certificate.notAfter.getTime()) / 2;
  if (isHalf) return false;
  if (config.leafSigning === "local") return issuerId === null;
  if (issuerId === null || !sameMount(mount, config.intermediate)) return false;
  return (await client.listIssuers(mount)).some(
    (issuer) => issuer.id === issuerId && issuer.keyId === keyId,
  );
}

/** @throws {ConfigError} naming what the token lacks */
async function preflightAll(
  client: VaultClient,
  needs: Parameters<typeof preflight>[1],
): Promise<void> {
  try {
    await preflight(client, needs);
  } catch (error) {
    if (!(error instanceof VaultError) || error.reason !== "denied") throw error;
    throw new ConfigError(
      `Vault: the token lacks permissions, nothing was changed: update on "sys/capabilities-self" to see what it may do. Add to its policy, and give a token made after that:\npath "sys/capabilities-self" {\n  capabilities = ["update"]\n}`,
      [
        {
          code: "vault_permission_missing",
          field: "sys/capabilities-self",
          message: 'update on "sys/capabilities-self"',
          reference: "vault.md §3",
        },
      ],
    );
  }
}
