/**
 * What is due: a pure function of the state and the time. manager.tick() does one step of it at a time, so that a crash
 * between any two steps leaves a state from which the next tick goes on.
 * @module
 */
import { issuersOf, lineOf, pruneAt } from "./crossing.ts";
import type { Policy } from "./policy.ts";
import { activeRoot, type CaState } from "./state.ts";
import { prunable } from "./transitions.ts";

export type Plan =
  /** There is no state: make the first root. */
  | { readonly kind: "bootstrap" }
  /** Drop what nobody can still need. */
  | { readonly kind: "prune" }
  /** Make a new issuer under the active root. */
  | { readonly kind: "renew" }
  /** Delete what was left behind outside. */
  | { readonly kind: "collect" }
  /** Nothing is due before `until`; null where nothing will ever be. */
  | { readonly kind: "wait"; readonly until: Date | null };

/**
 * Decides the next step.
 * @param now the store's clock.
 * @param collectAt when something that was left behind outside may be deleted, or null.
 */
export function plan(state: CaState | null, policy: Policy, now: Date, collectAt: Date | null = null): Plan {
  if (state === null) return { kind: "bootstrap" };
  if (prunable(state, policy, now)) return { kind: "prune" };
  const renewal = renewAt(state);
  if (renewal !== null && renewal <= now) return { kind: "renew" };
  if (collectAt !== null && collectAt <= now) return { kind: "collect" };
  const dates = [
    ...state.roots.filter(({ status }) => status === "retired").map((root) => pruneAt(root, policy)),
    ...lineOf(activeRoot(state)).map(({ notAfter }) => notAfter),
    ...(renewal === null ? [] : [renewal]),
    ...(collectAt === null ? [] : [collectAt]),
  ];
  return { kind: "wait", until: dates.length === 0 ? null : new Date(Math.min(...dates.map(Number)) + 1) };
}

/** When what signs leaves is renewed: at half its life, as in Consul (consul-ca.md §4.8); null where the root signs them itself. */
function renewAt(state: CaState): Date | null {
  const [issuer] = issuersOf(activeRoot(state));
  return issuer === undefined ? null : new Date((issuer.notBefore.getTime() + issuer.notAfter.getTime()) / 2);
}
