/**
 * Over how long renewals spread after a root change: by what was signed in the last LeafCertTTL, at
 * which rate, and within which bounds.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { elapsedMs, Limiter } from "../../../src/core/ca/limiter.ts";
import { renewWindowMs } from "../../../src/core/ca/renew-window.ts";
import { createReplicaMemory } from "../../../src/core/ca/replica-memory.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import type { Clock } from "../../../src/core/ports/clock.ts";
import { configuration, createTestCa, opensslCsr, serviceUri } from "../../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../../fakes/clock.ts";
import { createTestApp } from "../../fixtures/app.ts";

const [SECOND, MINUTE, HOUR] = [1000, 60_000, 3_600_000];
const DAY = 24 * HOUR;

interface Subject {
  readonly clock: FakeClock;
  /** Signs so many leaves now. */
  sign(leaves: number): void;
  /** The window in seconds. */
  window(leafTtlMs?: number, csrMaxPerSecond?: number | null): number;
  /** The window if the leaves before are refused, in seconds. */
  urgent(csrMaxPerSecond: number | null): number;
}

/** @param wall whether only the wall clock exists, as on Workers. */
function start(wall = false): Subject {
  const clock = createFakeClock(new Date("2026-06-01T00:00:00Z"));
  const seen: Clock = wall ? { now: clock.now, sleep: clock.sleep } : clock;
  const limiter = new Limiter(seen, DEFAULT_POLICY, createReplicaMemory().limiter);
  return {
    clock,
    sign(leaves) {
      for (let leaf = 0; leaf < leaves; leaf++) limiter.signed();
    },
    urgent: (csrMaxPerSecond) =>
      renewWindowMs(
        limiter.history,
        { leafTtlMs: 72 * HOUR, csrMaxPerSecond },
        elapsedMs(seen),
        true,
      ) / SECOND,
    window: (leafTtlMs = 72 * HOUR, csrMaxPerSecond = null) =>
      renewWindowMs(limiter.history, { leafTtlMs, csrMaxPerSecond }, elapsedMs(seen)) / SECOND,
  };
}

describe("renewWindowMs()", () => {
  it("is 30 seconds if nothing was signed, with a rate and without", () => {
    const { window } = start();
    assert.equal(window(), 30);
    assert.equal(window(HOUR, 0.001), 30);
  });

  it("is urgent after a drop: the whole rate, 50 leaves a second without one, at most five minutes", () => {
    const { sign, urgent } = start();
    assert.equal(urgent(null), 1);
    sign(1000);
    assert.deepEqual([urgent(null), urgent(50), urgent(200), urgent(1)], [20, 20, 5, 300]);
  });

  it("is the leaves divided by a quarter of CSRMaxPerSecond, rounded up", () => {
    const { sign, window } = start();
    sign(1000);
    assert.equal(window(72 * HOUR, 50), 80);
    assert.equal(window(72 * HOUR, 30), 134);
    assert.equal(window(72 * HOUR, 133.4), 30);
    assert.equal(window(72 * HOUR, 0.5), 8000);
  });

  it("is the leaves divided by a quarter of the most in any minute, without CSRMaxPerSecond", () => {
    const { clock, sign, window } = start();
    sign(5);
    // All of them in one minute: 4 minutes.
    assert.equal(window(), 240);
    clock.advance(MINUTE);
    sign(5);
    assert.equal(window(), 480);
    clock.advance(MINUTE);
    sign(20);
    // 30 leaves at a quarter of 20 a minute.
    assert.equal(window(), 360);
    clock.advance(59 * SECOND);
    sign(20);
    assert.equal(window(), 300);
  });

  it("is at most a sixth of LeafCertTTL, in whole seconds", () => {
    const { clock, sign, window } = start();
    for (let minute = 0; minute < 50; minute++) {
      sign(1);
      clock.advance(MINUTE);
    }
    assert.equal(window(HOUR), 600);
    assert.equal(window(3_603_000), 600);
    assert.equal(window(2 * HOUR), 1200);
    assert.equal(window(72 * HOUR), 50 * 240);
    assert.equal(window(HOUR, 1e-9), 600);
  });

  for (const [name, ttl, bucket] of [
    ["minutes", HOUR, MINUTE],
    ["minutes, at the most", DAY, MINUTE],
    ["hours", 72 * HOUR, HOUR],
    ["hours, at the most", 31 * DAY, HOUR],
    ["days", 90 * DAY, DAY],
    ["days, at the most", 8760 * HOUR, DAY],
  ] as const)
    it(`counts what is LeafCertTTL old no more, by buckets of ${name}`, () => {
      const { clock, sign, window } = start();
      sign(1000);
      clock.advance(ttl - bucket);
      assert.equal(window(ttl, 10), 400);
      // The oldest bucket counts in proportion.
      clock.advance(bucket + bucket / 2);
      assert.equal(window(ttl, 10), 200);
      clock.advance(bucket / 2);
      assert.equal(window(ttl, 10), 30);
    });

  it("keeps its memory bounded, and is empty after an idle time of any length", () => {
    const { clock, sign, window } = start();
    for (let day = 0; day < 800; day++) {
      sign(10);
      clock.advance(DAY);
    }
    assert.equal(window(8760 * HOUR, 1), 365 * 10 * 4);
    const { histories } = createReplicaMemory().limiter.signed;
    assert.ok(histories.reduce((sum, { counts }) => sum + counts.length, 0) < 3000);
    clock.advance(100 * 365 * DAY);
    assert.equal(window(8760 * HOUR, 1), 30);
    sign(1000);
    assert.equal(window(72 * HOUR, 10), 400);
  });

  it("follows another LeafCertTTL at once", () => {
    const { clock, sign, window } = start();
    for (let hour = 0; hour < 100; hour++) {
      sign(100);
      clock.advance(HOUR);
    }
    assert.deepEqual(
      [72 * HOUR, 20 * HOUR, HOUR, 8760 * HOUR].map((ttl) => window(ttl, 10)),
      [2880, 800, 40, 4000],
    );
  });

  it("does not go by the wall clock if there is a monotonic one", () => {
    const { clock, sign, window } = start();
    sign(1000);
    for (const ms of [400 * DAY, -800 * DAY, 3 * HOUR]) {
      clock.jump(ms);
      sign(1);
    }
    assert.equal(window(72 * HOUR, 10), 402);
  });

  it("keeps its counts if the wall clock is set back, and counts on", () => {
    const { clock, sign, window } = start(true);
    sign(500);
    clock.advance(2 * HOUR);
    sign(500);
    for (const ms of [-30 * MINUTE, -3 * HOUR, -400 * DAY]) {
      clock.jump(ms);
      assert.equal(window(72 * HOUR, 10), 400);
    }
    sign(100);
    assert.equal(window(72 * HOUR, 10), 440);
    clock.advance(73 * HOUR);
    assert.equal(window(72 * HOUR, 10), 30);
  });

  it("forgets what is older than LeafCertTTL if the wall clock is set ahead, and counts on", () => {
    const { clock, sign, window } = start(true);
    sign(1000);
    clock.jump(400 * DAY);
    assert.equal(window(72 * HOUR, 10), 30);
    sign(1000);
    clock.jump(-400 * DAY);
    sign(1000);
    assert.equal(window(72 * HOUR, 10), 800);
  });
});

describe("X-Meshca-Renew-Window", () => {
  it("goes by the leaves that were signed, renewals included, and refusals not, on every response with roots", async () => {
    const ca = await createTestCa();
    const { clock, manager, fetch } = await createTestApp({}, ca);
    const { csr } = opensslCsr(`URI:${serviceUri(manager, "web")}`);
    for (let minute = 0; minute < 3; minute++) {
      await manager.sign(csr, minute === 0 ? {} : { priority: "renewal" });
      const other = opensslCsr("URI:spiffe://other.consul/ns/default/dc/dc1/svc/web").csr;
      await assert.rejects(manager.sign(other));
      const forbidden = async () => {
        throw new Error("forbidden");
      };
      await assert.rejects(manager.sign(csr, { permit: forbidden }), /forbidden/);
      clock.advance(MINUTE);
    }
    const index = manager.require().state.index;
    for (const path of ["/v1/connect/ca/roots", "/v1/agent/connect/ca/roots"]) {
      const plain = await fetch(path);
      const etag = plain.headers.get("etag") ?? "";
      const unchanged = await fetch(path, { headers: { "If-None-Match": etag } });
      assert.equal(unchanged.status, 304);
      const blocking = await fetch(`${path}?index=${index + 7}`);
      const pem = await fetch(`${path}?pem=true`);
      for (const response of [plain, unchanged, blocking, pem])
        assert.equal(response.headers.get("x-meshca-renew-window"), String(3 * 240));
    }
    await manager.configure(configuration({ LeafCertTTL: "1h" }));
    const shorter = await fetch("/v1/connect/ca/roots");
    assert.equal(shorter.headers.get("x-meshca-renew-window"), "600");
    await manager.configure(configuration({ LeafCertTTL: "72h", CSRMaxPerSecond: 0.1 }));
    const limited = await fetch("/v1/connect/ca/roots");
    assert.equal(limited.headers.get("x-meshca-renew-window"), "120");
  });

  it("is the same for all requests of an isolate", async () => {
    const memory = createReplicaMemory();
    const ca = await createTestCa({ memory });
    const { csr } = opensslCsr(`URI:${serviceUri(ca.manager, "web")}`);
    await ca.manager.sign(csr);
    const { manager } = await createTestCa({ ...ca, memory, started: false });
    assert.equal(manager.renewWindowMs, 240 * SECOND);
  });
});
