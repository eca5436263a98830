/**
 * Cross-signing: has each published root certify a new one, directly or through others, so that
 * leaves of the new root verify under all of them.
 * @module
 */
import { CaError, ConfigError, ProviderError } from "../errors.ts";
import type { Provider } from "../ports/provider.ts";
import type { RootEntry } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { sameAuthority } from "../x509/chain.ts";
import { chainFits } from "./chain-size.ts";
import type { ChangeContext } from "./change.ts";
import {
  candidatePool,
  crossChainOf,
  crossSignedUntil,
  findCrossSigned,
  neededLongestFirst,
  rootsToReach,
} from "./cross-chain.ts";
import { proveCrossing, type Snapshot, typeOf } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

type CrossSignContext = Pick<ChangeContext, "now" | "policy" | "random" | "providers" | "open">;

/**
 * Checks that the active root can certify another one, before external resources are created for
 * that one.
 * @param root null: it does not exist yet.
 * @throws {ConfigError} @throws {ProviderError}
 */
export async function requireCrossSigning(
  snapshot: Snapshot,
  root: Certificate | null,
  context: CrossSignContext,
): Promise<void> {
  const { now } = context;
  const { state, active, provider } = snapshot;
  if (!provider?.crossSigner) return;
  if (root?.id === active.id || !inForce(active.certificate, now)) return;
  const by = retiredAt(active, now);
  const isCertified = (to: Certificate) =>
    sameAuthority(to, active.certificate) ||
    findCrossSigned(candidatePool(state.roots), to, by, to, context) !== undefined;
  if (root !== null && isCertified(root)) return;
  try {
    await provider.crossSigner.requirePermission();
  } catch (reason) {
    if (!(reason instanceof CaError)) throw reason;
    throw isTransient(reason)
      ? transientFailure(active, reason)
      : cannotCrossSign([active], new Map([[active.id, reason]]), new Map());
  }
}

function isTransient(reason: CaError): boolean {
  return reason.code === "provider_unavailable";
}

/** The provider of a published root failed, which may be of the same type as that of the next root. */
function transientFailure({ id }: RootEntry, reason: CaError): ProviderError {
  const retry = reason.retryAfterMs === undefined ? {} : { retryAfterMs: reason.retryAfterMs };
  const message = `Root ${id} cannot certify another one now: ${reason.message}`;
  return new ProviderError("provider_unavailable", message, { cause: reason, ...retry });
}

interface CrossChain {
  /** The cross-signed certificates, in path order. */
  readonly chain: readonly Certificate[];
  /** IDs of the roots under which leaves of the new root do not verify. Empty without force. */
  readonly abandonedRoots: readonly string[];
  /** IDs of the roots that force would abandon for the chain to keep its bounds. */
  readonly forceWouldAbandon: readonly string[];
}

/**
 * One step of a cross-chain: the root that it leads to, and the certificates from the step before to
 * it; none if a certificate of the same name and key is in the chain already.
 */
interface Step {
  readonly target: RootEntry;
  readonly certificates: readonly Certificate[];
}

/**
 * Finds or makes the cross-signed certificates that a root needs to become active, and verifies a
 * leaf under each published root.
 * @param force abandons roots that cannot certify it instead of failing.
 * @throws {ConfigError} if a published root cannot certify it @throws {ProviderError}
 */
export async function buildCrossChain(
  snapshot: Snapshot,
  provider: Provider,
  root: Certificate,
  force: boolean,
  context: CrossSignContext,
): Promise<CrossChain> {
  const { state, active } = snapshot;
  const { now, policy, random } = context;
  // As they will be: the active root retired now. The root rotated to is the start of the chain.
  const retiring = state.roots.map((entry) =>
    entry.id === active.id ? retiredAt(entry, now) : entry,
  );
  const targets = rootsToReach(retiring, now).filter(({ id }) => id !== root.id);
  const { steps, reasons } = await findOrMakeSteps(targets, snapshot, root, force, context);
  const fitting = withinChainSize(steps, root, provider.issuerChain, policy);
  const kept = force ? fitting : steps;
  const chain = chainOf(kept);
  const reached = kept.map(({ target }) => target.certificate);
  const failed = await proveCrossing(provider, root, chain, reached, {
    trustDomain: state.trustDomain,
    random,
    now,
  });
  const lost = targets.filter(
    ({ certificate }) => !reached.includes(certificate) || failed.has(certificate.id),
  );
  if (lost.length > 0 && !force) throw cannotCrossSign(lost, reasons, failed);
  return {
    chain,
    abandonedRoots: lost.map(({ id }) => id),
    forceWouldAbandon: steps
      .filter((step) => !fitting.includes(step))
      .map(({ target }) => target.id),
  };
}

/**
 * The steps of a cross-chain, by urgency.
 * @returns also why a root cannot be a step, by its ID.
 * @throws {ProviderError} `provider_unavailable` without force: a retry may succeed.
 */
async function findOrMakeSteps(
  targets: readonly RootEntry[],
  snapshot: Snapshot,
  root: Certificate,
  force: boolean,
  context: CrossSignContext,
): Promise<{ steps: Step[]; reasons: Map<string, CaError> }> {
  const { state, active } = snapshot;
  const { now, policy } = context;
  const pool = candidatePool(state.roots);
  const reasons = new Map<string, CaError>();
  const steps: Step[] = [];
  const passed = [root];
  for (const target of neededLongestFirst(targets, crossChainOf(active), policy)) {
    const end = passed.at(-1) as Certificate;
    try {
      requireBegun(target, now);
      if (passed.some((certificate) => sameAuthority(certificate, target.certificate))) {
        steps.push({ target, certificates: [] });
        continue;
      }
      const found = findCrossSigned(pool, end, target, root, context);
      const certificates =
        found === undefined ? await crossSignBy(target, end, snapshot, context) : [found];
      steps.push({ target, certificates });
      passed.push(target.certificate);
    } catch (reason) {
      if (!(reason instanceof CaError)) throw reason;
      // Under force a root whose provider is unavailable is abandoned, as one whose key is lost: both
      // answer the same.
      if (isTransient(reason) && !force) throw transientFailure(target, reason);
      reasons.set(target.id, reason);
    }
  }
  return { steps, reasons };
}

/** @throws {ProviderError} for a root that is not valid yet: nothing verifies under it */
function requireBegun({ certificate: { notBefore } }: RootEntry, now: Date): void {
  if (notBefore > now)
    throw new ProviderError(
      "provider_rejected",
      `it is not valid before ${notBefore.toISOString()}, and the store's clock is at ${now.toISOString()}: it was made while a clock was ahead, and no leaf of it verifies now; force abandons it`,
    );
}

/** A root as it will be once it is retired. */
function retiredAt(root: RootEntry, now: Date): RootEntry {
  return { ...root, status: "retired", rotatedOutAt: now };
}

function chainOf(steps: readonly Step[]): Certificate[] {
  return steps.flatMap(({ certificates }) => certificates);
}

/** The steps that remain if the end of the chain is cut off until it keeps its bounds. */
function withinChainSize(
  steps: readonly Step[],
  root: Certificate,
  issuerChain: readonly Certificate[],
  policy: Policy,
): readonly Step[] {
  let kept = steps;
  while (kept.length > 0 && !chainFits([...issuerChain, ...chainOf(kept)], policy))
    kept = kept.slice(0, -1);
  // A root without a certificate of its own in the chain, since a root that is kept has its name and
  // key, costs nothing.
  const reached = [root, ...kept.map(({ target }) => target.certificate)];
  const isFree = ({ target, certificates }: Step) =>
    certificates.length === 0 &&
    reached.some((certificate) => sameAuthority(certificate, target.certificate));
  return steps.filter((step) => kept.includes(step) || isFree(step));
}

/** Has a published root certify another one. */
async function crossSignBy(
  target: RootEntry,
  root: Certificate,
  snapshot: Snapshot,
  context: CrossSignContext,
): Promise<readonly Certificate[]> {
  const { crossSigner } = await openProviderOf(target, snapshot, context);
  if (crossSigner === null)
    throw new ProviderError("provider_rejected", "its provider does not support cross-signing");
  const { now, policy } = context;
  return crossSigner.crossSign(root, now, crossSignedUntil(target, policy, now));
}

async function openProviderOf(
  target: RootEntry,
  snapshot: Snapshot,
  context: CrossSignContext,
): Promise<Provider> {
  const { state, active } = snapshot;
  if (target.id === active.id) {
    if (snapshot.provider === null) throw snapshot.fault;
    return snapshot.provider;
  }
  const record = state.provider.retired[target.id];
  if (record === undefined) throw new ProviderError("provider_rejected", "its key was destroyed");
  const type = typeOf(context.providers, record.provider);
  return context.open(type, {
    config: type.parse(record.config),
    state: record.state,
    root: target.certificate,
    cluster: state,
  });
}

/**
 * @param reasons why a root cannot certify the new one. @param failed why a leaf of the new root does
 * not verify under a root. Both by the root's ID.
 */
function cannotCrossSign(
  lost: readonly RootEntry[],
  reasons: ReadonlyMap<string, CaError>,
  failed: ReadonlyMap<string, string>,
): ConfigError {
  const why = (root: RootEntry) => {
    const proof = failed.get(root.certificate.id) ?? "";
    const unproved = `a leaf of the new root would not verify under it${proof === "" ? "" : `: ${proof}`}`;
    return `root ${root.id}: ${reasons.get(root.id)?.message ?? unproved}`;
  };
  // Consul's text with its own misspelling, which its users search for, then the reason.
  return new ConfigError(
    "The current CA Provider does not support cross-signing. You can try again with ForceWithoutCrossSigningSet but this may cause disruption - see documentation for more." +
      ` (${lost.map(why).join("; ")})`,
  );
}
