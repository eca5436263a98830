/**
 * Two states of one CA are merged: which fields each root keeps of both.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { providers } from "../../../providers/index.ts";
import { planResolution } from "../../../src/core/ca/resolve.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { trusted } from "../../../src/core/deletion-time.ts";
import type { ClusterIdentity } from "../../../src/core/spiffe/trust-domain.ts";
import type { CaState, RootEntry } from "../../../src/core/state.ts";
import { NO_SERVER_NAMES } from "../../../src/core/x509/leaf.ts";
import { createTestCa, type TestCa } from "../../fakes/ca.ts";
import { systemRandom } from "../../fakes/clock.ts";
import { BOOTSTRAP, HOUR } from "./harness.ts";

let ca: TestCa;
/** After a rotation: an active root, and one that is retired. */
let state: CaState;
beforeEach(async () => {
  ca = await createTestCa({ bootstrap: BOOTSTRAP });
  await ca.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
  state = ca.manager.require().state;
});

/** The same CA with another row of the retired root. */
const withRetired = (change: Partial<RootEntry>, commitId: string): CaState => ({
  ...state,
  commitId,
  roots: state.roots.map((root) => (root.status === "retired" ? { ...root, ...change } : root)),
});

async function united(kept: Partial<RootEntry>, other: Partial<RootEntry>): Promise<RootEntry> {
  const now = ca.clock.now();
  const contextFor = ({ clusterId, trustDomain }: ClusterIdentity) => ({
    clusterId,
    trustDomain,
    datacenter: null,
    sealer: ca.sealer,
    random: systemRandom,
  });
  const { snapshot } = await planResolution(
    {
      kept: withRetired(kept, "one"),
      other: withRetired(other, "two"),
      index: 7,
      forceWithoutCrossSigning: false,
      kind: "resolve",
      time: trusted(now),
    },
    {
      providers,
      serverNames: NO_SERVER_NAMES,
      random: systemRandom,
      policy: DEFAULT_POLICY,
      now,
      look: async () => trusted(now),
      contextFor,
      open: (type, { config, state, root, cluster }) =>
        type.open(config, state, root, contextFor(cluster)),
      requireLease() {},
      onRollback: () => assert.fail("Nothing is made outside here"),
    },
  );
  return (
    snapshot.state.roots.find(({ status }) => status === "retired") ??
    assert.fail("The retired root is gone")
  );
}

describe("planResolution()", () => {
  for (const [kept, other] of [
    [3, 5],
    [5, 3],
  ] as const)
    it(`planResolution() keeps the lower createIndex of a root that both sides have: ${kept} and ${other}`, async () => {
      const { createIndex, modifyIndex } = await united(
        { createIndex: kept },
        { createIndex: other },
      );
      assert.deepEqual([createIndex, modifyIndex], [3, 8]);
    });

  for (const [kept, other] of [
    [true, false],
    [false, true],
    [true, true],
  ] as const)
    it(`planResolution() keeps a root abandoned that either side abandoned: ${kept} and ${other}`, async () => {
      assert.equal((await united({ abandoned: kept }, { abandoned: other })).abandoned, true);
    });

  it("planResolution() keeps the longer leaf life, the later retirement and the later expiry of an issuer's leaves", async () => {
    const now = ca.clock.now();
    const later = new Date(now.getTime() + HOUR);
    const [issuer] = state.roots.find(({ status }) => status === "retired")?.leafIssuers ?? [];
    if (issuer === undefined) assert.fail("The retired root has no record of its issuer");
    const ends = (leavesUntil: Date) => [{ ...issuer, leavesUntil }];
    const short = { leafTtlMaxMs: HOUR, rotatedOutAt: now, leafIssuers: ends(now) };
    const long = { leafTtlMaxMs: 90 * HOUR, rotatedOutAt: later, leafIssuers: ends(later) };
    for (const [kept, other] of [
      [short, long],
      [long, short],
    ] as const) {
      const { leafTtlMaxMs, rotatedOutAt, leafIssuers } = await united(kept, other);
      assert.deepEqual(
        [leafTtlMaxMs, rotatedOutAt, leafIssuers.map(({ leavesUntil }) => leavesUntil)],
        [90 * HOUR, later, [later]],
      );
    }
  });
});
