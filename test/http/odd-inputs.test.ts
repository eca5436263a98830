/**
 * Requests, roots and health checks as real tools make them: each file of test/vectors/odd-inputs,
 * with what it should get. Those for Vault are in test/vault/odd-inputs.test.ts.
 * @module
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createTestCa, DEFAULT_BOOTSTRAP, inFolder, openssl } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";
import { startServer } from "../fixtures/process.ts";

const FOLDER = new URL("../vectors/odd-inputs/", import.meta.url).pathname;
const CLUSTER = "262f6727-279e-c207-929c-87453c396ef6";
/** The roots are valid from 26 November 2026 on. */
const NOW = new Date("2026-12-01T12:00:00Z");
const CONFIGURATION = "/v1/connect/ca/configuration";
const SIGN = "/v1/connect/ca/sign";
const read = (name: string): string => readFileSync(join(FOLDER, name), "utf8");

/** A CA with the cluster id that the inputs are made for. */
async function start(): Promise<TestApp> {
  return createTestApp(
    {},
    await createTestCa({
      clock: createFakeClock(NOW),
      bootstrap: { ...DEFAULT_BOOTSTRAP, clusterId: CLUSTER },
    }),
  );
}

/**
 * Has OpenSSL verify the chain that a request was answered with, under each published root by
 * itself.
 */
async function requireVerifies(test: TestApp, chain: string): Promise<void> {
  const { Roots } = (await (await test.fetch("/v1/connect/ca/roots")).json()) as {
    Roots: { RootCert: string }[];
  };
  inFolder((folder) => {
    const [leaf, root] = [join(folder, "leaf.pem"), join(folder, "root.pem")];
    writeFileSync(leaf, chain);
    for (const { RootCert } of Roots) {
      writeFileSync(root, RootCert);
      const at = ["-attime", String(NOW.getTime() / 1000)];
      for (const strict of [[], ["-x509_strict"]])
        assert.match(
          openssl(["verify", ...strict, ...at, "-CAfile", root, "-untrusted", leaf, leaf]),
          /: OK/,
        );
    }
  });
}

async function sign(test: TestApp, csr: string): Promise<Response> {
  const headers = {
    "Content-Type": "application/pkcs10",
    Accept: "application/pem-certificate-chain",
  };
  return test.fetch(SIGN, { method: "PUT", body: csr, headers });
}

/** Requests, all of which are signed: OpenSSL, Go and Consul take them. */
const REQUESTS: readonly (readonly [file: string, what: string])[] = [
  ["csr-java11-keytool-ec.pem", "keytool of JDK 11, with NULL parameters for ECDSA"],
  ["csr-ecdsa-null-params.pem", "NULL parameters for ECDSA"],
  ["csr-rsa-absent-params.pem", "RSA without parameters, which RFC 4055 section 5 has accepted"],
  ["csr-pkijs-rsa.pem", "PKI.js, which leaves the parameters of RSA out"],
  ["csr-san-critical-false.pem", "certmonger, with an explicit critical FALSE"],
];

/** Roots: taken, or refused with a text that names the fault. */
const ROOTS: readonly (readonly [file: string, what: string, refusal: RegExp | null])[] = [
  ["root-good.json", "an ordinary root", null],
  [
    "root-openssl-nameconstraints.json",
    "name constraints that forbid our URIs",
    /name constraint/i,
  ],
  [
    "root-consul-tls-ca-name-constraint.json",
    "name constraints on DNS names only, of consul tls ca create",
    null,
  ],
  ["root-eku-any.json", "anyExtendedKeyUsage only", /extended key usage/i],
  [
    "root-renewed-aki-serial.json",
    "an authority key identifier that names the serial before a renewal",
    /authority key identifier/i,
  ],
  ["root-printablestring-underscore.json", "an underscore in a PrintableString", /PrintableString/],
  [
    "root-easyrsa-bc-noncritical.json",
    "basic constraints that are not critical, as easy-rsa makes them",
    /basic constraints.*critical/i,
  ],
  ["root-bad-utf8-forced.json", "a UTF8String that is not UTF-8, with force", /UTF-?8/i],
  [
    "root-malformed-policies.json",
    "a malformed extension that no verifier interprets",
    /certificate policies|certificatePolicies|policies/i,
  ],
  ["root-pkcs12-bag-attributes.json", "text of openssl pkcs12 -nokeys before the PEM block", null],
];

/** Files that another test has a row for. */
const ELSEWHERE = [
  "README.md",
  "haproxy.cfg",
  "vault-ext-pathlen1.bundle.pem",
  "vault-rotationperiod.json",
];

describe("odd inputs", () => {
  it("every file has a row", () => {
    const rows = [...REQUESTS, ...ROOTS].map(([file]) => file);
    assert.deepEqual(new Set(readdirSync(FOLDER)), new Set([...rows, ...ELSEWHERE]));
  });

  for (const [file, what] of REQUESTS)
    it(`a request is signed: ${what}`, async () => {
      const test = await start();
      const answer = await sign(test, read(file));
      const chain = await answer.text();
      assert.equal(answer.status, 200, chain);
      await requireVerifies(test, chain);
    });

  for (const [file, what, refusal] of ROOTS)
    it(`a root is ${refusal === null ? "taken, and its leaves verify" : "refused"}: ${what}`, async () => {
      const test = await start();
      const before = await (await test.fetch("/v1/connect/ca/roots")).text();
      const answer = await test.fetch(CONFIGURATION, { method: "PUT", body: read(file) });
      const text = await answer.text();
      if (refusal === null) {
        assert.equal(answer.status, 200, text);
        const signed = await sign(test, read("csr-pkijs-rsa.pem"));
        await requireVerifies(test, await signed.text());
        return;
      }
      assert.equal(answer.status, 400, text);
      assert.match(text, refusal);
      assert.doesNotMatch(text, /PRIVATE KEY/);
      assert.equal(await (await test.fetch("/v1/connect/ca/roots")).text(), before);
      assert.equal((await sign(test, read("csr-pkijs-rsa.pem"))).status, 200);
    });

  it("HAProxy's option httpchk, which sends HTTP/1.0 without a Host, finds the server up", async () => {
    const [, method, path] = /option httpchk (\S+) (\S+)/.exec(read("haproxy.cfg")) ?? [];
    const server = await startServer({ MESHCA_STORE: "memory:" });
    try {
      const answer = await new Promise<string>((resolve, reject) => {
        const socket = connect(server.port, "127.0.0.1", () =>
          socket.write(`${method} ${path} HTTP/1.0\r\n\r\n`),
        );
        socket.setEncoding("latin1").once("data", resolve).once("error", reject);
      });
      // HAProxy takes every 2xx and 3xx.
      assert.match(answer, /^HTTP\/1\.[01] [23]\d\d /);
    } finally {
      await server.stop();
    }
  });
});
