/**
 * Every operation with a fault at every call it makes to a port: the state is as before or as
 * after, never between, the operation reports which, and the next caller can go on.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { NotReadyError, StoreError } from "../../../src/core/errors.ts";
import type { Sealer } from "../../../src/core/ports/sealer.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../../src/seal/kek.ts";
import { configuration, confirmOver, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { passing } from "../../fakes/clock.ts";
import { createFaults, MODES } from "./faults.ts";
import {
  BOOTSTRAP,
  HOUR,
  replica,
  requireSigning,
  type SuppliedRoot,
  suppliedRoot,
  visible,
  webCsr,
} from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
/** Longer than every lease. */
const LEASES_OVER = 31_000;

interface Operation {
  readonly name: string;
  /** Brings the CA into the state before the operation; null leaves it without any state. */
  readonly start: ((ca: TestCa) => Promise<unknown>) | null;
  readonly run: (manager: CertificateAuthority) => Promise<unknown>;
  /** Whether a state is the result of the operation. */
  readonly done: (state: CaState) => boolean;
}

let csr: string;
let sealer: Sealer;
let bothKeks: Sealer;
let supplied: SuppliedRoot;

before(async () => {
  csr = webCsr();
  const [old, next] = [makeKek(), makeKek()];
  sealer = createSealer(await readKeks(old));
  bothKeks = createSealer(await readKeks(`${next},${old}`));
  supplied = suppliedRoot();
});

const DROP = { ...NOW, newRoot: false, alsoThrough: false };
/** The root that was retired last. */
const retiredId = (manager: CertificateAuthority) =>
  manager
    .require()
    .state.roots.filter(({ status }) => status === "retired")
    .toSorted((a, b) => Number(b.rotatedOutAt) - Number(a.rotatedOutAt))[0]?.id ?? "";
const bits = (state: CaState) => activeRoot(state).certificate.key.bits;
const retiredOf = (state: CaState) =>
  state.roots.find(({ status }) => status === "retired")?.id ?? "";
const operations: readonly Operation[] = [
  {
    name: "the bootstrap",
    start: null,
    run: (manager) => manager.tick(),
    done: (state) => state.roots.length === 1,
  },
  {
    name: "a change of a TTL",
    start: async () => {},
    run: (manager) => manager.configure(configuration({ LeafCertTTL: "5h" })),
    done: (state) => state.config.config?.LeafCertTTL === "5h" && state.roots.length === 1,
  },
  {
    name: "a rotation by key type",
    start: async ({ manager, clock }) => {
      await manager.rotate(NOW);
      // Which of two roots was retired later decides which one cross-signs.
      clock.advance(1000);
    },
    run: (manager) => manager.configure(configuration({ PrivateKeyBits: 384 })),
    done: (state) =>
      bits(state) === 384 &&
      state.roots.length === 3 &&
      activeRoot(state).intermediates.length === 2,
  },
  {
    name: "a rotation to a supplied root",
    start: async () => {},
    run: (manager) =>
      manager.configure(configuration({ PrivateKey: supplied.key, RootCert: supplied.cert })),
    done: (state) =>
      state.config.config?.RootCert === supplied.cert &&
      activeRoot(state).intermediates.length === 1,
  },
  {
    name: "a rotation now",
    start: async () => {},
    run: (manager) => manager.rotate(NOW),
    done: (state) => state.roots.length === 2 && activeRoot(state).intermediates.length === 1,
  },
  {
    name: "a rollback",
    start: async ({ manager, clock }) => {
      await manager.configure(configuration({ PrivateKeyBits: 384 }));
      clock.advance(1000);
    },
    run: (manager) => manager.rollBack({ ...NOW, to: retiredOf(manager.require().state) }),
    done: (state) =>
      bits(state) === 256 &&
      state.roots.length === 2 &&
      state.config.config?.PrivateKeyBits === undefined &&
      Object.keys(state.provider.retired).join() === retiredOf(state) &&
      activeRoot(state).intermediates.length === 1,
  },
  {
    name: "a drop of a retired root in the chain",
    start: async ({ manager, clock }) => {
      for (let i = 0; i < 3; i++) {
        await manager.rotate(NOW);
        clock.advance(1000);
      }
    },
    run: (manager) => manager.drop({ ...DROP, id: retiredId(manager) }),
    done: (state) =>
      state.dropped.length === 1 &&
      state.roots.length === 3 &&
      Object.keys(state.provider.retired).length === 2 &&
      activeRoot(state).intermediates.length === 2,
  },
  {
    name: "a drop of the active root",
    start: ({ manager }) => manager.rotate(NOW),
    run: (manager) => manager.drop({ ...DROP, id: activeRoot(manager.require().state).id }),
    done: (state) =>
      state.dropped.length === 1 &&
      state.roots.length === 1 &&
      Object.keys(state.provider.retired).length === 0,
  },
  {
    name: "a drop of the only root, with a new one",
    start: async () => {},
    run: (manager) =>
      manager.drop({ ...DROP, newRoot: true, id: activeRoot(manager.require().state).id }),
    done: (state) => state.dropped.length === 1 && state.roots.length === 1,
  },
  {
    name: "a prune",
    start: async ({ manager, clock }) => {
      await manager.rotate(NOW);
      clock.advance(144 * HOUR + 1);
      await confirmOver({ manager, clock });
      await manager.close();
    },
    run: (manager) => manager.tick(),
    done: (state) => state.roots.length === 1 && state.index === 3,
  },
];

/**
 * Runs an operation with its n-th call to a port failing.
 * @returns whether there was an n-th call.
 */
async function runWithFault(
  operation: Operation,
  mode: (typeof MODES)[number],
  n: number,
): Promise<boolean> {
  const { start, run, done } = operation;
  const ca = await createTestCa({ bootstrap: BOOTSTRAP, sealer, started: start !== null });
  await start?.(ca);
  const faults = createFaults(ca.backend, sealer, "faulty");
  const faulty = await replica(ca, "faulty", faults.ports);
  await faulty.refresh();
  const { document } = ca.backend;

  faults.arm(n, mode);
  const outcome = await Promise.race([
    run(faulty).then(
      () => "done",
      () => "refused",
    ),
    faults.reached
      .then(() => new Promise((resolve) => setImmediate(resolve)))
      .then(() => (mode.startsWith("die") ? "dead" : new Promise(() => {}))),
  ]);
  const where = `${mode} at call ${n}, ${faults.hit}`;
  faults.disarm();

  const next = await replica(ca, "next");
  await next.refresh();
  const state = next.snapshot?.state ?? null;
  const unchanged = ca.backend.document === document;
  assert.ok(
    unchanged || (state !== null && done(state)),
    `the state is neither as before nor as after: ${where}`,
  );
  if (outcome === "done")
    assert.ok(!unchanged, `it says that it was done, and it was not: ${where}`);
  if (outcome === "refused")
    assert.ok(unchanged, `it says that it failed, and it was done: ${where}`);
  if (state !== null) await requireSigning(next, csr, ca.clock.now());
  if (faulty.snapshot !== null) await requireSigning(faulty, csr, ca.clock.now());
  if (faults.hit === null) {
    assert.equal(outcome, "done");
    return false;
  }

  if (unchanged) {
    ca.clock.advance(LEASES_OVER);
    // A live replica goes on: the same one if the call was only refused.
    await run(outcome === "refused" ? faulty : next);
    await next.refresh();
    assert.ok(done(next.require().state), `trying again did not help: ${where}`);
    await requireSigning(next, csr, ca.clock.now());
  }
  return true;
}

describe("a fault at any call", () => {
  for (const operation of operations)
    for (const mode of MODES)
      it(`${operation.name} is done or not done if a port call fails (${mode})`, {
        timeout: 60_000,
      }, async () => {
        let n = 1;
        while (await runWithFault(operation, mode, n)) n++;
        assert.ok(n > 5, "the ports were not called");
      });

  it("rewrap() encrypts all keys again or none, whichever call fails", {
    timeout: 60_000,
  }, async () => {
    for (let n = 1; ; n++) {
      const ca = await createTestCa({ bootstrap: BOOTSTRAP, sealer });
      await ca.manager.rotate(NOW);
      await ca.manager.close();
      const faults = createFaults(ca.backend, bothKeks, "faulty");
      const faulty = await replica(ca, "faulty", faults.ports);
      await faulty.refresh();
      const seen = visible(faulty.require().state);
      faults.arm(n, "refuse");
      const outcome = await faulty.rewrap().then(
        () => "done",
        () => "refused",
      );
      faults.disarm();
      const { active, retired } = faulty.require().state.provider;
      const stale = [active, ...Object.values(retired).map(({ state }) => state)].map(
        ({ key }) => bothKeks.kekOf(key ?? "") !== bothKeks.keks[0],
      );
      assert.deepEqual(stale, outcome === "done" ? [false, false] : [true, true]);
      ca.clock.advance(LEASES_OVER);
      await faulty.tick();
      assert.equal((await faulty.tick()).kind, "wait");
      assert.deepEqual(visible(faulty.require().state), seen);
      await requireSigning(faulty, csr, ca.clock.now());
      if (faults.hit === null) break;
    }
  });
});

describe("an unknown outcome", () => {
  it("configure() counts a commit whose response was lost as done", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, sealer });
    const { ports } = createFaults(ca.backend, sealer, "faulty");
    let commits = 0;
    const store = {
      ...ports.store,
      commit: async (...args: Parameters<typeof ports.store.commit>) => {
        commits++;
        await ports.store.commit(...args);
        throw new StoreError("store_unavailable", "Connection lost");
      },
    };
    const faulty = await replica(ca, "faulty", { ...ports, store });
    await faulty.refresh();
    assert.equal(await faulty.configure(configuration({ PrivateKeyBits: 384 })), true);
    assert.equal(commits, 1);
    assert.equal(bits(faulty.require().state), 384);
    await requireSigning(faulty, csr, ca.clock.now());
  });

  it("configure() reports an unknown outcome if neither the commit nor the read after it is answered, and works again later", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, sealer });
    const { ports } = createFaults(ca.backend, sealer, "faulty");
    let away = false;
    const store = {
      ...ports.store,
      read: async () => {
        if (away) throw new StoreError("store_unavailable", "Still away");
        return ports.store.read();
      },
      commit: async (...args: Parameters<typeof ports.store.commit>) => {
        await ports.store.commit(...args);
        away = true;
        throw new StoreError("store_unavailable", "Connection lost");
      },
    };
    const faulty = await replica(ca, "faulty", { ...ports, store });
    await faulty.refresh();
    const { modifyIndex } = faulty.require().state.config;
    const request = configuration({ PrivateKeyBits: 384 }, { modifyIndex: BigInt(modifyIndex) });
    const unknown = (error: unknown) =>
      error instanceof NotReadyError && error.code === "outcome_unknown";
    await assert.rejects(passing(ca.clock, faulty.configure(request)), unknown);
    await requireSigning(faulty, csr, ca.clock.now());
    away = false;
    await faulty.refresh();
    assert.equal(bits(faulty.require().state), 384);
    await requireSigning(faulty, csr, ca.clock.now());
    const repeated = await replica(ca, "repeated");
    assert.equal(await repeated.configure(request), false);
    assert.equal(repeated.require().state.roots.length, 2);
  });

  it("configure() does not take another replica's commit for its own", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, sealer });
    const { ports } = createFaults(ca.backend, sealer, "faulty");
    const other = await replica(ca, "other");
    const store = {
      ...ports.store,
      commit: async () => {
        ca.clock.advance(LEASES_OVER);
        await other.configure(configuration({ LeafCertTTL: "9h" }));
        throw new StoreError("store_unavailable", "Connection lost");
      },
    };
    const faulty = await replica(ca, "faulty", { ...ports, store });
    await faulty.refresh();
    await assert.rejects(faulty.configure(configuration({ LeafCertTTL: "5h" })), /Connection lost/);
    await faulty.refresh();
    assert.deepEqual(faulty.require().state.config.config, { LeafCertTTL: "9h" });
  });
});
