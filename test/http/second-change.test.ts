/**
 * Changes that meet: one at a time, the other answered with Retry-After; and changes whose store
 * fails.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { StoreError } from "../../src/core/errors.ts";
import type { Store } from "../../src/core/ports/store.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { MemoryBackend } from "../../src/store/memory/store.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { createTestCa, opensslCsr, serviceUri } from "../fakes/ca.ts";
import { createFakeClock, passing } from "../fakes/clock.ts";
import { createTestApp, leafTtl, type TestApp, until } from "../fixtures/app.ts";
import { overriding } from "../fixtures/overriding.ts";
import { startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { put } from "../fixtures/refusals.ts";

const CONFIGURATION = "/v1/connect/ca/configuration";
const BUSY = 'CA is already in state "RECONFIGURING"';

/** An app over a store whose commits go through `commit`. */
async function startOver(
  commit: (inner: Store, ...args: Parameters<Store["commit"]>) => Promise<void>,
): Promise<TestApp> {
  const clock = createFakeClock();
  const sealer = createSealer(await readKeks(makeKek()));
  const backend = new MemoryBackend(clock);
  const { store, leases } = backend.open(createCodec(sealer), "test");
  const wrapped: Store = overriding(store, { commit: (...args) => commit(store, ...args) });
  return createTestApp({}, await createTestCa({ clock, sealer, backend, store: wrapped, leases }));
}

/** An app whose second commit waits until it is released. */
async function startHeld() {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let commits = 0;
  const test = await startOver(async (inner, ...args) => {
    commits++;
    if (commits === 2) await held;
    await inner.commit(...args);
  });
  return { test, letGo, committing: () => until(() => commits === 2) };
}

async function visible(test: TestApp): Promise<string[]> {
  return Promise.all(
    [CONFIGURATION, "/v1/connect/ca/roots"].map(async (path) => (await test.fetch(path)).text()),
  );
}

describe("a second change while one runs", () => {
  it("PUT /v1/connect/ca/configuration and PUT /v1/connect/ca/rotate answer 503 with Retry-After and Consul's text", async () => {
    const { test, letGo, committing } = await startHeld();
    const first = test.fetch(CONFIGURATION, leafTtl("71h"));
    await committing();
    const before = await visible(test);
    for (const [path, init] of [
      [CONFIGURATION, leafTtl("70h")],
      [
        CONFIGURATION,
        { method: "PUT", body: '{"Provider":"consul","Config":{"PrivateKeyBits":384}}' },
      ],
      ["/v1/connect/ca/rotate", { method: "PUT" }],
    ] as const) {
      const second = await test.fetch(path, init);
      assert.deepEqual(
        [second.status, await second.text(), second.headers.get("retry-after")],
        [503, BUSY, "1"],
      );
    }
    assert.deepEqual(await visible(test), before);
    letGo();
    assert.equal((await first).status, 200);
    assert.match((await visible(test))[0] ?? "", /"LeafCertTTL":"71h".*"ModifyIndex":2\}$/);
    assert.equal((await test.fetch(CONFIGURATION, leafTtl("70h"))).status, 200);
  });

  it("PUT /v1/connect/ca/configuration answers 503 while another replica changes something", async () => {
    const { test, letGo, committing } = await startHeld();
    const { leases } = test.backend.open(createCodec(test.sealer), "other");
    const { backend, clock, sealer } = test;
    const other = await createTestApp(
      {},
      await createTestCa({ started: false, backend, clock, sealer, leases }),
    );
    const first = test.fetch(CONFIGURATION, leafTtl("71h"));
    await committing();
    const second = await passing(clock, other.fetch(CONFIGURATION, leafTtl("70h")));
    assert.deepEqual(
      [second.status, await second.text(), second.headers.get("retry-after")],
      [503, BUSY, "1"],
    );
    letGo();
    assert.equal((await first).status, 200);
    assert.equal((await other.fetch(CONFIGURATION, leafTtl("70h"))).status, 200);
  });

  it("PUT /v1/connect/ca/sign and the roots are answered while a change runs", async () => {
    const { test, letGo, committing } = await startHeld();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const first = test.fetch("/v1/connect/ca/rotate", { method: "PUT" });
    await committing();
    assert.equal(
      (await test.fetch("/v1/connect/ca/sign", { method: "PUT", body: csr })).status,
      200,
    );
    assert.equal((await test.fetch("/v1/connect/ca/roots")).headers.get("x-consul-index"), "1");
    letGo();
    assert.equal((await first).status, 200);
    assert.equal((await test.fetch("/v1/connect/ca/roots")).headers.get("x-consul-index"), "2");
  });

  it("PUT /v1/connect/ca/configuration answers 200 or 503 to each of many at once, and every 200 is one step of the index", async () => {
    const server = await startServer();
    try {
      const sent = Array.from({ length: 20 }, (_, i) =>
        send(server.port, put({ Provider: "consul", Config: { LeafCertTTL: `${40 + i}h` } })),
      );
      const answers = await Promise.all(sent);
      const done = answers.filter((answer) => answer?.status === 200).length;
      for (const answer of answers)
        if (answer?.status !== 200)
          assert.deepEqual(
            [answer?.status, answer?.body, answer?.header("Retry-After")],
            [503, BUSY, "1"],
          );
      assert.ok(done >= 1);
      const { body = "" } =
        (await send(server.port, { method: "GET", target: CONFIGURATION })) ?? {};
      assert.equal(Number(/"ModifyIndex":(\d+)/.exec(body)?.[1]), 1 + done);
    } finally {
      await server.stop();
    }
  });
});

describe("a change whose store fails", () => {
  const lost = () =>
    new StoreError("store_unavailable", "Cannot write the state: the store is away");

  it("PUT /v1/connect/ca/configuration answers 503 if the commit failed, and the old state stays in use", async () => {
    let failing = false;
    const test = await startOver(async (inner, ...args) => {
      if (failing) throw lost();
      await inner.commit(...args);
    });
    failing = true;
    const before = await visible(test);
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    for (const body of [{ LeafCertTTL: "71h" }, { PrivateKeyBits: 384 }]) {
      const answer = await test.fetch(CONFIGURATION, {
        method: "PUT",
        body: JSON.stringify({ Provider: "consul", Config: body }),
      });
      assert.deepEqual(
        [answer.status, await answer.text()],
        [503, "Cannot write the state: the store is away"],
      );
      assert.deepEqual(await visible(test), before);
      assert.equal(
        (await test.fetch("/v1/connect/ca/sign", { method: "PUT", body: csr })).status,
        200,
      );
    }
    failing = false;
    assert.equal((await test.fetch(CONFIGURATION, leafTtl("71h"))).status, 200);
  });

  it("PUT /v1/connect/ca/configuration answers 200 if the commit succeeded and its response was lost", async () => {
    let losing = false;
    const test = await startOver(async (inner, ...args) => {
      await inner.commit(...args);
      if (losing) throw lost();
    });
    losing = true;
    assert.equal((await test.fetch(CONFIGURATION, leafTtl("71h"))).status, 200);
    assert.match((await visible(test))[0] ?? "", /"LeafCertTTL":"71h"/);
  });
});
