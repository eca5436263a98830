/**
 * Signing of requests: what counts against the limits, and which requests are refused.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Limiter } from "../../../src/core/ca/limiter.ts";
import { LeafSigner } from "../../../src/core/ca/signer.ts";
import type { Snapshot } from "../../../src/core/ca/snapshot.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import {
  DeniedError,
  ProviderError,
  RateLimitedError,
  RequestError,
} from "../../../src/core/errors.ts";
import type { LeafIssuer } from "../../../src/core/state.ts";
import { createIntermediate, generateCaKey } from "../../../src/core/x509/authority.ts";
import { NO_SERVER_NAMES } from "../../../src/core/x509/leaf.ts";
import { makeRequest } from "../../../src/core/x509/request.ts";
import { HINTS } from "../../../src/http/hints.ts";
import {
  configuration,
  confirmOver,
  createTestCa,
  inFolder,
  noMetrics,
  openssl,
  opensslCsr,
} from "../../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../../fakes/clock.ts";
import { until } from "../../fixtures/app.ts";
import { askFor, craftCsr, csrPem, signedCsr, uriName } from "../x509/requests.ts";
import { BOOTSTRAP, HOUR, readChain, suppliedRoot, TRUST_DOMAIN, webCsr } from "./harness.ts";
import { makeRoot, START } from "./pool.ts";

describe("sign()", () => {
  it("sign() does not count refused requests against CSRMaxPerSecond", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    await manager.configure(configuration({ CSRMaxPerSecond: 1 }));
    const broken = webCsr().replace(/[A-Za-z](?=[A-Za-z0-9+/=]*\n-----END)/, (char) =>
      char === "A" ? "B" : "A",
    );
    for (const bad of [
      "garbage",
      broken,
      opensslCsr("URI:spiffe://other.consul/ns/default/dc/dc1/svc/web").csr,
    ])
      await assert.rejects(manager.sign(bad), RequestError);
    await manager.sign(webCsr());
    await assert.rejects(manager.sign(webCsr()), RateLimitedError);
    await assert.rejects(manager.sign("garbage"), RequestError);
  });

  it("sign() checks the caller inside the limiter, and does not read the request of a refused caller", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    let inFlight = 0;
    const authenticate = async () => {
      inFlight = manager.signing;
      throw new DeniedError("permission_denied", "refused");
    };
    await assert.rejects(manager.sign("garbage", { priority: "renewal", authenticate }), {
      code: "permission_denied",
    });
    assert.deepEqual([inFlight, manager.signing], [1, 0]);
  });

  const FOREIGN: readonly (readonly [string, string])[] = [
    ["/ns/default/dc/dc2/svc/web", "SPIFFE ID in CSR from a different datacenter: dc2, we are dc1"],
    [
      "/agent/client/dc/dc2/id/node",
      "SPIFFE ID in CSR from a different datacenter: dc2, we are dc1",
    ],
    [
      "/ns/other/dc/dc1/svc/web",
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is other and partition is default",
    ],
    [
      "/ap/other/ns/default/dc/dc1/svc/web",
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is default and partition is other",
    ],
    [
      "/ap/other/gateway/mesh/dc/dc1",
      "Non default partition is supported in Enterprise only.Provided partition is other",
    ],
    ["", "SPIFFE ID in CSR must be a service, mesh-gateway, or agent ID"],
  ];
  for (const [path, message] of FOREIGN)
    it(`sign() refuses the identity ${JSON.stringify(path)}, with Consul's text`, async () => {
      const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
      const { csr } = opensslCsr(`URI:spiffe://${TRUST_DOMAIN}${path}`);
      await assert.rejects(manager.sign(csr), { name: "RequestError", message });
    });

  for (const [name, what] of [
    [
      "IP:8.8.8.8",
      "IP address 8.8.8.8: no service is allowed to have one; ServiceIPRanges in the configuration of the CA (PUT /v1/connect/ca/configuration) decides",
    ],
    [
      "IP:127.0.0.1",
      "IP address 127.0.0.1: no service gets an address of loopback or of a server, or an IPv4 address in the form of IPv6",
    ],
    [
      "DNS:localhost",
      'DNS name "localhost": no service gets a name of loopback, of an agent or of a server',
    ],
    [
      "DNS:db",
      'DNS name "db": its DNS names are "web", "web.service.consul", "web.service.dc1.consul", "web.virtual.consul"; ServiceDNSNames in the configuration of the CA (PUT /v1/connect/ca/configuration) decides',
    ],
  ] as const)
    it(`sign() refuses a service the ${what}`, async () => {
      const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
      const uri = `spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`;
      await assert.rejects(manager.sign(opensslCsr(`URI:${uri},${name}`).csr), {
        code: "profile_violation",
        message: `Cannot sign leaf for ${JSON.stringify(uri)}: it is not allowed to have the ${what}`,
      });
    });

  for (const length of [1024, 1025])
    it(`sign() ${length > 1024 ? "refuses" : "takes"} a URI of ${length} characters`, async () => {
      const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
      const uri = `spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`.padEnd(length, "x");
      const asked = manager.sign(csrPem(await signedCsr({ attributes: [askFor(uriName(uri))] })));
      if (length > 1024)
        await assert.rejects(asked, {
          code: "csr_malformed",
          message: "Cannot read CSR: its URI is longer than 1024 characters",
        });
      else assert.equal((await asked).uri, uri);
    });

  it("sign() refuses an identity of another trust domain, with Consul's text", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const { csr } = opensslCsr("URI:spiffe://other.consul/ns/default/dc/dc1/svc/web");
    await assert.rejects(manager.sign(csr), {
      code: "profile_violation",
      message: `SPIFFE ID in CSR from a different trust domain: other.consul, we are ${TRUST_DOMAIN}`,
    });
  });

  it("sign() gives no name that was no longer allowed when the request's turn came", async () => {
    const { manager, clock } = await createTestCa({ bootstrap: BOOTSTRAP });
    await manager.configure(configuration({ CSRMaxPerSecond: 4 }));
    const uri = `spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`;
    const { csr } = opensslCsr(`URI:${uri},DNS:web`);
    await manager.sign(csr);
    const before = clock.sleepers;
    const waiting = manager.sign(csr);
    const outcome = assert.rejects(waiting, {
      code: "profile_violation",
      message:
        /it is not allowed to have the DNS name "web": its DNS names are "web\.example\.com"/,
    });
    await until(() => clock.sleepers > before);
    await manager.configure(
      configuration({ CSRMaxPerSecond: 4, ServiceDNSNames: ["{service}.example.com"] }),
    );
    clock.advance(300);
    await outcome;
  });

  it("sign() writes each name of a request once", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const names = [
      "URI:spiffe://TD/agent/client/dc/dc1/id/node".replace("TD", TRUST_DOMAIN),
      "DNS:localhost",
      "DNS:LOCALHOST",
    ];
    const { csr } = opensslCsr(
      [...names, ...Array.from({ length: 50 }, () => "IP:127.0.0.1")].join(),
    );
    const { leaf } = readChain((await manager.sign(csr)).certificatePem);
    assert.deepEqual([leaf.dnsNames, leaf.ipAddresses.length], [["localhost"], 1]);
  });
});

describe("sign() with a key of the CA", () => {
  const csrFor = (key: string) =>
    inFolder((folder) => {
      const file = join(folder, "key.pem");
      writeFileSync(file, key);
      const names = `subjectAltName=URI:spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`;
      return openssl(["req", "-new", "-key", file, "-subj", "/", "-addext", names]);
    });

  it("sign() refuses a request with the key of the active root or of a published one, and takes it once that is pruned", async () => {
    const { manager, clock } = await createTestCa({ bootstrap: BOOTSTRAP });
    const { cert, key } = suppliedRoot();
    const csr = csrFor(key);
    await manager.sign(csr);
    await manager.configure(configuration({ PrivateKey: key, RootCert: cert }));
    await assert.rejects(manager.sign(csr), {
      code: "profile_violation",
      message: /its public key is one of the CA's own$/,
    });
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    assert.equal(manager.require().state.roots.length, 3);
    await assert.rejects(manager.sign(csr), { code: "profile_violation" });
    clock.advance(7 * 24 * HOUR);
    await confirmOver({ manager, clock });
    await manager.tick();
    assert.equal(manager.require().state.roots.length, 1);
    await manager.sign(csr);
  });

  /** A request whose key is that of an intermediate, and the intermediate. */
  async function intermediateKey() {
    const key = await generateCaKey({ type: "ec", bits: 256 });
    const options = {
      clusterId: TRUST_DOMAIN,
      trustDomain: TRUST_DOMAIN,
      provider: "vault",
      now: START,
      random: systemRandom,
      ttlMs: 50 * HOUR,
    };
    const certificate = await createIntermediate(key.info, await makeRoot(100), options);
    const uri = `spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`;
    return { csr: await makeRequest(key, { uri, dnsNames: [], ipAddresses: [] }), certificate };
  }

  /** Signs under a snapshot that the test changed. */
  async function signUnder(csr: string, change: (snapshot: Snapshot) => Snapshot) {
    const clock = createFakeClock();
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP, clock });
    const snapshot = change(manager.require());
    return new LeafSigner({
      datacenter: "dc1",
      serverNames: NO_SERVER_NAMES,
      reservedNames: () => NO_SERVER_NAMES,
      hints: HINTS,
      clock,
      random: systemRandom,
      limiter: new Limiter(clock, DEFAULT_POLICY),
      metrics: noMetrics,
      audit: null,
      leaves: null,
      snapshot: () => snapshot,
    }).sign(csr);
  }

  it("sign() names the fault and what still works if the signing key cannot be decrypted", async () => {
    const fault = new ProviderError("provider_unavailable", "Vault is sealed");
    await assert.rejects(
      signUnder(webCsr(), (snapshot) => ({ ...snapshot, provider: null, fault })),
      {
        name: "NotReadyError",
        code: "ca_uninitialized",
        message:
          "Cannot sign leaf: the signing key of the CA cannot be opened; the roots are still served",
        cause: fault,
      },
    );
  });

  it("sign() issues no leaf that would expire before it is valid, whatever the configuration", async () => {
    for (const leafTtlMs of [0, -1000])
      await assert.rejects(
        signUnder(webCsr(), (snapshot) => ({
          ...snapshot,
          config: { ...snapshot.config, leafTtlMs },
        })),
        {
          name: "InvariantError",
          message: "Cannot sign leaf: its validity would end before it begins",
        },
      );
  });

  it("sign() refuses a request that was not signed with its own key", async () => {
    const asked = csrPem(
      craftCsr({
        attributes: [askFor(uriName(`spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web`))],
      }),
    );
    await assert.rejects(
      signUnder(asked, (snapshot) => snapshot),
      {
        code: "csr_proof_failed",
        message: "Cannot accept CSR: its signature does not verify with its own public key",
      },
    );
  });

  const isOurs = {
    code: "profile_violation",
    message: "Cannot accept CSR: its public key is one of the CA's own",
  };

  it("sign() refuses a request with the key of the issuer that signs leaves now, recorded or not", async () => {
    const { csr, certificate } = await intermediateKey();
    await signUnder(csr, (snapshot) => snapshot);
    await assert.rejects(
      signUnder(csr, (snapshot) => ({
        ...snapshot,
        provider: snapshot.provider === null ? null : { ...snapshot.provider, issuer: certificate },
      })),
      isOurs,
    );
  });

  it("sign() refuses a request with the key of an issuer that was replaced, for as long as it is recorded", async () => {
    const { csr, certificate } = await intermediateKey();
    const replaced: LeafIssuer = { certificate, keyId: "", leavesUntil: new Date(0) };
    await assert.rejects(
      signUnder(csr, (snapshot) => ({
        ...snapshot,
        state: {
          ...snapshot.state,
          roots: snapshot.state.roots.map((root) => ({
            ...root,
            leafIssuers: [...root.leafIssuers, replaced],
          })),
        },
      })),
      isOurs,
    );
  });

  it("sign() refuses a request with the key of a published root that signs no leaves itself", async () => {
    const { csr, certificate } = await intermediateKey();
    await assert.rejects(
      signUnder(csr, (snapshot) => ({
        ...snapshot,
        state: {
          ...snapshot.state,
          roots: [
            ...snapshot.state.roots,
            { ...snapshot.active, id: "another", certificate, leafIssuers: [] },
          ],
        },
      })),
      isOurs,
    );
  });
});

describe("configure()", () => {
  it("configure() refuses a RootCert with a private key next to the certificate, since it is stored and returned as it was sent", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const { cert, key } = suppliedRoot();
    for (const extra of [key, key.replace(/^/gm, "  "), `a note\n${key}`])
      await assert.rejects(
        manager.configure(configuration({ PrivateKey: key, RootCert: `${cert}${extra}` })),
        /RootCert|root certificate/,
      );
    assert.equal(manager.require().state.config.config?.RootCert, undefined);
    await manager.configure(configuration({ PrivateKey: key, RootCert: `\n${cert}\n\n` }));
  });
});

describe("close()", () => {
  it("close() lets the running change finish, and refuses others", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const change = manager.configure(
      configuration({ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }),
    );
    await manager.close();
    assert.equal(await change, true);
    assert.equal(manager.require().active.certificate.key.type, "rsa");
    await assert.rejects(manager.configure(configuration({})), /shutting down/);
  });
});
