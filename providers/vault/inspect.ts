/**
 * What is in Vault before a change. Nothing here changes anything.
 * @module
 */
import type { Inspection } from "../../src/core/ports/provider.ts";
import type { Mount, VaultConfig } from "./config.ts";
import type { ChangeContext } from "./context.ts";
import { failedBy, nullIf } from "./errors.ts";
import { findMount, foreignDefault, type Purpose } from "./mounts.ts";
import type { IssuerListing, PkiApi } from "./pki-api.ts";
import { type Found, type FoundEngine, type Previous, pinnedRoot, rootMount } from "./plan.ts";
import { readRoot } from "./root.ts";
import type { IntermediateState, Server, VaultState } from "./vault-state.ts";

/**
 * Looks at the mounts of a configuration.
 * @throws {ConfigError} if what is there cannot be used @throws {VaultError}
 */
export async function inspectVault(
  context: ChangeContext,
  config: VaultConfig,
  server: Server,
  previous: Previous | null,
): Promise<Found> {
  const mount = rootMount(config);
  const engine = await inspectEngine(context, mount, "root");
  const pinned = pinnedRoot(previous, mount);
  const taken =
    pinned === null
      ? engine.issuers.find(({ isDefault }) => isDefault)
      : foreignDefault(engine.issuers, pinned.state.issuerId, context.clusterId);
  const candidate =
    taken === undefined || taken === null ? null : await readRoot(context, mount, taken);
  const intermediate = await inspectIntermediate(context, config);
  return { server, previous, root: { ...engine, candidate }, intermediate };
}

/** The mount of the intermediate; null with LeafSigning "local". @throws as `inspectVault` */
export async function inspectIntermediate(
  context: ChangeContext,
  { intermediate, leafSigning }: VaultConfig,
): Promise<FoundEngine | null> {
  return leafSigning === "vault" ? inspectEngine(context, intermediate, "intermediate") : null;
}

async function inspectEngine(
  { api, clusterId }: ChangeContext,
  mount: Mount,
  purpose: Purpose,
): Promise<FoundEngine> {
  const found = await findMount(api, mount, purpose, clusterId);
  const exists = found.kind === "pki" || found.kind === "unknown";
  return { mount: found, issuers: exists ? await api.listIssuers(mount) : [] };
}

/** Which Vault it is, also if something in front of it does not allow to ask for its health. */
export async function identifyServer(api: PkiApi, { connection }: VaultConfig): Promise<Server> {
  const { address } = connection;
  const health = await nullIf(api.health(), "malformed_response", "refused", "denied", "not_found");
  return { address, cluster: health?.clusterId ?? null };
}

/** Whether root and issuer of an opened provider exist, and no other root took the place of its. */
export async function inspectPresence(
  api: PkiApi,
  { root, intermediate }: VaultState,
  clusterId: string,
): Promise<Inspection & { readonly rootLost: boolean }> {
  const issuers = root === null ? [] : await issuersOf(api, root.mount);
  return {
    rootReplaced: foreignDefault(issuers, root?.issuerId ?? null, clusterId) !== null,
    rootLost: root !== null && !issuers.some(({ id }) => id === root.issuerId),
    issuerLost: await isLost(api, intermediate),
  };
}

async function isLost(
  api: PkiApi,
  { mount, issuerId, keyId }: IntermediateState,
): Promise<boolean> {
  if (issuerId === null) return false;
  return !(await issuersOf(api, mount)).some(
    (issuer) => issuer.id === issuerId && issuer.keyId === keyId,
  );
}

/** Empty if nothing is mounted, to which Vault's response may be 403 as well. */
async function issuersOf(api: PkiApi, mount: Mount): Promise<readonly IssuerListing[]> {
  try {
    return await api.listIssuers(mount);
  } catch (error) {
    const isGone =
      failedBy(error, "mount_missing") ||
      (failedBy(error, "denied") && (await api.readMount(mount)) === null);
    if (!isGone) throw error;
    return [];
  }
}
