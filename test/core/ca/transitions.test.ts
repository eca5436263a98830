/**
 * The pure transitions of the state: which fields each changes, and which it keeps.
 * @module
 */

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { isDead, pruneAt } from "../../../src/core/ca/root-removal.ts";
import { DEFAULT_POLICY as POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { changeConfig, prunable, prune, reseal, rotate } from "../../../src/core/ca/transitions.ts";
import { type DeletionTime, trusted } from "../../../src/core/deletion-time.ts";
import { InvariantError } from "../../../src/core/errors.ts";
import { activeRoot, type CaState, type RootEntry } from "../../../src/core/state.ts";
import { HOUR } from "./harness.ts";
import {
  at,
  CONFIG,
  commitId,
  crossed,
  firstState,
  makeRoot,
  newRoot,
  type PoolRoot,
  rotated,
} from "./pool.ts";

let pool: PoolRoot[];
let a: PoolRoot;
let b: PoolRoot;
let c: PoolRoot;
let short: PoolRoot;

before(async () => {
  [a, b, c, short] = [
    await makeRoot(87_600),
    await makeRoot(87_600),
    await makeRoot(87_600),
    await makeRoot(100),
  ];
  pool = [a, b, c, short];
});

function rowOf(state: CaState, { certificate }: PoolRoot): RootEntry {
  const row = state.roots.find(({ id }) => id === certificate.id);
  assert.ok(row !== undefined);
  return row;
}

/** An issuer that was replaced before the first hour. */
const ended = ({ certificate }: RootEntry) => [{ certificate, keyId: "00", leavesUntil: at(0.5) }];

const turn = (state: CaState, to: PoolRoot, hours: number, ttlHours = 1, force = false) =>
  rotated(state, pool, { to, now: at(hours), leafTtlMs: ttlHours * HOUR, force });

/** What holds after every change. */
function requireSound(next: CaState, former: CaState | null): void {
  assert.equal(next.roots.filter(({ status }) => status === "active").length, 1);
  assert.equal(new Set(next.roots.map(({ id }) => id)).size, next.roots.length);
  assert.deepEqual(
    next.roots.map(({ id }) => id),
    next.roots.map(({ id }) => id).toSorted(),
  );
  assert.equal(
    new Set(next.roots.map(({ modifyIndex }) => modifyIndex)).size,
    1,
    "rows share one ModifyIndex",
  );
  for (const row of [...next.roots, next.config])
    assert.ok(row.createIndex <= row.modifyIndex && row.modifyIndex <= next.index);
  for (const row of next.roots) assert.equal(row.rotatedOutAt === null, row.status === "active");
  for (const id of Object.keys(next.provider.retired))
    assert.ok(
      next.roots.some((row) => row.id === id && row.status === "retired" && !row.abandoned),
      "a key is kept for a root that does not need it",
    );
  if (former === null) return;
  assert.equal(next.index, former.index + 1);
  assert.notEqual(next.commitId, former.commitId);
  assert.equal(next.clusterId, former.clusterId);
  assert.equal(next.config.createIndex, former.config.createIndex);
}

describe("bootstrap()", () => {
  it("bootstrap() makes index 1 with one active root and no other key", () => {
    const state = firstState(a, 72 * HOUR);
    requireSound(state, null);
    assert.equal(state.index, 1);
    assert.equal(state.config.modifyIndex, 1);
    const row = activeRoot(state);
    assert.deepEqual(
      [row.createIndex, row.modifyIndex, row.leafTtlMaxMs, row.since],
      [1, 1, 72 * HOUR, at(0)],
    );
    assert.deepEqual(state.provider.retired, {});
  });
});

describe("changeConfig()", () => {
  it("changeConfig() raises the configuration's index and no root's", () => {
    const state = firstState(a, HOUR);
    const next = changeConfig(state, commitId(), {
      config: { ...CONFIG, config: { LeafCertTTL: "2h" } },
      provider: { key: "k" },
      leafTtlMs: 2 * HOUR,
    });
    requireSound(next, state);
    assert.deepEqual([next.config.modifyIndex, activeRoot(next).modifyIndex], [2, 1]);
    assert.deepEqual(next.provider.active, { key: "k" });
  });

  it("changeConfig() keeps the largest LeafCertTTL that was in force", () => {
    let state = firstState(a, 5 * HOUR);
    for (const [ttl, largest] of [
      [3, 5],
      [9, 9],
      [1, 9],
    ] as const) {
      state = changeConfig(state, commitId(), {
        config: CONFIG,
        provider: {},
        leafTtlMs: ttl * HOUR,
      });
      assert.equal(activeRoot(state).leafTtlMaxMs, largest * HOUR);
    }
  });

  it("changeConfig() keeps the largest LeafCertTTL of retired roots", async () => {
    const state = await turn(firstState(a, 5 * HOUR), b, 1);
    const next = changeConfig(state, commitId(), {
      config: CONFIG,
      provider: {},
      leafTtlMs: 50 * HOUR,
    });
    assert.equal(rowOf(next, a).leafTtlMaxMs, 5 * HOUR);
    assert.equal(rowOf(next, b).leafTtlMaxMs, 50 * HOUR);
  });
});

describe("rotate()", () => {
  it("rotate() retires the active root with its key and stamps one index on all rows", async () => {
    const state = firstState(a, 5 * HOUR);
    const next = await turn(state, b, 3);
    requireSound(next, state);
    assert.equal(activeRoot(next).id, b.certificate.id);
    assert.deepEqual(
      [
        rowOf(next, b).createIndex,
        rowOf(next, b).modifyIndex,
        rowOf(next, a).createIndex,
        rowOf(next, a).modifyIndex,
      ],
      [2, 2, 1, 2],
    );
    assert.deepEqual(
      [rowOf(next, a).status, rowOf(next, a).since, rowOf(next, a).rotatedOutAt],
      ["retired", at(3), at(3)],
    );
    assert.deepEqual(next.provider.retired[a.certificate.id]?.state, state.provider.active);
    assert.deepEqual(next.provider.active, newRoot(b).state);
    assert.equal(next.config.modifyIndex, 2);
  });

  it("rotate() makes a listed root active again, as one entry that keeps its create index and its largest LeafCertTTL", async () => {
    const first = firstState(a, 9 * HOUR);
    const second = await turn(first, b, 1, 2);
    const third = await turn(second, a, 2, 1);
    requireSound(third, second);
    assert.equal(third.roots.length, 2);
    const row = activeRoot(third);
    assert.equal(row.id, a.certificate.id);
    assert.deepEqual(
      [row.createIndex, row.rotatedOutAt, row.leafTtlMaxMs, row.since],
      [1, null, 9 * HOUR, at(2)],
    );
    assert.deepEqual(Object.keys(third.provider.retired), [b.certificate.id]);
  });

  it("rotate() deletes the key of an abandoned root at once, and keeps the root listed", async () => {
    const first = await turn(firstState(a, HOUR), b, 1);
    assert.ok(a.certificate.id in first.provider.retired);
    const next = await turn(first, c, 1, 1, true);
    requireSound(next, first);
    assert.deepEqual(next.provider.retired, {});
    assert.deepEqual(
      [a, b, c].map((root) => rowOf(next, root).abandoned),
      [true, true, false],
    );
    assert.ok(!JSON.stringify(next.provider).includes(`key of ${b.certificate.id}`));
  });

  it("rotate() keeps a root abandoned until it is active again", async () => {
    const forced = await turn(firstState(a, 9 * HOUR), b, 1, 9, true);
    const next = await turn(forced, c, 2);
    assert.equal(rowOf(next, a).abandoned, true);
    const back = await turn(next, a, 3);
    requireSound(back, next);
    assert.equal(rowOf(back, a).abandoned, false);
  });

  it("rotate() keeps with a retired root only the certificates of its own key", async () => {
    const second = await turn(firstState(a, 9 * HOUR), b, 1, 9);
    const third = await turn(second, c, 2, 9);
    const [ba, cb] = [await crossed(b, a, at(1)), await crossed(c, b, at(2))];
    assert.deepEqual(activeRoot(third).intermediates, [cb, ba]);
    assert.deepEqual(rowOf(third, b).intermediates, [ba]);
    assert.deepEqual(rowOf(third, a).intermediates, []);
  });

  it("rotate() refuses a state with a root listed twice", () => {
    const state = firstState(a, HOUR);
    const twice = {
      ...state,
      roots: [
        ...state.roots,
        ...state.roots.map((row) => ({ ...row, status: "retired" as const })),
      ],
    };
    assert.throws(
      () =>
        rotate(twice, commitId(), {
          config: CONFIG,
          root: newRoot(b),
          chain: [],
          abandonedRoots: [],
          leafTtlMs: HOUR,
          now: at(0),
        }),
      InvariantError,
    );
  });
});

describe("prune()", () => {
  it("prune() drops a root only after twice the largest LeafCertTTL, to the millisecond", async () => {
    const state = await turn(firstState(a, 72 * HOUR), b, 0);
    const boundary = at(144);
    assert.deepEqual(pruneAt(rowOf(state, a), POLICY), boundary);
    assert.equal(prunable(state, POLICY, trusted(boundary)), false);
    assert.equal(isDead(rowOf(state, a), POLICY, trusted(boundary)), false);
    assert.equal(prunable(state, POLICY, trusted(new Date(boundary.getTime() + 1))), true);
  });

  it("prune() drops a root with its key and the certificates that led to it", async () => {
    const state = await turn(firstState(a, HOUR), b, 0);
    assert.equal(activeRoot(state).intermediates.length, 1);
    const next = prune(state, commitId(), POLICY, trusted(at(3)));
    requireSound(next, state);
    assert.deepEqual(
      next.roots.map(({ id, intermediates }) => [id, intermediates.length]),
      [[b.certificate.id, 0]],
    );
    assert.deepEqual(next.provider.retired, {});
    assert.equal(next.config.modifyIndex, state.config.modifyIndex);
  });

  it("prune() drops by time only what looks have confirmed, and stamps rows only if a client can see a difference", async () => {
    const first = await turn(firstState(short, 72 * HOUR), a, 0, 72);
    const second = await turn(first, b, 1, 72);
    assert.equal(rowOf(second, a).intermediates.length, 1);
    const end = short.certificate.notAfter;
    const doubted: DeletionTime = {
      now: at(1000),
      confirmed: () => at(2),
      confirmsAt: () => null,
      at: () => doubted,
    };
    assert.equal(prunable(second, POLICY, doubted), false);
    const kept = prune(second, commitId(), POLICY, doubted);
    assert.deepEqual(kept.roots, second.roots);
    assert.equal(rowOf(prune(second, commitId(), POLICY, trusted(end)), a).intermediates.length, 0);

    // No client sees the record of an issuer whose leaves have all expired.
    const over = {
      ...second,
      roots: second.roots.map((root) => ({
        ...root,
        leafIssuers: [...root.leafIssuers, ...ended(root)],
      })),
    };
    assert.equal(prunable(over, POLICY, trusted(at(1))), true);
    assert.deepEqual(prune(over, commitId(), POLICY, trusted(at(1))).roots, second.roots);
  });

  it("prune() keeps an older root that expires later than a younger one, and the chain to it", async () => {
    const second = await turn(firstState(a, 72 * HOUR), b, 0);
    const third = await turn(second, c, 1);
    const next = prune(third, commitId(), POLICY, trusted(at(4)));
    requireSound(next, third);
    assert.deepEqual(
      new Set(next.roots.map(({ id }) => id)),
      new Set([a.certificate.id, c.certificate.id]),
    );
    assert.deepEqual(Object.keys(next.provider.retired), [a.certificate.id]);
    assert.deepEqual(activeRoot(next).intermediates, [await crossed(c, a, at(1))]);
    const fourth = await turn(next, short, 4);
    assert.equal(activeRoot(fourth).intermediates.length, 2);
  });

  it("prune() takes an expired cross-signed certificate out of the chain, while its root stays listed", async () => {
    const state = await turn(firstState(short, 72 * HOUR), a, 0, 72);
    assert.equal(activeRoot(state).intermediates.length, 1);
    assert.equal(prunable(state, POLICY, trusted(at(99.9))), false);
    assert.equal(prunable(state, POLICY, trusted(short.certificate.notAfter)), true);
    const next = prune(state, commitId(), POLICY, trusted(short.certificate.notAfter));
    requireSound(next, state);
    assert.equal(activeRoot(next).intermediates.length, 0);
    assert.equal(next.roots.length, 2);
    assert.ok(short.certificate.id in next.provider.retired);
  });

  it("prune() never drops the active root, however old it is", () => {
    const state = firstState(a, HOUR);
    assert.equal(prunable(state, POLICY, trusted(at(1_000_000))), false);
    assert.equal(prune(state, commitId(), POLICY, trusted(at(1_000_000))).roots.length, 1);
  });

  it("prune() drops an abandoned root by the same rule", async () => {
    const state = await turn(firstState(a, 5 * HOUR), b, 0, 1, true);
    assert.equal(prunable(state, POLICY, trusted(at(10))), false);
    assert.equal(prune(state, commitId(), POLICY, trusted(at(10.1))).roots.length, 1);
  });

  it("prune() counts from the last time a root was retired", async () => {
    const first = await turn(firstState(a, HOUR), b, 0);
    const second = await turn(first, a, 1);
    const third = await turn(second, b, 2);
    assert.equal(isDead(rowOf(third, a), POLICY, trusted(at(4))), false);
    assert.equal(isDead(rowOf(third, a), POLICY, trusted(at(4.1))), true);
  });
});

describe("reseal()", () => {
  it("reseal() changes the encrypted provider state and nothing that a client sees", async () => {
    const state = await turn(firstState(a, HOUR), b, 0);
    const next = reseal(state, commitId(), {
      active: { key: "anew" },
      retired: {},
      prepared: null,
    });
    assert.equal(next.index, state.index + 1);
    assert.deepEqual(next.roots, state.roots);
    assert.deepEqual(next.config, state.config);
  });
});
