/**
 * Has the roots that are trusted certify another one, so that its leaves verify under all of them.
 * @module
 */
import { CaError, ConfigError, ProviderError } from "../errors.ts";
import type { Provider, ProviderContext } from "../ports/provider.ts";
import type { CaState, RootEntry } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { sameAuthority } from "../x509/chain.ts";
import { chainFits } from "./chain-size.ts";
import {
  crossedUntil,
  findCrossing,
  inOrderOfNeed,
  lineOf,
  poolOf,
  rootsToReach,
} from "./cross-chain.ts";
import type { ChangeContext } from "./plan-change.ts";
import type { Policy } from "./policy.ts";
import { proveCrossing, type Snapshot, typeOf } from "./snapshot.ts";

/**
 * Looks whether the active root can certify another one, before anything is made outside for that
 * one.
 * @param root null: one that is still to be made.
 * @throws {ConfigError} @throws {ProviderError}
 */
export async function requireCrossing(
  snapshot: Snapshot,
  root: Certificate | null,
  { now, policy }: ChangeContext,
): Promise<void> {
  const { state, active, provider } = snapshot;
  if (!provider?.crossSigner) return;
  if (root?.id === active.id || !inForce(active.certificate, now)) return;
  const by = retiredAt(active, now);
  const isReached = (to: Certificate) =>
    sameAuthority(to, active.certificate) ||
    findCrossing(to, by, poolOf(state.roots), to, now, policy) !== undefined;
  if (root !== null && isReached(root)) return;
  try {
    await provider.crossSigner.requirePermission();
  } catch (reason) {
    if (!(reason instanceof CaError)) throw reason;
    throw isPassing(reason)
      ? laterCrossing(reason)
      : cannotCross([active], new Map([[active.id, reason]]), new Map());
  }
}

function isPassing(reason: CaError): boolean {
  return reason instanceof ProviderError && reason.code === "provider_unavailable";
}

/** What fails is the provider of the root in use, which may be of the same kind as the next one. */
function laterCrossing(reason: CaError): ProviderError {
  const again = reason.retryAfterMs === undefined ? {} : { retryAfterMs: reason.retryAfterMs };
  const message = `The root in use cannot certify another one now: ${reason.message}`;
  return new ProviderError("provider_unavailable", message, { cause: reason, ...again });
}

interface Crossed {
  readonly chain: readonly Certificate[];
  readonly leftByForce: readonly string[];
  /**
   * IDs of the roots at the end of the chain that force gives up so that the chain keeps its
   * bounds.
   */
  readonly forceWouldLeave: readonly string[];
}

/**
 * One step of the line: a root to be reached, and the way there from the step before; empty where
 * it needs none.
 */
interface Step {
  readonly target: RootEntry;
  readonly crossing: readonly Certificate[];
}

/**
 * Finds or makes the line of cross-signed certificates that a new root needs, and proves that it
 * does its work.
 */
export async function cross(
  snapshot: Snapshot,
  provider: Provider,
  root: Certificate,
  force: boolean,
  context: ChangeContext,
): Promise<Crossed> {
  const { state, active } = snapshot;
  const { now, policy, random } = context;
  const pool = poolOf(state.roots);
  // As they will be: the active root retired at this moment. The one rotated to is no target, it is
  // where the line starts.
  const retiring = state.roots.map((entry) =>
    entry.id === active.id ? retiredAt(entry, now) : entry,
  );
  const targets = rootsToReach(retiring, now).filter(({ id }) => id !== root.id);
  const reasons = new Map<string, unknown>();
  const steps: Step[] = [];
  const passed = [root];
  for (const target of inOrderOfNeed(targets, lineOf(active), policy)) {
    const tip = passed.at(-1) as Certificate;
    try {
      requireBegun(target, now);
      const known = passed.some((certificate) => sameAuthority(certificate, target.certificate));
      const found = known ? undefined : findCrossing(tip, target, pool, root, now, policy);
      const crossing = known
        ? []
        : found === undefined
          ? await crossBy(target, tip, snapshot, context)
          : [found];
      steps.push({ target, crossing });
      if (crossing.length > 0) passed.push(target.certificate);
    } catch (reason) {
      // What may work in a moment is not "cannot", unless an operator says so: what is gone for
      // good answers the same.
      if (!(reason instanceof CaError)) throw reason;
      if (isPassing(reason) && !force) throw laterCrossing(reason);
      reasons.set(target.id, reason);
    }
  }
  const within = withinBudget(steps, root, provider.issuerChain, policy);
  const kept = force ? within : steps;
  const chain = chainOf(kept);
  const reached = kept.map(({ target }) => target.certificate);
  const failed = await proveCrossing(provider, root, chain, reached, {
    clusterId: state.clusterId,
    random,
    now,
  });
  const lost = targets.filter(
    ({ certificate }) => !reached.includes(certificate) || failed.has(certificate.id),
  );
  if (lost.length > 0 && !force) throw cannotCross(lost, reasons, failed);
  const forceWouldLeave = steps
    .filter((step) => !within.includes(step))
    .map(({ target }) => target.id);
  return { chain, leftByForce: lost.map(({ id }) => id), forceWouldLeave };
}

/** @throws {ProviderError} for a root under which nothing verifies yet, whatever it certifies */
function requireBegun({ certificate: { notBefore } }: RootEntry, now: Date): void {
  if (notBefore > now)
    throw new ProviderError(
      "provider_rejected",
      `it is not valid before ${notBefore.toISOString()}, and the clock says ${now.toISOString()}: it was made while a clock was ahead, and no leaf of it verifies now; force abandons it`,
    );
}

/** A root as it will be once it is retired. */
function retiredAt(root: RootEntry, now: Date): RootEntry {
  return { ...root, status: "retired", rotatedOutAt: now };
}

function chainOf(steps: readonly Step[]): Certificate[] {
  return steps.flatMap(({ crossing }) => crossing);
}

/** The part of a line that keeps its bounds: under force, its end is given up until it does. */
function withinBudget(
  steps: readonly Step[],
  root: Certificate,
  issuers: readonly Certificate[],
  policy: Policy,
): readonly Step[] {
  let kept = steps;
  while (kept.length > 0 && !chainFits([...issuers, ...chainOf(kept)], policy))
    kept = kept.slice(0, -1);
  // A root that needs no certificate of its own, since another one that is reached has its name and
  // key, costs nothing.
  const reached = [root, ...kept.map(({ target }) => target.certificate)];
  const isFree = ({ target, crossing }: Step) =>
    crossing.length === 0 &&
    reached.some((certificate) => sameAuthority(certificate, target.certificate));
  return steps.filter((step) => kept.includes(step) || isFree(step));
}

/** Has a root that is still trusted certify another one. */
async function crossBy(
  target: RootEntry,
  root: Certificate,
  snapshot: Snapshot,
  context: ChangeContext,
): Promise<readonly Certificate[]> {
  const { state } = snapshot;
  const { now, policy } = context;
  const until = crossedUntil(target, policy, now);
  if (target.id === snapshot.active.id) {
    if (snapshot.provider === null) throw snapshot.fault;
    return crossWith(snapshot.provider, root, now, until);
  }
  const record = state.provider.retired[target.id];
  if (record === undefined) throw new ProviderError("provider_rejected", "its key is gone");
  const type = typeOf(context.types, record.provider);
  const provider = await type.open(
    type.parse(record.config),
    record.state,
    target.certificate,
    contextOf(state, context),
  );
  try {
    return await crossWith(provider, root, now, until);
  } finally {
    void provider.close();
  }
}

async function crossWith(
  { crossSigner }: Provider,
  root: Certificate,
  now: Date,
  until: Date,
): Promise<readonly Certificate[]> {
  if (crossSigner === null)
    throw new ProviderError("provider_rejected", "its provider does not support cross-signing");
  return crossSigner.crossSign(root, now, until);
}

/** @param failed why a leaf does not verify under a root, by the root's ID. */
function cannotCross(
  lost: readonly RootEntry[],
  reasons: ReadonlyMap<string, unknown>,
  failed: ReadonlyMap<string, string>,
): ConfigError {
  const why = (root: RootEntry) => {
    const reason = reasons.get(root.id);
    const proof = failed.get(root.certificate.id) ?? "";
    const unproved = `a leaf of the new root would not verify under it${proof === "" ? "" : `: ${proof}`}`;
    return `root ${root.id}: ${reason instanceof CaError ? reason.message : unproved}`;
  };
  // Consul's text with its own misspelling, which its users search for, then the reason.
  return new ConfigError(
    "The current CA Provider does not support cross-signing. You can try again with ForceWithoutCrossSigningSet but this may cause disruption - see documentation for more." +
      ` (${lost.map(why).join("; ")})`,
  );
}

export function contextOf(state: CaState, context: ChangeContext): ProviderContext {
  return { clusterId: state.clusterId, sealer: context.sealer, random: context.random };
}
