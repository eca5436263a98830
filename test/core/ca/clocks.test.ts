/**
 * A CA whose clock is wrong for a while: nothing is deleted that could not be
 * restored.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import type { LookStore } from "../../../src/core/ports/looks.ts";
import { MemoryLooks } from "../../../src/store/looks.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { BOOTSTRAP, HOUR, replica, requireSigning, webCsr } from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const DAY = 24 * HOUR;
/** Twice the default LeafCertTTL, and an eighth of it. */
const [DUE, SPAN] = [144 * HOUR, 9 * HOUR];
const csr = webCsr();

const roots = (manager: CertificateAuthority) => manager.require().state.roots.length;

describe("a root that seems to be expired", () => {
  let ca: TestCa;
  let manager: CertificateAuthority;

  beforeEach(async () => {
    ca = await createTestCa({ bootstrap: BOOTSTRAP });
    manager = ca.manager;
    await manager.rotate(NOW);
  });

  /** What a leader does for so long: a look every ten minutes. */
  const live = async (ms: number, by: CertificateAuthority = manager) => {
    for (let left = ms; left > 0; left -= 600_000) {
      ca.clock.advance(Math.min(left, 600_000));
      await by.tick();
    }
  };

  it("is kept, with its key and its certificates, by a clock that is seven days ahead for some seconds", async () => {
    await live(HOUR);
    const before = ca.backend.document;
    ca.clock.jump(7 * DAY);
    for (let i = 0; i < 10; i++) {
      ca.clock.advance(4000);
      assert.equal((await manager.tick()).kind, "wait");
    }
    ca.clock.jump(-7 * DAY);
    await live(SPAN + HOUR);
    assert.equal(ca.backend.document, before);
    assert.equal(roots(manager), 2);
    await requireSigning(manager, csr, ca.clock.now());
  });

  it("is kept by a clock that jumps ahead twice", async () => {
    ca.clock.jump(7 * DAY);
    assert.equal((await manager.tick()).kind, "wait");
    ca.clock.jump(7 * DAY);
    ca.clock.advance(4000);
    assert.equal((await manager.tick()).kind, "wait");
    assert.equal(roots(manager), 2);
  });

  it("is pruned once an eighth of its largest leaf life has passed since the first look, as tick() announces", async () => {
    ca.clock.advance(DUE);
    assert.deepEqual(await manager.tick(), {
      kind: "wait",
      until: new Date(ca.clock.now().getTime() + 1),
    });
    ca.clock.advance(1);
    const until = new Date(ca.clock.now().getTime() + SPAN);
    assert.deepEqual(await manager.tick(), { kind: "wait", until });
    ca.clock.advance(SPAN - 1);
    assert.deepEqual(await manager.tick(), { kind: "wait", until });
    ca.clock.advance(1);
    assert.equal((await manager.tick()).kind, "prune");
    assert.equal(roots(manager), 1);
  });

  it("is pruned in the end if the clock stays ahead", async () => {
    ca.clock.jump(7 * DAY);
    await live(SPAN);
    assert.equal(roots(manager), 2);
    await live(HOUR);
    assert.equal(roots(manager), 1);
  });

  it("waits by its own largest leaf life, whatever that of other roots is", async () => {
    await manager.configure(configuration({ LeafCertTTL: "800h" }));
    await live(DUE + SPAN);
    assert.equal(roots(manager), 2);
    await live(HOUR);
    assert.equal(roots(manager), 1);
  });

  it("is pruned by the next leader, an eighth after the first look of the former one", async () => {
    ca.clock.advance(DUE + 1);
    await manager.tick();
    await manager.resign();
    const next = await replica(ca, "next");
    await next.refresh();
    await live(SPAN - 1, next);
    assert.equal(roots(next), 2);
    await live(1, next);
    assert.equal(roots(next), 1);
  });

  it("is kept if the clock is right again at the first look of the next leader", async () => {
    ca.clock.jump(7 * DAY);
    await manager.tick();
    await manager.resign();
    ca.clock.jump(-7 * DAY);
    const next = await replica(ca, "next");
    await next.refresh();
    await next.tick();
    await next.resign();
    ca.clock.jump(7 * DAY);
    ca.clock.advance(SPAN);
    await manager.tick();
    assert.equal(roots(manager), 2);
  });

  it("is kept if another replica always saves its looks first", async () => {
    const seen = new MemoryLooks();
    let isLate = false;
    const looks: LookStore = {
      load: () => seen.load(),
      save: async (next, version) => !isLate && seen.save(next, version),
    };
    const late = await replica(ca, "late", { looks });
    await late.refresh();
    await manager.resign();
    ca.clock.advance(DUE + 1);
    await late.tick();
    // Its own looks would confirm the expiry; it does not know the later looks of the others.
    isLate = true;
    await live(2 * SPAN, late);
    assert.equal(roots(late), 2);
    isLate = false;
    await late.tick();
    assert.equal(roots(late), 1);
  });
});

describe("confirmedTime()", () => {
  it("confirmedTime() lags behind the clock by an eighth of the largest leaf life, 24 hours at most, and by no jump", async () => {
    const { manager, clock } = await createTestCa({ bootstrap: BOOTSTRAP });
    const start = clock.now();
    assert.deepEqual(await manager.confirmedTime(), new Date(0));
    clock.advance(SPAN);
    assert.deepEqual(await manager.confirmedTime(), start);
    clock.jump(30 * DAY);
    assert.deepEqual(await manager.confirmedTime(), start);
    clock.jump(-30 * DAY);
    await manager.configure(configuration({ LeafCertTTL: "4000h", IntermediateCertTTL: "20000h" }));
    const later = clock.now();
    await manager.confirmedTime();
    clock.advance(DAY - 1);
    assert.ok((await manager.confirmedTime()) < later);
    clock.advance(1);
    assert.deepEqual(await manager.confirmedTime(), later);
  });
});
