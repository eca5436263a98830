/**
 * Which cross-signed certificates go with a leaf, on real certificates: single cases, then any sequence of rotations.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import fc from "fast-check";
import { equal } from "../../../src/core/bytes.ts";
import { ownCrossings, planCrossing, poolOf, pruneAt, roadTo, rootsToReach } from "../../../src/core/ca/crossing.ts";
import { DEFAULT_POLICY as POLICY } from "../../../src/core/ca/policy.ts";
import { activeRoot, type CaState, type RootEntry } from "../../../src/core/ca/state.ts";
import { prunable, prune } from "../../../src/core/ca/transitions.ts";
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
  it("rootsToReach() takes retired roots that are neither expired nor left by force", () => {
    const roots = [
      entry(root(a)),
      entry(root(b), { status: "active", rotatedOutAt: null }),
      entry(root(c), { forcedOut: true }),
      entry(root(shortLived)),
    ];
    const ids = (now: Date) => rootsToReach(roots, now).map(({ id }) => id);
    assert.deepEqual(ids(at(199)), [root(a).certificate.id, root(shortLived).certificate.id]);
    assert.deepEqual(ids(root(shortLived).certificate.notAfter), [root(a).certificate.id]);
  });
});

describe("pruneAt()", () => {
  it("pruneAt() is twice the largest leaf life after the root was retired last", () => {
    assert.deepEqual(pruneAt(entry(root(a), { leafTtlMaxMs: 5 * HOUR, rotatedOutAt: at(3), since: at(1) }), POLICY), at(13));
    assert.deepEqual(pruneAt(entry(root(a), { leafTtlMaxMs: 5 * HOUR, rotatedOutAt: null, since: at(1) }), POLICY), at(11));
  });
});

describe("roadTo()", () => {
  const road = (from: PoolRoot, to: PoolRoot, certificates: readonly Certificate[], now = at(0), until = at(1)) =>
    roadTo(from.certificate, to.certificate, certificates, now, until);

  it("roadTo() finds no road without certificates", () => {
    assert.equal(road(root(a), root(b), []), null);
  });

  it("roadTo() takes a certificate of the one root by the other, and not the other way round", async () => {
    const ba = await crossed(root(b), root(a));
    assert.deepEqual(road(root(b), root(a), [ba]), [ba]);
    assert.equal(road(root(a), root(b), [ba]), null);
  });

  it("roadTo() goes over other roots, in path order, whatever the order of the certificates", async () => {
    const [cb, ba] = [await crossed(root(c), root(b)), await crossed(root(b), root(a))];
    assert.deepEqual(road(root(c), root(a), [ba, cb]), [cb, ba]);
    assert.deepEqual(road(root(c), root(a), [cb, ba]), [cb, ba]);
    assert.equal(road(root(c), root(a), [ba]), null);
    assert.equal(road(root(c), root(a), [cb]), null);
  });

  it("roadTo() takes the shortest road", async () => {
    const [cb, ba, ca] = [await crossed(root(c), root(b)), await crossed(root(b), root(a)), await crossed(root(c), root(a))];
    assert.deepEqual(road(root(c), root(a), [cb, ba, ca]), [ca]);
  });

  it("roadTo() ends where roots certify each other in a circle", async () => {
    const [ab, ba] = [await crossed(root(a), root(b)), await crossed(root(b), root(a))];
    assert.equal(road(root(a), root(c), [ab, ba]), null);
  });

  it("roadTo() takes no certificate that ends before it is needed, or has not begun", async () => {
    const crossing = await crossed(root(b), root(shortLived));
    const end = crossing.notAfter;
    assert.deepEqual(road(root(b), root(shortLived), [crossing], at(0), end), [crossing]);
    assert.equal(road(root(b), root(shortLived), [crossing], at(0), new Date(end.getTime() + 1)), null);
    assert.equal(road(root(b), root(shortLived), [crossing], end, end), null);
    assert.equal(road(root(b), root(shortLived), [crossing], new Date(crossing.notBefore.getTime() - 1), at(0)), null);
  });
});

describe("planCrossing()", () => {
  it("planCrossing() gives an empty chain where there is nothing to reach", () => {
    assert.deepEqual(planCrossing(root(a).certificate, [], [], at(0), POLICY), { chain: [], unreached: [] });
  });

  it("planCrossing() names each shared certificate once", async () => {
    const [cb, ba] = [await crossed(root(c), root(b)), await crossed(root(b), root(a))];
    const { chain, unreached } = planCrossing(root(c).certificate, [entry(root(a)), entry(root(b))], [ba, cb], at(0), POLICY);
    assert.deepEqual(chain, [cb, ba]);
    assert.deepEqual(unreached, []);
  });

  it("planCrossing() names the roots to which no road leads", async () => {
    const target = entry(root(b));
    const { chain, unreached } = planCrossing(
      root(c).certificate,
      [entry(root(a)), target],
      [await crossed(root(c), root(a))],
      at(0),
      POLICY,
    );
    assert.equal(chain.length, 1);
    assert.deepEqual(unreached, [target]);
  });

  it("planCrossing() takes a certificate that ends early as long as its target is pruned before", async () => {
    const crossing = await crossed(root(b), root(shortLived));
    const over = await crossed(root(shortLived), root(a));
    const plan = (leafTtlMaxMs: number) =>
      planCrossing(root(b).certificate, [entry(root(a), { leafTtlMaxMs })], [crossing, over], at(0), POLICY).unreached.length;
    assert.equal(plan(99 * HOUR), 0);
    assert.equal(plan(101 * HOUR), 1);
  });
});

describe("ownCrossings()", () => {
  it("ownCrossings() keeps the certificates of a root's own key", async () => {
    const [cb, ba] = [await crossed(root(c), root(b)), await crossed(root(b), root(a))];
    assert.deepEqual(ownCrossings(entry(root(c), { intermediates: [cb, ba] })), [cb]);
    assert.deepEqual(poolOf([entry(root(c), { intermediates: [cb, ba] }), entry(root(b), { intermediates: [ba] })]), [cb, ba]);
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
    assert.equal(new Set(chain.map(({ id }) => id)).size, chain.length, "a certificate is there twice");
    for (const target of state.roots) assert.equal(target.forcedOut && state.provider.retired[target.id] !== undefined, false);
    if (active.certificate.notAfter <= now) return;
    chain.forEach((certificate, i) => {
      const starts = equal(certificate.key.spki, active.certificate.key.spki);
      assert.ok(
        starts || chain.slice(0, i).some((earlier) => couldHaveIssued(certificate, earlier)),
        "a certificate stands before its place",
      );
    });
    const leaf = root(pool.find(({ certificate }) => certificate.id === active.id)).leaf;
    for (const target of [active, ...rootsToReach(state.roots, now)])
      assert.ok((await findPath(leaf, chain, target.certificate, now)) !== null, "a published root is not reached");
  };

  it("planCrossing() reaches every published, unexpired root that was not left by force, after any sequence", {
    timeout: 60_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 12 }), async (turns) => {
        let hours = 0;
        let state = firstState(root(a), 24 * HOUR);
        for (const { to, ttl, force, ...step } of turns) {
          hours += step.hours;
          const now = at(hours);
          if (prunable(state, POLICY, now)) state = prune(state, commitId(), POLICY, now);
          assert.equal(prunable(state, POLICY, now), false);
          await requireCrossed(state, now);
          const next = root(pool[to]);
          if (next.certificate.notAfter <= now || next.certificate.id === activeRoot(state).id) continue;
          state = await rotated(state, pool, { to: next, now, leafTtlMs: ttl * HOUR, force });
          assert.equal(state.roots.filter(({ id }) => id === next.certificate.id).length, 1);
          await requireCrossed(state, now);
          // Nothing that goes with a leaf is needless: the next tick would only drop it again.
          assert.equal(prunable(state, POLICY, now), false);
        }
      }),
      { numRuns: 80 },
    );
  });
});
