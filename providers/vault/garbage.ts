/**
 * Deletes superseded issuers, and mounts of ours without a use.
 * @module
 */
import type {
  CollectRequest,
  GarbageCollector,
  ProviderContext,
  ResourceOwner,
} from "../../src/core/ports/provider.ts";
import type { ProviderState } from "../../src/core/state.ts";
import { openConfig, type SentVaultConfig } from "./config-secrets.ts";
import { type Connect, withClient } from "./context.ts";
import { nullIf } from "./errors.ts";
import { issuersOf } from "./inspect.ts";
import { deleteIssuer, deleteMount, otherDatacenterOf, ownDescriptions } from "./mounts.ts";
import type { IssuerListing, PkiApi } from "./pki-api.ts";
import {
  isSameServer,
  type RootState,
  readState,
  requireRoot,
  type SupersededIssuer,
  sameMount,
  supersededBy,
  type VaultState,
  writeState,
} from "./vault-state.ts";

/** Deletes what states leave in Vault. */
export function garbageCollector(connect: Connect): GarbageCollector<SentVaultConfig> {
  return {
    dueAt(state) {
      const dates = readState(state).superseded.map(({ after }) => after.getTime());
      return dates.length === 0 ? null : new Date(Math.min(...dates));
    },
    collect: (config, request, context) => collect(connect, config, request, context),
    async garbageOfDropped(config, state, context, offline) {
      const vault = readState(state);
      const { root } = vault;
      const isMade = root?.isOurs === true && vault.path.length === 0;
      const listed =
        root === null || offline ? [] : await rootIssuers(connect, config, state, context);
      const own = root === null || !isMade ? [] : [droppedRoot(root, listed)];
      const others = supersededBy(vault, AT_ONCE).map((issuer) => ({ ...issuer, after: AT_ONCE }));
      const superseded = [...own, ...others];
      const left =
        root === null || isMade
          ? []
          : [
              `issuer ${root.issuerId} at ${JSON.stringify(root.mount.path)} in Vault, with its key: meshca did not make it`,
            ];
      if (superseded.length === 0) return { state: null, left };
      return { state: withoutKeys(state, vault, superseded), left };
    },
    garbageOf(state, after) {
      const vault = readState(state);
      const superseded = supersededBy(vault, after);
      if (superseded.length === 0) return null;
      return withoutKeys(state, vault, superseded);
    },
  };
}

/** Since when something has been due that is to be deleted at once. */
const AT_ONCE = new Date(0);

/** A state that names only what is to be deleted, with what is needed to log in. */
function withoutKeys(
  { secrets }: ProviderState,
  vault: VaultState,
  superseded: readonly SupersededIssuer[],
): ProviderState {
  const intermediate = { ...vault.intermediate, issuerId: null, keyId: null };
  return {
    ...(secrets === undefined ? {} : { secrets }),
    facts: writeState({ ...vault, intermediate, superseded }),
  };
}

/** A root's issuer and key. @param listed what is in its mount; empty: not known */
function droppedRoot(
  { mount, issuerId }: RootState,
  listed: readonly IssuerListing[],
): SupersededIssuer {
  const keyId = listed.find(({ id }) => id === issuerId)?.keyId ?? "";
  return { mount, accessor: null, issuerId, keyId, after: AT_ONCE, isRoot: true };
}

/** The issuers in the mount of a state's root. @throws {VaultError} @throws {SealError} */
async function rootIssuers(
  connect: Connect,
  stored: SentVaultConfig,
  state: ProviderState,
  context: ProviderContext,
): Promise<readonly IssuerListing[]> {
  const config = await openConfig(stored, state, context);
  const { mount } = requireRoot(readState(state));
  return withClient(connect, config.connection, (api) => issuersOf(api, mount));
}

async function collect(
  connect: Connect,
  stored: SentVaultConfig,
  request: CollectRequest,
  context: ProviderContext,
): Promise<ProviderState> {
  const { state, others } = request;
  const config = await openConfig(stored, state, context);
  const vault = readState(state);
  const superseded = await withClient(connect, config.connection, (api) =>
    deleteDue(api, vault, others.map(readState), { ...request, owner: context }),
  );
  return { ...state, facts: writeState({ ...vault, superseded }) };
}

/**
 * Deletes what is due.
 * @param others the other states: a mount that one of them uses stays for it to delete.
 * @returns what is left. @throws {VaultError}
 */
async function deleteDue(
  api: PkiApi,
  state: VaultState,
  others: readonly VaultState[],
  {
    owner,
    now,
    requireLease,
  }: Pick<CollectRequest, "now" | "requireLease"> & { readonly owner: ResourceOwner },
): Promise<SupersededIssuer[]> {
  const states = [state, ...others];
  const descriptions = ownDescriptions(owner, "intermediate");
  const left: SupersededIssuer[] = [];
  for (const issuer of state.superseded) {
    if (issuer.after > now) {
      left.push(issuer);
      continue;
    }
    if (issuer.isRoot === true) {
      await deleteRoot(api, issuer, states, requireLease);
      continue;
    }
    const { mount, accessor, issuerId, keyId } = issuer;
    const signers = states.filter((other) => signsIn(other, issuer, state));
    const isRootMount = states.some(
      (other) =>
        other.root !== null && isSameServer(other, state) && sameMount(other.root.mount, mount),
    );
    const issuers = await issuersOf(api, mount);
    const isOthers = ({ name }: IssuerListing) => otherDatacenterOf(name, owner) !== null;
    requireLease();
    if (accessor !== null && signers.length === 0 && !isRootMount && !issuers.some(isOthers))
      await deleteMount(api, mount, descriptions, accessor, requireLease);
    else if (!states.some(({ intermediate }) => intermediate.issuerId === issuerId)) {
      if (issuers.some((found) => found.id === issuerId && isOthers(found))) continue;
      const successorId = signers[0]?.intermediate.issuerId ?? null;
      await passDefaultOn(api, issuers, issuer, successorId);
      requireLease();
      await deleteIssuer(api, mount, issuerId, keyId);
    }
  }
  return left;
}

/** Deletes the issuer and the key of a dropped root, unless a state that is left has it. */
async function deleteRoot(
  api: PkiApi,
  issuer: SupersededIssuer,
  states: readonly VaultState[],
  requireLease: () => void,
): Promise<void> {
  const { mount, issuerId, keyId } = issuer;
  const roots = states
    .slice(1)
    .flatMap(({ root }) => (root !== null && sameMount(root.mount, mount) ? [root] : []));
  if (roots.some((root) => root.issuerId === issuerId)) return;
  const issuers = await issuersOf(api, mount);
  const listed = issuers.find(({ id }) => id === issuerId);
  requireLease();
  // The policy of a token need not allow it, and no default is used here.
  await nullIf(passDefaultOn(api, issuers, issuer, roots[0]?.issuerId ?? null), "denied");
  requireLease();
  await deleteIssuer(api, mount, issuerId, listed?.keyId || keyId);
}

/** Whether the intermediate of a state is in the mount of a superseded issuer of `owner`. */
function signsIn(other: VaultState, issuer: SupersededIssuer, owner: VaultState): boolean {
  const { issuerId, accessor, mount } = other.intermediate;
  if (issuerId === null) return false;
  const isThatMount = accessor !== null && accessor === issuer.accessor;
  return isThatMount || (isSameServer(other, owner) && sameMount(mount, issuer.mount));
}

/** A mount whose default issuer is deleted would have none: its successor becomes the default. */
async function passDefaultOn(
  api: PkiApi,
  issuers: readonly IssuerListing[],
  { mount, issuerId }: SupersededIssuer,
  successorId: string | null,
): Promise<void> {
  if (successorId === null) return;
  if (issuers.some(({ id, isDefault }) => isDefault && id === issuerId))
    await api.setDefaultIssuer(mount, successorId);
}
