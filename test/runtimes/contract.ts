/**
 * The HTTP contract, black-box: the behaviour of a server on every runtime and with every
 * store.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { connect } from "node:net";
import { it } from "node:test";
import { importPKCS8, SignJWT } from "jose";
import { opensslCsr } from "../fakes/ca.ts";
import { type BadRequest, badIdentities, badKeys, badTexts } from "../http/bad-requests.ts";
import {
  type Call,
  CONFIGURATION,
  call,
  json,
  leaf,
  ROOTS,
  roots,
  SIGN,
  serviceUri,
  verifies,
  visible,
} from "./client.ts";
import { excepted } from "./targets.ts";

const UNKNOWN = "99999999-2222-4333-8444-555555555555";
const KEYS: readonly (readonly [string, readonly string[]])[] = [
  ["EC P-256", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]],
  ["EC P-384", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]],
  ["EC P-521", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]],
  ["RSA-2048", ["-newkey", "rsa:2048"]],
  ["Ed25519", ["-newkey", "ed25519"]],
];
const CA_KEYS: readonly (readonly [string, number])[] = [
  ["rsa", 2048],
  ["ec", 384],
  ["ec", 521],
  ["ec", 256],
];
const web = (trustDomain: string) => serviceUri(trustDomain, "web");
/** Tables of requests that are refused, by their fault. */
const TABLES: readonly (readonly [string, (trustDomain: string) => BadRequest[]])[] = [
  ["form", (trustDomain) => badTexts(web(trustDomain))],
  ["key", (trustDomain) => badKeys(web(trustDomain))],
  ["identity", badIdentities],
];
const REFUSALS: readonly (readonly [string, string, string, Call, number, RegExp])[] = [
  [
    "a body of 17 KiB",
    "PUT",
    SIGN,
    { body: "x".repeat(17 * 1024), type: "application/pkcs10" },
    413,
    /longer than 16384 bytes/,
  ],
  [
    "17 KiB in chunks",
    "PUT",
    SIGN,
    { body: "x".repeat(17 * 1024), chunkSize: 1000 },
    413,
    /longer than 16384 bytes/,
  ],
  [
    "a configuration of 65 KiB",
    "PUT",
    CONFIGURATION,
    { body: "x".repeat(65 * 1024) },
    413,
    /longer than 65536 bytes/,
  ],
  ["an image", "PUT", SIGN, { body: "x", type: "image/png" }, 415, /media type "image\/png"/],
  [
    "a coding before chunked",
    "PUT",
    SIGN,
    { headers: { "Transfer-Encoding": "gzip, chunked" } },
    400,
    /^$|^Transfer-Encoding must be "chunked"$/,
  ],
  [
    "broken JSON",
    "PUT",
    SIGN,
    { body: '{"CSR":"x"', type: "application/json" },
    400,
    /unexpected EOF/,
  ],
  [
    "a provider that there is not",
    "PUT",
    CONFIGURATION,
    { body: { Provider: "x", Config: {} } },
    400,
    /provider/i,
  ],
  [
    "leaves of a minute",
    "PUT",
    CONFIGURATION,
    { body: { Provider: "consul", Config: { LeafCertTTL: "1m" } } },
    400,
    /leaf cert TTL/,
  ],
  [
    "a curve that no runtime's WebCrypto has",
    "PUT",
    CONFIGURATION,
    { body: { Provider: "consul", Config: { PrivateKeyType: "ec", PrivateKeyBits: 224 } } },
    400,
    /EC key length must be one of \(256, 384, 521\) bits/,
  ],
  [
    "a stale ModifyIndex",
    "PUT",
    CONFIGURATION,
    { body: { Provider: "consul", Config: {}, ModifyIndex: 99 } },
    409,
    /ModifyIndex/,
  ],
  ["a method that a route does not have", "DELETE", ROOTS, {}, 405, /method DELETE not allowed/],
  ["a path that there is not", "GET", "/v1/connect/ca/nothing", {}, 404, /Invalid URL path/],
  ["an invalid index", "GET", `${ROOTS}?index=x`, {}, 400, /index/],
  ["an invalid wait", "GET", `${ROOTS}?index=1&wait=x`, {}, 400, /wait/],
  ["a token that there is not", "GET", CONFIGURATION, { token: UNKNOWN }, 403, /ACL not found/],
  [
    "a read of the configuration without a token",
    "GET",
    CONFIGURATION,
    { token: null },
    403,
    /Permission denied/,
  ],
  [
    "a rotation without a token",
    "PUT",
    "/v1/connect/ca/rotate",
    { token: null },
    403,
    /Permission denied/,
  ],
  [
    "a read of the metrics without a token",
    "GET",
    "/metrics",
    { token: null },
    403,
    /Permission denied/,
  ],
];

/** @param name of the target. @param url of the server, once it runs. */
export function itKeepsTheContract(name: string, url: () => string): void {
  it("publishes its roots as JSON and as PEM, and names its headers as it does everywhere", async () => {
    const answer = await call(url(), "GET", ROOTS, { token: null });
    const { ActiveRootID, Roots, TrustDomain } = JSON.parse(answer.body);
    assert.equal(answer.status, 200);
    assert.equal(answer.header("Content-Type"), "application/json");
    assert.deepEqual(
      Roots.filter(({ Active }: { Active: boolean }) => Active).map(({ ID }: { ID: string }) => ID),
      [ActiveRootID],
    );
    assert.match(TrustDomain, /^[0-9a-f-]{36}\.consul$/);
    const lower = excepted(name, "header names in lower case");
    assert.ok(
      answer.headers.some(([header]) => header === (lower ? "x-consul-index" : "X-Consul-Index")),
      String(answer.headers),
    );
    assert.equal(answer.header("Keep-Alive") !== undefined, excepted(name, "a Keep-Alive header"));
    const pem = await call(url(), "GET", `${ROOTS}?pem=true`, { token: null });
    assert.equal(
      new X509Certificate(pem.body).fingerprint,
      new X509Certificate(Roots.at(-1).RootCert).fingerprint,
    );
    const agent = await call(url(), "GET", "/v1/agent/connect/ca/roots", { token: null });
    assert.deepEqual([agent.status, JSON.parse(agent.body).ActiveRootID], [200, ActiveRootID]);
  });

  for (const [kind, newkey] of KEYS)
    it(`signs for a key on ${kind}, and OpenSSL verifies what it signed`, async () => {
      const { chain, key } = await leaf(url(), "web", newkey);
      const { Roots, TrustDomain } = await roots(url());
      for (const { RootCert } of Roots) verifies(chain, RootCert);
      const certificate = new X509Certificate(chain);
      assert.equal(certificate.subjectAltName, `URI:${web(TrustDomain)}`);
      assert.ok(certificate.publicKey.equals(createPublicKey(key)));
    });

  it("signs for a request within JSON, and answers as Consul does", async () => {
    const { TrustDomain } = await roots(url());
    const { csr } = opensslCsr(`URI:${web(TrustDomain)}`);
    const signed = await json<Record<string, string>>(url(), "PUT", SIGN, {
      body: { CSR: csr },
      type: "application/json",
    });
    assert.deepEqual([signed.Service, signed.ServiceURI], ["web", web(TrustDomain)]);
    assert.ok(signed.CertPEM?.startsWith("-----BEGIN CERTIFICATE-----"));
  });

  it("signs a request without a URI for the service that it names, and counts leaves for the window of renewals", async () => {
    const { TrustDomain } = await roots(url());
    const { csr } = opensslCsr(null);
    const body = { CSR: csr, Service: "web" };
    const signed = await json<Record<string, string>>(url(), "PUT", SIGN, {
      body,
      type: "application/json",
    });
    assert.equal(signed.ServiceURI, web(TrustDomain));
    const none = await call(url(), "PUT", SIGN, { body: csr });
    assert.equal(none.status, 400);
    assert.match(none.body, /name the service with \?service=/);
    const window = (await call(url(), "GET", ROOTS, { token: null })).header(
      "X-Meshca-Renew-Window",
    );
    // At least one leaf was signed, in at least one minute.
    assert.ok(Number(window) >= 240 && Number(window) <= (72 * 3600) / 6, String(window));
  });

  it("answers a blocking query when its wait is over, with the same index", async () => {
    const index = (await call(url(), "GET", ROOTS)).header("X-Consul-Index");
    const started = performance.now();
    const answer = await call(url(), "GET", `${ROOTS}?index=${index}&wait=400ms`);
    assert.deepEqual([answer.status, answer.header("X-Consul-Index")], [200, index]);
    assert.ok(performance.now() - started >= 390, "it answered before the wait was over");
  });

  it("answers a blocking query with the new roots once there are some", async () => {
    const index = (await call(url(), "GET", ROOTS)).header("X-Consul-Index");
    const waiting = call(url(), "GET", `${ROOTS}?index=${index}&wait=20s`);
    const { ActiveRootID } = await json<{ ActiveRootID: string }>(
      url(),
      "PUT",
      "/v1/connect/ca/rotate",
    );
    const answer = await waiting;
    assert.equal(JSON.parse(answer.body).ActiveRootID, ActiveRootID);
    assert.ok(Number(answer.header("X-Consul-Index")) > Number(index));
  });

  for (const [type, bits] of CA_KEYS)
    it(`changes to a root on ${type} ${bits}: leaves of before and after verify under each root by itself`, async () => {
      const old = await leaf(url(), "web");
      const before = await roots(url());
      const Config = { LeafCertTTL: "24h", PrivateKeyType: type, PrivateKeyBits: bits };
      const changed = await call(url(), "PUT", CONFIGURATION, {
        body: { Provider: "consul", Config },
      });
      assert.equal(changed.status, 200, changed.body);
      const after = await roots(url());
      assert.notEqual(after.ActiveRootID, before.ActiveRootID);
      const stored = await json<{ Config: Record<string, unknown> }>(url(), "GET", CONFIGURATION);
      assert.deepEqual([stored.Config.PrivateKeyType, stored.Config.PrivateKeyBits], [type, bits]);
      const { chain } = await leaf(url(), "web");
      for (const { RootCert } of after.Roots) verifies(chain, RootCert);
      for (const { RootCert } of before.Roots) verifies(old.chain, RootCert);
    });

  for (const [what, table] of TABLES)
    it(`refuses every request that is bad by its ${what}, says why, and changes nothing`, async () => {
      const before = await visible(url());
      for (const { name: bad, csr, says } of table((await roots(url())).TrustDomain)) {
        const { status, body } = await call(url(), "PUT", SIGN, {
          body: csr,
          type: "application/pkcs10",
        });
        assert.equal(status, 400, `${bad}: ${body}`);
        if (typeof says === "string") assert.equal(body, says, bad);
        else assert.match(body, says, bad);
      }
      assert.deepEqual(await visible(url()), before);
    });

  for (const row of REFUSALS) {
    const [what, method, target, options] = row;
    const [status, says] =
      target === "/metrics" && excepted(name, "no metrics")
        ? [404, /Invalid URL path/]
        : [row[4], row[5]];
    it(`answers ${status} to ${what}, and changes nothing`, async () => {
      const before = await visible(url());
      const answer = await call(url(), method, target, options);
      assert.equal(answer.status, status, answer.body);
      assert.match(answer.body, says);
      assert.deepEqual(await visible(url()), before);
    });
  }

  it("signs for the identities that a token grants, and for no other", async () => {
    const { SecretID, AccessorID } = await json<{ SecretID: string; AccessorID: string }>(
      url(),
      "PUT",
      "/v1/acl/token",
      {
        body: { ServiceIdentities: [{ ServiceName: "web" }] },
      },
    );
    const { TrustDomain } = await roots(url());
    const ask = (service: string, token: string | null) =>
      call(url(), "PUT", SIGN, {
        body: opensslCsr(`URI:${serviceUri(TrustDomain, service)}`).csr,
        token,
      });
    assert.equal((await ask("web", SecretID)).status, 200);
    for (const refused of [
      await ask("db", SecretID),
      await ask("web", null),
      await ask("web", UNKNOWN),
    ])
      assert.equal(refused.status, 403, refused.body);
    await json(url(), "DELETE", `/v1/acl/token/${AccessorID}`);
    assert.equal((await ask("web", SecretID)).status, 403);
  });

  it("renews a leaf for a caller that proves possession of its key, without a token", async () => {
    const { chain, key } = await leaf(url(), "web");
    const { TrustDomain } = await roots(url());
    const next = opensslCsr(`URI:${web(TrustDomain)}`);
    const x5c = [...chain.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----/g)].map(
      ([, base64 = ""]) => base64.replace(/\s/g, ""),
    );
    const der = Buffer.from(next.csr.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const prove = async (aud: string) =>
      new SignJWT({
        aud,
        iat: Math.floor(Date.now() / 1000),
        csr: createHash("sha256").update(der).digest("base64url"),
      })
        .setProtectedHeader({ alg: "ES256", x5c })
        .sign(
          await importPKCS8(
            createPrivateKey(key).export({ type: "pkcs8", format: "pem" }).toString(),
            "ES256",
          ),
        );
    const renew = async (aud: string) =>
      call(url(), "PUT", "/v1/connect/ca/renew", {
        body: next.csr,
        token: null,
        headers: {
          Authorization: `Bearer ${await prove(aud)}`,
          Accept: "application/pem-certificate-chain",
        },
      });
    const renewed = await renew(`spiffe://${TrustDomain}`);
    assert.equal(renewed.status, 200, renewed.body);
    assert.ok(new X509Certificate(renewed.body).publicKey.equals(createPublicKey(next.key)));
    assert.equal((await renew("spiffe://somewhere.else")).status, 403);
  });

  it("signs nothing for an identity on the denylist, until its entry is removed", async () => {
    const { TrustDomain } = await roots(url());
    const uri = serviceUri(TrustDomain, "denied");
    const ask = () => call(url(), "PUT", SIGN, { body: opensslCsr(`URI:${uri}`).csr });
    const { ID } = await json<{ ID: string }>(url(), "PUT", "/v1/connect/ca/deny", {
      body: { SPIFFEID: uri, Reason: "lost" },
    });
    const refused = await ask();
    assert.deepEqual(
      [refused.status, refused.body],
      [403, "Permission denied: this SPIFFE ID is on the denylist"],
    );
    await json(url(), "DELETE", `/v1/connect/ca/deny/${ID}`);
    assert.equal((await ask()).status, 200);
  });

  it("reports health, readiness, its leader and its metrics", async () => {
    assert.equal((await call(url(), "GET", "/healthz", { token: null })).status, 200);
    const ready = await call(url(), "GET", "/readyz", { token: null });
    assert.equal(ready.status, 200, ready.body);
    const metrics = await call(url(), "GET", "/metrics");
    const counted = excepted(name, "no metrics")
      ? [404, /Invalid URL path/]
      : ([200, /^meshca_\w+.* \d/m] as const);
    assert.equal(metrics.status, counted[0]);
    assert.match(metrics.body, counted[1] as RegExp);
    assert.equal((await call(url(), "GET", "/v1/status/leader", { token: null })).status, 200);
  });

  it("sends an X-Request-Id with every response, and takes none from a client", async () => {
    const ids = [];
    for (const target of [ROOTS, "/healthz", "/nosuch", CONFIGURATION, `${ROOTS}?index=x`]) {
      const answer = await call(url(), "GET", target, {
        token: null,
        headers: { "X-Request-Id": "mine" },
      });
      ids.push(answer.header("X-Request-Id"));
    }
    for (const id of ids) assert.match(id ?? "", /^[0-9a-f-]{36}$/);
    assert.equal(new Set(ids).size, ids.length);
  });

  it("answers HEAD without a body on routes for monitoring, and refuses it elsewhere as Consul does", async () => {
    for (const target of ["/healthz", "/readyz"]) {
      const [head, get] = [
        await call(url(), "HEAD", target, { token: null }),
        await call(url(), "GET", target, { token: null }),
      ];
      assert.deepEqual(
        [head.status, head.header("Content-Type")],
        [200, get.header("Content-Type")],
        target,
      );
    }
    assert.equal((await call(url(), "HEAD", ROOTS)).status, 405);
  });

  it("redirects a path with two slashes in a row, as Consul does", async () => {
    const answer = await call(url(), "GET", `/${ROOTS}?pem=true`, { token: null });
    assert.deepEqual([answer.status, answer.header("Location")], [301, `${ROOTS}?pem=true`]);
  });

  it("answers HTTP/1.0 without a Host, and refuses HTTP/1.1 without one", async () => {
    const ask = (version: string, method = "GET") =>
      exchange(url(), `${method} /healthz HTTP/${version}\r\nConnection: close\r\n\r\n`);
    assert.match(await ask("1.1"), /^HTTP\/1\.1 400 /);
    if (excepted(name, "no HTTP/1.0 without a Host")) {
      assert.match(await ask("1.0"), /^HTTP\/1\.0 400 /);
      return;
    }
    assert.match(await ask("1.0"), /^HTTP\/1\.[01] 200 OK\r\n[\s\S]*\r\n\r\nok\n$/);
    assert.match(await ask("1.0", "HEAD"), /^HTTP\/1\.[01] 200 OK\r\n[\s\S]*\r\n\r\n$/);
    // What HAProxy sends for "option httpchk".
    assert.match(await exchange(url(), "OPTIONS /readyz HTTP/1.0\r\n\r\n"), /^HTTP\/1\.[01] 200 /);
  });
}

/** Sends a text over a connection of its own. @returns what came until the server closed it */
function exchange(url: string, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(text));
    let received = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      received += chunk;
    });
    socket.on("error", () => undefined).on("close", () => resolve(received));
  });
}
