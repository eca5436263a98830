/**
 * What is due: a pure function of the state and the time. manager.tick() does one step of it at a time, so that a crash
 * between any two steps leaves a state from which the next tick goes on.
 * @module
 */
import { pruneAt } from "./crossing.ts";
import type { Policy } from "./policy.ts";
import { activeRoot, type CaState } from "./state.ts";
import { prunable } from "./transitions.ts";

export type Plan =
  /** There is no state: make the first root. */
  | { readonly kind: "bootstrap" }
  /** Drop what nobody can still need. */
  | { readonly kind: "prune" }
  /** Nothing is due before `until`; null where nothing will ever be. */
  | { readonly kind: "wait"; readonly until: Date | null };

/**
 * Decides the next step.
 * @param now the store's clock.
 */
export function plan(state: CaState | null, policy: Policy, now: Date): Plan {
  if (state === null) return { kind: "bootstrap" };
  if (prunable(state, policy, now)) return { kind: "prune" };
  const dates = [
    ...state.roots.filter(({ status }) => status === "retired").map((root) => pruneAt(root, policy)),
    ...activeRoot(state).intermediates.map(({ notAfter }) => notAfter),
  ];
  return { kind: "wait", until: dates.length === 0 ? null : new Date(Math.min(...dates.map(Number)) + 1) };
}
