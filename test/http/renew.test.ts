/**
 * Renewal by the certificate itself, and every proof that does not hold.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { exportSPKI, generateKeyPair, importPKCS8, SignJWT } from "jose";
import type { CertificateAuthority } from "../../src/core/ca/ca.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { abandonedRoot } from "../core/ca/abandoned.ts";
import { configuration, createTestCa, opensslCsr, serviceUri } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
const RENEW = "/v1/connect/ca/renew";
const ACL = { MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT };

interface Holder {
  readonly key: CryptoKey;
  readonly pem: string;
  /** DER in base64: the leaf, then its intermediates. */
  readonly x5c: readonly string[];
}

async function put(
  server: ServerProcess,
  path: string,
  body: string,
  headers: Record<string, string>,
): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${server.url}${path}`, { method: "PUT", body, headers });
  return { status: answer.status, text: await answer.text() };
}

const P256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const csrFor = (server: ServerProcess, service: string, newkey: readonly string[] = P256) =>
  opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/${service}`, newkey);

/** A holder of a leaf of the server. */
async function holder(
  server: ServerProcess,
  service = "web",
  newkey: readonly string[] = P256,
  alg = "ES256",
  query = "",
): Promise<Holder> {
  const { csr, key } = csrFor(server, service, newkey);
  const { status, text } = await put(server, `/v1/connect/ca/sign${query}`, csr, {
    "X-Consul-Token": MANAGEMENT,
    Accept: "application/pem-certificate-chain",
  });
  assert.equal(status, 200, text);
  return heldBy(key, text, alg);
}

/** @param chain the leaf and its intermediates, in PEM. */
async function heldBy(key: string, chain: string, alg: string): Promise<Holder> {
  const x5c = [...chain.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----/g)].map((match) =>
    (match[1] ?? "").replace(/\s/g, ""),
  );
  const pkcs8 = createPrivateKey(key).export({ type: "pkcs8", format: "pem" }).toString();
  return { key: await importPKCS8(pkcs8, alg, { extractable: true }), pem: pkcs8, x5c };
}

const hash = (csr: string) =>
  createHash("sha256")
    .update(Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ""), "base64"))
    .digest("base64url");

interface Proof {
  readonly csr: string;
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
  readonly key?: CryptoKey | Uint8Array;
}

function prove(
  server: ServerProcess,
  by: Holder,
  { csr, claims = {}, header = {}, key = by.key }: Proof,
): Promise<string> {
  return new SignJWT({
    aud: `spiffe://${server.trustDomain}`,
    iat: Math.floor(Date.now() / 1000),
    csr: hash(csr),
    ...claims,
  })
    .setProtectedHeader({ alg: "ES256", x5c: [...by.x5c], ...header })
    .sign(key);
}

const renew = (server: ServerProcess, jwt: string, csr: string) =>
  put(server, RENEW, csr, {
    Authorization: `Bearer ${jwt}`,
    Accept: "application/pem-certificate-chain",
  });

describe("PUT /v1/connect/ca/renew", () => {
  let server: ServerProcess;
  before(async () => {
    server = await startServer(ACL);
  });
  after(() => server?.stop());

  it("gives a caller that proves possession of a leaf's key the same identity for a new key, without a token", async () => {
    const web = await holder(server);
    const next = csrFor(server, "web");
    const { status, text } = await renew(
      server,
      await prove(server, web, { csr: next.csr }),
      next.csr,
    );
    assert.equal(status, 200, text);
    const leaf = new X509Certificate(text);
    assert.equal(
      leaf.subjectAltName,
      `URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`,
    );
    assert.ok(leaf.publicKey.equals(createPublicKey(next.key)));
  });

  for (const [name, newkey, alg] of [
    ["P-384", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "ES384"],
    ["RSA", ["-newkey", "rsa:2048"], "PS256"],
    ["Ed25519", ["-newkey", "ed25519"], "EdDSA"],
  ] as const)
    it(`takes a proof by a key on ${name}`, async () => {
      const web = await holder(server, "web", newkey, alg);
      const { csr } = csrFor(server, "web");
      const { status, text } = await renew(
        server,
        await prove(server, web, { csr, header: { alg } }),
        csr,
      );
      assert.equal(status, 200, text);
    });

  it("gives a certificate for the same key if a proof is replayed, and for no other key", async () => {
    const web = await holder(server);
    const [mine, theirs] = [csrFor(server, "web"), csrFor(server, "web")];
    const jwt = await prove(server, web, { csr: mine.csr });
    for (let i = 0; i < 2; i++) {
      const { text } = await renew(server, jwt, mine.csr);
      assert.ok(new X509Certificate(text).publicKey.equals(createPublicKey(mine.key)));
    }
    const { status, text } = await renew(server, jwt, theirs.csr);
    assert.deepEqual(
      [status, text],
      [403, "Permission denied: cannot renew: the proof is for another request"],
    );
  });

  it("refuses every invalid proof", async () => {
    const web = await holder(server);
    const other = await startServer(ACL);
    const stranger = await holder(other);
    await other.stop();
    const { csr } = csrFor(server, "web");
    const api = csrFor(server, "api").csr;
    const stolen = await generateKeyPair("ES256");
    const now = Math.floor(Date.now() / 1000);
    const spki = new TextEncoder().encode(await exportSPKI(stolen.publicKey));
    const none = `${Buffer.from(JSON.stringify({ alg: "none", x5c: web.x5c })).toString("base64url")}.${Buffer.from(JSON.stringify({ aud: `spiffe://${server.trustDomain}`, iat: now, csr: hash(csr) })).toString("base64url")}.`;
    const cases: readonly (readonly [string, string, string, RegExp])[] = [
      ["another identity", await prove(server, web, { csr: api }), api, /another identity/],
      [
        "another key than the leaf's",
        await prove(server, web, { csr, key: stolen.privateKey }),
        csr,
        /not signed with the leaf's key/,
      ],
      ["alg none", none, csr, /a key of this kind signs with ES256/],
      [
        "a MAC by the public key (key confusion)",
        await prove(server, web, { csr, header: { alg: "HS256" }, key: spki }),
        csr,
        /a key of this kind signs with ES256/,
      ],
      [
        "another audience",
        await prove(server, web, { csr, claims: { aud: "spiffe://other.consul" } }),
        csr,
        /another audience/,
      ],
      [
        "no audience",
        await prove(server, web, { csr, claims: { aud: undefined } }),
        csr,
        /must have the claims/,
      ],
      [
        "more than five minutes old",
        await prove(server, web, { csr, claims: { iat: now - 400 } }),
        csr,
        /more than 5 minutes old/,
      ],
      [
        "from the future",
        await prove(server, web, { csr, claims: { iat: now + 400 } }),
        csr,
        /from the future/,
      ],
      [
        "no request named",
        await prove(server, web, { csr, claims: { csr: undefined } }),
        csr,
        /must have the claims/,
      ],
      ["a leaf of another CA", await prove(server, stranger, { csr }), csr, /not of this CA/],
      [
        "no certificate",
        await prove(server, web, { csr, header: { x5c: [] } }),
        csr,
        /must be a JWT with the leaf in x5c/,
      ],
      [
        "an invalid certificate",
        await prove(server, web, { csr, header: { x5c: ["AAAA"] } }),
        csr,
        /x5c must hold certificates/,
      ],
      ["no JWT", "x.y.z", csr, /must be a JWT/],
    ];
    const wrong: string[] = [];
    for (const [what, jwt, request, says] of cases) {
      const { status, text } = await renew(server, jwt, request);
      if (status !== 403 || !says.test(text)) wrong.push(`${what}: ${status} ${text}`);
    }
    assert.deepEqual(wrong, []);
    assert.equal((await put(server, RENEW, csr, {})).status, 403);
    // A kid is ignored: the leaf in x5c counts.
    const { status } = await renew(
      server,
      await prove(server, web, { csr, header: { kid: "someone-else" } }),
      csr,
    );
    assert.equal(status, 200);
  });

  it("gives a leaf that is valid no longer than the one it renews, over and over", async () => {
    const validity = (pem: string) => {
      const { validFrom, validTo } = new X509Certificate(pem);
      return (Date.parse(validTo) - Date.parse(validFrom)) / 1000;
    };
    for (const [query, seconds] of [
      ["?ttl=2m", 132],
      ["?ttl=1h", 3660],
      ["", 72 * 3600],
    ] as const) {
      let web = await holder(server, "web", P256, "ES256", query);
      for (const asked of ["", "?ttl=72h", ""]) {
        const next = csrFor(server, "web");
        const answer = await fetch(`${server.url}${RENEW}${asked}`, {
          method: "PUT",
          body: JSON.stringify({ CSR: next.csr }),
          headers: { Authorization: `Bearer ${await prove(server, web, { csr: next.csr })}` },
        });
        const body = (await answer.json()) as { CertPEM: string; RenewAfter: string };
        assert.equal(answer.status, 200);
        assert.equal(validity(body.CertPEM), seconds, `${query} renewed with ${asked}`);
        assert.ok(Date.parse(body.RenewAfter) > Date.now());
        web = await heldBy(next.key, body.CertPEM, "ES256");
      }
      const next = csrFor(server, "web");
      const proof = await prove(server, web, { csr: next.csr });
      const shorter = await fetch(`${server.url}${RENEW}?ttl=1m`, {
        method: "PUT",
        body: next.csr,
        headers: { Authorization: `Bearer ${proof}` },
      });
      assert.equal(validity(((await shorter.json()) as { CertPEM: string }).CertPEM), 66);
    }
  });

  it("refuses a CA certificate in place of a leaf", async () => {
    const web = await holder(server);
    const roots = (await (await fetch(`${server.url}/v1/connect/ca/roots`)).json()) as {
      Roots: { RootCert: string }[];
    };
    const root = (roots.Roots[0]?.RootCert ?? "").replace(/-----[^-]+-----|\s/g, "");
    const { csr } = csrFor(server, "web");
    const { status, text } = await renew(
      server,
      await prove(server, { ...web, x5c: [root] }, { csr }),
      csr,
    );
    assert.equal(status, 403, text);
  });

  it("refuses a leaf, a key and an identity on the denylist", async () => {
    const admin = { "X-Consul-Token": MANAGEMENT, "Content-Type": "application/json" };
    const web = await holder(server);
    const { csr } = csrFor(server, "web");
    const leaf = new X509Certificate(Buffer.from(web.x5c[0] ?? "", "base64"));
    const serial = leaf.serialNumber.toLowerCase().replace(/(..)(?=.)/g, "$1:");
    const keyId = createHash("sha256")
      .update(leaf.publicKey.export({ type: "spki", format: "der" }))
      .digest("hex")
      .replace(/(..)(?=.)/g, "$1:");
    for (const denial of [
      { SerialNumber: serial },
      { KeyID: keyId },
      { SPIFFEID: `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web` },
    ]) {
      const made = JSON.parse(
        (await put(server, "/v1/connect/ca/deny", JSON.stringify(denial), admin)).text,
      ) as { ID: string };
      const refused = await renew(server, await prove(server, web, { csr }), csr);
      assert.equal(refused.status, 403, JSON.stringify(denial));
      assert.match(refused.text, /is on the denylist$/);
      await fetch(`${server.url}/v1/connect/ca/deny/${made.ID}`, {
        method: "DELETE",
        headers: admin,
      });
    }
    assert.equal((await renew(server, await prove(server, web, { csr }), csr)).status, 200);
  });

  it("works while Redis is unavailable, and after a rotation", { skip: noRedis }, async () => {
    const redis: RedisServer = await startRedis();
    const replica = await startServer({
      ...ACL,
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
    });
    try {
      const web = await holder(replica);
      assert.equal(
        (await put(replica, "/v1/connect/ca/rotate", "", { "X-Consul-Token": MANAGEMENT })).status,
        200,
      );
      redis.kill("SIGKILL");
      await until(
        async () =>
          (await put(replica, "/v1/connect/ca/rotate", "", { "X-Consul-Token": MANAGEMENT }))
            .status === 503,
      );
      const { csr } = csrFor(replica, "web");
      const { status, text } = await renew(replica, await prove(replica, web, { csr }), csr);
      assert.equal(status, 200, text);
    } finally {
      await replica.stop();
      await redis.stop();
    }
  });
});

describe("PUT /v1/connect/ca/renew while a request waits for its turn", () => {
  /** Has the renewal of a leaf of the first root wait, and continues it after `between`. */
  async function waited(between: (manager: CertificateAuthority) => Promise<unknown>) {
    const ca = await createTestCa({ policy: { ...DEFAULT_POLICY, maxChainLength: 2 } });
    const { manager, clock } = ca;
    await manager.configure(configuration({ CSRMaxPerSecond: 4 }));
    const { app } = await createTestApp({}, ca);
    const { csr } = opensslCsr(`URI:${serviceUri(manager, "web")}`);
    const { certificatePem } = await manager.sign(csr);
    const rotate = (forceWithoutCrossSigning: boolean) =>
      manager.rotate({ forceWithoutCrossSigning, modifyIndex: null });
    await rotate(false);
    const before = clock.sleepers;
    const headers = { Host: "127.0.0.1:8500" };
    const request = new Request(`http://127.0.0.1:8500${RENEW}`, {
      method: "PUT",
      body: csr,
      headers,
    });
    const renewed = app.fetch(request, {
      peerCertificate: new Uint8Array(new X509Certificate(certificatePem).raw),
    });
    // The timer of bodies, and the renewal in its queue.
    await until(() => clock.sleepers === before + 2);
    await between(manager);
    clock.advance(1000);
    const answer = await renewed;
    return { status: answer.status, text: await answer.text() };
  }

  it("refuses it if the leaf's root was abandoned while it waited", async () => {
    const { status, text } = await waited(async (manager) => {
      const oldest = manager.require().state.roots.find(({ status: is }) => is === "retired")?.id;
      await manager.rotate({ forceWithoutCrossSigning: true, modifyIndex: null });
      assert.ok(manager.require().state.roots.find(({ id }) => id === oldest)?.abandoned);
    });
    assert.equal(status, 403, text);
    assert.match(text, /^Permission denied: cannot renew: the leaf is not of this CA/);
  });

  it("gives a leaf if another change was made while it waited", async () => {
    const { status, text } = await waited((manager) =>
      manager.configure(configuration({ LeafCertTTL: "24h" })),
    );
    assert.equal(status, 200, text);
  });
});

describe("PUT /v1/connect/ca/renew with a leaf of an abandoned root", () => {
  it("refuses it by proof and as client certificate, whatever its holder sends along, and takes one of a published root", async () => {
    const { ca, stolen, forge } = await abandonedRoot(new Date());
    const { app, fetch } = await createTestApp({}, ca);
    const trustDomain = `${ca.manager.require().state.clusterId}.consul`;
    const { csr } = opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`);
    const renewWith = async ({ cert, key }: { cert: string; key: string }, more: string) => {
      const x5c = [...(cert + more).matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----/g)].map(
        (match) => (match[1] ?? "").replace(/\s/g, ""),
      );
      const pkcs8 = createPrivateKey(key).export({ type: "pkcs8", format: "pem" }).toString();
      const claims = {
        aud: `spiffe://${trustDomain}`,
        iat: Math.floor(Date.now() / 1000),
        csr: hash(csr),
      };
      const signed = new SignJWT(claims).setProtectedHeader({ alg: "ES256", x5c });
      const jwt = await signed.sign(await importPKCS8(pkcs8, "ES256"));
      const answer = await fetch(RENEW, {
        method: "PUT",
        body: csr,
        headers: { Authorization: `Bearer ${jwt}` },
      });
      return [answer.status, await answer.text()] as const;
    };
    const forged = forge("web");
    const roots = ca.manager.require().state.roots.map(({ certificate }) => pemOf(certificate));
    for (const more of ["", stolen.cert, roots.join("")]) {
      const [status, text] = await renewWith(forged, more);
      assert.equal(status, 403);
      assert.match(
        text,
        /^Permission denied: cannot renew: the leaf is not of this CA: no issuer of a published root signed it, or its root/,
      );
    }
    const byCertificate = (pem: string) =>
      app.fetch(
        new Request(`http://127.0.0.1:8500${RENEW}`, {
          method: "PUT",
          body: csr,
          headers: { Host: "127.0.0.1:8500" },
        }),
        {
          peerCertificate: new Uint8Array(new X509Certificate(pem).raw),
        },
      );
    const refused = await byCertificate(forged.cert);
    assert.deepEqual(
      [refused.status, /the leaf is not of this CA/.test(await refused.text())],
      [403, true],
    );
    const own = opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`);
    const { certificatePem } = await ca.manager.sign(own.csr);
    // The leaf is enough: its issuers are known.
    const [leaf = ""] = certificatePem.split(/(?<=-----END CERTIFICATE-----\n)/);
    for (const cert of [certificatePem, leaf, leaf + forged.cert])
      assert.equal((await renewWith({ ...own, cert }, ""))[0], 200);
    assert.equal((await byCertificate(leaf)).status, 200);
  });
});
