/**
 * A leaf that was checked: under which root it verifies, and when it is due to be replaced. A thousand
 * identities look at each change of the roots, so that no signature is verified without need.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Certificate } from "../core/x509/certificate.ts";
import type { Cache } from "./cache.ts";
import { type CachedLeaf, leafKey, readCachedLeaf } from "./cached-entries.ts";
import { ClientError } from "./errors.ts";
import { chainOf, type LeafIdentity, readLeaf, svidOf, verifiesUnder } from "./leaf-check.ts";
import type { ObtainedLeaf } from "./leaf-request.ts";
import { leadsThroughDropped, rootsOf } from "./roots-listing.ts";
import type { RootsSource } from "./roots-source.ts";
import { renewalMoment } from "./schedule.ts";
import type { TrustBundle, X509Svid } from "./svid.ts";

type Roots = Pick<RootsSource, "current" | "refresh" | "renewWindowMs">;

/** In place of a root's ID: a leaf that leads through a dropped root. */
const DROPPED = "";

export class HeldLeaf implements CachedLeaf {
  readonly svid: X509Svid;
  readonly renewAfter: Date | null;
  /** The ID of a root that it verifies under: the active one if it can be. */
  #rootId: string;
  /** The moment of its renewal, drawn once. */
  #renewAt: Date | null = null;
  /** The moment drawn for a change of the active root, and which root became active. */
  #reissue: { readonly rootId: string; readonly at: Date } | null = null;

  private constructor({ svid, renewAfter }: CachedLeaf, rootId: string) {
    this.svid = svid;
    this.renewAfter = renewAfter;
    this.#rootId = rootId;
  }

  /**
   * The leaf of an answer. If it verifies under no root these are read again, since the active one may
   * have changed a moment ago.
   * @param spiffeId of the leaf before, or null.
   * @throws {ClientError}
   */
  static async ofAnswer(
    { key, response }: ObtainedLeaf,
    identity: LeafIdentity,
    spiffeId: string | null,
    roots: Roots,
    clock: Clock,
  ): Promise<HeldLeaf> {
    const bundle = requireRoots(roots);
    const expected = { identity, spiffeId, spki: key.spki };
    const read = readLeaf(response.certificatePem, expected, bundle.trustDomain, clock.now());
    let rootId = await findRoot(read.chain, bundle, clock.now());
    if (rootId === null) {
      await roots.refresh();
      rootId = await findRoot(read.chain, requireRoots(roots), clock.now());
    }
    if (rootId === null)
      throw new ClientError(
        "unusable",
        "The leaf is not used: it verifies under no published root",
      );
    const { index, renewAfter } = response;
    return new HeldLeaf({ svid: svidOf(read, key.privateKey, index), renewAfter }, rootId);
  }

  /**
   * The leaf of the cache, checked as an answer is; null if there is none.
   * @throws {FormatError} with the entry as subject @throws {ClientError} `unusable`
   */
  static async ofCache(
    cache: Cache,
    identity: LeafIdentity,
    bundle: TrustBundle,
    now: Date,
  ): Promise<HeldLeaf | null> {
    const text = await cache.read(leafKey(identity));
    if (text === null) return null;
    const cached = await readCachedLeaf(text, identity, bundle.trustDomain, now);
    const rootId = await findRoot(chainOf(cached.svid), bundle, now);
    if (rootId === null) throw new FormatError("it verifies under no published root");
    return new HeldLeaf(cached, rootId);
  }

  /** Whether the root that it was verified under is published. Verifies nothing. */
  isUnder(bundle: TrustBundle): boolean {
    return rootsOf(bundle).some(({ id }) => id === this.#rootId);
  }

  /** Whether it verifies under a published root. */
  async verifies(bundle: TrustBundle, now: Date): Promise<boolean> {
    const { activeRootId } = bundle;
    const chain = chainOf(this.svid);
    if (leadsThroughDropped(chain, bundle)) {
      // It is replaced as after a change of the active root, also if it verifies under that.
      this.#rootId = DROPPED;
      return (await findRoot(chain, bundle, now)) !== null;
    }
    if (this.#rootId === activeRootId) return true;
    const active = rootsOf(bundle).find(({ id }) => id === activeRootId);
    if (active !== undefined && (await verifiesUnder(chain, active, now))) {
      this.#rootId = activeRootId;
      return true;
    }
    if (this.isUnder(bundle)) return true;
    const found = await findRoot(chain, bundle, now);
    if (found !== null) this.#rootId = found;
    return found !== null;
  }

  /**
   * When it is replaced: at its renewal, or before it in the window of a change of the active root.
   * Another key of the same root's issuer (SigningKeyID) is no reason.
   */
  due({ activeRootId }: TrustBundle, windowMs: number, now: Date, random: Random): Date {
    this.#renewAt ??= renewalMoment(this.svid, this.renewAfter, now, random.fraction());
    if (this.#rootId === activeRootId) return this.#renewAt;
    if (this.#reissue?.rootId !== activeRootId) {
      const at = new Date(now.getTime() + windowMs * random.fraction());
      this.#reissue = { rootId: activeRootId, at };
    }
    return this.#reissue.at < this.#renewAt ? this.#reissue.at : this.#renewAt;
  }

  /** Has the moments drawn again: they were drawn by a wrong clock. */
  redraw(): void {
    this.#renewAt = this.#reissue = null;
  }
}

function requireRoots({ current }: Roots): TrustBundle {
  if (current === null) throw new ClientError("unreachable", "The roots are not known");
  return current;
}

/** The ID of a root that a leaf verifies under, the active one first; null if there is none. */
async function findRoot(
  chain: readonly Certificate[],
  bundle: TrustBundle,
  now: Date,
): Promise<string | null> {
  const { activeRootId } = bundle;
  const order = rootsOf(bundle).toSorted(
    (a, b) => Number(b.id === activeRootId) - Number(a.id === activeRootId),
  );
  for (const root of order) if (await verifiesUnder(chain, root, now)) return root.id;
  return null;
}
