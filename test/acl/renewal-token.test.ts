/**
 * The times of a renewal proof, by clocks that differ.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { before, describe, it } from "node:test";
import { SignJWT } from "jose";
import { readRenewalToken } from "../../src/acl/renewal-token.ts";
import { createTestCa, opensslCsr, serviceUri } from "../fakes/ca.ts";

const AUDIENCE = "spiffe://test.consul";
const DIGEST = "A".repeat(43);
const NOW = 1_700_000_000;

describe("RenewalToken.verify()", () => {
  let prove: (claims: Record<string, unknown>) => Promise<string>;
  before(async () => {
    const { manager } = await createTestCa();
    const { csr, key } = opensslCsr(`URI:${serviceUri(manager, "web")}`);
    const { certificatePem } = await manager.sign(csr);
    const leaf = certificatePem.split("-----")[2]?.replace(/\s/g, "") ?? "";
    prove = (claims) =>
      new SignJWT({ aud: AUDIENCE, iat: NOW, csr: DIGEST, ...claims })
        .setProtectedHeader({ alg: "ES256", x5c: [leaf] })
        .sign(createPrivateKey(key));
  });
  const verify = async (claims: Record<string, unknown>) =>
    readRenewalToken(await prove(claims)).verify(AUDIENCE, new Date(NOW * 1000));

  for (const [what, claims] of [
    ["whose iat is 30 seconds ahead", { iat: NOW + 30 }],
    ["whose iat and nbf are 30 seconds ahead", { iat: NOW + 30, nbf: NOW + 30 }],
    ["of 5 minutes and 30 seconds ago", { iat: NOW - 330 }],
    ["that expired 29 seconds ago", { exp: NOW - 29 }],
    ["for several audiences", { aud: ["other", AUDIENCE] }],
  ] as const)
    it(`accepts a proof ${what}`, async () => assert.equal(await verify(claims), DIGEST));

  for (const [what, claims, reason] of [
    ["whose iat is 31 seconds ahead", { iat: NOW + 31 }, /by its claim iat: compare the clocks/],
    ["whose nbf is 31 seconds ahead", { nbf: NOW + 31 }, /by its claim nbf: compare the clocks/],
    ["of more than 5 minutes and 30 seconds ago", { iat: NOW - 331 }, /more than 5 minutes old/],
    ["that expired 30 seconds ago", { exp: NOW - 30 }, /the proof has expired/],
    ["whose nbf is no number", { nbf: "now" }, /nbf and exp.*must be numbers/],
  ] as const)
    it(`refuses a proof ${what}`, () =>
      assert.rejects(verify(claims), { code: "permission_denied", message: reason }));
});
