/**
 * Whether another datacenter of the mesh is the primary one, too: it was promoted while this one was
 * lost, or both were promoted. The primary looks before a change that would part their roots.
 * @module
 */
import { ConflictError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { Log } from "../ports/log.ts";
import { MAX_CLAIM_AHEAD, type PeerDatacenters, type PrimacyClaim } from "../ports/primary.ts";
import type { CaState } from "../state.ts";
import type { OtherPrimaryMemory } from "./replica-memory.ts";

/** How old a look may be before a change, and how often the leader looks, in milliseconds. */
const MAX_AGE_MS = 10_000;
const EVERY_MS = 30_000;

interface OtherPrimaryOptions {
  readonly peers: PeerDatacenters;
  /** The name of this datacenter. */
  readonly datacenter: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly memory: OtherPrimaryMemory;
}

export class OtherPrimary {
  readonly #options: OtherPrimaryOptions;
  readonly #memory: OtherPrimaryMemory;
  /** The datacenter whose claim was ignored last, or null. */
  #liar: string | null = null;

  constructor(options: OtherPrimaryOptions) {
    this.#options = options;
    this.#memory = options.memory;
  }

  /** The datacenter that is the primary one in place of this one, as it was seen last, or null. */
  get found(): PrimacyClaim | null {
    return this.#memory.found;
  }

  /** Looks if the last look is too old. It never rejects. @returns what the others report */
  async look(state: CaState, maxAgeMs = EVERY_MS): Promise<readonly PrimacyClaim[]> {
    const { clock, log } = this.#options;
    const memory = this.#memory;
    const ageMs = clock.now().getTime() - (memory.lookedAt?.getTime() ?? 0);
    if (Math.abs(ageMs) >= maxAgeMs) {
      memory.claims = await this.#ask(state);
      memory.lookedAt = clock.now();
    }
    const found = state.primary === null ? this.#leading(state) : null;
    if (found !== null && found.datacenter !== memory.found?.datacenter)
      log.error(
        "Another datacenter is the primary one: leaves are signed, no intermediate of another datacenter is signed and no root changed; configure this datacenter to follow it, or promote this one",
        { primary: found.datacenter, promotions: found.promotions, by: found.by },
      );
    if (found === null && memory.found !== null)
      log.info("No other datacenter is the primary one any more");
    memory.found = found;
    return memory.claims;
  }

  /**
   * Looks unless that was a moment ago.
   * @throws {ConflictError} `transition_invalid` if another datacenter is the primary one
   */
  async require(state: CaState, action: string): Promise<void> {
    await this.look(state, MAX_AGE_MS);
    const { found } = this.#memory;
    if (found === null) return;
    throw new ConflictError("transition_invalid", `${action}: ${otherPrimaryText(found)}`);
  }

  /** A datacenter that does not answer now still is what it reported last: it may be cut off. */
  async #ask(state: CaState): Promise<readonly PrimacyClaim[]> {
    const { trustDomain, promotions, otherPrimary: recorded } = state;
    const { peers } = this.#options;
    const reported = await peers.claims();
    const hasReported = new Set(reported.map(({ by }) => by));
    // From before a restart.
    const kept = recorded === null ? [] : [{ ...recorded, trustDomain, leafTtlMs: null }];
    const earlier = [...this.#memory.claims, ...kept].filter(
      ({ by }) => peers.names.includes(by) && !hasReported.has(by),
    );
    const claims = [...reported, ...earlier].filter((claim) => claim.trustDomain === trustDomain);
    const isLie = (claim: PrimacyClaim) => claim.promotions > promotions + MAX_CLAIM_AHEAD;
    this.#logLie(claims.find(isLie) ?? null);
    return claims.filter((claim) => !isLie(claim));
  }

  #logLie(claim: PrimacyClaim | null): void {
    if (claim !== null && claim.by !== this.#liar)
      this.#options.log.error(
        "Ignoring the number of promotions that a server of another datacenter reports: no mesh has so many; find out who runs its servers",
        { by: claim.by, promotions: claim.promotions },
      );
    this.#liar = claim?.by ?? null;
  }

  #leading({ promotions }: CaState): PrimacyClaim | null {
    const own = this.#options.datacenter;
    const others = this.#memory.claims.filter(
      (claim) =>
        claim.datacenter !== own &&
        // Two datacenters that were never promoted: the one of which the other follows the root.
        (claim.promotions > promotions || (claim.promotions === promotions && promotions > 0)),
    );
    return others.toSorted((a, b) => b.promotions - a.promotions)[0] ?? null;
  }
}

/** That another datacenter is the primary one, and what to do. */
export function otherPrimaryText({ datacenter, promotions, by }: PrimacyClaim): string {
  return `datacenter ${datacenter} is the primary one by promotion ${promotions}, as a server of ${by} reports. Configure this datacenter to follow ${datacenter}, or promote this one if it is to remain the primary`;
}
