/**
 * GET /v1/connect/ca/roots: order, numbers, PEM, compression.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import { abandonedRoot } from "../core/ca/abandoned.ts";
import { createTestApp, type TestApp, until } from "../fixtures/app.ts";
import { startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";

const ROOTS = "/v1/connect/ca/roots";

interface Listed {
  readonly ActiveRootID: string;
  readonly Roots: readonly {
    readonly ID: string;
    readonly RootCert: string;
    readonly IntermediateCerts: readonly string[] | null;
    readonly Active: boolean;
    readonly ModifyIndex: number;
  }[];
}

/** An app that has rotated so many times. */
async function rotated(times: number): Promise<TestApp> {
  const test = await createTestApp();
  for (let i = 0; i < times; i++)
    assert.equal((await test.fetch("/v1/connect/ca/rotate", { method: "PUT" })).status, 200);
  return test;
}

const listed = async (test: TestApp) =>
  JSON.parse(await (await test.fetch(ROOTS)).text()) as Listed;

describe("GET /v1/connect/ca/roots", () => {
  it("GET /v1/connect/ca/roots lists roots by their IDs, one of them active, all with the index of the last change", async () => {
    const test = await rotated(4);
    const { ActiveRootID, Roots } = await listed(test);
    const ids = Roots.map(({ ID }) => ID);
    assert.equal(ids.length, 5);
    for (let i = 1; i < ids.length; i++) assert.ok((ids[i - 1] ?? "") < (ids[i] ?? ""));
    assert.deepEqual(
      Roots.filter(({ Active }) => Active).map(({ ID }) => ID),
      [ActiveRootID],
    );
    assert.deepEqual(new Set(Roots.map(({ ModifyIndex }) => ModifyIndex)), new Set([5]));
  });

  it("GET /v1/connect/ca/roots leaves out a retired root as soon as it has expired, and never the active one", async () => {
    const test = await createTestApp();
    const [first] = (await listed(test)).Roots;
    const end = new X509Certificate(first?.RootCert ?? "").validToDate;
    test.clock.advance(end.getTime() - test.clock.now().getTime() - 3_600_000);
    await test.manager.heartbeat();
    assert.equal((await test.fetch("/v1/connect/ca/rotate", { method: "PUT" })).status, 200);
    const before = await test.fetch(ROOTS);
    assert.equal((JSON.parse(await before.text()) as Listed).Roots.length, 2);
    test.clock.advance(3_600_000);
    const etag = before.headers.get("etag") ?? "";
    const after = await test.fetch(ROOTS, { headers: { "If-None-Match": etag } });
    assert.equal(after.status, 200);
    const { ActiveRootID, Roots } = JSON.parse(await after.text()) as Listed;
    assert.deepEqual(
      Roots.map(({ ID }) => ID),
      [ActiveRootID],
    );
    assert.notEqual(ActiveRootID, first?.ID);
    const pem = await (await test.fetch(`${ROOTS}?pem=true`)).text();
    assert.ok(!pem.includes(first?.RootCert.split("\n")[1] ?? "?"));
    const again = after.headers.get("etag") ?? "";
    assert.equal((await test.fetch(ROOTS, { headers: { "If-None-Match": again } })).status, 304);
    // A clock that was ahead brings it back.
    test.clock.advance(-1000);
    assert.equal((await listed(test)).Roots.length, 2);
    // Consul's clients look for the active root, though it verifies nothing.
    test.clock.advance(20 * 365 * 86_400_000);
    assert.equal((await listed(test)).Roots.length, 1);
  });

  it("GET /v1/connect/ca/roots gives the fingerprint as ID and the low 64 bits of the serial as a number, exactly", async () => {
    const test = await createTestApp();
    const text = await (await test.fetch(ROOTS)).text();
    const [root] = (JSON.parse(text) as Listed).Roots;
    const certificate = new X509Certificate(root?.RootCert ?? "");
    assert.equal(root?.ID, certificate.fingerprint.toLowerCase());
    assert.equal(
      /"SerialNumber":(\d+)/.exec(text)?.[1],
      BigInt(`0x${certificate.serialNumber.slice(-16)}`).toString(),
    );
  });

  it("GET /v1/connect/ca/roots?pem=true gives every root with its intermediates in the order of the listing", async () => {
    const test = await rotated(2);
    const { Roots } = await listed(test);
    const response = await test.fetch(`${ROOTS}?pem=true`);
    assert.equal(response.headers.get("content-type"), "application/pem-certificate-chain");
    assert.equal(response.headers.get("x-consul-index"), "3");
    assert.equal(
      await response.text(),
      Roots.map(
        ({ RootCert, IntermediateCerts }) => RootCert + (IntermediateCerts ?? []).join(""),
      ).join(""),
    );
  });

  it("GET /v1/connect/ca/roots is cacheable for a second, and has the commit id as its ETag", async () => {
    const test = await createTestApp();
    for (const path of [ROOTS, `${ROOTS}?pem=true`, "/v1/agent/connect/ca/roots"]) {
      const first = await test.fetch(path);
      const tag = first.headers.get("etag") ?? "";
      assert.equal(first.headers.get("cache-control"), "public, max-age=1");
      assert.equal(tag, `W/"${test.manager.require().state.commitId}"`);
      for (const known of [tag, tag.slice(2), `"other", ${tag}`, "*"]) {
        const same = await test.fetch(path, { headers: { "If-None-Match": known } });
        assert.deepEqual([same.status, await same.text()], [304, ""]);
        assert.deepEqual(
          [same.headers.get("etag"), same.headers.get("cache-control")],
          [tag, "public, max-age=1"],
        );
        assert.equal(same.headers.get("x-consul-index"), first.headers.get("x-consul-index"));
      }
      assert.equal(
        (await test.fetch(path, { headers: { "If-None-Match": '"other"' } })).status,
        200,
      );
    }
    const before = (await test.fetch(ROOTS)).headers.get("etag") ?? "";
    await test.fetch("/v1/connect/ca/rotate", { method: "PUT" });
    const after = await test.fetch(ROOTS, { headers: { "If-None-Match": before } });
    assert.equal(after.status, 200);
    assert.notEqual(after.headers.get("etag"), before);
  });

  it("GET /v1/connect/ca/roots that may wait is never stored by a cache, even with a known ETag", async () => {
    const test = await rotated(1);
    for (const path of [ROOTS, "/v1/agent/connect/ca/roots"]) {
      const { headers } = await test.fetch(path);
      const waited = await test.fetch(`${path}?index=1&wait=1s`, {
        headers: { "If-None-Match": headers.get("etag") ?? "" },
      });
      assert.deepEqual([waited.status, waited.headers.get("cache-control")], [200, "no-store"]);
    }
  });

  it("GET /v1/connect/ca/roots compresses large answers for those who take gzip, with the same headers", async () => {
    const test = await createTestApp();
    const plain = await test.fetch(ROOTS);
    for (const [accept, gzip] of [
      ["gzip", true],
      ["deflate, GZIP;q=0.5", true],
      ["*", true],
      ["gzip;q=0", false],
      ["identity", false],
      ["x-gzip", false],
    ] as const) {
      const answer = await test.fetch(ROOTS, { headers: { "Accept-Encoding": accept } });
      assert.equal(answer.headers.get("content-encoding"), gzip ? "gzip" : null, accept);
      const bytes = new Uint8Array(await answer.arrayBuffer());
      assert.equal(
        new TextDecoder().decode(gzip ? gunzipSync(bytes) : bytes),
        await plain.clone().text(),
      );
      for (const name of ["x-consul-index", "vary", "content-type"])
        assert.equal(answer.headers.get(name), plain.headers.get(name));
    }
  });

  it("GET /v1/connect/ca/roots does not compress a short body", async () => {
    const test = await createTestApp();
    const headers = { "Accept-Encoding": "gzip" };
    assert.equal(
      (await test.fetch("/v1/connect/ca/configuration", { headers })).headers.get(
        "content-encoding",
      ),
      null,
    );
    assert.equal(
      (await test.fetch(`${ROOTS}?pem=true`, { headers })).headers.get("content-encoding"),
      null,
    );
  });

  it("GET /v1/connect/ca/roots of a client that closes its connection frees its place in the server", async () => {
    const server = await startServer();
    try {
      const watchers = async () => {
        const { body = "" } =
          (await send(server.port, { method: "GET", target: "/metrics" })) ?? {};
        return Number(/^meshca_\w*watchers\w* (\d+)$/m.exec(body)?.[1]);
      };
      let waiting = 0;
      const watch = async (count: number) => {
        while (waiting !== count) waiting = await watchers();
      };
      const gone = new AbortController();
      const asked = fetch(`${server.url}${ROOTS}?index=1&wait=600s`, { signal: gone.signal }).catch(
        () => null,
      );
      await watch(1);
      gone.abort();
      assert.equal(await asked, null);
      await watch(0);
      await until(() => waiting === 0);
    } finally {
      await server.stop();
    }
  });

  it("GET /v1/connect/ca/roots marks abandoned roots and no other, and changes name them in a header", async () => {
    const { ca } = await abandonedRoot(new Date());
    const test = await createTestApp({}, ca);
    const { Roots } = (await (await test.fetch(ROOTS)).json()) as {
      Roots: { ID: string; Abandoned?: boolean }[];
    };
    const abandoned = Roots.filter((root) => "Abandoned" in root);
    assert.deepEqual(
      abandoned.map(({ Abandoned }) => Abandoned),
      [true],
    );
    const ttl = JSON.stringify({ Provider: "consul", Config: { LeafCertTTL: "71h" } });
    const configured = await test.fetch("/v1/connect/ca/configuration", {
      method: "PUT",
      body: ttl,
    });
    const force = JSON.stringify({ ForceWithoutCrossSigning: true });
    const again = await test.fetch("/v1/connect/ca/rotate", { method: "PUT", body: force });
    for (const answer of [configured, again]) assert.equal(answer.status, 200);
    assert.equal(configured.headers.get("X-Meshca-Abandoned-Roots"), abandoned[0]?.ID);
    const now = ca.manager.require().state.roots.filter(({ abandoned }) => abandoned);
    assert.equal(again.headers.get("X-Meshca-Abandoned-Roots"), now.map(({ id }) => id).join(", "));
    assert.ok(now.length > 1);
    const other = await rotated(1);
    const plain = await other.fetch("/v1/connect/ca/rotate", { method: "PUT" });
    assert.equal(plain.headers.get("X-Meshca-Abandoned-Roots"), null);
    assert.ok((await listed(other)).Roots.every((root) => !("Abandoned" in root)));
  });
});

describe("MESHCA_MAX_CHAIN_LENGTH", () => {
  it("refuses the rotation past it with the instant from which it works, and names what force abandons before and after", async () => {
    const server = await startServer({ MESHCA_MAX_CHAIN_LENGTH: "3" });
    const rotate = (body?: string) =>
      fetch(`${server.url}/v1/connect/ca/rotate`, {
        method: "PUT",
        ...(body === undefined ? {} : { body }),
      });
    try {
      for (let i = 0; i < 2; i++) assert.equal((await rotate()).status, 200);
      const refused = await rotate();
      const text = await refused.text();
      assert.equal(refused.status, 409, text);
      assert.match(
        text,
        /^Cannot rotate: the chain of a leaf would have 4 certificates, and at most 3 are allowed/,
      );
      const [, from = "", id] =
        /possible from (\S+) on, .* abandons root ([0-9a-f:]+):/.exec(text) ?? [];
      const days = (Date.parse(from) - Date.now()) / 86_400_000;
      assert.ok(days > 6 && days < 7, from);
      assert.ok(Number(refused.headers.get("Retry-After")) > 6 * 86_400);
      const forced = await rotate(JSON.stringify({ ForceWithoutCrossSigning: true }));
      assert.deepEqual([forced.status, forced.headers.get("X-Meshca-Abandoned-Roots")], [200, id]);
      const { Roots } = (await (await fetch(`${server.url}${ROOTS}`)).json()) as {
        Roots: { ID: string; Abandoned?: boolean }[];
      };
      assert.deepEqual(
        Roots.filter(({ Abandoned }) => Abandoned).map(({ ID }) => ID),
        [id],
      );
    } finally {
      await server.stop();
    }
  });
});
