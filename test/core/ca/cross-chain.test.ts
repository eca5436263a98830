/**
 * Which cross-signed certificates go with a leaf, on real certificates: single cases, then any
 * sequence of rotations.
 * @module
 */

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import fc from "fast-check";
import { equal, hex } from "../../../src/core/bytes.ts";
import {
  candidatePool,
  crossSignedOf,
  crossSignedUntil,
  findCrossSigned,
  neededLongestFirst,
  needsCrossSigning,
  rootsToReach,
  stillUsefulPrefix,
} from "../../../src/core/ca/cross-chain.ts";
import { pruneAt } from "../../../src/core/ca/root-removal.ts";
import { DEFAULT_POLICY as POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { prunable, prune } from "../../../src/core/ca/transitions.ts";
import { trusted } from "../../../src/core/deletion-time.ts";
import { activeRoot, type CaState, type RootEntry } from "../../../src/core/state.ts";
import type { Certificate } from "../../../src/core/x509/certificate.ts";
import { couldHaveIssued, findPath } from "../../../src/core/x509/chain.ts";
import { HOUR } from "./harness.ts";
import { at, commitId, crossed, firstState, makeRoot, type PoolRoot, rotated } from "./pool.ts";

/** Lives of the roots in hours: two end while a sequence runs. */
const LIVES = [87_600, 87_600, 50_000, 200, 87_600, 120] as const;
let pool: readonly PoolRoot[];
let [a, b, c, shortLived]: PoolRoot[] = [];

const root = (given: PoolRoot | undefined): PoolRoot => {
  assert.ok(given !== undefined);
  return given;
};

function entry(of: PoolRoot, more: Partial<RootEntry> = {}): RootEntry {
  const [template] = firstState(of, HOUR).roots;
  assert.ok(template !== undefined);
  return { ...template, status: "retired", rotatedOutAt: at(0), ...more };
}

before(async () => {
  pool = await Promise.all(LIVES.map(makeRoot));
  [a, b, c, shortLived] = pool;
});

describe("rootsToReach()", () => {
  it("rootsToReach() returns retired roots that are neither expired nor abandoned", () => {
    const roots = [
      entry(root(a)),
      entry(root(b), { status: "active", rotatedOutAt: null }),
      entry(root(c), { abandoned: true }),
      entry(root(shortLived)),
    ];
    const ids = (now: Date) => rootsToReach(roots, now).map(({ id }) => id);
    assert.deepEqual(ids(at(199)), [root(a).certificate.id, root(shortLived).certificate.id]);
    assert.deepEqual(ids(root(shortLived).certificate.notAfter), [root(a).certificate.id]);
  });
});

describe("pruneAt()", () => {
  it("pruneAt() is twice the largest leaf life after the root was retired last", () => {
    assert.deepEqual(
      pruneAt(
        entry(root(a), { leafTtlMaxMs: 5 * HOUR, rotatedOutAt: at(3), since: at(1) }),
        POLICY,
      ),
      at(13),
    );
    assert.deepEqual(
      pruneAt(entry(root(a), { leafTtlMaxMs: 5 * HOUR, rotatedOutAt: null, since: at(1) }), POLICY),
      at(11),
    );
  });
});

describe("neededLongestFirst()", () => {
  it("neededLongestFirst() puts first what is needed longest: by its end and by when it is pruned", () => {
    const long = entry(root(a), { leafTtlMaxMs: 72 * HOUR });
    const short = entry(root(b), { leafTtlMaxMs: 24 * HOUR });
    const ending = entry(root(shortLived), { leafTtlMaxMs: 1000 * HOUR, rotatedOutAt: at(100) });
    const order = (roots: RootEntry[]) => neededLongestFirst(roots, [], POLICY).map(({ id }) => id);
    assert.deepEqual(order([short, ending, long]), [ending.id, long.id, short.id]);
    assert.deepEqual(order([{ ...long, rotatedOutAt: at(60) }, ending]), [long.id, ending.id]);
  });

  it("neededLongestFirst() keeps the order of the cross-chain in use among roots needed equally long", async () => {
    const [cb, ba] = [await crossed(root(c), root(b)), await crossed(root(b), root(a))];
    const roots = [entry(root(a)), entry(root(b)), entry(root(c))];
    assert.deepEqual(
      neededLongestFirst(roots, [cb, ba], POLICY).map(({ id }) => id),
      [root(c).certificate.id, root(b).certificate.id, root(a).certificate.id],
    );
  });
});

describe("findCrossSigned()", () => {
  const find = (tip: PoolRoot, by: RootEntry, certificates: readonly Certificate[], now = at(0)) =>
    findCrossSigned(certificates, tip.certificate, by, root(b).certificate, {
      now,
      policy: POLICY,
    });

  it("findCrossSigned() finds a certificate of the one root by the other, and not the reverse", async () => {
    const ba = await crossed(root(b), root(a));
    assert.equal(find(root(b), entry(root(a)), [ba]), ba);
    assert.equal(find(root(a), entry(root(b)), [ba]), undefined);
    assert.equal(find(root(b), entry(root(c)), [ba]), undefined);
  });

  it("findCrossSigned() takes no certificate that ends before its root is needed no longer, or has not begun", async () => {
    const early = await crossed(root(c), root(a), at(0), at(200));
    const needed = (leafTtlMaxMs: number) =>
      find(root(c), entry(root(a), { leafTtlMaxMs }), [early]);
    assert.equal(needed(99 * HOUR), early);
    assert.equal(needed(101 * HOUR), undefined);
    assert.equal(find(root(c), entry(root(a), { leafTtlMaxMs: HOUR }), [early], at(-2)), undefined);
    // A root that should have been pruned and is published all the same needs it for some time yet.
    assert.equal(
      find(root(c), entry(root(a), { leafTtlMaxMs: 10 * HOUR }), [early], at(194)),
      early,
    );
    assert.equal(
      find(root(c), entry(root(a), { leafTtlMaxMs: 10 * HOUR }), [early], at(196)),
      undefined,
    );
  });

  it("findCrossSigned() takes the one that ends first of those that last long enough", async () => {
    const made = await Promise.all(
      [87_000, 10, 300, 50].map((hours) => crossed(root(c), root(a), at(0), at(hours))),
    );
    assert.equal(find(root(c), entry(root(a), { leafTtlMaxMs: 20 * HOUR }), made), made[3]);
    assert.equal(find(root(c), entry(root(a), { leafTtlMaxMs: 30 * HOUR }), made), made[2]);
  });

  it("findCrossSigned() takes a certificate that ends with the root that it certifies, since no other could live longer", async () => {
    const whole = await crossed(root(shortLived), root(a));
    assert.equal(
      find(root(shortLived), entry(root(a), { leafTtlMaxMs: 101 * HOUR }), [whole]),
      whole,
    );
  });
});

describe("crossSignedUntil()", () => {
  it("crossSignedUntil() is one largest leaf life after the root that issues is pruned, or after now if that is overdue", () => {
    const by = entry(root(a), { leafTtlMaxMs: 5 * HOUR, rotatedOutAt: at(3) });
    assert.deepEqual(crossSignedUntil(by, POLICY, at(3)), at(18));
    assert.deepEqual(crossSignedUntil(by, POLICY, at(13)), at(18));
    assert.deepEqual(crossSignedUntil(by, POLICY, at(20)), at(25));
  });
});

describe("needsCrossSigning()", () => {
  const TTL = 10 * HOUR;
  /** a was rotated out for b at hour 1: its key is there until it is pruned. */
  const stateWith = async (until: Date, more: Partial<RootEntry> = {}): Promise<CaState> => {
    const state = await rotated(firstState(root(a), TTL), [root(a)], {
      to: root(b),
      now: at(1),
      leafTtlMs: TTL,
    });
    const chain = [await crossed(root(b), root(a), at(1), until)];
    const roots = state.roots.map((one) =>
      one.status === "active" ? { ...one, intermediates: chain } : { ...one, ...more },
    );
    return { ...state, roots };
  };

  it("needsCrossSigning() is false while each is valid until the root that issued it is pruned, however late that is", async () => {
    for (const until of [21, 31])
      for (const now of [1, 21, 500])
        assert.equal(needsCrossSigning(await stateWith(at(until)), POLICY, at(now)), false);
  });
  it("needsCrossSigning() is true for one that expires before its root is pruned, and for a missing one", async () => {
    assert.equal(
      needsCrossSigning(await stateWith(at(31), { leafTtlMaxMs: 2 * TTL }), POLICY, at(1)),
      true,
    );
    assert.equal(needsCrossSigning(await stateWith(at(20)), POLICY, at(1)), true);
    const state = await stateWith(at(31));
    const without = { ...state, roots: state.roots.map((one) => ({ ...one, intermediates: [] })) };
    assert.equal(needsCrossSigning(without, POLICY, at(2)), true);
  });
  it("needsCrossSigning() is false for a root that was abandoned, lost its key or expired, and for a certificate that expires with it", async () => {
    assert.equal(
      needsCrossSigning(
        await stateWith(at(31), { leafTtlMaxMs: 2 * TTL, abandoned: true }),
        POLICY,
        at(1),
      ),
      false,
    );
    const state = await stateWith(at(31), { leafTtlMaxMs: 2 * TTL });
    assert.equal(
      needsCrossSigning({ ...state, provider: { ...state.provider, retired: {} } }, POLICY, at(1)),
      false,
    );
    assert.equal(needsCrossSigning(state, POLICY, root(a).certificate.notAfter), false);
    const whole = await stateWith(root(a).certificate.notAfter, { leafTtlMaxMs: 90_000 * HOUR });
    assert.equal(needsCrossSigning(whole, POLICY, at(1)), false);
  });
});

describe("stillUsefulPrefix()", () => {
  it("stillUsefulPrefix() ends with the last root that is needed, whatever is needed before it", async () => {
    const [cb, ba] = [await crossed(root(c), root(b)), await crossed(root(b), root(a))];
    assert.deepEqual(stillUsefulPrefix([cb, ba], [entry(root(a))], at(0)), [cb, ba]);
    assert.deepEqual(stillUsefulPrefix([cb, ba], [entry(root(b))], at(0)), [cb]);
    assert.deepEqual(stillUsefulPrefix([cb, ba], [], at(0)), []);
  });

  it("stillUsefulPrefix() ends before an expired certificate", async () => {
    const [cs, sa] = [
      await crossed(root(c), root(shortLived)),
      await crossed(root(shortLived), root(a)),
    ];
    assert.deepEqual(stillUsefulPrefix([cs, sa], [entry(root(a))], at(199)), [cs, sa]);
    assert.deepEqual(stillUsefulPrefix([cs, sa], [entry(root(a))], at(200)), []);
  });
});

describe("crossSignedOf()", () => {
  it("crossSignedOf() keeps the certificates of a root's own key", async () => {
    const [cb, ba] = [await crossed(root(c), root(b)), await crossed(root(b), root(a))];
    assert.deepEqual(crossSignedOf(entry(root(c), { intermediates: [cb, ba] })), [cb]);
    assert.deepEqual(
      candidatePool([
        entry(root(c), { intermediates: [cb, ba] }),
        entry(root(b), { intermediates: [ba] }),
      ]),
      [cb, ba],
    );
  });
});

describe("any sequence of rotations", () => {
  const turn = fc.record({
    to: fc.nat(LIVES.length - 1),
    hours: fc.constantFrom(0, 0, 1, 30, 60, 100),
    ttl: fc.constantFrom(1, 24, 72),
    force: fc.constantFrom(false, false, false, true),
  });

  const requireCrossed = async (state: CaState, now: Date) => {
    const active = activeRoot(state);
    const chain = active.intermediates;
    assert.equal(
      new Set(chain.map(({ id }) => id)).size,
      chain.length,
      "a certificate is there twice",
    );
    for (const target of state.roots)
      assert.equal(target.abandoned && state.provider.retired[target.id] !== undefined, false);
    if (active.certificate.notAfter <= now) return;
    // A chain: each certifies the root that issued the one before it.
    chain.forEach((certificate, i) => {
      const before = chain[i - 1];
      assert.ok(
        before === undefined
          ? equal(certificate.key.spki, active.certificate.key.spki)
          : couldHaveIssued(certificate, before),
      );
    });
    assert.equal(
      new Set(chain.map(({ subject }) => hex(subject))).size,
      chain.length,
      "a name is there twice",
    );
    const leaf = root(pool.find(({ certificate }) => certificate.id === active.id)).leaf;
    for (const target of [active, ...rootsToReach(state.roots, now)])
      assert.ok(
        (await findPath(leaf, chain, target.certificate, now)) !== null,
        "a published root is not reached",
      );
  };

  it("the cross-chain reaches every published, unexpired root that was not abandoned, after any sequence", {
    timeout: 60_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 12 }), async (turns) => {
        let hours = 0;
        let state = firstState(root(a), 24 * HOUR);
        for (const { to, ttl, force, ...step } of turns) {
          hours += step.hours;
          const now = at(hours);
          if (prunable(state, POLICY, trusted(now)))
            state = prune(state, commitId(), POLICY, trusted(now));
          assert.equal(prunable(state, POLICY, trusted(now)), false);
          await requireCrossed(state, now);
          const next = root(pool[to]);
          if (next.certificate.notAfter <= now || next.certificate.id === activeRoot(state).id)
            continue;
          state = await rotated(state, pool, { to: next, now, leafTtlMs: ttl * HOUR, force });
          assert.equal(state.roots.filter(({ id }) => id === next.certificate.id).length, 1);
          await requireCrossed(state, now);
          // Nothing that goes with a leaf is needless: the next tick would only drop it again.
          const pruned = prune(state, commitId(), POLICY, trusted(now));
          assert.deepEqual(activeRoot(pruned).intermediates, activeRoot(state).intermediates);
          const isNeeded = ({ status, certificate }: RootEntry) =>
            status === "active" || certificate.notAfter >= now;
          assert.equal(pruned.roots.length, state.roots.filter(isNeeded).length);
        }
      }),
      { numRuns: 80 },
    );
  });
});
