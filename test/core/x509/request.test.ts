/**
 * The request that a server of ours makes for its own certificate, and which names the CA gives it.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { RequestError } from "../../../src/core/errors.ts";
import { generateCaKey } from "../../../src/core/x509/authority.ts";
import { readCsr, verifyProof } from "../../../src/core/x509/csr.ts";
import type { ServerNames } from "../../../src/core/x509/leaf.ts";
import { makeRequest, privateKeyPem } from "../../../src/core/x509/request.ts";
import { createTestCa, openssl, opensslCsr, trustDomain } from "../../fakes/ca.ts";

const NAMES: ServerNames = {
  dnsNames: ["localhost", "ca.example.com"],
  ipAddresses: [Uint8Array.of(127, 0, 0, 1)],
};
const URI = "spiffe://a.consul/agent/server/dc/dc1";

describe("makeRequest()", () => {
  it("makeRequest() writes what readCsr() reads and openssl verifies", async () => {
    const key = await generateCaKey({ type: "ec", bits: 256 });
    const pem = await makeRequest(key, { uri: URI, ...NAMES });
    const request = readCsr(pem);
    await verifyProof(request);
    assert.deepEqual(
      { ...NAMES, uri: URI },
      { dnsNames: request.dnsNames, ipAddresses: request.ipAddresses, uri: request.uri },
    );
    assert.match(
      openssl(["req", "-verify", "-noout", "-text"], pem),
      /URI:spiffe:\/\/a\.consul.*DNS:ca\.example\.com, IP Address:127\.0\.0\.1/,
    );
    assert.match(
      openssl(["pkey", "-check", "-noout"], await privateKeyPem(key.privateKey)),
      /valid/i,
    );
  });
});

describe("the certificate of a server", () => {
  const signed = async (
    names: ServerNames | undefined,
    san: string,
    kind = "agent/server/dc/dc1",
  ) => {
    const { manager } = await createTestCa(names === undefined ? {} : { serverNames: names });
    const { csr } = opensslCsr(`URI:spiffe://${trustDomain(manager)}/${kind},${san}`);
    return new X509Certificate((await manager.sign(csr)).certificatePem).subjectAltName ?? "";
  };

  it("has the names by which the server is reached, if they are known", async () => {
    assert.match(
      await signed(NAMES, "DNS:CA.example.com,IP:127.0.0.1"),
      /DNS:ca\.example\.com, IP Address:127\.0\.0\.1/,
    );
  });

  for (const [what, names, san, kind] of [
    ["any name if none is known", undefined, "DNS:localhost"],
    ["a name of another server", NAMES, "DNS:other.example.com"],
    ["an address of another server", NAMES, "IP:10.0.0.1"],
    ["a server's name for a service", NAMES, "DNS:ca.example.com", "ns/default/dc/dc1/svc/web"],
    ["a server's name for an agent", NAMES, "DNS:ca.example.com", "agent/client/dc/dc1/id/n"],
    ["a server's name for a gateway", NAMES, "DNS:ca.example.com", "gateway/mesh/dc/dc1"],
  ] as const)
    it(`is refused ${what}`, () =>
      assert.rejects(
        signed(names, san, kind),
        (error) => error instanceof RequestError && error.code === "profile_violation",
      ));
});
