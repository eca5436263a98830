/**
 * The denylist and rights against requests that spell an identity in another way, that wait in the
 * queue, and that come from a leaf whose key has another identifier.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import type { Token } from "../../src/core/acl/types.ts";
import { maxLeafLifeMs } from "../../src/core/ca/leaf-issuers.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { CaError } from "../../src/core/errors.ts";
import type { Audit, AuditRecord } from "../../src/core/ports/audit.ts";
import { providersWith } from "../core/ca/harness.ts";
import { configuration, createTestCa, opensslCsr, serviceUri, trustDomain } from "../fakes/ca.ts";
import { settle, until } from "../fixtures/app.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const SIGN = "/v1/connect/ca/sign";
const DENY = "/v1/connect/ca/deny";

const WEB: Partial<Token> = { serviceIdentities: [{ serviceName: "web", datacenters: [] }] };
const csrOf = (uri: string) => opensslCsr(`URI:${uri}`).csr;
const DENIED = { status: 403, text: "Permission denied: this SPIFFE ID is on the denylist" };

describe("a denied identity", () => {
  it("is refused however its URI is spelt, and no leaf is given for any spelling of it", async () => {
    const test = await guarded();
    const domain = trustDomain(test.manager);
    const uri = serviceUri(test.manager, "web");
    const { status, text } = await test.call("PUT", DENY, { SPIFFEID: uri, Reason: "stolen" });
    assert.equal(status, 200, text);
    for (const spelling of [
      uri,
      uri.replace(domain, domain.toUpperCase()),
      uri.replace("spiffe:", "SPIFFE:"),
      uri.replace("spiffe", "Spiffe"),
    ])
      assert.deepEqual(await test.call("PUT", SIGN, csrOf(spelling)), DENIED, spelling);
    for (const path of [
      "/ns/default/dc/dc1/svc/%77eb",
      "/ns/default/dc/%64c1/svc/web",
      "/ns/%64efault/dc/dc1/svc/web",
    ]) {
      const answer = await test.call("PUT", SIGN, csrOf(`spiffe://${domain}${path}`));
      assert.deepEqual(
        [answer.status, /must not be percent-encoded/.test(answer.text)],
        [400, true],
        path,
      );
    }
    const named = await test.call(
      "PUT",
      SIGN,
      csrOf(`spiffe://${domain}/ap/default/ns/default/dc/dc1/svc/web`),
    );
    assert.match(named.text, /leave "\/ap\/default" out/);
    assert.equal(named.status, 400);
    assert.equal(
      (await test.call("PUT", SIGN, csrOf(serviceUri(test.manager, "api")))).status,
      200,
    );
  });

  it("is refused to a token that has the right to the service, in every spelling of the denial", async () => {
    const test = await guarded();
    const { secret } = await test.access.addToken(WEB);
    const csr = csrOf(serviceUri(test.manager, "web"));
    assert.equal((await test.call("PUT", SIGN, csr, secret)).status, 200);
    const domain = trustDomain(test.manager);
    for (const denial of [
      `SPIFFE://${domain.toUpperCase()}/ap/default/ns/default/dc/dc1/svc/web`,
      `spiffe://${domain}/ap/default/ns/*`,
    ]) {
      const made = JSON.parse((await test.call("PUT", DENY, { SPIFFEID: denial })).text) as {
        ID: string;
      };
      assert.deepEqual(await test.call("PUT", SIGN, csr, secret), DENIED, denial);
      assert.equal((await test.call("DELETE", `${DENY}/${made.ID}`, "")).status, 200);
    }
  });
});

describe("a denied key", () => {
  it("is refused by the SHA-1 and by the SHA-256 of the key, when it asks for a leaf", async () => {
    const test = await guarded();
    const { csr, key } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const spki = createPublicKey(key).export({ type: "spki", format: "der" });
    for (const [name, id] of [
      ["SHA-256", createHash("sha256").update(spki).digest("hex")],
      ["SHA-1", createHash("sha1").update(spki.subarray(-65)).digest("hex")],
    ] as const) {
      const made = JSON.parse((await test.call("PUT", DENY, { KeyID: id })).text) as { ID: string };
      assert.deepEqual(
        await test.call("PUT", SIGN, csr),
        { status: 403, text: "Permission denied: this key is on the denylist" },
        name,
      );
      await test.call("DELETE", `${DENY}/${made.ID}`, "");
      assert.equal((await test.call("PUT", SIGN, csr)).status, 200, name);
    }
  });
});

describe("the key of a leaf that is renewed", () => {
  it("is refused by either digest of it and by the leaf's own key identifier, though the new key is another one", async () => {
    const test = await guarded();
    const uri = serviceUri(test.manager, "web");
    const { csr, key } = opensslCsr(`URI:${uri}`);
    const pem = (JSON.parse((await test.call("PUT", SIGN, csr)).text) as { CertPEM: string })
      .CertPEM;
    const leaf = new X509Certificate(pem);
    const renew = async () => {
      const request = new Request("http://127.0.0.1:8500/v1/connect/ca/renew", {
        method: "PUT",
        body: csrOf(uri),
        headers: { Host: "127.0.0.1:8500" },
      });
      const response = await test.app.fetch(request, { peerCertificate: new Uint8Array(leaf.raw) });
      return { status: response.status, text: await response.text() };
    };
    assert.equal((await renew()).status, 200);
    const spki = createPublicKey(key).export({ type: "spki", format: "der" });
    const serial = leaf.serialNumber;
    for (const denial of [
      { KeyID: createHash("sha1").update(spki.subarray(-65)).digest("hex") },
      { KeyID: createHash("sha256").update(spki).digest("hex") },
      { SerialNumber: `00${serial}` },
      { SPIFFEID: uri },
    ]) {
      const made = JSON.parse((await test.call("PUT", DENY, denial)).text) as { ID: string };
      const refused = await renew();
      assert.equal(refused.status, 403, JSON.stringify(denial));
      assert.match(refused.text, /is on the denylist/);
      await test.call("DELETE", `${DENY}/${made.ID}`, "");
    }
    assert.equal((await renew()).status, 200);
  });
});

describe("a request that waits for a remote signature", () => {
  it("is given no leaf if its identity was put on the denylist while it waited, and the audit log has the refusal", async () => {
    let gate = Promise.resolve();
    let asked = 0;
    const remote = providersWith((type) => ({
      ...type,
      async open(...opening) {
        const provider = await type.open(...opening);
        const signLeaf: typeof provider.signLeaf = async (draft, csr) => {
          asked++;
          await gate;
          return provider.signLeaf(draft, csr);
        };
        return { ...provider, remote: true, signLeaf };
      },
    }));
    const records: AuditRecord[] = [];
    const audit: Audit = {
      record: (record) => void records.push(record),
      beforeChange: async () => undefined,
      refusal: (error, make) =>
        void records.push(make(error instanceof CaError ? error.code : "internal")),
      failure: null,
      stopsSigning: false,
      stopsChanges: false,
      lost: 0,
      reserveLeft: null,
    };
    const test = await guarded(await createTestCa({ providers: remote, audit }));
    const { promise, resolve } = Promise.withResolvers<void>();
    const uri = serviceUri(test.manager, "web");
    const csr = csrOf(uri);
    assert.equal((await test.call("PUT", SIGN, csr)).status, 200);
    gate = promise;
    const before = asked;
    const waiting = test.call("PUT", SIGN, csr);
    while (asked === before) await settle();
    await test.call("PUT", DENY, { SPIFFEID: uri });
    resolve();
    assert.deepEqual(await waiting, DENIED);
    assert.deepEqual(
      records.filter(({ action }) => action === "sign").map(({ outcome, code }) => [outcome, code]),
      [
        ["allowed", null],
        ["refused", "denylisted"],
      ],
    );
  });
});

describe("a request that waits for its turn", () => {
  /** Lets one request take the only turn for now, and another one wait. */
  async function waiting(secret: (test: Guarded) => Promise<string>) {
    const test = await guarded();
    await test.manager.configure(configuration({ CSRMaxPerSecond: 4 }));
    const token = await secret(test);
    const csr = csrOf(serviceUri(test.manager, "web"));
    assert.equal((await test.call("PUT", SIGN, csr, token)).status, 200);
    const before = test.clock.sleepers;
    const second = test.call("PUT", SIGN, csr, token);
    // Signatures are verified outside the event loop; nothing else sleeps.
    await until(() => test.clock.sleepers > before);
    assert.equal(test.clock.sleepers, before + 1);
    return { test, second, token };
  }
  const webToken = async (test: Guarded) => (await test.access.addToken(WEB)).secret;

  it("is refused if its identity was denied while it waited", async () => {
    const { test, second } = await waiting(webToken);
    await test.call("PUT", DENY, { SPIFFEID: serviceUri(test.manager, "web") });
    test.clock.advance(1000);
    assert.deepEqual(await second, DENIED);
  });

  it("is refused if its token was deleted while it waited", async () => {
    const { test, second } = await waiting(webToken);
    const entry = [...test.access.replica.tokens.values()].find(
      ({ value }) => value.serviceIdentities.length > 0,
    );
    assert.ok(entry);
    await test.access.replica.write([
      { kind: "token", id: entry.value.accessorId, replaces: entry, content: null },
    ]);
    test.clock.advance(1000);
    assert.deepEqual(await second, { status: 403, text: "ACL not found" });
  });

  it("is refused if its token lost the right while it waited", async () => {
    const { test, second } = await waiting(webToken);
    const entry = [...test.access.replica.tokens.values()].find(
      ({ value }) => value.serviceIdentities.length > 0,
    );
    assert.ok(entry);
    const content = {
      ...entry.value,
      serviceIdentities: [{ serviceName: "api", datacenters: [] }],
    };
    await test.access.replica.write([
      { kind: "token", id: entry.value.accessorId, replaces: entry, content, key: entry.hash },
    ]);
    test.clock.advance(1000);
    const { status, text } = await second;
    assert.equal(status, 403);
    assert.match(text, /lacks permission 'service:write' on "web"/);
  });

  it("is signed if no right was revoked", async () => {
    const { test, second } = await waiting(webToken);
    test.clock.advance(1000);
    const { status, text } = await second;
    assert.equal(status, 200, text);
    assert.equal(
      new X509Certificate((JSON.parse(text) as { CertPEM: string }).CertPEM).subjectAltName,
      `URI:${serviceUri(test.manager, "web")}`,
    );
  });
});

describe("the end of a denial", () => {
  const endOf = (text: string) =>
    new Date((JSON.parse(text) as { ExpirationTime: string }).ExpirationTime).getTime();

  it("is not before a leaf of a retired root, whose leaves lived longer than today's", async () => {
    const test = await guarded();
    await test.manager.configure(configuration({ LeafCertTTL: "720h" }));
    const leaf = JSON.parse(
      (await test.call("PUT", SIGN, csrOf(serviceUri(test.manager, "web")))).text,
    ) as { ValidBefore: string };
    await test.manager.configure(configuration({ LeafCertTTL: "1h" }));
    await test.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    await test.manager.configure(configuration({ LeafCertTTL: "1h" }));
    const { text } = await test.call("PUT", DENY, { SPIFFEID: serviceUri(test.manager, "web") });
    assert.ok(endOf(text) > new Date(leaf.ValidBefore).getTime(), text);
    test.clock.advance(new Date(leaf.ValidBefore).getTime() - test.clock.now().getTime());
    assert.deepEqual(await test.call("PUT", SIGN, csrOf(serviceUri(test.manager, "web"))), DENIED);
  });

  it("leaves room for replicas that did not know of it: staleness, clocks and the queue", async () => {
    const test = await guarded();
    const policy = { ...DEFAULT_POLICY, maxStalenessMs: 300_000 };
    const horizon = maxLeafLifeMs(test.manager.require(), policy);
    assert.equal(horizon, 72 * 3_600_000 + 300_000 + 2 * 30_000 + 500 / 0.75 + 60_000);
  });

  it("moves on when LeafCertTTL is raised after the denial was made", async () => {
    const test = await guarded();
    const first = endOf(
      (await test.call("PUT", DENY, { SPIFFEID: serviceUri(test.manager, "web") })).text,
    );
    await test.manager.configure(configuration({ LeafCertTTL: "720h" }));
    const [shown] = JSON.parse((await test.call("GET", DENY, undefined)).text) as {
      ExpirationTime: string;
    }[];
    assert.equal(new Date(shown?.ExpirationTime ?? 0).getTime() - first, (720 - 72) * 3_600_000);
  });
});
