/**
 * What is due: a pure function of the state and the time. manager.tick() does one step of it at a
 * time, so that a crash between any two steps leaves a state from which the next tick goes on.
 * @module
 */
import type { DeletionTime, LookOptions } from "../deletion-time.ts";
import { activeRoot, type CaState } from "../state.ts";
import {
  confirmMs,
  crossChainOf,
  issuerChainOf,
  longestConfirmMs,
  needsCrossSigning,
  pruneAt,
} from "./cross-chain.ts";
import type { Policy } from "./policy.ts";
import { prunable } from "./transitions.ts";

export type Plan =
  /** There is no state: make the first root. */
  | { readonly kind: "bootstrap" }
  /** Drop what nobody can still need. */
  | { readonly kind: "prune" }
  /** Make a new issuer under the active root. */
  | { readonly kind: "renew" }
  /** Have a cross-signed certificate made again that is needed for longer than it lives. */
  | { readonly kind: "cross" }
  /** Delete what was left behind outside. */
  | { readonly kind: "collect" }
  /** Nothing is due before `until`; null where nothing will ever be. */
  | { readonly kind: "wait"; readonly until: Date | null };

/**
 * Decides the next step.
 * @param time the store's clock, and what may be deleted by it.
 * @param collectAt when something that was left behind outside may be deleted, or null.
 */
export function plan(
  state: CaState | null,
  policy: Policy,
  time: DeletionTime,
  collectAt: Date | null = null,
): Plan {
  if (state === null) return { kind: "bootstrap" };
  if (prunable(state, policy, time)) return { kind: "prune" };
  const renewal = renewAt(state);
  if (renewal !== null && renewal <= time.now) return { kind: "renew" };
  const confirmed = time.confirmed(longestConfirmMs(state.roots, policy));
  if (needsCrossSigning(state, policy, time.now)) return { kind: "cross" };
  if (collectAt !== null && collectAt <= confirmed) return { kind: "collect" };
  const dates = deletions(state, policy, collectAt).map(({ at, spanMs }) =>
    nextLook(at, spanMs, time),
  );
  if (renewal !== null) dates.push(after(renewal));
  return {
    kind: "wait",
    until: dates.length === 0 ? null : new Date(Math.min(...dates.map(Number))),
  };
}

/** What has to be asked of a look at the clock before `plan`. */
export function lookFor(
  state: CaState | null,
  policy: Policy,
  collectAt: Date | null = null,
): LookOptions {
  // Without a state nothing is deleted, and nothing of what was seen before is superseded.
  if (state === null) return { deadlines: [], spanMs: Number.POSITIVE_INFINITY };
  return {
    deadlines: deletions(state, policy, collectAt).map(({ at }) => at.getTime()),
    spanMs: longestConfirmMs(state.roots, policy),
  };
}

/** After which instants something is deleted, and how long looks have to have found each past. */
function deletions(
  state: CaState,
  policy: Policy,
  collectAt: Date | null,
): { readonly at: Date; readonly spanMs: number }[] {
  const spanMs = longestConfirmMs(state.roots, policy);
  const retired = state.roots.filter(({ status }) => status === "retired");
  return [
    ...retired.map((root) => ({ at: pruneAt(root, policy), spanMs: confirmMs(root, policy) })),
    ...state.roots.flatMap((root) =>
      root.leafIssuers.flatMap(({ leavesUntil: at }) =>
        at === null ? [] : [{ at, spanMs: confirmMs(root, policy) }],
      ),
    ),
    ...crossChainOf(activeRoot(state)).map(({ notAfter }) => ({ at: notAfter, spanMs })),
    ...(collectAt === null ? [] : [{ at: collectAt, spanMs }]),
  ];
}

/**
 * When to look next: when an instant is past, so that this is noticed, and then when enough looks
 * have found it past.
 */
function nextLook(at: Date, spanMs: number, time: DeletionTime): Date {
  return at >= time.now ? after(at) : (time.confirmsAt(at, spanMs) ?? after(time.now));
}

function after(instant: Date): Date {
  return new Date(instant.getTime() + 1);
}

/**
 * When what signs leaves is renewed: at half its life, as in Consul (consul-ca.md §4.8); null where
 * the root signs them itself.
 */
function renewAt(state: CaState): Date | null {
  const [issuer] = issuerChainOf(activeRoot(state));
  return issuer === undefined
    ? null
    : new Date((issuer.notBefore.getTime() + issuer.notAfter.getTime()) / 2);
}
