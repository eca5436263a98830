/**
 * The server certificate from its own CA: its content, and when it is renewed.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { NotReadyError } from "../../src/core/errors.ts";
import { OwnCertificate } from "../../src/tls/own-certificate.ts";
import {
  configuration,
  createTestCa,
  DEFAULT_BOOTSTRAP,
  silentLog,
  trustDomain,
} from "../fakes/ca.ts";

const NAMES = { dnsNames: ["localhost"], ipAddresses: [Uint8Array.of(127, 0, 0, 1)] };
const HOUR = 3_600_000;

async function start(more: Parameters<typeof createTestCa>[0] = {}) {
  const ca = await createTestCa({ serverNames: NAMES, ...more });
  const { manager, clock } = ca;
  const errors: string[] = [];
  let failing = false;
  const sign: typeof manager.sign = (csr) =>
    failing ? Promise.reject(new NotReadyError("ca_expired", "root expired")) : manager.sign(csr);
  const own = new OwnCertificate({
    ca: {
      get snapshot() {
        return manager.snapshot;
      },
      sign,
    },
    datacenter: "dc1",
    names: NAMES,
    clock,
    log: { ...silentLog, error: (_message, fields) => void errors.push(String(fields?.reason)) },
  });
  const leaf = () => new X509Certificate(own.pair?.cert ?? "");
  const fail = (fails: boolean) => {
    failing = fails;
  };
  return { ...ca, own, leaf, errors, fail };
}

describe("OwnCertificate", () => {
  it("OwnCertificate gets the identity of a server with its names, and its key", async () => {
    const { own, leaf, manager } = await start();
    assert.deepEqual([own.pair, await own.renew()], [null, true]);
    const uri = `URI:spiffe://${trustDomain(manager)}/agent/server/dc/dc1`;
    assert.equal(leaf().subjectAltName, `DNS:localhost, IP Address:127.0.0.1, ${uri}`);
    assert.ok(leaf().checkPrivateKey(createPrivateKey(own.pair?.key ?? "")));
  });

  it("OwnCertificate has the trust domain of the CA", async () => {
    const bootstrap = { ...DEFAULT_BOOTSTRAP, trustDomain: "mesh.example.com" };
    const { own, leaf } = await start({ bootstrap });
    await own.renew();
    const uri = "URI:spiffe://mesh.example.com/agent/server/dc/dc1";
    assert.equal(leaf().subjectAltName, `DNS:localhost, IP Address:127.0.0.1, ${uri}`);
  });

  it("OwnCertificate renews at half of its life, with another key", async () => {
    const { own, leaf, clock } = await start();
    await own.renew();
    const [first, key] = [leaf().serialNumber, own.pair?.key];
    clock.advance(35 * HOUR);
    assert.equal(await own.renew(), false);
    clock.advance(HOUR);
    assert.equal(await own.renew(), true);
    assert.notEqual(leaf().serialNumber, first);
    assert.notEqual(own.pair?.key, key);
    assert.equal(await own.renew(), false);
  });

  it("OwnCertificate renews after a rotation, and not after another change", async () => {
    const { own, leaf, manager } = await start();
    await own.renew();
    await manager.configure(configuration({ LeafCertTTL: "50h" }));
    assert.equal(await own.renew(), false);
    const before = leaf().issuer;
    await manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    assert.equal(await own.renew(), true);
    assert.notEqual(leaf().issuer, before);
    // The chain down from the old root is shown as well.
    assert.ok((own.pair?.cert.match(/BEGIN CERTIFICATE/g)?.length ?? 0) > 1);
  });

  it("OwnCertificate tries again after a failure, a second later if there is no certificate yet, else half a minute later", async () => {
    const { own, leaf, clock, errors, fail } = await start();
    fail(true);
    assert.equal(await own.renew(), false);
    assert.deepEqual(errors, ["root expired"]);
    fail(false);
    assert.equal(await own.renew(), false);
    clock.advance(1000);
    assert.equal(await own.renew(), true);
    const first = leaf().serialNumber;
    clock.advance(36 * HOUR);
    fail(true);
    for (let tries = 0; tries < 3; tries++, clock.advance(30_000))
      assert.equal(await own.renew(), false);
    assert.equal(errors.length, 2);
    assert.equal(leaf().serialNumber, first);
    fail(false);
    assert.equal(await own.renew(), true);
  });
});
