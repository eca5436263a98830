/**
 * What background step is due: a pure function of the state and the time. `tick` of the CA does one
 * step at a time, so that after a crash between two steps the next tick continues.
 * @module
 */

import type { DeletionTime, LookOptions } from "../deletion-time.ts";
import { activeRoot, type CaState } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { crossChainOf, issuerChainOf, needsCrossSigning } from "./cross-chain.ts";
import { type Followed, followedPrunable, isBehind } from "./followed-roots.ts";
import { confirmMs, longestConfirmMs, removableAt } from "./root-removal.ts";
import type { Policy } from "./timing-and-limits.ts";
import { prunable } from "./transitions.ts";

export type Step =
  /** There is no state: create the first root. */
  | { readonly kind: "bootstrap" }
  /** Drop dead roots with their keys, and certificates that are no longer needed. */
  | { readonly kind: "prune" }
  /** Rotate the root, since RootAutoRotate of its life is over. */
  | { readonly kind: "auto-rotate" }
  /** Make the prepared root the active one. */
  | { readonly kind: "activate" }
  /** Create a new issuer under the active root. */
  | { readonly kind: "renew" }
  /** Renew a cross-signed certificate that is needed for longer than it lives. */
  | { readonly kind: "cross" }
  /** In a secondary datacenter: take over the primary's roots for the first time. */
  | { readonly kind: "join" }
  /** In a secondary datacenter: follow the primary's roots. */
  | { readonly kind: "follow" }
  /** Delete garbage of providers. */
  | { readonly kind: "collect" }
  /** Nothing is due before `until`; null if nothing will ever be. */
  | { readonly kind: "wait"; readonly until: Date | null };

/**
 * Decides the next step.
 * @param time the store's clock, and what may be deleted by it.
 */
export function nextStep(
  state: CaState | null,
  policy: Policy,
  time: DeletionTime,
  { collectAt, rotateAt }: Dates = NO_DATES,
): Step {
  if (state === null) return { kind: "bootstrap" };
  if (prunable(state, policy, time)) return { kind: "prune" };
  const activation = activateAt(state);
  if (activation !== null && activation <= time.now) return { kind: "activate" };
  // The root that a prepared one replaces has no key here.
  const renewal = activation === null ? renewAt(state) : null;
  if (renewal !== null && renewal <= time.now) return { kind: "renew" };
  const confirmed = time.confirmed(longestConfirmMs(state.roots, policy));
  if (activation === null) {
    if (rotateAt !== null && rotateAt <= confirmed) return { kind: "auto-rotate" };
    if (needsCrossSigning(state, policy, time.now)) return { kind: "cross" };
  }
  if (collectAt !== null && collectAt <= confirmed) return { kind: "collect" };
  const dates = confirmedDates(state, policy, { collectAt, rotateAt }).map(({ at, spanMs }) =>
    nextLook(at, spanMs, time),
  );
  if (renewal !== null) dates.push(after(renewal));
  if (activation !== null) dates.push(after(activation));
  return {
    kind: "wait",
    until: dates.length === 0 ? null : new Date(Math.min(...dates.map(Number))),
  };
}

/**
 * Decides the next step of a secondary datacenter. Without the primary's roots nothing is followed,
 * renewed or removed.
 * @param followed the primary's roots as they were read last, or null.
 */
export function nextFollowerStep(
  state: CaState | null,
  followed: Followed | null,
  { policy, time, collectAt }: FollowerSchedule,
): Step {
  if (state === null) return followed === null ? WAIT : { kind: "join" };
  if (followed !== null) {
    if (isBehind(state, followed)) return { kind: "follow" };
    const renewal = renewAt(state);
    if (renewal !== null && renewal <= time.now) return { kind: "renew" };
    if (followedPrunable(state, followed.listing, policy, time)) return { kind: "prune" };
  }
  const confirmed = time.confirmed(longestConfirmMs(state.roots, policy));
  if (collectAt !== null && collectAt <= confirmed) return { kind: "collect" };
  // It is woken by a change of the primary's roots; the rest happens within a few ticks of its date.
  return WAIT;
}

const WAIT: Step = { kind: "wait", until: null };

interface FollowerSchedule {
  readonly policy: Policy;
  readonly time: DeletionTime;
  /** When garbage of a provider may be deleted, or null. */
  readonly collectAt: Date | null;
}

/** The look at the store's clock that `nextStep` needs. */
export function lookFor(
  state: CaState | null,
  policy: Policy,
  dates: Dates = NO_DATES,
): LookOptions {
  // Without a state nothing is deleted, and no earlier look is superseded.
  if (state === null) return { deadlines: [], spanMs: Number.POSITIVE_INFINITY };
  return {
    deadlines: confirmedDates(state, policy, dates).map(({ at }) => at.getTime()),
    spanMs: longestConfirmMs(state.roots, policy),
  };
}

/** Dates that do not follow from the state alone. */
interface Dates {
  /** When garbage of a provider may be deleted, or null. */
  readonly collectAt: Date | null;
  /** When the root is rotated by itself, or null. */
  readonly rotateAt: Date | null;
}

const NO_DATES: Dates = { collectAt: null, rotateAt: null };

/**
 * The instants after which something is deleted, or the root is rotated, and for how long looks must
 * confirm each: a clock that was ahead for a moment does neither.
 */
function confirmedDates(
  state: CaState,
  policy: Policy,
  { collectAt, rotateAt }: Dates,
): { readonly at: Date; readonly spanMs: number }[] {
  const spanMs = longestConfirmMs(state.roots, policy);
  const retired = state.roots.filter(({ status }) => status === "retired");
  return [
    ...retired.map((root) => ({ at: removableAt(root, policy), spanMs: confirmMs(root, policy) })),
    ...state.roots.flatMap((root) =>
      root.leafIssuers.flatMap(({ leavesUntil: at }) =>
        at === null ? [] : [{ at, spanMs: confirmMs(root, policy) }],
      ),
    ),
    ...crossChainOf(activeRoot(state)).map(({ notAfter }) => ({ at: notAfter, spanMs })),
    ...state.dropped.map(({ notAfter }) => ({ at: notAfter, spanMs })),
    ...[collectAt, rotateAt].flatMap((at) => (at === null ? [] : [{ at, spanMs }])),
  ];
}

/** When to look next: right after an instant, and then once enough looks have confirmed it. */
function nextLook(at: Date, spanMs: number, time: DeletionTime): Date {
  return at >= time.now ? after(at) : (time.confirmsAt(at, spanMs) ?? after(time.now));
}

function after(instant: Date): Date {
  return new Date(instant.getTime() + 1);
}

/**
 * When the prepared root becomes active: when clients have had time to read it, or when no leaf can be
 * signed otherwise; null without one.
 */
function activateAt(state: CaState): Date | null {
  const { prepared } = state.provider;
  if (prepared === null) return null;
  const active = activeRoot(state);
  const ends = [active.certificate, ...issuerChainOf(active)].map(({ notAfter }) =>
    notAfter.getTime(),
  );
  return new Date(Math.min(prepared.activateAt.getTime(), ...ends));
}

/**
 * When the issuer is renewed: at half its life, as in Consul (agent/consul/leader_connect_ca.go), or
 * when the state says; null if the root signs leaves itself.
 */
function renewAt(state: CaState): Date | null {
  const [issuer] = issuerChainOf(activeRoot(state));
  if (issuer === undefined) return null;
  return state.primary?.renewAt ?? middleOf(issuer.notBefore, issuer.notAfter);
}

/**
 * What share of its life an intermediate may have used up when it arrives. One of the shortest life
 * that is not late, 3 h with the hour by which it is back-dated, has used up a quarter.
 */
const LATE_SHARE = 1 / 3;

/**
 * When an intermediate is renewed of which much was over when it arrived: at half of what was left. A
 * primary whose clock is hours behind signs one that is past half of its life, and so would be the
 * next one: it would be renewed without a pause.
 * @returns null if it is renewed at half of its life, as others are.
 */
export function lateRenewal(
  { notBefore, notAfter }: Pick<Certificate, "notBefore" | "notAfter">,
  now: Date,
): Date | null {
  const lifeMs = notAfter.getTime() - notBefore.getTime();
  const isLate = now.getTime() - notBefore.getTime() > LATE_SHARE * lifeMs;
  return isLate ? middleOf(now, notAfter) : null;
}

function middleOf(from: Date, to: Date): Date {
  return new Date((from.getTime() + to.getTime()) / 2);
}
