/**
 * A CA with a trust domain of its own: its certificates, leaves, renewals and denials, and which
 * states it shares a store or a backup with.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { importPKCS8, SignJWT } from "jose";
import { base64, sha256 } from "../../src/core/bytes.ts";
import { readPem } from "../../src/core/pem.ts";
import { readCertificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { readChain, requireSigning } from "../core/ca/harness.ts";
import {
  configuration,
  createTestCa,
  DEFAULT_BOOTSTRAP,
  opensslCsr,
  serviceUri,
} from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";

const DOMAIN = "mesh.example.com";
const CLUSTER = "11111111-2222-3333-4444-555555555555";
const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
const SIGN = "/v1/connect/ca/sign";
const PEM_CHAIN = { Accept: "application/pem-certificate-chain" };
const BOOTSTRAP = { ...DEFAULT_BOOTSTRAP, clusterId: CLUSTER, trustDomain: DOMAIN };

interface WireRoots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly { readonly RootCert: string; readonly ExternalTrustDomain: string }[];
}

describe("a server with a trust domain of its own", () => {
  let server: ServerProcess;
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-trust-domain-"));
    const path = join(folder, "meshca.json");
    const config = { cluster_id: CLUSTER, trust_domain: DOMAIN };
    writeFileSync(path, JSON.stringify({ connect: { ca_config: config } }));
    server = await startServer({
      MESHCA_CONFIG: path,
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
    });
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  const call = async (
    method: string,
    path: string,
    body: string | null = null,
    headers: Record<string, string> = {},
  ) => {
    const answer = await fetch(`${server.url}${path}`, {
      method,
      headers: { "X-Consul-Token": MANAGEMENT, ...headers },
      body,
    });
    return { status: answer.status, text: await answer.text() };
  };
  const roots = async () =>
    JSON.parse((await call("GET", "/v1/connect/ca/roots")).text) as WireRoots;
  const csrFor = (id: string) => opensslCsr(`URI:spiffe://${id}`);

  it("lists it, keeps the cluster id as ExternalTrustDomain, and has its SPIFFE ID in every CA certificate through rotations", async () => {
    for (const config of [{ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }, { PrivateKeyBits: 384 }])
      assert.equal(
        (
          await call(
            "PUT",
            "/v1/connect/ca/configuration",
            JSON.stringify({ Provider: "consul", Config: config }),
          )
        ).status,
        200,
      );
    const { TrustDomain, Roots } = await roots();
    assert.deepEqual([TrustDomain, Roots.length], [DOMAIN, 3]);
    const { csr } = csrFor(`${DOMAIN}/ns/default/dc/dc1/svc/web`);
    const { status, text } = await call("PUT", SIGN, csr, PEM_CHAIN);
    assert.equal(status, 200, text);
    const { leaf, intermediates } = readChain(text);
    assert.deepEqual(leaf.uris, [`spiffe://${DOMAIN}/ns/default/dc/dc1/svc/web`]);
    assert.equal(intermediates.length, 2);
    for (const { uris } of intermediates) assert.deepEqual(uris, [`spiffe://${DOMAIN}`]);
    for (const { RootCert, ExternalTrustDomain } of Roots) {
      const root = readCertificatePem(RootCert);
      assert.deepEqual(root.uris, [`spiffe://${DOMAIN}`]);
      assert.equal(ExternalTrustDomain, CLUSTER);
      assert.match(new X509Certificate(root.der).subject, /\.ca\.11111111\.consul$/);
      assert.ok(await findPath(leaf, intermediates, root, new Date()));
    }
  });

  it("signs for it only, in any case", async () => {
    const { csr } = csrFor(`MESH.Example.com/ns/default/dc/dc1/svc/web`);
    const leaf = await call("PUT", SIGN, csr);
    assert.match(leaf.text, /"ServiceURI":"spiffe:\/\/mesh\.example\.com\/ns\/default\/dc\/dc1/);
    for (const other of [`${CLUSTER}.consul`, "example.com", `x.${DOMAIN}`]) {
      const refused = await call("PUT", SIGN, csrFor(`${other}/ns/default/dc/dc1/svc/web`).csr);
      assert.deepEqual(
        [refused.status, refused.text],
        [400, `SPIFFE ID in CSR from a different trust domain: ${other}, we are ${DOMAIN}`],
      );
    }
  });

  it("gives gateways and servers its peering name, and no other", async () => {
    for (const id of ["gateway/mesh/dc/dc1", "agent/server/dc/dc1"]) {
      const san = `URI:spiffe://${DOMAIN}/${id},DNS:server.dc1.peering.`;
      const given = await call("PUT", SIGN, opensslCsr(`${san}${DOMAIN}`).csr, PEM_CHAIN);
      assert.deepEqual(readChain(given.text).leaf.dnsNames, [`server.dc1.peering.${DOMAIN}`]);
      const refused = await call("PUT", SIGN, opensslCsr(`${san}${CLUSTER}.consul`).csr);
      assert.equal(refused.status, 400);
      assert.match(refused.text, /is not allowed to have the DNS name/);
    }
  });

  it("renews for a proof with its SPIFFE ID as audience", async () => {
    const { csr, key } = csrFor(`${DOMAIN}/ns/default/dc/dc1/svc/web`);
    const chain = (await call("PUT", SIGN, csr, PEM_CHAIN)).text;
    const x5c = readPem(chain).map(({ bytes }) => base64(bytes));
    const pkcs8 = createPrivateKey(key).export({ type: "pkcs8", format: "pem" }).toString();
    const [block] = readPem(csr);
    const hash = Buffer.from(sha256(block?.bytes ?? assert.fail())).toString("base64url");
    const renew = async (aud: string) =>
      call("PUT", "/v1/connect/ca/renew", csr, {
        Authorization: `Bearer ${await new SignJWT({
          aud,
          iat: Math.floor(Date.now() / 1000),
          csr: hash,
        })
          .setProtectedHeader({ alg: "ES256", x5c })
          .sign(await importPKCS8(pkcs8, "ES256"))}`,
      });
    const renewed = await renew(`spiffe://${DOMAIN}`);
    assert.equal(renewed.status, 200, renewed.text);
    assert.equal((await renew(`spiffe://${CLUSTER}.consul`)).status, 403);
  });

  it("denies identities of it, and refuses denials of another", async () => {
    const deny = (id: string) =>
      call("PUT", "/v1/connect/ca/deny", JSON.stringify({ SPIFFEID: `spiffe://${id}` }));
    const refused = await deny(`${CLUSTER}.consul/*`);
    assert.equal(refused.status, 400);
    assert.match(refused.text, /and this CA signs for mesh\.example\.com only/);
    assert.equal((await deny(`${DOMAIN}/ns/default/dc/dc1/svc/bad`)).status, 200);
    const denied = await call("PUT", SIGN, csrFor(`${DOMAIN}/ns/default/dc/dc1/svc/bad`).csr);
    assert.equal(denied.status, 403);
    assert.match(denied.text, /this SPIFFE ID is on the denylist/);
  });

  it("takes a supplied root with its SPIFFE ID, and refuses one of the cluster id's", async () => {
    const supply = ({ key, certificate }: ReturnType<typeof makeRoot>) =>
      call(
        "PUT",
        "/v1/connect/ca/configuration",
        JSON.stringify({
          Provider: "consul",
          Config: { PrivateKey: key, RootCert: certificate },
        }),
      );
    const refused = await supply(makeRoot(`${CLUSTER}.consul`));
    assert.equal(refused.status, 400);
    assert.match(refused.text, /RootCert must have exactly the URI spiffe:\/\/mesh\.example\.com/);
    const constrained = {
      extensions: [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash",
        `subjectAltName=URI:spiffe://${DOMAIN}`,
        `nameConstraints=critical,permitted;URI:${CLUSTER}.consul`,
      ],
    };
    assert.match(
      (await supply(makeRoot(DOMAIN, constrained))).text,
      /do not permit the URI spiffe:\/\/mesh\.example\.com/,
    );
    const root = makeRoot(DOMAIN);
    const taken = await supply(root);
    assert.equal(taken.status, 200, taken.text);
    const active = (await roots()).ActiveRootID;
    const [own] = readPem(root.certificate);
    assert.equal(active, readCertificate(own?.bytes ?? assert.fail()).id);
  });
});

describe("two CAs", () => {
  const restore = async (test: Awaited<ReturnType<typeof createTestApp>>, file: string) => {
    const answer = await test.fetch("/v1/connect/ca/backup", { method: "PUT", body: file });
    return { status: answer.status, text: await answer.text() };
  };

  it("with one cluster id and two trust domains restore no backup of each other, and a CA takes its own", async () => {
    const own = await createTestCa({ bootstrap: BOOTSTRAP });
    const other = await createTestCa({
      bootstrap: { ...BOOTSTRAP, trustDomain: null },
      sealer: own.sealer,
    });
    const codec = createCodec(own.sealer);
    const app = await createTestApp({}, own);
    const before = own.backend.document;
    const refused = await restore(app, await codec.encode(other.manager.require().state));
    assert.equal(refused.status, 409);
    assert.match(
      refused.text,
      /^Cannot restore: the backup is of trust domain 11111111-2222-3333-4444-555555555555\.consul, this is mesh\.example\.com; start on an empty store with MESHCA_IMPORT/,
    );
    assert.equal(own.backend.document, before);
    const mine = await codec.encode(own.manager.require().state);
    assert.match(
      (await restore(await createTestApp({}, other), mine)).text,
      /of trust domain mesh/,
    );
    await own.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    assert.equal((await restore(app, mine)).status, 200);
    assert.equal(own.manager.require().state.trustDomain, DOMAIN);
  });

  it("a backup gives an empty store its trust domain, whatever the configuration file names", async () => {
    const own = await createTestCa({ bootstrap: BOOTSTRAP });
    const fresh = await createTestCa({
      bootstrap: { ...BOOTSTRAP, trustDomain: "other.example.com" },
      sealer: own.sealer,
      started: false,
    });
    await fresh.manager.restore(own.manager.require().state, {
      forceWithoutCrossSigning: false,
      onlyWhereEmpty: true,
    });
    assert.equal(fresh.manager.require().state.trustDomain, DOMAIN);
    assert.equal(fresh.manager.require().state.schema, 4);
    const { csr } = opensslCsr(`URI:${serviceUri(fresh.manager, "web")}`);
    await requireSigning(fresh.manager, csr, fresh.clock.now());
  });

  it("with one trust domain and two cluster ids accept neither leaves nor backups of each other", async () => {
    const [first, second] = [
      await createTestCa({ bootstrap: BOOTSTRAP }),
      await createTestCa({ bootstrap: { ...BOOTSTRAP, clusterId: null } }),
    ];
    const { csr } = opensslCsr(`URI:${serviceUri(first.manager, "web")}`);
    const { leaf, intermediates } = readChain((await first.manager.sign(csr)).certificatePem);
    const { certificate } = second.manager.require().active;
    assert.equal(await findPath(leaf, intermediates, certificate, first.clock.now()), null);
    const app = await createTestApp({}, second);
    const renewed = await app.app.fetch(
      new Request("http://127.0.0.1:8500/v1/connect/ca/renew", {
        method: "PUT",
        headers: { Host: "127.0.0.1:8500" },
        body: csr,
      }),
      { peerCertificate: leaf.der },
    );
    assert.equal(renewed.status, 403);
    const document = await createCodec(first.sealer).encode(first.manager.require().state);
    const refused = await restore(app, document);
    assert.equal(refused.status, 400);
    assert.match(refused.text, /key-encryption key/);
  });

  it("a replica that serves one trust domain takes no state of another from its store, and changes nothing", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const { state } = ca.manager.require();
    const { store, leases } = ca.backend.open(createCodec(ca.sealer), "other");
    const lease = (await leases.acquire("operation", 30_000)) ?? assert.fail();
    await store.commit(
      {
        ...state,
        trustDomain: "evil.example.com",
        index: state.index + 1,
        commitId: "a".repeat(32),
        ancestors: [state.commitId],
      },
      { index: state.index, commitId: state.commitId, term: lease.term },
    );
    await assert.rejects(
      ca.manager.refresh(),
      /^StoreError: The store holds the state of another trust domain, evil\.example\.com; this replica serves mesh\.example\.com, and nothing was changed$/,
    );
    assert.equal(ca.manager.require().state.trustDomain, DOMAIN);
  });

  it("a change of configuration, a rotation and a restore keep the trust domain", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const backup = ca.manager.require().state;
    await ca.manager.configure(configuration({ LeafCertTTL: "50h" }));
    await ca.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    await ca.manager.restore(backup, { forceWithoutCrossSigning: false });
    const { trustDomain, clusterId, schema } = ca.manager.require().state;
    assert.deepEqual([trustDomain, clusterId, schema], [DOMAIN, CLUSTER, 4]);
  });
});
