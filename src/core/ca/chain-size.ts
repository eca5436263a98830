/**
 * Length and size of the chain of a leaf, and size of the roots response. A change that would exceed
 * what TLS libraries accept is refused before it is committed.
 * @module
 */

import { ConflictError } from "../errors.ts";
import { activeRoot, type CaState, type RootEntry } from "../state.ts";
import { type Certificate, pemOf } from "../x509/certificate.ts";
import type { ChangeContext } from "./change.ts";
import { issuerChainOf, rootsToReach, segmentsOf } from "./cross-chain.ts";
import { confirmMs, goneAt, isDead, removableAt } from "./root-removal.ts";
import type { Policy } from "./timing-and-limits.ts";

/**
 * Octets of the largest leaf in PEM: with an RSA-4096 key and signature and a URI of 1,024 octets it
 * has 3,220.
 */
const LEAF_BYTES = 3584;

/**
 * Octets of a root in the JSON response without its certificates: with 20-digit numbers it has 640.
 */
const ROW_BYTES = 720;

/** Certificates in the chain of a leaf: itself counted, the root not. */
export function chainLength(intermediates: readonly Certificate[]): number {
  return 1 + intermediates.length;
}

/** Whether the chain of a leaf keeps its bounds. */
export function chainFits(intermediates: readonly Certificate[], policy: Policy): boolean {
  return (
    chainLength(intermediates) <= policy.maxChainLength &&
    chainBytes(intermediates) <= policy.maxChainBytes
  );
}

/** Which bound a state exceeds, for an operator; null if none. */
function excessOf(state: CaState, policy: Policy): string | null {
  const { intermediates } = activeRoot(state);
  const above = (what: string, found: number, bound: number, unit: string) =>
    found > bound ? `${what} would have ${found} ${unit}, and at most ${bound} are allowed` : null;
  return (
    above(
      "the chain of a leaf",
      chainLength(intermediates),
      policy.maxChainLength,
      "certificates",
    ) ??
    above("the chain of a leaf", chainBytes(intermediates), policy.maxChainBytes, "octets") ??
    above("the roots response", rootsBytes(state.roots), policy.maxRootsBytes, "octets")
  );
}

/** Octets of a leaf with its chain, in PEM. */
export function chainBytes(intermediates: readonly Certificate[]): number {
  return (
    LEAF_BYTES + intermediates.reduce((sum, certificate) => sum + pemOf(certificate).length, 0)
  );
}

/**
 * The most octets that the JSON roots response can have: each line end of PEM is two characters in it,
 * and indentation counts.
 */
export function rootsBytes(roots: readonly RootEntry[]): number {
  const jsonBytes = (pem: string) => pem.length + pem.split("\n").length + 24;
  return roots.reduce(
    (sum, root) =>
      sum +
      ROW_BYTES +
      jsonBytes(pemOf(root.certificate)) +
      root.intermediates.reduce((inner, certificate) => inner + jsonBytes(pemOf(certificate)), 0),
    256,
  );
}

type SizeContext = Pick<ChangeContext, "policy" | "now" | "look">;

/** A planned rotation. */
interface Rotated {
  readonly next: CaState;
  /** ID of the root that it retires, or null. */
  readonly retiring: string | null;
  readonly force: boolean;
  /** IDs of the roots that force abandons. */
  readonly forceWouldAbandon: readonly string[];
}

/**
 * Checks the bounds of the chain and of the roots response before a rotation is committed.
 * @throws {ConflictError} `budget_exceeded`, with the instant from which the rotation is possible. A
 * forced rotation is never refused.
 * @throws {StoreError}
 */
export async function requireChainSize(rotated: Rotated, context: SizeContext): Promise<void> {
  const { next, force, forceWouldAbandon } = rotated;
  const excess = excessOf(next, context.policy);
  if (force || excess === null) return;
  const abandons =
    forceWouldAbandon.length === 0
      ? "ForceWithoutCrossSigning rotates now nevertheless"
      : `ForceWithoutCrossSigning rotates now and abandons root ${forceWouldAbandon.join(" and root ")}: a client without a newer root then rejects every new leaf`;
  const room = await roomFrom(rotated, context);
  if (room === null)
    throw new ConflictError(
      "budget_exceeded",
      `Cannot rotate: ${excess}, and pruning old roots will not change that. ${abandons}`,
    );
  throw new ConflictError(
    "budget_exceeded",
    `Cannot rotate: ${excess}. The rotation is possible from ${room.at.toISOString()} on, when an old root is pruned. ${abandons}`,
    { retryAfterMs: room.inMs },
  );
}

/**
 * When enough roots will have been pruned for a rotation that is refused now. The root that it would
 * have retired stays active until then, so it is not among the pruned ones.
 */
async function roomFrom(
  { next, retiring }: Rotated,
  change: SizeContext,
): Promise<{ at: Date; inMs: number } | null> {
  const { policy, now } = change;
  const time = await change.look();
  const active = activeRoot(next);
  const segments = segmentsOf(active, rootsToReach(next.roots, now));
  // If a reading of the clock was after `removableAt` already, the first such reading counts.
  const ends = next.roots
    .filter(({ id, status }) => status === "retired" && id !== retiring)
    .map(
      (root) =>
        time.confirmsAt(removableAt(root, policy), confirmMs(root, policy)) ?? goneAt(root, policy),
    );
  for (const at of ends.toSorted((a, b) => Number(a) - Number(b))) {
    const isGone = (root: RootEntry) => root.id !== retiring && isDead(root, policy, time.at(at));
    const chain = segments
      .filter(({ target }) => !isGone(target))
      .flatMap(({ certificates }) => certificates);
    const roots = next.roots
      .filter((root) => !isGone(root))
      .map((root) =>
        root === active ? { ...root, intermediates: [...issuerChainOf(root), ...chain] } : root,
      );
    if (excessOf({ ...next, roots }, policy) !== null) continue;
    // A root that can be pruned already is pruned at the leader's next tick.
    const inMs = at > time.now ? at.getTime() - time.now.getTime() : policy.leaderRetryMs;
    return { at: new Date(time.now.getTime() + inMs), inMs };
  }
  return null;
}
