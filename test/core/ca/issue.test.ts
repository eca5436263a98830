/**
 * The way of a request through the CA: what counts against the limits, and what a leaf can hold.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { DeniedError, RateLimitedError, RequestError } from "../../../src/core/errors.ts";
import { configuration, confirmOver, createTestCa, inFolder, openssl, opensslCsr } from "../../fakes/ca.ts";
import { BOOTSTRAP, HOUR, readChain, suppliedRoot, TRUST_DOMAIN, webCsr } from "./harness.ts";

describe("sign()", () => {
  it("sign() lets no refused request count against CSRMaxPerSecond", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    await manager.configure(configuration({ CSRMaxPerSecond: 1 }));
    const broken = webCsr().replace(/[A-Za-z](?=[A-Za-z0-9+/=]*\n-----END)/, (char) => (char === "A" ? "B" : "A"));
    for (const bad of ["garbage", broken, opensslCsr("URI:spiffe://other.consul/ns/default/dc/dc1/svc/web").csr])
      await assert.rejects(manager.sign(bad), RequestError);
    await manager.sign(webCsr());
    await assert.rejects(manager.sign(webCsr()), RateLimitedError);
    await assert.rejects(manager.sign("garbage"), RequestError);
  });

  it("sign() checks who asks inside the limiter, and reads nothing of a request whose caller is refused", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    let inFlight = 0;
    const authenticate = async () => {
      inFlight = manager.signing;
      throw new DeniedError("permission_denied", "refused");
    };
    await assert.rejects(manager.sign("garbage", { priority: "renewal", authenticate }), { code: "permission_denied" });
    assert.deepEqual([inFlight, manager.signing], [1, 0]);
  });

  it("sign() writes each name of a request once", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const names = ["URI:spiffe://TD/agent/client/dc/dc1/id/node".replace("TD", TRUST_DOMAIN), "DNS:localhost", "DNS:LOCALHOST"];
    const { csr } = opensslCsr([...names, ...Array.from({ length: 50 }, () => "IP:127.0.0.1")].join());
    const { leaf } = readChain((await manager.sign(csr)).certificatePem);
    assert.deepEqual([leaf.dnsNames, leaf.ipAddresses.length], [["localhost"], 1]);
  });
});

describe("sign() with a key of the CA (x509-and-threats.md §2, weak keys)", () => {
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
    await assert.rejects(manager.sign(csr), { code: "profile_violation", message: /its public key is one of the CA's own$/ });
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    assert.equal(manager.require().state.roots.length, 3);
    await assert.rejects(manager.sign(csr), { code: "profile_violation" });
    clock.advance(7 * 24 * HOUR);
    await confirmOver({ manager, clock });
    await manager.tick();
    assert.equal(manager.require().state.roots.length, 1);
    await manager.sign(csr);
  });
});

describe("configure()", () => {
  it("configure() refuses a RootCert with a private key beside the certificate, since it is stored and shown as it was sent", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const { cert, key } = suppliedRoot();
    for (const extra of [key, key.replace(/^/gm, "  "), `a note\n${key}`])
      await assert.rejects(manager.configure(configuration({ PrivateKey: key, RootCert: `${cert}${extra}` })), /RootCert|root certificate/);
    assert.equal(manager.require().state.config.config?.RootCert, undefined);
    await manager.configure(configuration({ PrivateKey: key, RootCert: `\n${cert}\n\n` }));
  });
});

describe("close()", () => {
  it("close() lets the change that runs end, and refuses others", async () => {
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP });
    const change = manager.configure(configuration({ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }));
    await manager.close();
    assert.equal(await change, true);
    assert.equal(manager.require().active.certificate.key.type, "rsa");
    await assert.rejects(manager.configure(configuration({})), /shutting down/);
  });
});
