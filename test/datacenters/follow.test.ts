/**
 * A secondary datacenter: takes over the primary's roots, signs under an intermediate of its own,
 * and follows rotations. The answers that it refuses have files of their own, refused-*.test.ts.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { configuration, createTestCa, DEFAULT_BOOTSTRAP, opensslCsr } from "../fakes/ca.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { leafOf, requireMutual as requireMutualLeaves } from "./leaves.ts";
import { type Pair, pair } from "./pair.ts";

const HOUR = 3_600_000;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

/** A leaf that a datacenter signs now, with its chain. */
const chainOf = (ca: Pair["one"], name: string) => leafOf({ ...ca, name });

const requireMutual = ({ one, two }: Pair) =>
  requireMutualLeaves([
    { ...one, name: "dc1" },
    { ...two, name: "dc2" },
  ]);

describe("a secondary datacenter", () => {
  it("takes over trust domain, cluster and roots in one step, and signs under an intermediate of its own", async () => {
    const both = await pair();
    const { one, two } = both;
    const [first, second] = [one.manager.require(), two.manager.require()];
    assert.deepEqual(
      [second.state.clusterId, second.state.trustDomain, second.active.id, second.state.index],
      [first.state.clusterId, first.state.trustDomain, first.active.id, 1],
    );
    assert.deepEqual(
      [second.state.schema, second.state.datacenter, second.state.primary?.datacenter],
      [7, "dc2", "dc1"],
    );
    const [leaf, issuer, ...more] = await chainOf(two, "dc2");
    assert.deepEqual(more, []);
    assert.deepEqual([issuer?.isCa, issuer?.pathLength], [true, 0]);
    assert.deepEqual(issuer?.uris, [`spiffe://${first.state.trustDomain}`]);
    assert.match(leaf?.uris[0] ?? "", /\/dc\/dc2\/svc\/web$/);
    await requireMutual(both);
    assert.equal(first.state.intermediates.length, 1);
    // Nothing to do a second time.
    await both.settle();
    assert.equal(two.manager.require().state.index, 1);
    assert.equal(both.primary.signed, 1);
  });

  it("a replica that read the primary's roots before another one followed later ones reads them again", async () => {
    const { one, two, primary } = await pair();
    const { clock, backend, sealer } = two;
    const other = await createTestCa({
      ...{ clock, backend, sealer, datacenter: "dc2", hasDatacenters: true, primary },
      started: false,
    });
    await two.manager.resign();
    await other.manager.tick();
    await other.manager.resign();
    const before = other.manager.status.primary?.index ?? assert.fail();
    await one.manager.rotate(NOW);
    // It looks at the primary also if that was a moment ago.
    await two.manager.rotate(NOW);
    await two.manager.resign();
    await other.manager.tick();
    const { index, fault } = other.manager.status.primary ?? assert.fail();
    assert.equal(fault, null);
    assert.ok((index ?? 0) > before);
    assert.equal(other.manager.require().active.id, one.manager.require().active.id);
  });

  it("waits, not ready, while the primary is unreachable, and says why", async () => {
    const both = await pair({ started: false });
    both.primary.away = true;
    await both.two.manager.tick();
    assert.equal(both.two.manager.snapshot, null);
    assert.equal(
      both.two.manager.obstacle(),
      "CA has not finished initializing: it waits for the primary datacenter dc1: No CA server answered",
    );
    both.primary.away = false;
    await both.settle();
    await requireMutual(both);
    assert.equal(both.two.manager.status.primary?.fault, null);
  });

  it("follows a rotation of the primary with a new intermediate, and leaves verify at each moment", async () => {
    const both = await pair();
    for (let i = 0; i < 3; i++) {
      await both.one.manager.rotate(NOW);
      const before = both.two.manager.require().active.id;
      await requireMutualOfOne(both);
      await both.settle();
      const { active, state } = both.two.manager.require();
      assert.notEqual(active.id, before);
      assert.equal(active.id, both.one.manager.require().active.id);
      assert.equal(state.roots.length, 2 + i);
      await requireMutual(both);
    }
  });

  it("keeps its chain and its roots bounded over 200 renewals and 20 rotations", async () => {
    const both = await pair();
    const { one, two, clock } = { ...both, clock: both.one.clock };
    for (let i = 0; i < 200; i++) {
      if (i % 10 === 0) await one.manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
      await two.manager.rotate(NOW);
      // Past the life of every leaf.
      clock.advance(30 * 24 * HOUR);
      for (const ca of [one, two]) await ca.manager.heartbeat();
      for (let tick = 0; tick < 6; tick++) {
        await one.manager.tick();
        clock.advance(3 * HOUR);
        for (const ca of [one, two]) await ca.manager.heartbeat();
        await two.manager.tick();
      }
      const { state, active } = two.manager.require();
      assert.ok(active.intermediates.length <= 3, String(active.intermediates.length));
      assert.ok(state.roots.length <= 4, String(state.roots.length));
      assert.ok(active.leafIssuers.length <= 4, String(active.leafIssuers.length));
    }
    await requireMutual(both);
  });

  it("renews its intermediate at half its life, and goes on signing while the primary is away", async () => {
    const both = await pair();
    const issuer = async () => (await chainOf(both.two, "dc2"))[1]?.id;
    const first = await issuer();
    both.primary.away = true;
    both.one.clock.advance(183 * 24 * HOUR);
    await both.settle();
    assert.equal(await issuer(), first);
    assert.match(both.two.manager.status.primary?.fault?.reason ?? "", /No CA server answered/);
    both.primary.away = false;
    await both.settle();
    assert.notEqual(await issuer(), first);
    assert.equal(both.two.manager.status.primary?.fault, null);
    await requireMutual(both);
  });

  it("asks an unreachable primary again after a pause that grows, whichever task asks", async () => {
    let asked = 0;
    const both = await pair();
    const { roots } = both.primary;
    both.primary.roots = (...given) => {
      asked++;
      return roots(...given);
    };
    both.primary.away = true;
    const { signal } = new AbortController();
    const follow = async () => {
      // The tick keeps the lease of the leader.
      await both.two.manager.tick();
      return both.two.manager.followPrimary(signal);
    };
    for (let i = 0; i < 20; i++) assert.equal(await follow(), false);
    assert.equal(asked, 1);
    // The pauses are 2, 4, 8 and 10 seconds at most, and half of that at least.
    for (let i = 0; i < 8; i++) {
      both.one.clock.advance(1000);
      await follow();
    }
    assert.ok(asked >= 3 && asked <= 4, String(asked));
    for (let i = 0; i < 8; i++) {
      both.one.clock.advance(10_000);
      asked = 0;
      await follow();
      assert.equal(asked, 1);
    }
    both.primary.away = false;
    both.one.clock.advance(10_000);
    assert.equal(await follow(), true);
    assert.equal(both.two.manager.status.primary?.fault, null);
  });

  it("signs leaves for as long as the primary publishes a root for its own, at most", async () => {
    const bootstrap = { ...DEFAULT_BOOTSTRAP, config: { LeafCertTTL: "240h" } };
    const both = await pair({ two: { bootstrap } });
    const lifeMs = async () => {
      const [leaf] = await chainOf(both.two, "dc2");
      assert.ok(leaf !== undefined);
      return leaf.notAfter.getTime() - leaf.notBefore.getTime();
    };
    assert.equal(await lifeMs(), 72 * HOUR);
    assert.equal(both.two.manager.require().state.schema, 7);
    // A leaf from just before the secondary follows a rotation has expired when its root is gone.
    const [leaf, ...chain] = await chainOf(both.two, "dc2");
    const old = both.one.manager.require().active.certificate;
    await both.one.manager.rotate(NOW);
    await both.settle();
    for (let hours = 0; hours < 240; hours += 12) {
      both.one.clock.advance(12 * HOUR);
      await both.one.manager.heartbeat();
      await both.one.manager.tick();
      const isPublished = both.one.manager.require().state.roots.some(({ id }) => id === old.id);
      const now = both.one.clock.now();
      assert.ok(leaf !== undefined);
      assert.ok(
        isPublished || (await findPath(leaf, chain, old, now)) === null,
        `after ${hours} h`,
      );
    }
    await both.one.manager.configure(
      configuration({ ...DEFAULT_BOOTSTRAP.config, LeafCertTTL: "480h" }),
    );
    await both.settle();
    assert.equal(await lifeMs(), 240 * HOUR);
  });

  it("does not change what it signs under when the primary is away", async () => {
    const both = await pair();
    both.primary.away = true;
    const { document } = both.two.backend;
    await assert.rejects(both.two.manager.rotate(NOW), {
      name: "PrimaryError",
      message: /No CA server answered/,
    });
    assert.equal(both.two.backend.document, document);
    await chainOf(both.two, "dc2");
  });

  it("comes back after several rotations that it missed", async () => {
    const both = await pair();
    both.primary.away = true;
    for (let i = 0; i < 3; i++) await both.one.manager.rotate(NOW);
    await both.settle();
    await requireMutualOfOne(both);
    both.primary.away = false;
    await both.settle();
    assert.equal(both.two.manager.require().state.roots.length, 4);
    await requireMutual(both);
  });

  it("changes only the settings of its provider: another key type makes a new intermediate", async () => {
    const both = await pair();
    const root = both.two.manager.require().active.id;
    assert.equal(
      await both.two.manager.configure(
        configuration({ LeafCertTTL: "24h", PrivateKeyType: "rsa", PrivateKeyBits: 2048 }),
      ),
      true,
    );
    assert.equal(both.two.manager.require().active.id, root);
    assert.equal((await chainOf(both.two, "dc2"))[1]?.key.type, "rsa");
    const signed = both.primary.signed;
    await both.two.manager.configure(
      configuration({ LeafCertTTL: "12h", PrivateKeyType: "rsa", PrivateKeyBits: 2048 }),
    );
    assert.equal(both.primary.signed, signed);
    const [leaf] = await chainOf(both.two, "dc2");
    assert.ok((leaf?.notAfter.getTime() ?? 0) - both.one.clock.now().getTime() <= 12 * HOUR);
    const { certificate, key } = makeRoot(both.two.manager.require().state.trustDomain);
    await assert.rejects(
      both.two.manager.configure(configuration({ PrivateKey: key, RootCert: certificate })),
      /PrivateKey belongs into the primary datacenter: a secondary one has no root of its own/,
    );
    await requireMutual(both);
  });

  it("can follow every rotation that the primary accepts, within the bound on a chain", async () => {
    const policy = { ...DEFAULT_POLICY, maxChainLength: 4 };
    const both = await pair({ one: { policy }, two: { policy } });
    for (let i = 0; i < 2; i++) {
      await both.one.manager.rotate(NOW);
      await both.settle();
      await requireMutual(both);
    }
    assert.equal((await chainOf(both.two, "dc2")).length, 4);
    // In a deployment of one datacenter this rotation is accepted.
    await assert.rejects(both.one.manager.rotate(NOW), {
      code: "budget_exceeded",
      message: /the chain of a leaf would have 4 certificates, and at most 3 are allowed/,
    });
  });

  it("follows by itself when the primary recovers after all certificates have expired", async () => {
    const both = await pair();
    const { notAfter } = both.one.manager.require().active.certificate;
    both.one.clock.advance(notAfter.getTime() - both.one.clock.now().getTime() + HOUR);
    await both.settle();
    await assert.rejects(chainOf(both.two, "dc2"), /root expired: certificate expired/);
    await both.one.manager.rotate(NOW);
    await both.settle();
    await requireMutual(both);
    assert.equal(both.two.manager.status.primary?.fault, null);
  });

  it("a rotation here is a new intermediate under the same root", async () => {
    const both = await pair();
    const before = both.two.manager.require().active;
    const { active } = await both.two.manager.rotate(NOW);
    assert.deepEqual([active.id, active.signingKeyId === before.signingKeyId], [before.id, false]);
    await requireMutual(both);
  });

  it("signs no intermediate for a third one, and names the primary", async () => {
    const both = await pair();
    const { csr } = opensslCsr(
      `URI:spiffe://${both.two.manager.require().state.trustDomain}`,
      undefined,
      ["-subj", "/CN=x"],
    );
    await assert.rejects(
      both.two.manager.signIntermediate({
        csr,
        caller: { accessor: null, address: null, requestId: null },
        permit: () => undefined,
      }),
      /^ConflictError: not the primary datacenter: ask datacenter dc1 for an intermediate$/,
    );
  });
});

/** Leaves of the datacenter that has not followed yet verify where the primary's roots are known. */
async function requireMutualOfOne(both: Pair): Promise<void> {
  const [leaf, ...chain] = await chainOf(both.two, "dc2");
  const { state } = both.one.manager.require();
  const own = both.two.manager.require().active.id;
  const root = state.roots.find(({ id }) => id === own);
  assert.ok(leaf !== undefined && root !== undefined);
  assert.ok((await findPath(leaf, chain, root.certificate, both.one.clock.now())) !== null);
}
