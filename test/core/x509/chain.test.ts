/**
 * Paths from a leaf to one root: which are found, and every reason for which one is not.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { Authority } from "../../../src/core/x509/authority.ts";
import { type Certificate, KEY_USAGE } from "../../../src/core/x509/certificate.ts";
import { couldHaveIssued, findPath, isSignedBy } from "../../../src/core/x509/chain.ts";
import { NOW, opensslVerify, YEAR_MS } from "./cas.ts";
import {
  authorityKey,
  basic,
  makeOdd,
  makeOddCa,
  type OddCertificate,
  usage,
} from "./odd-certificates.ts";

const WITHOUT_KEY_IDS = { subjectKey: null, authorityKey: null };

/** The certificate with one octet of its signature changed, counted from its end. */
function damaged(certificate: Certificate, fromEnd: number, mask: number): Certificate {
  const signature = certificate.signature.slice();
  signature[signature.length - fromEnd] = (signature[signature.length - fromEnd] ?? 0) ^ mask;
  return { ...certificate, signature };
}

describe("findPath()", () => {
  let root: Authority;
  let issuer: Authority;
  let leaf: Certificate;
  before(async () => {
    root = await makeOddCa(null);
    issuer = await makeOddCa(root, { subject: "CN=issuer" });
    leaf = await makeOdd(issuer);
  });

  it("findPath() finds a leaf right below its root", async () => {
    const direct = await makeOdd(root);
    assert.deepEqual(await findPath(direct, [], root.certificate, NOW), [direct, root.certificate]);
  });
  it("findPath() finds a leaf below an intermediate, whatever else is sent along", async () => {
    const other = await makeOddCa(null, { subject: "CN=issuer" });
    const sent = [
      other.certificate,
      root.certificate,
      leaf,
      issuer.certificate,
      issuer.certificate,
    ];
    assert.deepEqual(await findPath(leaf, sent, root.certificate, NOW), [
      leaf,
      issuer.certificate,
      root.certificate,
    ]);
    assert.match(opensslVerify(leaf, root.certificate, [issuer.certificate]), /: OK/);
  });
  it("findPath() finds no path without the intermediate", async () => {
    assert.equal(await findPath(leaf, [], root.certificate, NOW), null);
  });
  it("findPath() finds no path to another root", async () => {
    const other = await makeOddCa(null);
    assert.equal(await findPath(leaf, [issuer.certificate], other.certificate, NOW), null);
  });
  it("findPath() finds no path from a root to itself through nothing but its name", async () => {
    const twin = await makeOddCa(null);
    assert.equal(await findPath(twin.certificate, [], root.certificate, NOW), null);
  });

  it("findPath() finds no path over a wrong signature", async () => {
    for (const fromEnd of [1, 5, 20]) {
      assert.equal(
        await findPath(damaged(leaf, fromEnd, 1), [issuer.certificate], root.certificate, NOW),
        null,
      );
      assert.equal(
        await findPath(leaf, [damaged(issuer.certificate, fromEnd, 1)], root.certificate, NOW),
        null,
      );
    }
  });
  it("findPath() finds no path over a signature that is not DER", async () => {
    const broken = { ...leaf, signature: new Uint8Array(8) };
    assert.equal(await findPath(broken, [issuer.certificate], root.certificate, NOW), null);
  });
  it("findPath() finds no path over a signed part that was changed", async () => {
    const signed = leaf.signed.slice();
    signed[20] = (signed[20] ?? 0) ^ 1;
    assert.equal(
      await findPath({ ...leaf, signed }, [issuer.certificate], root.certificate, NOW),
      null,
    );
  });

  const [past, future] = [new Date(NOW.getTime() - 1000), new Date(NOW.getTime() + 1000)];
  const ended: OddCertificate = { notBefore: new Date(NOW.getTime() - YEAR_MS), notAfter: past };
  for (const [when, times] of [
    ["ended", ended],
    ["has not begun", { notBefore: future }],
  ] as const) {
    it(`findPath() finds no path from a leaf that ${when}`, async () => {
      assert.equal(
        await findPath(await makeOdd(issuer, times), [issuer.certificate], root.certificate, NOW),
        null,
      );
    });
    it(`findPath() finds no path over an intermediate that ${when}`, async () => {
      const { certificate } = await makeOddCa(root, {
        subject: "CN=issuer",
        key: issuer,
        ...times,
      });
      assert.equal(await findPath(leaf, [certificate], root.certificate, NOW), null);
      assert.equal(
        (await findPath(leaf, [certificate, issuer.certificate], root.certificate, NOW))?.[1],
        issuer.certificate,
      );
    });
    it(`findPath() finds no path to a root that ${when}`, async () => {
      const { certificate } = await makeOddCa(null, { key: root, ...times });
      assert.equal(await findPath(leaf, [issuer.certificate], certificate, NOW), null);
    });
  }
  it("findPath() accepts a certificate for the whole second in which it expires", async () => {
    const short = await makeOdd(issuer, { notAfter: future });
    const at = (ms: number) =>
      findPath(short, [issuer.certificate], root.certificate, new Date(future.getTime() + ms));
    assert.equal((await at(999))?.length, 3);
    assert.equal(await at(1000), null);
  });

  const unable: readonly (readonly [
    name: string,
    extensions: NonNullable<OddCertificate["extensions"]>,
  ])[] = [
    ["is no CA", { basic: basic(false) }],
    ["has no basic constraints", { basic: null }],
    [
      "may not sign certificates",
      { keyUsage: usage(KEY_USAGE.cRLSign | KEY_USAGE.digitalSignature) },
    ],
  ];
  for (const [name, extensions] of unable) {
    it(`findPath() finds no path over an intermediate that ${name}`, async () => {
      const { certificate } = await makeOddCa(root, {
        subject: "CN=issuer",
        key: issuer,
        extensions,
      });
      assert.equal(await findPath(leaf, [certificate], root.certificate, NOW), null);
      assert.throws(() => opensslVerify(leaf, root.certificate, [certificate]));
    });
    it(`findPath() finds no path to a root that ${name}`, async () => {
      const { certificate } = await makeOddCa(null, { key: root, extensions });
      assert.equal(await findPath(leaf, [issuer.certificate], certificate, NOW), null);
    });
  }
  it("findPath() finds a path over a CA without key usage", async () => {
    const { certificate } = await makeOddCa(root, {
      subject: "CN=issuer",
      key: issuer,
      extensions: { keyUsage: null },
    });
    assert.equal((await findPath(leaf, [certificate], root.certificate, NOW))?.length, 3);
  });

  for (const [rootLength, outerLength, innerLength, found] of [
    [undefined, undefined, undefined, true],
    [2, 1, 0, true],
    [3, 2, 1, true],
    [1, undefined, undefined, false],
    [undefined, 0, undefined, false],
    [undefined, 0, 0, false],
    [0, undefined, 0, false],
  ] as const)
    it(`findPath() finds ${found ? "a" : "no"} path over two intermediates with pathLen ${rootLength}, ${outerLength}, ${innerLength}`, async () => {
      const limited = (length: number | undefined) => ({
        extensions: { basic: basic(true, length) },
      });
      const top = await makeOddCa(null, limited(rootLength));
      const outer = await makeOddCa(top, { subject: "CN=outer", ...limited(outerLength) });
      const inner = await makeOddCa(outer, { subject: "CN=inner", ...limited(innerLength) });
      const sent = [inner.certificate, outer.certificate];
      const below = await makeOdd(inner);
      assert.equal((await findPath(below, sent, top.certificate, NOW)) !== null, found);
      if (found) assert.match(opensslVerify(below, top.certificate, sent), /: OK/);
      else assert.throws(() => opensslVerify(below, top.certificate, sent));
    });

  it("findPath() takes the CA with the right key among those of one name", async () => {
    const extensions = WITHOUT_KEY_IDS;
    const top = await makeOddCa(null, { extensions });
    const [genuine, impostor] = [
      await makeOddCa(top, { subject: "CN=issuer", extensions }),
      await makeOddCa(top, { subject: "CN=issuer", extensions }),
    ];
    const below = await makeOdd(genuine, { extensions });
    assert.equal(await findPath(below, [impostor.certificate], top.certificate, NOW), null);
    // The first CA of the name is chosen without backtracking, as OpenSSL does.
    assert.equal(
      await findPath(below, [impostor.certificate, genuine.certificate], top.certificate, NOW),
      null,
    );
    assert.deepEqual(
      await findPath(below, [genuine.certificate, impostor.certificate], top.certificate, NOW),
      [below, genuine.certificate, top.certificate],
    );
  });
  it("findPath() finds no path to a root of the right name and another key", async () => {
    const extensions = WITHOUT_KEY_IDS;
    const [top, impostor] = [
      await makeOddCa(null, { extensions }),
      await makeOddCa(null, { extensions }),
    ];
    const below = await makeOdd(top, { extensions });
    assert.equal((await findPath(below, [], top.certificate, NOW))?.length, 2);
    assert.equal(await findPath(below, [], impostor.certificate, NOW), null);
  });
  it("findPath() finds no path if the key identifiers differ", async () => {
    const below = await makeOdd(root, {
      extensions: { authorityKey: authorityKey(new Uint8Array(32)) },
    });
    assert.equal(couldHaveIssued(root.certificate, below), false);
    assert.equal(await findPath(below, [], root.certificate, NOW), null);
    assert.equal(await isSignedBy(below, root.certificate), true);
  });

  it("findPath() finds the path through roots that cross-signed each other, and terminates if there is none", async () => {
    const all = await Promise.all(
      ["a", "b", "c"].map((name) => makeOddCa(null, { subject: `CN=${name}` })),
    );
    const [a, b, c] = all;
    assert.ok(a && b && c);
    const cross = async (one: Authority, by: Authority, name: string) =>
      (await makeOddCa(by, { subject: `CN=${name}`, key: one })).certificate;
    const sent = [
      await cross(a, b, "a"),
      await cross(b, c, "b"),
      await cross(b, a, "b"),
      await cross(c, b, "c"),
    ];
    const below = await makeOdd(a);
    for (const [{ certificate }, length] of [
      [a, 2],
      [b, 3],
      [c, 4],
    ] as const)
      assert.equal((await findPath(below, sent, certificate, NOW))?.length, length);
    assert.equal(await findPath(below, sent, root.certificate, NOW), null);
    // b by a comes first: the path to c is not searched again.
    const [ab, bc, ba] = sent;
    assert.ok(ab && bc && ba);
    assert.equal(await findPath(below, [ab, ba, bc], c.certificate, NOW), null);
  });
  it("findPath() passes no CA twice, so that repeated cross-signing does not multiply the paths", async () => {
    const [a, b] = [
      await makeOddCa(null, { subject: "CN=a" }),
      await makeOddCa(null, { subject: "CN=b" }),
    ];
    let checked = 0;
    const counted = (certificate: Certificate): Certificate => ({
      ...certificate,
      get signature() {
        checked++;
        return certificate.signature;
      },
    });
    const sent: Certificate[] = [];
    for (let i = 0; i < 4; i++) {
      sent.push(counted((await makeOddCa(b, { subject: "CN=a", key: a })).certificate));
      sent.push(counted((await makeOddCa(a, { subject: "CN=b", key: b })).certificate));
    }
    assert.equal(await findPath(counted(await makeOdd(a)), sent, root.certificate, NOW), null);
    assert.ok(checked <= sent.length ** 2, `${checked} signatures for ${sent.length} certificates`);
  });
});

describe("isSignedBy()", () => {
  it("isSignedBy() is false if the issuer's key is of another type than the signature", async () => {
    const ca = await makeOddCa(null);
    const { certificate } = ca;
    assert.equal(await isSignedBy(certificate, certificate), true);
    assert.equal(
      await isSignedBy(certificate, { ...certificate, key: { ...certificate.key, type: "rsa" } }),
      false,
    );
  });
});
