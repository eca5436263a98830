/**
 * A primary whose roots do not hold, or are those of two primaries: a secondary refuses them, whether
 * it has joined or wants to. The stored document stays as it is, octet by octet, the reason is in
 * `/readyz` and in the log, and the secondary goes on by itself when the roots hold again.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { PrimaryListing } from "../../src/core/ports/primary.ts";
import { type Certificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { MemoryBackend } from "../../src/store/memory/store.ts";
import { makeCa } from "../core/x509/cas.ts";
import { makeOddCa } from "../core/x509/odd-certificates.ts";
import { createTestCa } from "../fakes/ca.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { leafOf, requireMutual } from "./leaves.ts";
import { listingOf, type Pair, pair, primaryOf } from "./pair.ts";
import { named, requireLoggedOnce, requireRecovery, requireRefused, watched } from "./watched.ts";

/** Past the half of an intermediate's life, in milliseconds. */
const RENEWAL = 183 * 86_400_000;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

/** A CA certificate that is not self-signed. */
const { certificate: BY_ANOTHER } = await makeOddCa(await makeCa(), { subject: "CN=another" });

describe("a primary whose roots do not hold is refused", () => {
  const onlyRoot = (
    listing: PrimaryListing,
    certificate: Certificate,
    more: Partial<PrimaryListing> = {},
  ): PrimaryListing => ({
    ...listing,
    activeRootId: certificate.id,
    roots: [
      ...listing.roots,
      { name: "x", certificate, intermediates: [], abandoned: false, lost: false, prepared: false },
    ],
    ...more,
  });
  /** A root of this trust domain, the same one for the same dates. */
  const made = new Map<string, Certificate>();
  const suppliedRoot = ({ trustDomain }: PrimaryListing, from: string, to: string) => {
    const key = `${trustDomain} ${from}`;
    const root =
      made.get(key) ??
      readCertificatePem(makeRoot(trustDomain, { validity: [from, to] }).certificate);
    made.set(key, root);
    return root;
  };

  const LISTINGS: readonly (readonly [
    what: string,
    change: (listing: PrimaryListing, other: PrimaryListing) => PrimaryListing,
    reason: RegExp,
    /** The reason if it joins; null: it may. */
    joining: RegExp | null,
  ])[] = [
    [
      "of another trust domain",
      (_, other) => other,
      /^Cannot follow datacenter dc1: it has the trust domain \S+ \(cluster \S+\), and this datacenter \S+ \(cluster \S+\); check the addresses of the primary datacenter$/,
      null,
    ],
    [
      "of this trust domain, with another cluster ID",
      ({ trustDomain }, other) => ({ ...other, trustDomain }),
      /it has the trust domain (\S+) \(cluster \S+\), and this datacenter \1 \(cluster/,
      null,
    ],
    [
      "whose active root has expired",
      (listing) => onlyRoot(listing, suppliedRoot(listing, "20200101000000Z", "20210101000000Z")),
      /its active root \S+ expired at 2021-\S+; replace the root there/,
      /its active root \S+ expired at 2021/,
    ],
    [
      "whose active root is not valid yet",
      (listing) => onlyRoot(listing, suppliedRoot(listing, "20350101000000Z", "20360101000000Z")),
      /its active root \S+ is not valid before 2035-\S+; check the clocks of both$/,
      /its active root \S+ is not valid before 2035/,
    ],
    [
      "whose active root was abandoned",
      (listing) => ({
        ...listing,
        roots: listing.roots.map((root) => ({ ...root, abandoned: true })),
      }),
      /its active root \S+ was abandoned$/,
      /its active root \S+ was abandoned$/,
    ],
    [
      "with a root that another CA signed",
      (listing) => ({ ...onlyRoot(listing, BY_ANOTHER), activeRootId: listing.activeRootId }),
      /it publishes \S+, which is not a self-signed CA certificate$/,
      /it publishes \S+, which is not a self-signed CA certificate$/,
    ],
  ];
  for (const [what, change, reason, joining] of LISTINGS) {
    it(`if it is one ${what}`, async () => {
      const both = await watched();
      const stranger = await pair({ started: false });
      const other = await stranger.primary.roots(null);
      both.primary.change.listing = (listing) => change(listing, other);
      await requireRefused(both, reason);
      requireLoggedOnce(both, reason);
      both.one.clock.advance(RENEWAL);
      await requireRecovery(both);
    });
    if (joining !== null)
      it(`if it is one ${what}, at the first start`, async () => {
        const both = await watched({ started: false });
        both.primary.change.listing = (listing) => change(listing, listing);
        await requireRefused(both, joining);
        requireLoggedOnce(both, joining);
        assert.equal(both.primary.signed, 0);
        await requireRecovery(both);
      });
  }
});

describe("a primary whose roots went back", () => {
  it("is refused, and followed if only its index did, as after a restart", async () => {
    const both = await watched();
    const old = await both.primary.roots(null);
    await both.one.manager.rotate(NOW);
    await both.settle();
    const { document } = both.two.backend;
    both.primary.change.listing = (listing) => ({ ...listing, index: 1 });
    await both.settle();
    assert.equal(both.two.manager.status.primary?.fault, null);
    assert.equal(both.two.backend.document, document);
    both.primary.change.listing = () => old;
    await requireRefused(
      both,
      /its roots went back from index \d+ to \d+, from root \S+ to root \S+, as after a restore of an old backup or from another primary; rotate the root there/,
    );
    // As the reason says, though the index is still lower than before.
    await both.one.manager.rotate(NOW);
    both.primary.change.listing = (listing) => ({ ...listing, index: 1 });
    await both.settle();
    assert.equal(both.two.manager.status.primary?.fault, null);
    await requireMutual(named(both));
  });

  it("or that publishes a root under which a leaf would not verify is refused", async () => {
    const both = await watched();
    await both.one.manager.rotate(NOW);
    both.primary.change.listing = (listing): PrimaryListing => ({
      ...listing,
      roots: listing.roots.map((root) => ({ ...root, intermediates: [] })),
    });
    await requireRefused(
      both,
      /a leaf of this datacenter would not verify under root \S+, which it publishes/,
    );
    await requireRecovery(both);
  });
});

describe("two primaries behind one address", () => {
  /** What the background tasks do in a while: a look every two seconds. */
  async function pass(
    { clock }: Pair["two"],
    cas: readonly Pair["two"][],
    ms: number,
  ): Promise<void> {
    for (let passed = 0; passed < ms; passed += 2000) {
      clock.advance(2000);
      for (const { manager } of cas) {
        await manager.heartbeat();
        await manager.tick();
      }
    }
  }

  it("that alternate are followed a few times at most, and one of them by itself again", async () => {
    const both = await watched();
    const { one, two, primary } = both;
    // A copy of the primary that went on by itself.
    const backend = new MemoryBackend(one.clock);
    backend.document = one.backend.document;
    const copy = await createTestCa({
      ...{ backend, clock: one.clock, sealer: one.sealer, hasDatacenters: true },
    });
    await one.manager.rotate(NOW);
    for (let i = 0; i < 2; i++) await copy.manager.rotate(NOW);
    const others = primaryOf(copy);
    let [turn, isAlternating] = [0, true];
    const isOther = () => isAlternating && turn++ % 2 === 0;
    primary.change.listing = (listing) => (isOther() ? listingOf(copy.manager.require()) : listing);
    primary.change.sign = (csr) => (isOther() ? others : primaryOf(one)).signIntermediate(csr);
    const commits = new Set<string | null>();
    for (let i = 0; i < 20; i++) {
      await pass(two, [one, copy, two], 20_000);
      commits.add(two.backend.document);
      await leafOf({ ...two, name: "dc2" });
    }
    assert.ok(commits.size <= 5, String(commits.size));
    const reasons = both.logged.join("\n");
    assert.match(
      reasons,
      /its roots went back from index \d+ to \d+|no path of valid certificates/,
    );
    // One of both is led back to the address; its operator rotates, as the reason says.
    isAlternating = false;
    await one.manager.rotate(NOW);
    await pass(two, [one, two], 10_000);
    assert.equal(two.manager.status.primary?.fault, null);
    assert.equal(two.manager.require().active.id, one.manager.require().active.id);
    await requireMutual(named(both));
  });
});
