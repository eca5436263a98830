/**
 * How long and how large the chain and the roots answer are, so that a change that would break a
 * TLS stack is refused first.
 * @module
 */
import { ConflictError } from "../errors.ts";
import { activeRoot, type CaState, type RootEntry } from "../state.ts";
import { type Certificate, pemOf } from "../x509/certificate.ts";
import { confirmMs, goneAt, issuersOf, pruneAt, reachedBy, rootsToReach } from "./cross-chain.ts";
import type { ChangeContext } from "./plan-change.ts";
import type { Policy } from "./policy.ts";
import { isDead } from "./transitions.ts";

/**
 * The largest leaf in PEM: RSA-4096 key and signature, and a URI of 1,024 octets; 3,220 characters,
 * with some room.
 */
const LEAF_BYTES = 3584;

/**
 * What a root's row takes in JSON beside its certificates: measured at 640 characters with 20-digit
 * numbers.
 */
const ROW_BYTES = 720;

/**
 * Certificates of a leaf with what goes with it; the root is not counted.
 * @param below certificates that may stand between the issuer and a leaf: one while an intermediate
 * is alive that was signed for another datacenter. @default 0
 */
export function chainLength(intermediates: readonly Certificate[], below = 0): number {
  return 1 + below + intermediates.length;
}

/** Whether a leaf's chain keeps its bounds. */
export function chainFits(intermediates: readonly Certificate[], policy: Policy): boolean {
  return (
    chainLength(intermediates) <= policy.maxChainLength &&
    chainBytes(intermediates) <= policy.maxChainBytes
  );
}

/** What of a state is larger than TLS clients take, for an operator; null if nothing is. */
export function excessOf(state: CaState, policy: Policy): string | null {
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
    above("the roots listing", rootsBytes(state.roots), policy.maxRootsBytes, "octets")
  );
}

/** Octets of a leaf with what goes with it, in PEM. */
export function chainBytes(intermediates: readonly Certificate[]): number {
  return (
    LEAF_BYTES + intermediates.reduce((sum, certificate) => sum + pemOf(certificate).length, 0)
  );
}

/**
 * Octets of the JSON roots answer, from above: each line end of PEM is two characters there, and
 * indentation counts.
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

/** A rotation that was worked out. */
export interface Rotated {
  readonly next: CaState;
  /** ID of the root that it retires, or null. */
  readonly retiring: string | null;
  readonly force: boolean;
  /** IDs of the roots that force abandons. */
  readonly forceWouldLeave: readonly string[];
}

/**
 * Checks the bounds of a chain and of the roots listing before they are committed.
 * @throws {ConflictError} `budget_exceeded`, with the instant from which there is room. A forced
 * change is never refused.
 * @throws {StoreError}
 */
export async function requireBudget(
  rotated: Rotated,
  context: Pick<ChangeContext, "policy" | "now" | "look">,
): Promise<void> {
  const { next, force, forceWouldLeave } = rotated;
  const excess = excessOf(next, context.policy);
  if (force || excess === null) return;
  const abandons =
    forceWouldLeave.length === 0
      ? "ForceWithoutCrossSigning rotates now all the same"
      : `ForceWithoutCrossSigning rotates now and abandons root ${forceWouldLeave.join(" and root ")}: a client that has no newer root verifies no new leaf then`;
  const room = await roomFrom(rotated, context);
  if (room === null)
    throw new ConflictError(
      "budget_exceeded",
      `Cannot rotate: ${excess}, and no root will be pruned that makes room. ${abandons}`,
    );
  throw new ConflictError(
    "budget_exceeded",
    `Cannot rotate: ${excess}, since TLS clients refuse longer ones. It is possible from ${room.at.toISOString()} on, when an old root is pruned. ${abandons}`,
    { retryAfterMs: room.inMs },
  );
}

/**
 * When enough roots are pruned for a rotation that is refused now. The root that it would have
 * retired signs until it is made, and is pruned by no wait.
 */
async function roomFrom(
  { next, retiring }: Rotated,
  { policy, now, look }: Pick<ChangeContext, "policy" | "now" | "look">,
): Promise<{ at: Date; inMs: number } | null> {
  const time = await look();
  const active = activeRoot(next);
  const steps = reachedBy(active, rootsToReach(next.roots, now));
  // What was found over already goes by the first look that found it, which may have been late.
  const ends = next.roots
    .filter(({ id, status }) => status === "retired" && id !== retiring)
    .map(
      (root) =>
        time.confirmsAt(pruneAt(root, policy), confirmMs(root, policy)) ?? goneAt(root, policy),
    );
  for (const at of ends.toSorted((a, b) => Number(a) - Number(b))) {
    const isGone = (root: RootEntry) => root.id !== retiring && isDead(root, policy, time.at(at));
    const line = steps.filter(({ target }) => !isGone(target)).flatMap(({ segment }) => segment);
    const roots = next.roots
      .filter((root) => !isGone(root))
      .map((root) =>
        root === active ? { ...root, intermediates: [...issuersOf(root), ...line] } : root,
      );
    if (excessOf({ ...next, roots }, policy) !== null) continue;
    // What could be pruned already is pruned at the leader's next turn.
    const inMs = at > time.now ? at.getTime() - time.now.getTime() : policy.leaderRetryMs;
    return { at: new Date(time.now.getTime() + inMs), inMs };
  }
  return null;
}
