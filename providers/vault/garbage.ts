/**
 * Deletes superseded issuers, and mounts of ours without a use.
 * @module
 */
import { deleteIssuer, deleteMount, descriptionOf } from "./mounts.ts";
import type { PkiApi } from "./pki-api.ts";
import { isSameServer, type SupersededIssuer, sameMount, type VaultState } from "./vault-state.ts";

interface Collection {
  readonly clusterId: string;
  /** What is due after it stays. */
  readonly now: Date;
  /** Called before each deletion; it may throw. */
  readonly requireLease: () => void;
}

/**
 * Deletes what is due.
 * @param others the other states: a mount that one of them uses stays for it to delete.
 * @returns what is left. @throws {VaultError}
 */
export async function collectGarbage(
  api: PkiApi,
  state: VaultState,
  others: readonly VaultState[],
  { clusterId, now, requireLease }: Collection,
): Promise<SupersededIssuer[]> {
  const states = [state, ...others];
  const description = descriptionOf(clusterId, "intermediate");
  const left: SupersededIssuer[] = [];
  for (const issuer of state.superseded) {
    if (issuer.after > now) {
      left.push(issuer);
      continue;
    }
    const { mount, accessor, issuerId, keyId } = issuer;
    const signers = states.filter((other) => signsIn(other, issuer, state));
    const isRootMount = states.some(
      (other) =>
        other.root !== null && isSameServer(other, state) && sameMount(other.root.mount, mount),
    );
    requireLease();
    if (accessor !== null && signers.length === 0 && !isRootMount)
      await deleteMount(api, mount, description, accessor, requireLease);
    else if (!states.some(({ intermediate }) => intermediate.issuerId === issuerId)) {
      await passDefaultOn(api, issuer, signers[0]?.intermediate.issuerId ?? null);
      requireLease();
      await deleteIssuer(api, mount, issuerId, keyId);
    }
  }
  return left;
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
  { mount, issuerId }: SupersededIssuer,
  successorId: string | null,
): Promise<void> {
  if (successorId === null) return;
  const issuers = await api.listIssuers(mount).catch(() => []);
  if (issuers.some(({ id, isDefault }) => isDefault && id === issuerId))
    await api.setDefaultIssuer(mount, successorId);
}
