/**
 * Reading the configuration, changing it and sending it back: secrets, names, indexes, what rotates
 * and what does not.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { trustDomain } from "../fakes/ca.ts";
import { createTestApp, leafTtl, type TestApp } from "../fixtures/app.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";

const CONFIGURATION = "/v1/connect/ca/configuration";

interface Read {
  readonly Provider: string;
  readonly Config: Readonly<Record<string, unknown>> | null;
  readonly ForceWithoutCrossSigning: boolean;
  readonly ModifyIndex: number;
}

const read = async (test: TestApp) =>
  JSON.parse(await (await test.fetch(CONFIGURATION)).text()) as Read;
const activeRoot = (test: TestApp) => test.manager.require().active.id;

/** Sends a configuration. @returns the status, and the text of a refusal. */
async function put(test: TestApp, body: unknown): Promise<[number, string]> {
  const answer = await test.fetch(CONFIGURATION, { method: "PUT", body: JSON.stringify(body) });
  return [answer.status, await answer.text()];
}

const OK = [200, ""];

/** An app whose key and root were supplied. */
async function supplied(): Promise<{ test: TestApp; key: string; certificate: string }> {
  const test = await createTestApp();
  const { key, certificate } = makeRoot(trustDomain(test.manager));
  test.clock.advance(Date.now() - test.clock.now().getTime());
  assert.deepEqual(
    await put(test, { Provider: "consul", Config: { PrivateKey: key, RootCert: certificate } }),
    OK,
  );
  return { test, key, certificate };
}

describe("PUT /v1/connect/ca/configuration", () => {
  it("GET /v1/connect/ca/configuration reads hidden for a supplied key, and sent back it changes nothing", async () => {
    const { test, certificate } = await supplied();
    const before = await read(test);
    assert.deepEqual(before.Config, { PrivateKey: "hidden", RootCert: certificate });
    assert.deepEqual(await put(test, before), OK);
    assert.deepEqual(await read(test), before);
  });

  it("PUT /v1/connect/ca/configuration keeps a hidden key while something else changes", async () => {
    const { test } = await supplied();
    const [before, root] = [await read(test), activeRoot(test)];
    assert.deepEqual(
      await put(test, { ...before, Config: { ...before.Config, LeafCertTTL: "50h" } }),
      OK,
    );
    assert.equal(activeRoot(test), root);
    assert.deepEqual((await read(test)).Config, { LeafCertTTL: "50h", ...before.Config });
  });

  it("PUT /v1/connect/ca/configuration with the same key in full changes nothing", async () => {
    const { test, key, certificate } = await supplied();
    const before = await read(test);
    assert.deepEqual(
      await put(test, { Provider: "consul", Config: { PrivateKey: key, RootCert: certificate } }),
      OK,
    );
    assert.deepEqual(await read(test), before);
  });

  it("PUT /v1/connect/ca/configuration without the key drops it, and rotates to a root of its own", async () => {
    const { test } = await supplied();
    const root = activeRoot(test);
    assert.deepEqual(await put(test, { Provider: "consul", Config: {} }), OK);
    assert.notEqual(activeRoot(test), root);
    assert.deepEqual((await read(test)).Config, {});
    const [status, text] = await put(test, {
      Provider: "consul",
      Config: { PrivateKey: "hidden" },
    });
    assert.equal(status, 400);
    assert.match(text, /none is stored: send the value itself$/);
  });

  it("PUT /v1/connect/ca/configuration never shows a key under any spelling of its name", async () => {
    const test = await createTestApp();
    const { key } = makeRoot(trustDomain(test.manager));
    assert.deepEqual(await put(test, { Provider: "consul", Config: { privatekey: key } }), OK);
    assert.deepEqual((await read(test)).Config, { privatekey: "hidden" });
  });

  it("PUT /v1/connect/ca/configuration compares ModifyIndex if it is not 0", async () => {
    const test = await createTestApp();
    for (const [index, expected] of [
      [1, OK],
      [1, [409, "ModifyIndex did not match existing"]],
      [0, OK],
      [3, OK],
    ] as const) {
      const Config = { LeafCertTTL: `${50 + (await read(test)).ModifyIndex}h` };
      assert.deepEqual(
        await put(test, { Provider: "consul", Config, ModifyIndex: index }),
        expected,
      );
    }
    assert.equal((await read(test)).ModifyIndex, 4);
  });

  it("PUT /v1/connect/ca/configuration rotates if the key changes, and only then", async () => {
    const test = await createTestApp();
    for (const [Config, rotates] of [
      [{ LeafCertTTL: "50h" }, false],
      [{ RootCertTTL: "90000h" }, false],
      [{ CSRMaxPerSecond: 1000 }, false],
      [{ PrivateKeyBits: 384 }, true],
      [{ PrivateKeyBits: "384" }, false],
      [{ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }, true],
    ] as const) {
      const root = activeRoot(test);
      assert.deepEqual(await put(test, { Provider: "consul", Config }), OK, JSON.stringify(Config));
      assert.equal(activeRoot(test) !== root, rotates, JSON.stringify(Config));
    }
  });

  it("PUT /v1/connect/ca/configuration echoes ForceWithoutCrossSigning, which does not stick", async () => {
    const test = await createTestApp();
    assert.deepEqual(
      await put(test, {
        Provider: "consul",
        Config: { LeafCertTTL: "50h" },
        force_without_cross_signing: true,
      }),
      OK,
    );
    assert.equal((await read(test)).ForceWithoutCrossSigning, true);
    assert.equal((await test.fetch(CONFIGURATION, leafTtl("51h"))).status, 200);
    assert.equal((await read(test)).ForceWithoutCrossSigning, false);
  });

  it("PUT /v1/connect/ca/rotate answers the new root and index, and keeps the configuration", async () => {
    const test = await createTestApp();
    const before = await read(test);
    const answer = await test.fetch("/v1/connect/ca/rotate", {
      method: "PUT",
      body: JSON.stringify({ ModifyIndex: 1 }),
    });
    assert.equal(await answer.text(), `{"ActiveRootID":"${activeRoot(test)}","ModifyIndex":2}`);
    assert.deepEqual(await read(test), { ...before, ModifyIndex: 2 });
  });
});
