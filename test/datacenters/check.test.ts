/**
 * The checker of several datacenters can fail: each rule is broken once, in a history of three
 * datacenters that is right otherwise.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { configuration, createTestCa, type TestCa } from "../fakes/ca.ts";
import { checkMesh, type MeshViolation } from "./check.ts";
import { type LeafRead, type ListingRead, type MeshHistory, MeshRecorder } from "./history.ts";
import { pair } from "./pair.ts";

const HOUR_MS = 3_600_000;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----\n/g;

interface Course {
  /** How long the others are cut off from the primary after the second rotation. @default 24 */
  readonly awayHours?: number;
  /** LeafCertTTL of dc2. @default "72h", as in the others. */
  readonly leafTtl?: string;
}

/**
 * Three datacenters through two rotations, the second while dc2 and dc3 are cut off from the primary,
 * until the first roots are removed.
 */
async function recordThree({ awayHours = 24, leafTtl = "72h" }: Course = {}): Promise<MeshHistory> {
  const recorder = new MeshRecorder();
  const { one, two, primary } = await pair();
  const { clock } = one;
  const three = await createTestCa({
    ...{ clock, datacenter: "dc3", hasDatacenters: true, primary, started: false },
  });
  await three.manager.tick();
  const all: readonly (readonly [TestCa, string])[] = [
    [one, "dc1"],
    [two, "dc2"],
    [three, "dc3"],
  ];
  const take = async () => {
    for (const [ca, name] of all) await recorder.take(ca, name);
  };
  const pass = async (ms: number) => {
    clock.advance(ms);
    for (const [{ manager }] of all) await manager.heartbeat();
    for (let i = 0; i < 4; i++) for (const [{ manager }] of all) await manager.tick();
  };
  if (leafTtl !== "72h") await two.manager.configure(configuration({ LeafCertTTL: leafTtl }));
  await take();
  await one.manager.rotate(NOW);
  await take();
  await pass(HOUR_MS);
  await take();
  primary.away = true;
  await one.manager.rotate(NOW);
  await take();
  for (let hours = 0; hours < awayHours; hours += 24) {
    await pass(24 * HOUR_MS);
    await take();
  }
  primary.away = false;
  for (let i = 0; i < 16; i++) {
    await pass(12 * HOUR_MS);
    await take();
  }
  for (const [{ manager }] of all) await manager.close();
  return recorder;
}

describe("checkMesh()", () => {
  let good: MeshHistory;
  before(async () => {
    good = await recordThree();
  });

  const breaks = async (changed: Partial<MeshHistory>, ...expected: MeshViolation["rule"][]) => {
    const found = await checkMesh({ ...good, ...changed });
    assert.deepEqual(
      new Set(found.map(({ rule }) => rule)),
      new Set(expected),
      JSON.stringify(found[0]),
    );
  };
  /** The history with one listing, the last of a datacenter, changed. */
  const withListing = (
    datacenter: string,
    change: (read: ListingRead) => Partial<ListingRead>,
  ) => ({
    reads: good.reads.map((read, i) =>
      i === good.reads.findLastIndex((each) => each.datacenter === datacenter)
        ? { ...read, ...change(read) }
        : read,
    ),
  });
  /** The history with the chain of one leaf changed: the first that has at least three certificates. */
  const withChain = (change: (chain: readonly string[]) => readonly string[]) => {
    const at = good.leaves.findIndex(({ pem }) => certificatesIn(pem).length > 3);
    assert.ok(at >= 0);
    return {
      leaves: good.leaves.map((leaf, i): LeafRead => {
        const [own = "", ...chain] = certificatesIn(leaf.pem);
        return i === at ? { ...leaf, pem: [own, ...change(chain)].join("") } : leaf;
      }),
    };
  };
  const certificatesIn = (pem: string): string[] => pem.match(CERTIFICATE) ?? [];

  it("finds nothing in a correct history, in which roots were removed everywhere", async () => {
    for (const name of ["dc1", "dc2", "dc3"]) {
      const sizes = good.reads
        .filter((read) => read.datacenter === name)
        .map((r) => r.roots.length);
      assert.deepEqual([sizes[0], Math.max(...sizes), sizes.at(-1)], [1, 3, 1], name);
    }
    await breaks({});
  });

  it("finds another trust domain, and another cluster", async () => {
    await breaks(
      withListing("dc3", () => ({ trustDomain: "other.example" })),
      "identity-changed",
    );
    await breaks(
      withListing("dc2", ({ roots }) => ({
        roots: roots.map((root) => ({ ...root, clusterId: "other" })),
      })),
      "identity-changed",
    );
  });

  it("finds a leaf without the cross-signed certificates that another datacenter needs", async () => {
    await breaks(
      withChain((chain) => chain.slice(0, 1)),
      "leaf-unverifiable",
      "root-unverifiable",
    );
  });

  it("finds a chain with a duplicate, a self-signed certificate, in another order, too long", async () => {
    await breaks(
      withChain((chain) => [...chain, chain.at(-1) ?? ""]),
      "chain-duplicate",
      "chain-order",
    );
    const root = good.reads[0]?.roots[0]?.pem ?? "";
    await breaks(
      withChain((chain) => [...chain, root]),
      "chain-self-signed",
    );
    await breaks(
      withChain(([first = "", ...rest]) => [first, ...rest.toReversed()]),
      "chain-order",
    );
    const long = withChain((chain) => [...chain, ...chain, ...chain]);
    const rules = (await checkMesh({ ...good, ...long })).map(({ rule }) => rule);
    assert.ok(rules.includes("chain-too-long"));
  });

  it("finds a root that is removed while a leaf of that datacenter needs it", async () => {
    const second = good.reads.filter(({ datacenter }) => datacenter === "dc3")[1] ?? assert.fail();
    const at = good.reads.indexOf(second) + 3;
    const pruned = good.reads.map((read, i) =>
      i >= at && read.datacenter === "dc3"
        ? { ...read, roots: read.roots.filter(({ id }) => id !== second.activeRootId) }
        : read,
    );
    await breaks({ reads: pruned }, "leaf-unverifiable", "root-needed");
  });

  it("finds an index that went back, stands for two listings, or is below a ModifyIndex", async () => {
    await breaks(
      withListing("dc2", () => ({ index: 1 })),
      "index-back",
      "index-reused",
      "modify-index-back",
    );
    const first = good.reads[0] ?? assert.fail();
    await breaks(
      withListing("dc1", ({ roots }) => ({
        roots: roots.map((root) => ({ ...root, modifyIndex: first.index - 1 })),
      })),
      "modify-index-back",
    );
    const other = (read: ListingRead) => ({ ...read, replica: "dc2 other" });
    const last = good.reads.findLast(({ datacenter }) => datacenter === "dc2") ?? assert.fail();
    await breaks(
      { reads: [...good.reads, { ...other(last), activeRootId: first.activeRootId }] },
      "index-reused",
    );
  });

  describe("the bounds that docs/datacenters.md names", () => {
    const rulesOf = async (course: Course) =>
      (await checkMesh(await recordThree(course))).map(({ rule, text }) => `${rule}: ${text}`);

    it("leaves verify everywhere after LeafCertTTL without the primary", async () => {
      assert.deepEqual(await rulesOf({ awayHours: 72 }), []);
    });

    it("and not beyond twice LeafCertTTL: the primary has removed the root that is the newest of the others", async () => {
      const [first] = await rulesOf({ awayHours: 10 * 24 });
      assert.match(
        first ?? "",
        /^leaf-unverifiable: a leaf of dc1 does not verify .* that dc[23] /,
      );
    });

    it("leaves of dc2 never outlive the old root of the primary, whatever LeafCertTTL is in dc2", async () => {
      for (const leafTtl of ["71h", "720h"]) assert.deepEqual(await rulesOf({ leafTtl }), []);
    });
  });
});
