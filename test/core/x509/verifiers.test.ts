/**
 * The rules by which known verifiers refuse a path. test/verifiers/limits compares them with the
 * libraries themselves.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Authority } from "../../../src/core/x509/authority.ts";
import { KEY_USAGE } from "../../../src/core/x509/certificate.ts";
import { VERIFIERS, verifierOf } from "../../../src/core/x509/verifier-table.ts";
import { maxCrossings, refusals, verifierFaults } from "../../../src/core/x509/verifiers.ts";
import { makeOdd, makeOddCa, usage } from "./odd-certificates.ts";
import { publicKey } from "./requests.ts";

const like = (name: string) => verifierOf(name) ?? assert.fail(name);
const namesOf = (found: ReturnType<typeof refusals>) => found.map(({ verifier }) => verifier);

/** A path with so many CA certificates below the root. */
async function pathOf(between: number) {
  const authorities: Authority[] = [await makeOddCa(null, { subject: "CN=root" })];
  for (let i = 1; i <= between; i++)
    authorities.push(await makeOddCa(authorities.at(-1) as Authority, { subject: `CN=ca ${i}` }));
  const leaf = await makeOdd(authorities.at(-1) as Authority);
  return [leaf, ...authorities.toReversed().map(({ certificate }) => certificate)];
}

describe("refusals()", () => {
  it("names each verifier that refuses a path, with its reasons", async () => {
    const path = await pathOf(8);
    const sent = path.slice(0, -1);
    assert.deepEqual(refusals(VERIFIERS, { path, sent }), [
      { verifier: "jdk", reasons: ["jdk accepts 8 certificates of a peer, and 9 are sent"] },
      {
        verifier: "rustls",
        reasons: ["rustls accepts 6 CA certificates between leaf and root, and there are 8"],
      },
    ]);
    assert.deepEqual(refusals(VERIFIERS, { path: path.slice(-3), sent: path.slice(-3, -1) }), []);
  });

  it("judges the order in which a peer sends", async () => {
    const path = await pathOf(6);
    const [leaf, ...above] = path.slice(0, -1);
    if (leaf === undefined) throw new RangeError("The path has no leaf");
    const reversed = refusals(VERIFIERS, { path, sent: [leaf, ...above.toReversed()] });
    assert.deepEqual(namesOf(reversed), ["jdk", "jdk-17", "jdk-client", "mbedtls"]);
    const [other] = await pathOf(0);
    const sent = [leaf, ...above.slice(0, 2), other ?? leaf, ...above.slice(2)];
    assert.deepEqual(namesOf(refusals(VERIFIERS, { path, sent })), ["jdk", "jdk-17", "jdk-client"]);
  });

  it("judges whether a root that is trusted is the one at the end", async () => {
    const path = await pathOf(2);
    const [roots, sent] = [path.slice(1, 2), path.slice(0, -1)];
    const inside = { path: path.slice(0, 2), sent };
    assert.deepEqual(namesOf(refusals(VERIFIERS, { ...inside, roots })), ["gnutls"]);
    assert.deepEqual(refusals(VERIFIERS, { ...inside, roots: [...roots, ...path.slice(-1)] }), []);
  });

  it("judges the key and the key usage of a leaf, of a CA in its place neither", async () => {
    const root = await makeOddCa(null, { keySpec: { type: "ec", bits: 521 } });
    const leaf = await makeOdd(root, {
      spki: publicKey("EC 384"),
      extensions: { keyUsage: usage(KEY_USAGE.keyEncipherment) },
    });
    const faults = verifierFaults(like("envoy"), {
      path: [leaf, root.certificate],
      sent: [leaf],
    });
    assert.deepEqual(faults, [
      "envoy as a client takes no leaf on P-384",
      "envoy as a client takes no leaf whose key usage lacks digitalSignature",
      "envoy as a server takes no leaf whose key usage lacks digitalSignature",
    ]);
    const stand = { path: [root.certificate, root.certificate], sent: [root.certificate] };
    assert.deepEqual(refusals(VERIFIERS, stand), [
      {
        verifier: "rustls",
        reasons: ["rustls does not verify signatures by keys on P-521, which the path has"],
      },
    ]);
  });
});

describe("maxCrossings()", () => {
  it("counts what is left beside the leaf and the issuers", () => {
    const of = (name: string, issuers?: number) => maxCrossings(like(name), issuers);
    assert.deepEqual([of("jdk"), of("jdk", 1), of("rustls", 1), of("nginx", 2)], [7, 6, 5, 0]);
    assert.equal(maxCrossings({ maxSent: null, maxIntermediates: null }), null);
  });
});

describe("verifierOf()", () => {
  it("knows nginx with any depth, and no other name", () => {
    assert.deepEqual(
      ["nginx", "nginx:0", "nginx:12"].map((name) => verifierOf(name)?.maxIntermediates),
      [1, 0, 12],
    );
    for (const name of ["nginx:", "nginx:1000", "nginx:x", "nginxx", "", "JDK"])
      assert.equal(verifierOf(name), null, name);
  });
});
