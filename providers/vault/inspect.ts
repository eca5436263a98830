/**
 * What is in Vault before a change. Nothing here changes anything.
 * @module
 */
import type { Inspection, ResourceOwner } from "../../src/core/ports/provider.ts";
import type { Mount, VaultConfig } from "./config.ts";
import type { ChangeContext } from "./context.ts";
import { failedBy, nullIf } from "./errors.ts";
import { findMount, foreignDefault, type MountUse, type Purpose } from "./mounts.ts";
import type { IssuerListing, PkiApi } from "./pki-api.ts";
import {
  type Found,
  type FoundEngine,
  intermediateUse,
  type Previous,
  pinnedRoot,
  rootMount,
} from "./plan.ts";
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
  const pinned = pinnedRoot(previous, mount);
  const use = { owner: context, datacenter: "primary", recorded: pinned !== null } as const;
  const engine = await inspectEngine(context, mount, "root", use);
  const taken =
    pinned === null
      ? engine.issuers.find(({ isDefault }) => isDefault)
      : foreignDefault(engine.issuers, pinned.state.issuerId, context);
  const candidate =
    taken === undefined || taken === null ? null : await readRoot(context, mount, taken);
  const intermediate = await inspectIntermediate(
    context,
    config,
    intermediateUse(context, config, previous, "primary"),
  );
  return { server, previous, root: { ...engine, candidate }, intermediate };
}

/** The mount of the intermediate; null with LeafSigning "local". @throws as `inspectVault` */
export async function inspectIntermediate(
  context: ChangeContext,
  { intermediate, leafSigning }: VaultConfig,
  use: MountUse,
): Promise<FoundEngine | null> {
  return leafSigning === "vault" ? inspectEngine(context, intermediate, "intermediate", use) : null;
}

async function inspectEngine(
  { api }: ChangeContext,
  mount: Mount,
  purpose: Purpose,
  use: MountUse,
): Promise<FoundEngine> {
  const found = await findMount(api, mount, purpose, use);
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
  owner: ResourceOwner,
): Promise<Inspection & { readonly rootLost: boolean }> {
  const issuers = root === null ? [] : await issuersOf(api, root.mount);
  return {
    rootReplaced: foreignDefault(issuers, root?.issuerId ?? null, owner) !== null,
    rootLost: root !== null && !issuers.some(({ id }) => id === root.issuerId),
    issuerLost: await isLost(api, intermediate),
  };
}

/**
 * Whether the issuer has to be replaced: it was deleted, or it was taken over with the
 * primary role from another datacenter, which deletes it once it has another one.
 */
async function isLost(
  api: PkiApi,
  { mount, issuerId, keyId, isLent }: IntermediateState,
): Promise<boolean> {
  if (issuerId === null) return false;
  if (isLent === true) return true;
  return !(await issuersOf(api, mount)).some(
    (issuer) => issuer.id === issuerId && issuer.keyId === keyId,
  );
}

/** Empty if nothing is mounted, to which Vault's response may be 403 as well. @throws {VaultError} */
export async function issuersOf(api: PkiApi, mount: Mount): Promise<readonly IssuerListing[]> {
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
