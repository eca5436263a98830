/**
 * CertificateAuthority over the memory store: the first root, changes that keep the root,
 * comparison of indexes, and concurrent changes.
 * @module
 */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import { providers } from "../../../providers/index.ts";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import {
  type CaError,
  ConfigError,
  ConflictError,
  NotReadyError,
} from "../../../src/core/errors.ts";
import type { ProviderType } from "../../../src/core/ports/provider.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { configuration, createCa, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { passing } from "../../fakes/clock.ts";
import { overriding } from "../../fixtures/overriding.ts";
import {
  BOOTSTRAP,
  CLUSTER,
  gatedProviders,
  HOUR,
  replica,
  requireRefused,
  requireSigning,
  visible,
  webCsr,
} from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

let csr: string;
let ca: TestCa;
let manager: CertificateAuthority;

before(() => {
  csr = webCsr();
});
beforeEach(async () => {
  ca = await createTestCa({ bootstrap: BOOTSTRAP });
  ({ manager } = ca);
});

const stateOf = (of: CertificateAuthority = manager): CaState => of.require().state;
const indexOf = (state: CaState) => BigInt(state.config.modifyIndex);
const coded = (code: string, text?: string | RegExp) => (error: CaError) => {
  assert.equal(error.code, code, error.message);
  if (typeof text === "string") assert.equal(error.message, text);
  else if (text !== undefined) assert.match(error.message, text);
};
/** For tests that compare the error itself. */
const rejected = (code: string, text?: string | RegExp) => (error: unknown) => {
  assert.ok(
    error instanceof NotReadyError ||
      error instanceof ConflictError ||
      error instanceof ConfigError,
    String(error),
  );
  coded(code, text)(error);
  return true;
};

describe("bootstrap", () => {
  it("tick() creates one cluster with one root if two CAs race for it", async () => {
    for (let round = 0; round < 5; round++) {
      const first = await createTestCa({ started: false });
      const second = await replica(first, "second", {
        bootstrap: { ...BOOTSTRAP, clusterId: null },
      });
      await Promise.allSettled([
        first.manager.tick(),
        second.tick(),
        first.manager.tick(),
        second.tick(),
      ]);
      await first.manager.refresh();
      await second.refresh();
      assert.equal(stateOf(first.manager).commitId, stateOf(second).commitId);
      assert.equal(stateOf(second).index, 1);
      assert.equal(stateOf(second).roots.length, 1);
    }
  });

  it("tick() of a leader that stalled while another created the cluster adopts that cluster", async () => {
    const gate = gatedProviders();
    const slow = await createTestCa({ started: false, providers: gate.providers });
    const { reached, open } = gate.close();
    const ticking = slow.manager.tick();
    await reached;
    slow.clock.advance(60_000);
    const fast = await replica(slow, "fast");
    await fast.tick();
    open();
    await assert.rejects(ticking, rejected("lease_lost"));
    await slow.manager.refresh();
    assert.equal(stateOf(slow.manager).commitId, stateOf(fast).commitId);
    assert.equal(stateOf(fast).clusterId, CLUSTER);
  });

  it("tick() makes a cluster id of 128 bits in Consul's form, another for each cluster", async () => {
    const ids = new Set<string>();
    for (let i = 0; i < 5; i++) {
      const made = await createTestCa();
      const { clusterId } = stateOf(made.manager);
      assert.match(clusterId, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      ids.add(clusterId);
    }
    assert.equal(ids.size, 5);
  });

  it("tick() never bootstraps again", async () => {
    const state = stateOf();
    await manager.tick();
    const other = await replica(ca, "other", {
      bootstrap: { ...BOOTSTRAP, clusterId: null, config: { PrivateKeyType: "rsa" } },
    });
    await manager.close();
    await other.tick();
    assert.equal(stateOf(other).commitId, state.commitId);
  });

  it("require() and sign() report that the CA has not finished initializing until there is a state", async () => {
    const empty = await createTestCa({ started: false });
    assert.throws(
      () => empty.manager.require(),
      rejected("ca_uninitialized", "CA has not finished initializing"),
    );
    await assert.rejects(empty.manager.sign(csr), rejected("ca_uninitialized"));
    await assert.rejects(
      empty.manager.configure(configuration(null)),
      rejected("ca_uninitialized"),
    );
    await assert.rejects(empty.manager.rotate(NOW), rejected("ca_uninitialized"));
    assert.equal(empty.backend.document, null);
  });

  it("tick() stores nothing if the first configuration is refused", async () => {
    const refused = await createTestCa({
      started: false,
      bootstrap: { ...BOOTSTRAP, config: { LeafCertTTL: "1s" } },
    });
    await assert.rejects(
      refused.manager.tick(),
      rejected("config_invalid", /^error configuring provider: leaf cert TTL must be/),
    );
    assert.equal(refused.backend.document, null);
  });
});

describe("configure()", () => {
  it("configure() changes a TTL and leaves root, key and chain as they are", async () => {
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    const before = stateOf();
    assert.equal(activeRoot(before).intermediates.length, 1);
    assert.equal(
      await manager.configure(configuration({ PrivateKeyBits: 384, LeafCertTTL: "5h" })),
      true,
    );
    const after = stateOf();
    assert.deepEqual(visible(after).roots, visible(before).roots);
    assert.deepEqual(after.provider, before.provider);
    assert.deepEqual(after.config.config, { PrivateKeyBits: 384, LeafCertTTL: "5h" });
    assert.equal(after.config.modifyIndex, before.index + 1);
    const leaf = await requireSigning(manager, csr, ca.clock.now());
    assert.equal(leaf.notAfter.getTime() - ca.clock.now().getTime(), 5 * HOUR - 60_000);
  });

  it("configure() reports no change for the stored configuration, with its keys in any order", async () => {
    const before = ca.backend.document;
    const { config } = stateOf().config;
    assert.equal(await manager.configure(configuration({ ...config })), false);
    const turned = Object.fromEntries(Object.entries(config ?? {}).toReversed());
    assert.equal(await manager.configure(configuration(turned)), false);
    assert.equal(await manager.configure(configuration(turned, { modifyIndex: 99n })), false);
    assert.equal(ca.backend.document, before);
  });

  it("configure() refuses a faulty configuration, naming every fault, and changes nothing", async () => {
    await requireRefused(
      ca,
      csr,
      (to) =>
        to.configure(
          configuration({ LeafCertTTL: "1s", PrivateKeyType: "dsa", RootCertTTL: "1h" }),
        ),
      (error) => {
        coded("config_invalid", /^error configuring provider: /)(error);
        assert.ok(error instanceof ConfigError);
        assert.deepEqual(
          new Set(error.violations.map(({ field }) => field)),
          new Set(["RootCertTTL", "LeafCertTTL", "PrivateKeyType"]),
        );
      },
    );
  });

  it("configure() refuses an unknown provider and a provider state from the caller", async () => {
    await requireRefused(
      ca,
      csr,
      (to) => to.configure(configuration(null, { provider: "nope" })),
      coded("config_invalid", /unknown CA provider "nope"/),
    );
    await requireRefused(
      ca,
      csr,
      (to) => to.configure(configuration({ LeafCertTTL: "5h" }, { state: { key: "x" } })),
      coded("config_invalid", /read-only/),
    );
  });

  it("configure() refuses a stale ModifyIndex and accepts the current one", async () => {
    const stale = indexOf(stateOf());
    const change = (config: Record<string, unknown>, modifyIndex: bigint | null) =>
      manager.configure(configuration(config, { modifyIndex }));
    assert.equal(await change({ LeafCertTTL: "5h" }, stale), true);
    for (const modifyIndex of [stale, indexOf(stateOf()) + 1n, 1n << 63n])
      for (const config of [
        { LeafCertTTL: "6h" },
        { PrivateKeyBits: 384 },
        { PrivateKeyType: "rsa" },
      ])
        await requireRefused(
          ca,
          csr,
          () => change(config, modifyIndex),
          coded("index_mismatch", "ModifyIndex did not match existing"),
        );
    assert.equal(await change({ LeafCertTTL: "6h" }, indexOf(stateOf())), true);
    assert.equal(await change({ LeafCertTTL: "7h" }, 0n), true);
  });

  it("configure() compares with the state that another replica has just stored", async () => {
    const other = await replica(ca, "other");
    await other.refresh();
    const seen = indexOf(stateOf());
    await other.configure(configuration({ LeafCertTTL: "5h" }, { modifyIndex: seen }));
    await assert.rejects(
      manager.configure(configuration({ LeafCertTTL: "6h" }, { modifyIndex: seen })),
      rejected("index_mismatch"),
    );
    assert.deepEqual(stateOf().config.config, { LeafCertTTL: "5h" });
  });
});

describe("concurrent changes", () => {
  it("configure() and rotate() are refused while a change runs, here or on another replica, and work after it", async () => {
    const gate = gatedProviders();
    const first = await createTestCa({ bootstrap: BOOTSTRAP, providers: gate.providers });
    const other = await replica(first, "other");
    await other.refresh();
    const { reached, open } = gate.close();
    const running = first.manager.configure(configuration({ PrivateKeyBits: 384 }));
    await reached;
    for (const replica of [first.manager, other]) {
      const busy = rejected("operation_running", 'CA is already in state "RECONFIGURING"');
      await assert.rejects(
        passing(first.clock, replica.configure(configuration({ LeafCertTTL: "5h" }))),
        busy,
      );
      await assert.rejects(passing(first.clock, replica.rotate(NOW)), busy);
      await requireSigning(replica, csr, first.clock.now());
    }
    open();
    assert.equal(await running, true);
    assert.equal(
      await other.configure(configuration({ PrivateKeyBits: 384, LeafCertTTL: "5h" })),
      true,
    );
    assert.equal(stateOf(other).roots.length, 2);
  });

  it("configure() holds its lease for as long as it runs, and no longer", async () => {
    const gate = gatedProviders();
    const slow = await createTestCa({ bootstrap: BOOTSTRAP, providers: gate.providers });
    const other = await replica(slow, "other");
    await other.refresh();
    const { reached, open } = gate.close();
    const running = slow.manager.configure(configuration({ PrivateKeyBits: 384 }));
    await reached;
    for (let i = 0; i < 12; i++) {
      slow.clock.advance(10_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await assert.rejects(passing(slow.clock, other.rotate(NOW)), rejected("operation_running"));
    open();
    assert.equal(await running, true);
    assert.equal(slow.clock.sleepers, 0);
    await other.rotate(NOW);
  });

  it("configure() with an expired lease creates nothing more at the provider", async () => {
    const gate = gatedProviders();
    const made: string[] = [];
    const makes = (type: ProviderType): ProviderType => ({
      ...type,
      async prepare(config, request, context) {
        const prepared = await type.prepare(config, request, context);
        request.onRollback(async () => {});
        made.push("outside");
        return prepared;
      },
    });
    const slow = await createTestCa({
      bootstrap: BOOTSTRAP,
      providers: new Map([...gate.providers].map(([name, type]) => [name, makes(type)])),
    });
    made.length = 0;
    const { reached, open } = gate.close();
    const running = slow.manager.configure(configuration({ PrivateKeyBits: 384 }));
    await reached;
    slow.clock.advance(30_000);
    open();
    await assert.rejects(running, rejected("operation_running", /operation lease expired/));
    assert.deepEqual(made, []);
    assert.equal(stateOf(slow.manager).roots.length, 1);
  });

  it("configure() of a replica that stalled past its lease does not overwrite later states", async () => {
    const gate = gatedProviders();
    const slow = await createTestCa({ bootstrap: BOOTSTRAP, providers: gate.providers });
    const { reached, open } = gate.close();
    const running = slow.manager.configure(configuration({ PrivateKeyBits: 384 }));
    await reached;
    slow.clock.advance(30_000);
    const other = await replica(slow, "other");
    await other.configure(configuration({ LeafCertTTL: "5h" }));
    open();
    await assert.rejects(running, rejected("lease_lost"));
    await slow.manager.refresh();
    assert.equal(stateOf(slow.manager).commitId, stateOf(other).commitId);
    assert.equal(stateOf(other).roots.length, 1);
    assert.equal(await slow.manager.configure(configuration({ PrivateKeyBits: 384 })), true);
  });

  it("configure() called twice in the same moment changes the CA once", async () => {
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => manager.rotate(NOW)));
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    for (const outcome of outcomes)
      if (outcome.status === "rejected") rejected("operation_running")(outcome.reason);
    assert.equal(stateOf().roots.length, 2);
  });
});

describe("close()", () => {
  it("close() persists the last-seen state before it releases the leader lease and leaves", async () => {
    const effects: string[] = [];
    const { backend, clock, sealer } = await createTestCa({ started: false });
    const { leases, replicas, ...ports } = backend.open(createCodec(sealer), "one");
    const one = createCa({
      ...ports,
      sealer,
      clock,
      policy: { ...DEFAULT_POLICY, maxStalenessMs: 60_000 },
      leases: overriding(leases, {
        async release(lease) {
          effects.push(`release ${lease.name}`);
          await leases.release(lease);
        },
      }),
      replicas: overriding(replicas, {
        async leave(id) {
          effects.push("leave");
          await replicas.leave(id);
        },
      }),
      lastSeen: {
        load: async () => null,
        save: async () => void effects.push("persist"),
      },
    });
    await one.tick();
    effects.length = 0;
    await passing(clock, one.close());
    assert.deepEqual(effects, ["persist", "release leader", "leave"]);
  });

  it("close() waits for a provider, but not for one that hangs", async () => {
    for (const hangs of [false, true]) {
      const ended: string[] = [];
      const closing = (type: ProviderType): ProviderType => ({
        ...type,
        async open(...args) {
          const provider = await type.open(...args);
          const close = async () => {
            await (hangs ? new Promise(() => undefined) : provider.close());
            ended.push(type.name);
          };
          return { ...provider, close };
        },
      });
      const types = new Map([...providers].map(([name, type]) => [name, closing(type)]));
      const ending = await createTestCa({ bootstrap: BOOTSTRAP, providers: types });
      await passing(ending.clock, ending.manager.close());
      assert.deepEqual(ended, hangs ? [] : ["consul"]);
    }
  });
});
