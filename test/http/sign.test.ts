/**
 * PUT and POST /v1/connect/ca/sign: every kind of identity, the form of the answer, and openssl's
 * opinion of the leaf.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { systemClock } from "../../src/entry/platform.ts";
import {
  createTestCa,
  inFolder,
  openssl,
  opensslCsr,
  serviceUri,
  trustDomain,
} from "../fakes/ca.ts";
import type { FakeClock } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";

const SIGN = "/v1/connect/ca/sign";
/** The media types of a body that is not named JSON. */
const TYPES = [
  "application/pkcs10",
  "application/x-pem-file",
  "text/plain; charset=utf-8",
  "application/x-www-form-urlencoded",
  "",
];
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

type Leaf = Readonly<Record<string, string | number>>;

/** openssl verifies by the real time, so the CA lives in it here. */
async function start(): Promise<TestApp> {
  const clock: FakeClock = { ...systemClock, advance() {}, jump() {}, sleepers: 0 };
  return createTestApp({}, await createTestCa({ clock }));
}

function post(test: TestApp, csr: string, init: RequestInit = {}): Promise<Response> {
  return test.fetch(SIGN, { method: "PUT", body: csr, ...init });
}

async function leafOf(response: Response): Promise<Leaf> {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text) as Leaf;
}

/**
 * Verifies a leaf and its chain against roots with openssl.
 * @returns what openssl prints of the leaf.
 */
function verify(bundle: string, roots: string): string {
  return inFolder((folder) => {
    const [leaf, ca] = [join(folder, "leaf.pem"), join(folder, "roots.pem")];
    writeFileSync(leaf, bundle);
    writeFileSync(ca, roots);
    openssl([
      "verify",
      "-x509_strict",
      "-purpose",
      "sslserver",
      "-CAfile",
      ca,
      "-untrusted",
      leaf,
      leaf,
    ]);
    openssl([
      "verify",
      "-x509_strict",
      "-purpose",
      "sslclient",
      "-CAfile",
      ca,
      "-untrusted",
      leaf,
      leaf,
    ]);
    return openssl([
      "x509",
      "-in",
      leaf,
      "-noout",
      "-serial",
      "-startdate",
      "-enddate",
      "-subject",
      "-ext",
      "subjectAltName",
    ]);
  });
}

describe("PUT /v1/connect/ca/sign", () => {
  const AFTER_NAMES = ["ValidAfter", "ValidBefore", "CreateIndex", "ModifyIndex", "RenewAfter"];
  const kinds = [
    ["a service", "/ns/default/dc/dc1/svc/web", { Service: "web" }, "ServiceURI"],
    ["an agent", "/agent/client/dc/dc1/id/node-1", { Agent: "node-1" }, "AgentURI"],
    ["a mesh gateway", "/gateway/mesh/dc/dc1", { Kind: "mesh-gateway" }, "KindURI"],
    ["a server", "/agent/server/dc/dc1", {}, "ServerURI"],
  ] as const;

  for (const [kind, path, names, uriField] of kinds)
    it(`PUT /v1/connect/ca/sign signs ${kind}, with Consul's fields in Consul's order`, async () => {
      const test = await start();
      const uri = `spiffe://${trustDomain(test.manager)}${path}`;
      const response = await post(test, opensslCsr(`URI:${uri}`).csr);
      assert.equal(response.headers.get("content-type"), "application/json");
      assert.equal(response.headers.get("cache-control"), "no-store");
      const leaf = await leafOf(response);
      assert.deepEqual(Object.keys(leaf), [
        "SerialNumber",
        "CertPEM",
        ...Object.keys(names),
        uriField,
        ...AFTER_NAMES,
      ]);
      for (const [name, value] of Object.entries(names)) assert.equal(leaf[name], value);
      assert.equal(leaf[uriField], uri);
      assert.match(String(leaf.ValidAfter), INSTANT);
      assert.match(String(leaf.ValidBefore), INSTANT);
      assert.deepEqual(
        [leaf.CreateIndex, leaf.ModifyIndex, response.headers.get("x-consul-index")],
        [1, 1, "1"],
      );
    });

  const text = (csr: string, fields: object) => JSON.stringify({ CSR: csr, ...fields });

  it("PUT /v1/connect/ca/sign gives a service the names that it asks for and the configuration allows", async () => {
    const test = await start();
    const uri = serviceUri(test.manager, "web");
    const ask = (names: string) => post(test, opensslCsr(`URI:${uri},${names}`).csr);
    const byDefault = ["web", "web.service.consul", "web.service.dc1.consul", "web.virtual.consul"];
    const asked = byDefault.map((name) => `DNS:${name}`).join();
    const leaf = await leafOf(await ask(asked));
    const roots = await (await test.fetch("/v1/connect/ca/roots?pem=true")).text();
    const printed = verify(String(leaf.CertPEM), roots);
    assert.match(
      printed.replace(/\s+/g, " "),
      /DNS:web, DNS:web\.service\.consul, DNS:web\.service\.dc1\.consul, DNS:web\.virtual\.consul, URI:spiffe:/,
    );
    const config = {
      ServiceDNSNames: ["*.{service}.mesh.example", "{service}.{trust_domain}"],
      service_ip_ranges: ["10.0.0.0/8", "fd00::/8"],
    };
    const put = (Config: object) =>
      test.fetch("/v1/connect/ca/configuration", {
        method: "PUT",
        body: JSON.stringify({ Provider: "consul", Config }),
      });
    const wrong = await put(config);
    assert.deepEqual(
      [wrong.status, /unknown key "service_ip_ranges"/.test(await wrong.text())],
      [400, true],
    );
    const { ServiceDNSNames } = config;
    const before = test.manager.require().active.id;
    const set = { ServiceDNSNames, ServiceIPRanges: config.service_ip_ranges };
    assert.equal((await put(set)).status, 200);
    assert.equal(test.manager.require().active.id, before);
    const shown = (await (await test.fetch("/v1/connect/ca/configuration")).json()) as {
      Config: object;
    };
    assert.deepEqual(shown.Config, set);
    const domain = trustDomain(test.manager);
    const named = await leafOf(
      await ask(`DNS:*.web.mesh.example,DNS:web.${domain},IP:10.1.2.3,IP:fd00::1`),
    );
    assert.match(
      verify(String(named.CertPEM), roots).replace(/\s+/g, " "),
      /DNS:\*\.web\.mesh\.example, DNS:web\.[^,]+, IP Address:10\.1\.2\.3, IP Address:FD00:0:0:0:0:0:0:1, URI/,
    );
    const refused = await ask("DNS:web");
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /its DNS names are "\*\.web\.mesh\.example", "web\./);
    assert.equal((await put({ ServiceDNSNames: [] })).status, 200);
    const none = await ask("DNS:web");
    assert.match(await none.text(), /the DNS name "web": it is allowed to have no DNS name/);
  });

  it("PUT /v1/connect/ca/sign signs for the lifetime of the body or of the query, and says when to renew", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const at = (value: unknown) => Date.parse(String(value)) / 1000;
    for (const [path, body, lived, backdated] of [
      [SIGN, text(csr, { TTL: "1m" }), 60, 6],
      [SIGN, text(csr, { ttl: "90s" }), 90, 9],
      [SIGN, text(csr, { TTL: null }), 72 * 3600 - 60, 60],
      [`${SIGN}?ttl=1h30m`, csr, 5400, 60],
      [`${SIGN}?ttl=60m`, text(csr, { TTL: "1h" }), 3600, 60],
      [`${SIGN}?ttl=72h`, csr, 72 * 3600, 60],
      [SIGN, csr, 72 * 3600 - 60, 60],
    ] as const) {
      const leaf = await leafOf(await test.fetch(path, { method: "PUT", body }));
      assert.equal(at(leaf.ValidBefore) - at(leaf.ValidAfter), lived + backdated, path);
      const signedAt = at(leaf.ValidAfter) + backdated;
      const part = (at(leaf.RenewAfter) - signedAt) / lived;
      assert.ok(part >= 0.58 && part <= 0.82, `${part} of ${lived} s`);
    }
    const pem = await test.fetch(`${SIGN}?ttl=10m`, {
      method: "PUT",
      body: csr,
      headers: { Accept: "application/pem-certificate-chain" },
    });
    assert.match(pem.headers.get("x-meshca-renew-after") ?? "", INSTANT);
    assert.equal((await post(test, csr)).headers.get("x-meshca-renew-after"), null);
    for (const [query, body, says] of [
      [
        "?ttl=1h",
        text(csr, { TTL: "2h" }),
        'Cannot sign leaf: TTL is given as "2h" and as "1h", in the body or the query; send one of them',
      ],
      [
        "?ttl=2h&ttl=1h",
        csr,
        'Cannot sign leaf: TTL is given as "2h" and as "1h", in the body or the query; send one of them',
      ],
      [
        "?ttl=59s",
        csr,
        "Cannot sign leaf: TTL 59 s is out of range: it must be at least 1 min and at most 72 h, which is LeafCertTTL",
      ],
      [
        "?ttl=73h",
        csr,
        "Cannot sign leaf: TTL 73 h is out of range: it must be at least 1 min and at most 72 h, which is LeafCertTTL",
      ],
      ["?ttl=", csr, 'Cannot sign leaf: TTL "" must be a duration such as "30m" or "12h"'],
      ["?ttl=3d", csr, 'Cannot sign leaf: TTL "3d" must be a duration such as "30m" or "12h"'],
      ["?ttl=-1h", csr, /^Cannot sign leaf: TTL -1 h is out of range/],
      ["?ttl=3600", csr, 'Cannot sign leaf: TTL "3600" must be a duration such as "30m" or "12h"'],
    ] as const) {
      const response = await test.fetch(`${SIGN}${query}`, { method: "PUT", body });
      const answer = await response.text();
      assert.equal(response.status, 400, answer);
      if (typeof says === "string") assert.equal(answer, says);
      else assert.match(answer, says);
    }
  });

  it("PUT /v1/connect/ca/sign names the encoding of a request in UTF-16, as PowerShell writes it", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    for (const text of [csr, JSON.stringify({ CSR: csr })])
      for (const type of ["", "application/json", "application/pkcs10"]) {
        const littleEndian = Buffer.from(`\ufeff${text}`, "utf16le");
        for (const body of [
          new Uint8Array(littleEndian),
          new Uint8Array(Buffer.from(littleEndian).swap16()),
        ]) {
          const answer = await test.fetch(SIGN, {
            method: "PUT",
            body,
            headers: { "Content-Type": type },
          });
          assert.deepEqual(
            [answer.status, await answer.text()],
            [400, "Cannot read CSR: the body is text in UTF-16; send it in UTF-8"],
          );
        }
      }
  });

  it("PUT /v1/connect/ca/sign gives a leaf that openssl verifies against the listed root, with the serial of the answer", async () => {
    const test = await start();
    const uri = serviceUri(test.manager, "web");
    const leaf = await leafOf(await post(test, opensslCsr(`URI:${uri}`).csr));
    const roots = await (await test.fetch("/v1/connect/ca/roots?pem=true")).text();
    const seen = verify(String(leaf.CertPEM), roots);
    assert.equal(
      /serial=([0-9A-F]+)/.exec(seen)?.[1]?.toLowerCase(),
      String(leaf.SerialNumber).replaceAll(":", ""),
    );
    assert.match(String(leaf.SerialNumber), /^[0-9a-f]{2}(:[0-9a-f]{2})+$/);
    assert.ok(seen.includes(`URI:${uri}`), seen);
    assert.match(seen, /X509v3 Subject Alternative Name: critical/);
    for (const [field, line] of [
      ["ValidAfter", "notBefore"],
      ["ValidBefore", "notAfter"],
    ] as const)
      assert.equal(
        new Date(new RegExp(`${line}=(.*)`).exec(seen)?.[1] ?? "").getTime(),
        new Date(String(leaf[field])).getTime(),
        field,
      );
  });

  it("PUT /v1/connect/ca/sign gives a leaf that verifies under the old root and the new one after a rotation", async () => {
    const test = await start();
    const before = await (await test.fetch("/v1/connect/ca/roots?pem=true")).text();
    assert.equal((await test.fetch("/v1/connect/ca/rotate", { method: "PUT" })).status, 200);
    const leaf = await leafOf(
      await post(test, opensslCsr(`URI:${serviceUri(test.manager, "web")}`).csr),
    );
    assert.equal(String(leaf.CertPEM).match(/BEGIN CERTIFICATE/g)?.length, 2);
    verify(String(leaf.CertPEM), before);
    const listed = JSON.parse(await (await test.fetch("/v1/connect/ca/roots")).text()) as {
      Roots: { Active: boolean; RootCert: string }[];
    };
    verify(String(leaf.CertPEM), listed.Roots.find(({ Active }) => Active)?.RootCert ?? "");
  });

  for (const [key, newkey] of [
    ["P-384", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]],
    ["P-521", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]],
    ["RSA 2048", ["-newkey", "rsa:2048"]],
    ["Ed25519", ["-newkey", "ed25519"]],
  ] as const)
    it(`PUT /v1/connect/ca/sign signs a key on ${key}`, async () => {
      const test = await start();
      const leaf = await leafOf(
        await post(test, opensslCsr(`URI:${serviceUri(test.manager, "web")}`, newkey).csr),
      );
      verify(
        String(leaf.CertPEM),
        await (await test.fetch("/v1/connect/ca/roots?pem=true")).text(),
      );
    });

  it("PUT /v1/connect/ca/sign takes JSON, PEM of every accepted media type and without one, and POST as well", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    for (const type of TYPES) {
      const leaf = await leafOf(
        await post(test, csr, { method: "POST", headers: { "Content-Type": type } }),
      );
      assert.equal(leaf.Service, "web", type);
    }
    const json = {
      method: "PUT",
      body: JSON.stringify({ CSR: csr }),
      headers: { "Content-Type": "Application/JSON; charset=utf-8" },
    };
    assert.equal((await leafOf(await test.fetch(SIGN, json))).Service, "web");
  });

  it("PUT /v1/connect/ca/sign takes DER, and base64 of it on one line or on several, of every accepted media type and without one", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const base64 = csr.split("\n").slice(1, -2);
    const der = Uint8Array.from(Buffer.from(base64.join(""), "base64"));
    for (const type of [...TYPES, "application/json"]) {
      const bodies: (string | Uint8Array<ArrayBuffer>)[] =
        type === "application/json"
          ? [der]
          : [der, base64.join("\n"), base64.join("\r\n"), base64.join("")];
      for (const body of bodies) {
        const leaf = await leafOf(
          await test.fetch(SIGN, { method: "PUT", body, headers: { "Content-Type": type } }),
        );
        assert.equal(leaf.Service, "web", type);
      }
    }
    const streamed = new Blob([der]).stream();
    assert.equal(
      (
        await leafOf(
          await test.fetch(SIGN, {
            method: "PUT",
            body: streamed,
            headers: { "Content-Type": "application/pkcs10" },
          }),
        )
      ).Service,
      "web",
    );
  });

  it("PUT /v1/connect/ca/sign takes JSON of every media type that a configuration has, with its key in any case", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const base64 = csr.split("\n").slice(1, -2).join("");
    for (const type of [...TYPES, "application/json"])
      for (const body of [{ CSR: csr }, { csr }, { Csr: csr }, { cSr: base64 }]) {
        const init = {
          method: "PUT",
          body: ` \n${JSON.stringify(body)}`,
          headers: { "Content-Type": type },
        };
        assert.equal(
          (await leafOf(await test.fetch(SIGN, init))).Service,
          "web",
          `${type} ${Object.keys(body)}`,
        );
      }
  });

  it("PUT /v1/connect/ca/sign refuses DER that is cut off, has trailing octets, or is another structure", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const der = Buffer.from(csr.split("\n").slice(1, -2).join(""), "base64");
    for (const body of [
      der.subarray(0, 100),
      Buffer.concat([der, der]),
      Buffer.from([0x30, 0x80]),
      Buffer.concat([der, Buffer.from("\n")]),
    ]) {
      const answer = await test.fetch(SIGN, {
        method: "PUT",
        body,
        headers: { "Content-Type": "application/pkcs10" },
      });
      assert.equal(answer.status, 400);
      assert.match(await answer.text(), /^Cannot read CSR: /);
    }
  });

  it("PUT /v1/connect/ca/sign answers only the chain if Accept has application/pem-certificate-chain", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const response = await post(test, csr, {
      headers: { Accept: "application/pem-certificate-chain" },
    });
    const text = await response.text();
    assert.equal(response.headers.get("content-type"), "application/pem-certificate-chain");
    assert.match(text, /^-----BEGIN CERTIFICATE-----\n[\s\S]+\n-----END CERTIFICATE-----\n$/);
    verify(text, await (await test.fetch("/v1/connect/ca/roots?pem=true")).text());
  });

  it("PUT /v1/connect/ca/sign writes the URI in its canonical form, whatever case the trust domain was sent in", async () => {
    const test = await start();
    const uri = serviceUri(test.manager, "web");
    const sent = uri.replace(trustDomain(test.manager), trustDomain(test.manager).toUpperCase());
    const leaf = await leafOf(await post(test, opensslCsr(`URI:${sent}`).csr));
    assert.equal(leaf.ServiceURI, uri);
  });

  it("PUT /v1/connect/ca/sign indents with pretty and ends with a newline", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const text = await (await test.fetch(`${SIGN}?pretty`, { method: "PUT", body: csr })).text();
    assert.match(text, /^\{\n {4}"SerialNumber": "[0-9a-f:]+",\n {4}"CertPEM": /);
    assert.match(text, /\n\}\n$/);
  });

  it("PUT /v1/connect/ca/sign never gives the same serial twice", async () => {
    const test = await start();
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    const leaves = await Promise.all(
      Array.from({ length: 50 }, async () => leafOf(await post(test, csr))),
    );
    assert.equal(new Set(leaves.map(({ SerialNumber }) => SerialNumber)).size, 50);
  });

  it("PUT /v1/connect/ca/sign answers 429 with Retry-After and Consul's text above CSRMaxPerSecond", async () => {
    const test = await createTestApp();
    const body = JSON.stringify({ Provider: "consul", Config: { CSRMaxPerSecond: 0.01 } });
    assert.equal(
      (await test.fetch("/v1/connect/ca/configuration", { method: "PUT", body })).status,
      200,
    );
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    assert.equal((await post(test, csr)).status, 200);
    const refused = await post(test, csr);
    assert.deepEqual(
      [refused.status, await refused.text()],
      [429, "Rate limit reached, try again later"],
    );
    assert.equal(refused.headers.get("retry-after"), "100");
  });

  it("PUT /v1/connect/ca/sign answers 503 before there is a CA, and once the root has expired", async () => {
    const unready = await createTestApp({}, await createTestCa({ started: false }));
    const { csr } = opensslCsr(
      "URI:spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web",
    );
    const early = await post(unready, csr);
    assert.deepEqual(
      [early.status, await early.text(), early.headers.get("retry-after")],
      [503, "CA has not finished initializing", "1"],
    );
    const test = await createTestApp();
    test.clock.advance(87_600 * 3_600_000);
    const late = await post(test, opensslCsr(`URI:${serviceUri(test.manager, "web")}`).csr);
    assert.equal(late.status, 503);
    assert.match(
      await late.text(),
      /^root expired: certificate expired, expiration date: .* \+0000 UTC $/,
    );
  });
});
