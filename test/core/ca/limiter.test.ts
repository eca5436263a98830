/**
 * Limits of signing: per second, concurrent, and in flight in total.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { Limiter, type Limits } from "../../../src/core/ca/limiter.ts";
import { RateLimitedError } from "../../../src/core/errors.ts";
import { createFakeClock, type FakeClock } from "../../fakes/clock.ts";

const NONE: Limits = { csrMaxPerSecond: null, csrMaxConcurrent: null };
let clock: FakeClock;
let limiter: Limiter;

beforeEach(() => {
  clock = createFakeClock();
  limiter = new Limiter(clock, {
    maxPendingLeaves: 10,
    maxWorkingLeaves: 4,
    maxQueueMs: 500,
    renewalShare: 0,
  });
});

/** Takes a turn, works and gives the turn back, as issuing a leaf does. */
async function run<T>(limits: Limits, work: () => Promise<T>): Promise<T> {
  limiter.arrive("issue");
  try {
    const turn = limiter.enter(limits, "issue");
    if (turn !== null) await turn;
    try {
      return await work();
    } finally {
      limiter.leave(limits);
    }
  } finally {
    limiter.depart();
  }
}

/** Lets everything run that can run without time passing. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Work that ends when the test lets it end. */
function job(limits: Limits) {
  const gate = Promise.withResolvers<void>();
  const seen = { started: false, outcome: "pending" };
  const done = run(limits, async () => {
    seen.started = true;
    await gate.promise;
    return "done";
  }).then(
    (value) => {
      seen.outcome = value;
    },
    (error: unknown) => {
      assert.ok(error instanceof RateLimitedError);
      seen.outcome = `limited ${error.retryAfterMs}`;
    },
  );
  return { seen, finish: gate.resolve, fail: gate.reject, done };
}

async function quick(limits: Limits): Promise<string> {
  return run(limits, async () => "done");
}

const limited = (error: unknown) => {
  assert.ok(error instanceof RateLimitedError);
  assert.equal(error.message, "Rate limit reached, try again later");
  assert.equal(error.code, "sign_rate_limited");
  assert.ok((error.retryAfterMs ?? 0) > 0);
  return true;
};

describe("Limiter with CSRMaxPerSecond", () => {
  const limits: Limits = { csrMaxPerSecond: 10, csrMaxConcurrent: null };

  it("enter() admits the first request at once and the next when a token is available", async () => {
    assert.equal(await quick(limits), "done");
    const second = job(limits);
    second.finish();
    await settle();
    assert.equal(second.seen.started, false);
    clock.advance(99);
    await settle();
    assert.equal(second.seen.started, false);
    clock.advance(1);
    await second.done;
    assert.equal(second.seen.outcome, "done");
  });

  it("enter() refuses at once a request that would wait longer than half a second, and returns for how long", async () => {
    await quick(limits);
    const waiting = Array.from({ length: 5 }, () => job(limits));
    for (const { finish } of waiting) finish();
    await assert.rejects(quick(limits), limited);
    clock.advance(500);
    await Promise.all(waiting.map(({ done }) => done));
    assert.ok(waiting.every(({ seen }) => seen.outcome === "done"));
  });

  it("enter() does not count refused requests in the queue", async () => {
    await quick(limits);
    const waiting = Array.from({ length: 5 }, () => job(limits));
    for (let i = 0; i < 20; i++) await assert.rejects(quick(limits), limited);
    for (const { finish } of waiting) finish();
    clock.advance(600);
    await Promise.all(waiting.map(({ done }) => done));
    assert.equal(await quick(limits), "done");
  });

  it("enter() grants no more than the rate over any span, and accumulates no burst while idle", async () => {
    clock.advance(60_000);
    const attempts: ReturnType<typeof job>[] = [];
    for (let ms = 0; ms < 2000; ms += 50) {
      const more = [job(limits), job(limits), job(limits)];
      for (const { finish } of more) finish();
      attempts.push(...more);
      await settle();
      clock.advance(50);
      await settle();
    }
    clock.advance(10_000);
    await Promise.all(attempts.map(({ done }) => done));
    const passed = attempts.filter(({ seen }) => seen.outcome === "done").length;
    assert.ok(passed >= 20 && passed <= 27, `${passed} passed in two seconds at ten a second`);
  });

  it("enter() takes a rate below one a second", async () => {
    const slow: Limits = { csrMaxPerSecond: 0.5, csrMaxConcurrent: null };
    await quick(slow);
    await assert.rejects(
      quick(slow),
      (error: unknown) => limited(error) && (error as RateLimitedError).retryAfterMs === 2000,
    );
    clock.advance(2000);
    assert.equal(await quick(slow), "done");
  });

  it("enter() applies a raised rate within half a second, whatever the debt under the old one", async () => {
    const slow: Limits = { csrMaxPerSecond: 0.01, csrMaxConcurrent: null };
    assert.equal(await quick(slow), "done");
    await assert.rejects(quick(slow), limited);
    const fast: Limits = { csrMaxPerSecond: 1000, csrMaxConcurrent: null };
    await assert.rejects(quick(fast), limited);
    clock.advance(1);
    const next = job(fast);
    next.finish();
    clock.advance(500);
    await next.done;
    assert.equal(next.seen.outcome, "done");
  });

  it("enter() ignores CSRMaxConcurrent if CSRMaxPerSecond is set", async () => {
    const both: Limits = { csrMaxPerSecond: 1000, csrMaxConcurrent: 1 };
    const jobs = [job(both), job(both), job(both)];
    clock.advance(10);
    await settle();
    assert.ok(jobs.every(({ seen }) => seen.started));
    for (const { finish } of jobs) finish();
    await Promise.all(jobs.map(({ done }) => done));
  });
});

describe("Limiter with CSRMaxConcurrent", () => {
  const limits: Limits = { csrMaxPerSecond: null, csrMaxConcurrent: 2 };

  it("enter() starts no more than the limit at once, and the next in order when one ends", async () => {
    const jobs = Array.from({ length: 4 }, () => job(limits));
    const started = () => jobs.map(({ seen }) => seen.started);
    await settle();
    assert.deepEqual(started(), [true, true, false, false]);
    jobs[1]?.finish();
    await settle();
    assert.deepEqual(started(), [true, true, true, false]);
    jobs[0]?.finish();
    await settle();
    assert.deepEqual(started(), [true, true, true, true]);
    for (const { finish } of jobs) finish();
    await Promise.all(jobs.map(({ done }) => done));
    assert.equal(clock.sleepers, 0);
  });

  it("enter() refuses a request after half a second of waiting, and gives the place to the next", async () => {
    const [first, second] = [job(limits), job(limits)];
    const early = job(limits);
    await settle();
    clock.advance(300);
    const late = job(limits);
    await settle();
    clock.advance(200);
    await early.done;
    assert.equal(early.seen.outcome, "limited 500");
    first.finish();
    await settle();
    assert.equal(late.seen.started, true);
    second.finish();
    late.finish();
    await Promise.all([first.done, second.done, late.done]);
    assert.equal(limiter.inFlight, 0);
  });

  it("leave() frees the place of work that failed", async () => {
    for (let i = 0; i < 5; i++)
      await assert.rejects(
        run(limits, () => Promise.reject(new Error("no"))),
        /no/,
      );
    const [first, second] = [job(limits), job(limits)];
    await settle();
    assert.ok(first.seen.started && second.seen.started);
    first.finish();
    second.finish();
    await Promise.all([first.done, second.done]);
  });

  it("leave() loses no place if a wait ends at the same moment as work", async () => {
    for (let round = 0; round < 10; round++) {
      const one: Limits = { csrMaxPerSecond: null, csrMaxConcurrent: 1 };
      const [running, waiting] = [job(one), job(one)];
      await settle();
      running.finish();
      clock.advance(500);
      waiting.finish();
      await Promise.all([running.done, waiting.done]);
      assert.equal(await quick(one), "done");
      assert.equal(limiter.inFlight, 0);
    }
  });
});

describe("Limiter without limits", () => {
  it("enter() admits at once, without a promise", () => {
    assert.equal(limiter.enter(NONE, "issue"), null);
    limiter.leave(NONE);
  });

  it("arrive() counts a request until depart(), and does not count refused ones", () => {
    for (let i = 0; i < 10; i++) limiter.arrive("issue");
    assert.throws(() => limiter.arrive("issue"), limited);
    assert.equal(limiter.inFlight, 10);
    for (let i = 0; i < 10; i++) limiter.depart();
    assert.equal(limiter.inFlight, 0);
  });

  it("arrive() bounds the requests in flight, and admits more when some have ended", async () => {
    const jobs = Array.from({ length: 10 }, () => job(NONE));
    await settle();
    assert.equal(limiter.inFlight, 10);
    await assert.rejects(quick(NONE), limited);
    assert.equal(limiter.inFlight, 10);
    jobs[0]?.finish();
    await jobs[0]?.done;
    assert.equal(await quick(NONE), "done");
    for (const { finish } of jobs) finish();
    await Promise.all(jobs.map(({ done }) => done));
    assert.equal(limiter.inFlight, 0);
  });

  it("arrive() counts waiting requests as in flight", async () => {
    const one: Limits = { csrMaxPerSecond: null, csrMaxConcurrent: 1 };
    const jobs = Array.from({ length: 10 }, () => job(one));
    await settle();
    await assert.rejects(quick(NONE), limited);
    clock.advance(500);
    for (const { finish } of jobs) finish();
    await Promise.all(jobs.map(({ done }) => done));
    assert.equal(limiter.inFlight, 0);
    assert.equal(await quick(NONE), "done");
  });
});

describe("Limiter with a share for renewals", () => {
  const one: Limits = { csrMaxPerSecond: null, csrMaxConcurrent: 1 };
  beforeEach(() => {
    limiter = new Limiter(clock, {
      maxPendingLeaves: 8,
      maxWorkingLeaves: 2,
      maxQueueMs: 500,
      renewalShare: 0.25,
    });
  });

  it("arrive() reserves a share of the places for renewals (consul#12593)", () => {
    for (let i = 0; i < 6; i++) limiter.arrive("issue");
    assert.throws(() => limiter.arrive("issue"), limited);
    assert.throws(() => limiter.requireRoom("issue"), limited);
    limiter.requireRoom("renewal");
    limiter.arrive("renewal");
    limiter.arrive("renewal");
    assert.throws(() => limiter.arrive("renewal"), limited);
    limiter.depart();
    assert.throws(() => limiter.arrive("issue"), limited);
    limiter.arrive("renewal");
    assert.equal(limiter.inFlight, 8);
  });

  it("enter() gives a free place to renewals before first issues, each in their order", async () => {
    const order: string[] = [];
    assert.equal(await limiter.enter(one, "issue"), undefined);
    const asked = (["issue", "renewal", "issue", "renewal"] as const).map((priority, i) =>
      limiter.enter(one, priority)?.then(() => order.push(`${priority} ${i}`)),
    );
    for (let i = 0; i < 4; i++) {
      limiter.leave(one);
      await settle();
    }
    await Promise.all(asked);
    assert.deepEqual(order, ["renewal 1", "renewal 3", "issue 0", "issue 2"]);
  });

  it("enter() lets renewals wait longer for a token than Consul's half second, and no other request", async () => {
    const limits: Limits = { csrMaxPerSecond: 10, csrMaxConcurrent: null };
    const turns = Array.from({ length: 6 }, () => limiter.enter(limits, "issue"));
    await assert.rejects(limiter.enter(limits, "issue") as Promise<void>, limited);
    const renewal = limiter.enter(limits, "renewal");
    await assert.rejects(limiter.enter(limits, "issue") as Promise<void>, limited);
    clock.advance(700);
    await Promise.all([...turns, renewal]);
  });

  it("work() runs up to the limit at once, and gives a free place to renewals first", async () => {
    assert.deepEqual([limiter.work("issue"), limiter.work("issue")], [null, null]);
    const order: string[] = [];
    const asked = (["issue", "renewal", "issue", "renewal"] as const).map((priority, i) =>
      limiter.work(priority)?.then(() => order.push(`${priority} ${i}`)),
    );
    for (let i = 0; i < 4; i++) {
      limiter.pause();
      await settle();
    }
    await Promise.all(asked);
    assert.deepEqual(order, ["renewal 1", "renewal 3", "issue 0", "issue 2"]);
    limiter.pause();
    limiter.pause();
    assert.deepEqual([limiter.work("issue"), limiter.work("issue")], [null, null]);
    assert.notEqual(limiter.work("issue"), null);
  });
});
