/**
 * Blocking queries on the roots: how long a watcher waits, when it is woken, when it is forgotten.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { StoreError } from "../../src/core/errors.ts";
import { rootsBody } from "../../src/http/routes/roots.ts";
import { createTestCa } from "../fakes/ca.ts";
import { createTestApp, leafTtl, settle, type TestApp, until } from "../fixtures/app.ts";
import { overriding } from "../fixtures/overriding.ts";

const ROOTS = "/v1/connect/ca/roots";
const AGENT_ROOTS = "/v1/agent/connect/ca/roots";
const fixed = (fraction: number) => ({
  bytes: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
  fraction: () => fraction,
});

const indexOf = (response: Response) => Number(response.headers.get("x-consul-index"));

/** Asks and does not wait for the answer. */
function ask(test: TestApp, target: string, init?: RequestInit) {
  const asked = { answered: false, response: test.fetch(target, init) };
  asked.response.then(
    () => {
      asked.answered = true;
    },
    () => undefined,
  );
  return asked;
}

/** A test app whose index is above 1, so that there is an older one. */
async function start(fraction = 0): Promise<TestApp> {
  const test = await createTestApp({ runtime: { random: fixed(fraction) } });
  await test.fetch("/v1/connect/ca/configuration", leafTtl("71h"));
  return test;
}

for (const path of [ROOTS, AGENT_ROOTS])
  describe(`blocking on GET ${path}`, () => {
    it(`GET ${path} without an index, or with index 0, answers at once`, async () => {
      const test = await start();
      for (const query of ["", "?index=0", "?index=", "?wait=10s", "?index=0&wait=10s"]) {
        const answer = await test.fetch(path + query);
        assert.deepEqual([answer.status, indexOf(answer)], [200, 2], query);
      }
      assert.equal(test.app.watchers.count, 0);
    });

    it(`GET ${path} with an older index answers at once`, async () => {
      const test = await start();
      assert.equal(indexOf(await test.fetch(`${path}?index=1&wait=10s`)), 2);
      assert.equal(test.app.watchers.count, 0);
    });

    it(`GET ${path} with the present index answers the same index when the wait is over, not before`, async () => {
      const test = await start();
      const asked = ask(test, `${path}?index=2&wait=10s`);
      await until(() => test.app.watchers.count === 1);
      test.clock.advance(9_999);
      await settle();
      assert.equal(asked.answered, false);
      test.clock.advance(1);
      const answer = await asked.response;
      assert.deepEqual([answer.status, indexOf(answer)], [200, 2]);
      assert.equal(test.app.watchers.count, 0);
    });

    it(`GET ${path} is woken by a change of only LeafCertTTL, with an identical body and a higher index`, async () => {
      const test = await start();
      const before = await (await test.fetch(path)).text();
      const asked = ask(test, `${path}?index=2&wait=10s`);
      await until(() => test.app.watchers.count === 1);
      assert.equal((await test.fetch("/v1/connect/ca/configuration", leafTtl("70h"))).status, 200);
      const answer = await asked.response;
      assert.equal(indexOf(answer), 3);
      assert.equal(await answer.text(), before);
      assert.equal(test.app.watchers.count, 0);
    });

    it(`GET ${path} is woken by a rotation`, async () => {
      const test = await start();
      const before = await (await test.fetch(path)).text();
      const asked = ask(test, `${path}?index=2`);
      await until(() => test.app.watchers.count === 1);
      assert.equal((await test.fetch("/v1/connect/ca/rotate", { method: "PUT" })).status, 200);
      const answer = await asked.response;
      assert.equal(indexOf(answer), 3);
      assert.notEqual(await answer.text(), before);
    });

    it(`GET ${path} is not woken by a configuration that changes nothing`, async () => {
      const test = await start();
      const asked = ask(test, `${path}?index=2&wait=10s`);
      await until(() => test.app.watchers.count === 1);
      assert.equal((await test.fetch("/v1/connect/ca/configuration", leafTtl("71h"))).status, 200);
      await settle();
      assert.equal(asked.answered, false);
      test.app.close();
      await asked.response;
    });

    it(`GET ${path} with an index ahead of ours answers ours at once, after one read of the store`, async () => {
      const test = await start();
      const { manager } = test;
      let reads = 0;
      const counting = overriding(manager, {
        refresh() {
          reads++;
          return manager.refresh();
        },
      });
      const { fetch, app } = await createTestApp({ ca: counting }, test);
      const answer = await fetch(`${path}?index=1000&wait=10s`);
      assert.deepEqual([answer.status, indexOf(answer), reads], [200, 2, 1]);
      assert.equal(app.watchers.count, 0);
    });

    it(`GET ${path} with an index that another replica has reached takes it from the store and waits for the next`, async () => {
      const test = await start();
      const other = await createTestCa({
        started: false,
        backend: test.backend,
        clock: test.clock,
        sealer: test.sealer,
      });
      await other.manager.refresh();
      const second = await createTestApp({ runtime: { random: fixed(0) } }, other);
      await test.fetch("/v1/connect/ca/configuration", leafTtl("70h"));
      assert.equal(indexOf(await second.fetch(path)), 2);
      // Asked for what follows index 3, the second replica reads the store first; then 3 is the
      // present index.
      const asked = second.fetch(`${path}?index=3&wait=1s`);
      await until(() => second.app.watchers.count === 1);
      test.clock.advance(1000);
      assert.equal(indexOf(await asked), 3);
    });

    it(`GET ${path} waits 300 s by default, and 600 s at most`, async () => {
      for (const [query, seconds] of [
        ["index=2", 300],
        ["index=2&wait=0s", 300],
        ["index=2&wait=-5s", 300],
        ["index=2&wait=600s", 600],
        ["index=2&wait=10h", 600],
      ] as const) {
        const test = await start();
        const asked = ask(test, `${path}?${query}`);
        await until(() => test.app.watchers.count === 1);
        test.clock.advance(seconds * 1000 - 1);
        await settle();
        assert.equal(asked.answered, false, query);
        test.clock.advance(1);
        assert.equal(indexOf(await asked.response), 2, query);
      }
    });

    it(`GET ${path} lengthens a wait by up to a sixteenth`, async () => {
      const test = await start(0.999);
      const asked = ask(test, `${path}?index=2&wait=160s`);
      await until(() => test.app.watchers.count === 1);
      test.clock.advance(169_900);
      await settle();
      assert.equal(asked.answered, false);
      test.clock.advance(100);
      assert.equal(indexOf(await asked.response), 2);
    });

    it(`GET ${path} of a client that goes away frees its place`, async () => {
      const test = await start();
      const gone = new AbortController();
      const asked = ask(test, `${path}?index=2`, { signal: gone.signal });
      asked.response.catch(() => undefined);
      await until(() => test.app.watchers.count === 1);
      gone.abort();
      await until(() => test.app.watchers.count === 0);
    });

    it(`GET ${path} is answered when the server closes, and no request waits from then on`, async () => {
      const test = await start();
      const asked = [1, 2, 3].map(() => ask(test, `${path}?index=2`));
      await until(() => test.app.watchers.count === 3);
      test.app.close();
      for (const { response } of asked)
        assert.deepEqual([(await response).status, indexOf(await response)], [200, 2]);
      assert.equal(indexOf(await test.fetch(`${path}?index=2`)), 2);
      assert.equal(test.app.watchers.count, 0);
    });
  });

describe("waiting watchers", () => {
  it("rootsBody() is written once for all who watch the same snapshot", async () => {
    const { manager, clock } = await start();
    const snapshot = manager.require();
    const NOW = clock.now();
    assert.equal(rootsBody(snapshot, "json", NOW), rootsBody(snapshot, "json", NOW));
    assert.equal(
      rootsBody(snapshot, "json", NOW).content,
      rootsBody(snapshot, "json", NOW).content,
    );
    assert.equal(
      await rootsBody(snapshot, "json", NOW).gzip(),
      await rootsBody(snapshot, "json", NOW).gzip(),
    );
    assert.notEqual(rootsBody(snapshot, "json", NOW), rootsBody(snapshot, "pretty", NOW));
  });

  it("a thousand watchers are woken by one change with the same answer", async () => {
    const test = await start();
    const asked = Array.from({ length: 1000 }, () => ask(test, `${ROOTS}?index=2`));
    await until(() => test.app.watchers.count === 1000);
    await test.fetch("/v1/connect/ca/configuration", leafTtl("70h"));
    const answers = await Promise.all(
      asked.map(
        async ({ response }) => `${indexOf(await response)} ${await (await response).text()}`,
      ),
    );
    assert.equal(new Set(answers).size, 1);
    assert.match(answers[0] ?? "", /^3 \{"ActiveRootID"/);
    assert.equal(test.app.watchers.count, 0);
  });

  it("a request that will wait lifts the runtime's idle timeout, and a plain one does not", async () => {
    const test = await start();
    let held = 0;
    const environment = { holdOpen: () => held++ };
    const request = (query: string) =>
      new Request(`http://127.0.0.1${ROOTS}${query}`, { headers: { Host: "127.0.0.1" } });
    await test.app.fetch(request(""), environment);
    assert.equal(held, 0);
    const waiting = Promise.resolve(test.app.fetch(request("?index=2&wait=1s"), environment));
    await until(() => test.app.watchers.count === 1);
    assert.equal(held, 1);
    test.clock.advance(1000);
    await waiting;
  });
});

describe("X-Cache and Age of GET /v1/agent/connect/ca/roots", () => {
  const cacheOf = ({ headers }: Response) => [headers.get("x-cache"), headers.get("age")];

  it("GET /v1/agent/connect/ca/roots misses at first and hits from then on", async () => {
    const test = await start();
    assert.deepEqual(cacheOf(await test.fetch(AGENT_ROOTS)), ["MISS", null]);
    assert.deepEqual(cacheOf(await test.fetch(AGENT_ROOTS)), ["HIT", "0"]);
  });

  it("GET /v1/agent/connect/ca/roots misses if a wait ended without a change, and hits if it ended with one", async () => {
    const test = await start();
    await test.fetch(AGENT_ROOTS);
    const quiet = ask(test, `${AGENT_ROOTS}?index=2&wait=1s`);
    await until(() => test.app.watchers.count === 1);
    test.clock.advance(1000);
    assert.deepEqual(cacheOf(await quiet.response), ["MISS", null]);
    const woken = ask(test, `${AGENT_ROOTS}?index=2&wait=1s`);
    await until(() => test.app.watchers.count === 1);
    await test.fetch("/v1/connect/ca/configuration", leafTtl("70h"));
    assert.deepEqual(cacheOf(await woken.response), ["HIT", "0"]);
  });
});

describe("an index that this replica has not reached", () => {
  /** An app whose reads of the store are counted, and last until they are let through. */
  async function counted(held: boolean) {
    const ca = await createTestCa();
    const reads: (() => void)[] = [];
    const refresh = async () => {
      await new Promise<void>((resolve) => {
        reads.push(resolve);
        if (!held) resolve();
      });
      await ca.manager.refresh();
    };
    const manager = overriding(ca.manager, { refresh });
    return { test: await createTestApp({ ca: manager }, ca), reads };
  }
  const AHEAD = `${ROOTS}?index=18446744073709551615`;

  it("is looked for by one read of the store for all concurrent requests, and by another for later ones", async () => {
    const { test, reads } = await counted(true);
    const first = Array.from({ length: 200 }, () => ask(test, AHEAD));
    await until(() => reads.length === 1);
    const later = Array.from({ length: 200 }, () => ask(test, AHEAD));
    await settle();
    assert.equal(reads.length, 1);
    reads[0]?.();
    for (const { response } of first) assert.equal((await response).status, 200);
    await until(() => reads.length === 2);
    assert.equal(
      later.some(({ answered }) => answered),
      false,
    );
    reads[1]?.();
    for (const { response } of later) assert.equal(indexOf(await response), 1);
    assert.equal(reads.length, 2);
  });

  it("is read 50 times a second at most, for all clients together", async () => {
    const { test, reads } = await counted(false);
    for (let i = 0; i < 100; i++) await test.fetch(AHEAD);
    assert.equal(reads.length, 100);
    const asked = ask(test, AHEAD);
    await settle();
    assert.deepEqual([asked.answered, reads.length], [false, 100]);
    test.clock.advance(20);
    assert.equal((await asked.response).status, 200);
    assert.equal(reads.length, 101);
  });

  it("is looked for again after a read that failed", async () => {
    const ca = await createTestCa();
    let reads = 0;
    const refresh = async () => {
      if (++reads === 1) throw new StoreError("store_unavailable", "away");
    };
    const manager = overriding(ca.manager, { refresh });
    const test = await createTestApp({ ca: manager }, ca);
    assert.deepEqual(
      [(await test.fetch(AHEAD)).status, (await test.fetch(AHEAD)).status, reads],
      [200, 200, 2],
    );
  });
});
