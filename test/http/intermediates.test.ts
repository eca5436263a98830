/**
 * PUT /v1/connect/ca/sign-intermediate and GET /v1/connect/ca/intermediates: who may have another
 * datacenter's CA certified, for which request, and what is recorded of it.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ANONYMOUS } from "../../src/core/acl/authorizer.ts";
import { generateCaKey } from "../../src/core/x509/authority.ts";
import { readCertificatePem } from "../../src/core/x509/certificate.ts";
import { lint } from "../../src/core/x509/lint.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import { inFolder, openssl, opensslCsr, trustDomain } from "../fakes/ca.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const SIGN = "/v1/connect/ca/sign-intermediate";
const LIST = "/v1/connect/ca/intermediates";
const DENY = "/v1/connect/ca/deny";
const YEAR_MS = 365 * 86_400_000;

interface Answer {
  readonly SerialNumber: string;
  readonly CertPEM: string;
  readonly RootID: string;
  readonly ValidBefore: string;
}

const CN = ["-subj", "/CN=sec-test.consul"];

/** The request that a secondary datacenter of this CA would make. */
function requestOf(test: Guarded, more: readonly string[] = CN): string {
  return opensslCsr(`URI:spiffe://${trustDomain(test.manager)}`, undefined, more).csr;
}

async function signed(test: Guarded, csr: string, secret?: string): Promise<Answer> {
  const { status, text } = await test.call("PUT", SIGN, csr, secret);
  assert.equal(status, 200, text);
  return JSON.parse(text) as Answer;
}

/** SHA-256 of the key of a request, in colon hex. */
function keyIdOf(pem: string): string {
  const spki = createPublicKey(
    new X509Certificate(pem).publicKey.export({ type: "spki", format: "pem" }),
  ).export({ type: "spki", format: "der" });
  return createHash("sha256")
    .update(spki)
    .digest("hex")
    .replace(/..(?!$)/g, "$&:");
}

describe("an intermediate for another datacenter", () => {
  it("is a CA below which only leaves are allowed, for the trust domain, and OpenSSL verifies a leaf of it", async () => {
    const test = await guarded();
    const answer = await signed(test, requestOf(test));
    const { active, state } = test.manager.require();
    assert.equal(answer.RootID, active.id);
    const certificate = readCertificatePem(answer.CertPEM);
    assert.deepEqual(await lint(certificate, "intermediate", active.certificate), []);
    assert.deepEqual(
      [certificate.isCa, certificate.pathLength, certificate.uris, certificate.dnsNames],
      [true, 0, [`spiffe://${state.trustDomain}`], []],
    );
    assert.ok(certificate.notAfter <= active.certificate.notAfter);
    // IntermediateCertTTL of this datacenter.
    assert.equal(certificate.notAfter.getTime() - test.clock.now().getTime(), YEAR_MS);
    inFolder((folder) => {
      const path = (name: string, text: string) => {
        writeFileSync(join(folder, name), text);
        return join(folder, name);
      };
      const root = path("root.pem", new X509Certificate(active.certificate.der).toString());
      const at = ["-attime", String(test.clock.now().getTime() / 1000)];
      const verified = openssl([
        ...["verify", "-x509_strict", ...at, "-CAfile", root],
        path("intermediate.pem", answer.CertPEM),
      ]);
      assert.match(verified, /: OK\n$/);
    });
  });

  it("is decided by the CA: the request's lifetime, extensions and basic constraints have no effect", async () => {
    const test = await guarded();
    const { CertPEM } = await signed(
      test,
      requestOf(test, [...CN, "-addext", "basicConstraints=critical,CA:true,pathlen:5"]),
    );
    const certificate = readCertificatePem(CertPEM);
    assert.equal(certificate.pathLength, 0);
    const ttl = await test.call("PUT", `${SIGN}?ttl=1h`, requestOf(test));
    assert.deepEqual(
      [ttl.status, ttl.text],
      [
        400,
        "Cannot sign intermediate: its lifetime and name are decided by the CA; send the CSR only",
      ],
    );
  });

  it("is recorded until it expires, without a change of the roots' index", async () => {
    const test = await guarded();
    const index = async () =>
      (await test.fetch("/v1/connect/ca/roots", {})).headers.get("x-consul-index");
    const before = await index();
    const answer = await signed(test, requestOf(test));
    assert.equal(await index(), before);
    const list = async () =>
      JSON.parse((await test.call("GET", LIST, undefined)).text) as readonly Record<
        string,
        unknown
      >[];
    const [entry, ...others] = await list();
    assert.deepEqual(others, []);
    assert.deepEqual(
      [entry?.SerialNumber, entry?.KeyID, entry?.RootID, entry?.ValidBefore],
      [answer.SerialNumber, keyIdOf(answer.CertPEM), answer.RootID, answer.ValidBefore],
    );
    assert.match(String(entry?.AccessorID), /^[0-9a-f-]{36}$/);
    assert.equal(test.manager.require().state.schema, 6);
    test.clock.advance(YEAR_MS + 1000);
    await test.manager.heartbeat();
    await signed(test, requestOf(test));
    assert.equal((await list()).length, 1);
  });

  const CASES: readonly (readonly [
    what: string,
    csr: (test: Guarded) => string | Promise<string>,
    reason: RegExp,
  ])[] = [
    [
      "the ID of a service",
      (test) =>
        opensslCsr(
          `URI:spiffe://${trustDomain(test.manager)}/ns/default/dc/dc2/svc/web`,
          undefined,
          CN,
        ).csr,
      /its request must have the one name "spiffe:\/\/[^/"]+"$/,
    ],
    [
      "another trust domain",
      () => opensslCsr("URI:spiffe://other.consul", undefined, CN).csr,
      /its request must have the one name/,
    ],
    ["no name", () => opensslCsr(null, undefined, CN).csr, /its request must have the one name/],
    [
      "a DNS name",
      (test) => opensslCsr(`URI:spiffe://${trustDomain(test.manager)},DNS:a.b`, undefined, CN).csr,
      /its request must have the one name/,
    ],
    [
      "no subject",
      (test) => requestOf(test, []),
      /must be one common name of at most 64 characters$/,
    ],
    [
      "two attributes in its subject",
      (test) => requestOf(test, ["-subj", "/O=a/CN=b"]),
      /must be one common name of at most 64 characters$/,
    ],
    [
      "name constraints",
      (test) => requestOf(test, [...CN, "-addext", "nameConstraints=critical,permitted;DNS:a"]),
      /its request must not have the extension 2\.5\.29\.30$/,
    ],
    [
      "a broken proof of possession",
      (test) => {
        const der = Buffer.from(requestOf(test).replace(/-----[^-]+-----|\s/g, ""), "base64");
        // A digit of the common name.
        der[der.indexOf("sec-test")] = "S".charCodeAt(0);
        return `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
      },
      /its signature does not verify with its own public key$/,
    ],
    [
      "an Ed25519 key",
      (test) =>
        opensslCsr(`URI:spiffe://${trustDomain(test.manager)}`, ["-newkey", "ed25519"], CN).csr,
      /its key must be EC or RSA$/,
    ],
    [
      "the subject of the root",
      async (test) => {
        const { active, state } = test.manager.require();
        const [, name = ""] =
          /CN=(.*)/.exec(new X509Certificate(active.certificate.der).subject) ?? [];
        const key = await generateCaKey({ type: "ec", bits: 256 });
        return makeCaRequest(key, name, `spiffe://${state.trustDomain}`);
      },
      /its request has the subject of a CA of this datacenter$/,
    ],
  ];
  for (const [what, csr, reason] of CASES)
    it(`is refused for a request with ${what}, and nothing is recorded`, async () => {
      const test = await guarded();
      const before = test.manager.require().state.commitId;
      const { status, text } = await test.call("PUT", SIGN, await csr(test));
      assert.equal(status, 400, text);
      assert.match(text, reason);
      assert.equal(test.manager.require().state.commitId, before);
    });

  it("is signed for a token with the right only, which operator:write includes, and never for the anonymous one", async () => {
    const test = await guarded();
    const tokenOf = async (rules: string) => {
      const policy = await test.access.addPolicy(rules);
      return (await test.access.addToken({ policies: [policy.id] })).secret;
    };
    for (const rules of ['intermediate = "write"', 'operator = "write"'])
      await signed(test, requestOf(test), await tokenOf(rules));
    for (const rules of [
      'intermediate = "read"',
      'operator = "read"',
      'operator = "write" intermediate = "deny"',
      'service_prefix "" { policy = "write" } acl = "write" mesh = "write"',
    ]) {
      const refused = await test.call("PUT", SIGN, requestOf(test), await tokenOf(rules));
      assert.equal(refused.status, 403, rules);
      assert.match(refused.text, /lacks permission 'intermediate:write'/, rules);
    }
    const rules = await test.access.addPolicy('intermediate = "write" operator = "write"');
    const linked = await test.call("PUT", `/v1/acl/token/${ANONYMOUS.accessorId}`, {
      Policies: [{ ID: rules.id }],
    });
    assert.equal(linked.status, 200, linked.text);
    const anonymous = await test.fetch(SIGN, { method: "PUT", body: requestOf(test) });
    assert.equal(anonymous.status, 403);
    assert.match(await anonymous.text(), /never for the anonymous token$/);
  });

  it("is refused for a denied key, and the denial lasts until the last intermediate for it ends", async () => {
    const test = await guarded();
    const csr = requestOf(test);
    const answer = await signed(test, csr);
    const denial = await test.call("PUT", DENY, { KeyID: keyIdOf(answer.CertPEM) });
    assert.equal(denial.status, 200, denial.text);
    const { ExpirationTime } = JSON.parse(denial.text) as { ExpirationTime: string };
    assert.equal(new Date(ExpirationTime).getTime(), new Date(answer.ValidBefore).getTime());
    const refused = await test.call("PUT", SIGN, csr);
    assert.deepEqual(
      [refused.status, refused.text],
      [403, "Permission denied: this key is on the denylist"],
    );
  });

  it("has a key that no leaf may have", async () => {
    const test = await guarded();
    const { csr, key } = opensslCsr(`URI:spiffe://${trustDomain(test.manager)}`, undefined, CN);
    await signed(test, csr);
    const leaf = inFolder((folder) => {
      writeFileSync(join(folder, "key.pem"), key);
      const uri = `URI:spiffe://${trustDomain(test.manager)}/ns/default/dc/dc1/svc/web`;
      return openssl([
        ...["req", "-new", "-key", join(folder, "key.pem"), "-subj", "/"],
        ...["-addext", `subjectAltName=${uri}`],
      ]);
    });
    const refused = await test.call("PUT", "/v1/connect/ca/sign", leaf);
    assert.deepEqual(
      [refused.status, refused.text],
      [400, "Cannot accept CSR: its public key is that of another datacenter's CA"],
    );
  });
});
