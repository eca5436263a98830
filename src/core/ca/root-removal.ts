/**
 * When a retired root is removed: once every leaf that it signed has expired, or it has itself, as
 * looks at the store's clock have confirmed.
 * @module
 */
import type { DeletionTime } from "../deletion-time.ts";
import type { RootEntry } from "../state.ts";
import type { Policy } from "./timing-and-limits.ts";

/** When a retired root can be pruned: when every leaf that it signed has expired. */
export function pruneAt(root: RootEntry, policy: Policy): Date {
  const since = root.rotatedOutAt ?? root.since;
  return new Date(since.getTime() + policy.pruneFactor * root.leafTtlMaxMs);
}

/**
 * For how long every reading of the store's clock must have been after `pruneAt` before the root is
 * pruned, in milliseconds (deletion-time.ts).
 */
export function confirmMs(
  { leafTtlMaxMs }: Pick<RootEntry, "leafTtlMaxMs">,
  policy: Policy,
): number {
  return policy.confirmShare * leafTtlMaxMs;
}

/** When a retired root can be removed: when it can be pruned, or has expired, if that is earlier. */
export function removableAt(root: RootEntry, policy: Policy): Date {
  return new Date(Math.min(pruneAt(root, policy).getTime(), root.certificate.notAfter.getTime()));
}

/** When a retired root will have been pruned, if a leader reads the clock as usual. */
export function goneAt(root: RootEntry, policy: Policy): Date {
  return new Date(removableAt(root, policy).getTime() + 1 + confirmMs(root, policy));
}

/** The longest `confirmMs`, for what does not belong to one root, in milliseconds. */
export function longestConfirmMs(roots: readonly RootEntry[], policy: Policy): number {
  return Math.max(0, ...roots.map((root) => confirmMs(root, policy)));
}

/**
 * Whether a root is retired and no leaf that it signed can still be alive, as looks at the clock
 * have confirmed: a leaf ends with its root at the latest.
 */
export function isDead(root: RootEntry, policy: Policy, time: DeletionTime): boolean {
  return (
    root.status === "retired" && time.confirmed(confirmMs(root, policy)) > removableAt(root, policy)
  );
}
