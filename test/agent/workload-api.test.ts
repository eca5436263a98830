/**
 * The SPIFFE Workload API on a real socket: what its messages have, when they come, and when a
 * stream ends.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { concat } from "../../src/core/bytes.ts";
import { startEndpoint, until } from "./endpoint.ts";

/** The certificates of DER that stands one after the other. */
function certificatesOf(der: Buffer): X509Certificate[] {
  const found: X509Certificate[] = [];
  for (let at = 0; at < der.length; ) {
    // A certificate is a SEQUENCE of 256 to 65535 octets, whose length has two octets.
    assert.deepEqual([der[at], der[at + 1]], [0x30, 0x82]);
    const end = at + 4 + der.readUInt16BE(at + 2);
    found.push(new X509Certificate(der.subarray(at, end)));
    at = end;
  }
  return found;
}

describe("FetchX509SVID", () => {
  it("answers at once with the identity, its key, its chain and the roots", async () => {
    await using endpoint = await startEndpoint();
    const { stream, reader } = endpoint.client.svids();
    const { svids, crl, federatedBundles } = await reader.next();
    assert.deepEqual([crl, federatedBundles], [[], {}]);
    assert.equal(svids.length, 1);
    const [svid] = svids;
    assert.ok(svid !== undefined);
    const current = endpoint.set.workloads[0]?.svid.current;
    assert.equal(svid.spiffeId, current?.spiffeId);
    assert.equal(svid.hint, "web");
    const [leaf, ...chain] = certificatesOf(svid.x509Svid);
    assert.equal(leaf?.subjectAltName, `URI:${svid.spiffeId}`);
    assert.equal(chain.length, (current?.chain.length ?? 0) - 1);
    const key = createPrivateKey({ key: svid.x509SvidKey, format: "der", type: "pkcs8" });
    assert.equal(leaf?.checkPrivateKey(key), true);
    assert.deepEqual(
      certificatesOf(svid.bundle).map(({ raw }) => Buffer.from(raw)),
      endpoint.set.bundle.current?.roots.map((root) => Buffer.from(root)),
    );
    stream.cancel();
  });

  it("sends a message for a new leaf, and one for new roots", async () => {
    await using endpoint = await startEndpoint();
    const { reader } = endpoint.client.svids();
    const first = await reader.next();
    const renewed = await endpoint.set.renew();
    const second = await reader.next();
    assert.deepEqual(second.svids[0]?.x509Svid, Buffer.from(concat(...renewed.chain)));
    assert.notDeepEqual(second.svids[0]?.x509SvidKey, first.svids[0]?.x509SvidKey);
    const { set } = endpoint;
    assert.ok(set.bundle.current !== null);
    const [root] = set.bundle.current.roots;
    assert.ok(root !== undefined);
    set.bundle.set({ ...set.bundle.current, roots: [root, root] });
    assert.deepEqual((await reader.next()).svids[0]?.bundle, Buffer.from(concat(root, root)));
  });

  it("sends two changes of one moment as one message, and none if nothing changed", async () => {
    await using endpoint = await startEndpoint(["web", "api"]);
    const { set, client } = endpoint;
    const { reader } = client.svids();
    await reader.next();
    const { svid } = set.workloads[0] ?? assert.fail();
    const { svid: other } = set.workloads[1] ?? assert.fail();
    const [a, b] = [svid.current, other.current];
    assert.ok(a !== null && b !== null);
    const key = new Uint8Array(3);
    svid.set({ ...a, privateKey: key });
    other.set({ ...b, privateKey: key });
    const { svids } = await reader.next();
    assert.deepEqual(
      svids.map(({ x509SvidKey }) => x509SvidKey),
      [Buffer.from(key), Buffer.from(key)],
    );
    // The same again, then a change: the next message is that of the change.
    svid.set({ ...a, privateKey: key });
    await new Promise((resolve) => setImmediate(resolve));
    other.set({ ...b, privateKey: new Uint8Array(4) });
    assert.equal((await reader.next()).svids[1]?.x509SvidKey.length, 4);
  });

  it("sends several identities with the default one first, each with its own hint", async () => {
    await using endpoint = await startEndpoint(["web", "api", "db"]);
    const { reader } = endpoint.client.svids();
    const { svids } = await reader.next();
    assert.deepEqual(
      svids.map(({ hint, spiffeId }) => [hint, spiffeId.split("/").at(-1)]),
      [
        ["web", "web"],
        ["api", "api"],
        ["db", "db"],
      ],
    );
  });

  it("leaves an expired identity out, and ends with Unavailable if none is left", async () => {
    await using endpoint = await startEndpoint(["web", "api"]);
    const { set, client, metrics } = endpoint;
    const { reader } = client.svids();
    await reader.next();
    set.workloads[0]?.svid.set(null);
    assert.deepEqual(
      (await reader.next()).svids.map(({ hint }) => hint),
      ["api"],
    );
    const [, api] = set.workloads;
    assert.ok(api !== undefined);
    const last = api.svid.current;
    api.svid.set(null);
    const { code, details } = await reader.error();
    assert.equal(code, status.UNAVAILABLE);
    assert.match(details, /^The service "web" has no valid certificate: the last one expired$/);
    // A client comes back at once, and is refused until there is a leaf.
    const again = client.svids();
    assert.equal((await again.reader.error()).code, status.UNAVAILABLE);
    api.svid.set(last);
    const third = client.svids();
    assert.deepEqual(
      (await third.reader.next()).svids.map(({ hint }) => hint),
      ["api"],
    );
    third.stream.cancel();
    await until(() => metrics.open["workload-api"] === 0);
    assert.deepEqual(metrics.refusals, ["workload-api not-ready"]);
  });

  it("does not serve a leaf that expired before its source was told", async () => {
    await using endpoint = await startEndpoint();
    endpoint.set.ca.clock.advance(73 * 3_600_000);
    const { code } = await endpoint.client.svids().reader.error();
    assert.equal(code, status.UNAVAILABLE);
  });

  it("is Unavailable before the first leaf and says why, and before the first roots", async () => {
    await using endpoint = await startEndpoint(["web"], { empty: true });
    const { set, client, metrics } = endpoint;
    const early = await client.svids().reader.error();
    assert.deepEqual(
      [early.code, early.details],
      [status.UNAVAILABLE, "The roots of the CA are not known yet"],
    );
    await set.rotate();
    const [web] = set.workloads;
    assert.ok(web !== undefined);
    const leaf = web.svid.current;
    web.svid.set(null);
    web.problem = "the server is away ü %";
    // Bundles are there already.
    const bundles = client.bundles();
    assert.equal(Object.keys((await bundles.reader.next()).bundles).length, 1);
    bundles.stream.cancel();
    const second = await client.svids().reader.error();
    assert.equal(
      second.details,
      'The service "web" has no valid certificate: the last one expired (the server is away ü %)',
    );
    web.svid.set(leaf);
    await client.svids().reader.next();
    assert.deepEqual(metrics.refusals, ["workload-api not-ready", "workload-api not-ready"]);
  });

  it("denies a socket without any identity", async () => {
    await using endpoint = await startEndpoint([]);
    for (const { reader } of [endpoint.client.svids(), endpoint.client.bundles()]) {
      const { code, details } = await reader.error();
      assert.equal(code, status.PERMISSION_DENIED);
      assert.equal(details, "No identity is configured for this endpoint");
    }
    assert.deepEqual(endpoint.metrics.refusals, [
      "workload-api no-identity",
      "workload-api no-identity",
    ]);
  });
});

describe("FetchX509Bundles", () => {
  it("answers with the roots by the SPIFFE ID of the trust domain, and follows them", async () => {
    await using endpoint = await startEndpoint();
    const { set, client } = endpoint;
    const { reader } = client.bundles();
    const { trustDomain = "", roots = [] } = set.bundle.current ?? {};
    const first = await reader.next();
    assert.deepEqual(first.crl, []);
    assert.deepEqual(first.bundles, {
      [`spiffe://${trustDomain}`]: Buffer.from(concat(...roots)),
    });
    // A new leaf is no change of the roots.
    await set.renew();
    await set.rotate();
    const second = await reader.next();
    assert.equal(certificatesOf(second.bundles[`spiffe://${trustDomain}`] as Buffer).length, 2);
    assert.equal(reader.waiting, 0);
  });
});

describe("the security header", () => {
  for (const [what, values] of [
    ["is missing", []],
    ["is True", ["True"]],
    ["is false", ["false"]],
    ["is empty", [""]],
    ["has a second value", ["true", "true"]],
    ["has two different values", ["true", "false"]],
  ] as const)
    it(`is required: a request is invalid if it ${what}`, async () => {
      await using endpoint = await startEndpoint();
      for (const { reader } of [
        endpoint.client.svids(values),
        endpoint.client.bundles(values),
        endpoint.client.workload("FetchJWTBundles", "JWTBundlesResponse", values),
      ]) {
        const { code, details } = await reader.error();
        assert.equal(code, status.INVALID_ARGUMENT);
        assert.match(details, /must have the metadata workload\.spiffe\.io once/);
      }
      assert.deepEqual(endpoint.metrics.refusals, Array(3).fill("workload-api no-header"));
      assert.equal(endpoint.metrics.open["workload-api"] ?? 0, 0);
    });
});

describe("the JWT profile", () => {
  const header = new Metadata();
  header.set("workload.spiffe.io", "true");

  it("is Unimplemented, and says what there is instead", async () => {
    await using endpoint = await startEndpoint();
    const { client } = endpoint;
    const stream = await client.workload("FetchJWTBundles", "JWTBundlesResponse").reader.error();
    assert.equal(stream.code, status.UNIMPLEMENTED);
    for (const [method, request, response] of [
      ["FetchJWTSVID", "JWTSVIDRequest", "JWTSVIDResponse"],
      ["ValidateJWTSVID", "ValidateJWTSVIDRequest", "ValidateJWTSVIDResponse"],
    ] as const)
      await assert.rejects(
        client.unary(`/SpiffeWorkloadAPI/${method}`, [request, response], {}, header),
        { code: status.UNIMPLEMENTED, details: /JWT-SVIDs are not issued; use the X\.509 profile/ },
      );
    assert.deepEqual(endpoint.metrics.refusals, Array(3).fill("workload-api unimplemented"));
  });

  it("needs the header as well", async () => {
    await using endpoint = await startEndpoint();
    await assert.rejects(
      endpoint.client.unary(
        "/SpiffeWorkloadAPI/FetchJWTSVID",
        ["JWTSVIDRequest", "JWTSVIDResponse"],
        {},
      ),
      { code: status.INVALID_ARGUMENT },
    );
  });
});

describe("streams", () => {
  it("that a client cancels are freed", async () => {
    await using endpoint = await startEndpoint();
    const { client, metrics } = endpoint;
    const streams = Array.from({ length: 20 }, () => client.svids());
    await Promise.all(streams.map(({ reader }) => reader.next()));
    assert.equal(metrics.open["workload-api"], 20);
    for (const { stream } of streams) stream.cancel();
    await until(() => metrics.open["workload-api"] === 0);
  });

  it("end with Unavailable when the endpoint closes", async () => {
    const endpoint = await startEndpoint();
    const { reader } = endpoint.client.svids();
    await reader.next();
    await endpoint.socket.close();
    const { code, details } = await reader.error();
    assert.deepEqual([code, details], [status.UNAVAILABLE, "The agent is stopping"]);
    await endpoint[Symbol.asyncDispose]();
  });
});
