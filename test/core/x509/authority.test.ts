/**
 * Roots, cross-signed roots and intermediates of every key type, held against openssl.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { before, describe, it } from "node:test";
import { hex } from "../../../src/core/bytes.ts";
import {
  type Authority,
  createIntermediate,
  createRoot,
  crossSign,
  crossSignTemplate,
  generateCaKey,
  signingUri,
} from "../../../src/core/x509/authority.ts";
import {
  type Certificate,
  KEY_USAGE,
  readCertificatePem,
} from "../../../src/core/x509/certificate.ts";
import { findPath, isSignedBy } from "../../../src/core/x509/chain.ts";
import { keyIdOf } from "../../../src/core/x509/keys.ts";
import { lint } from "../../../src/core/x509/lint.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import { openssl } from "../../fakes/ca.ts";
import { createSeededRandom, systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { readRootVectors, URI } from "../../vectors/roots/vector.ts";
import {
  CA_KEY_SPECS,
  type Ca,
  CLUSTER_ID,
  makeCa,
  makeCas,
  makeLeaf,
  NOW,
  opensslVerify,
  required,
  SLOW,
  YEAR_MS,
} from "./cas.ts";
import { assertVerifies } from "./second-reading.ts";

const NAMES = [...CA_KEY_SPECS.keys()];
const HOUR_MS = 3_600_000;
const HASHES: Readonly<Record<string, string>> = { "EC 384": "SHA-384", "EC 521": "SHA-512" };
const CROSSING = { now: NOW, random: systemRandom, until: new Date(NOW.getTime() + 20 * YEAR_MS) };
const BELOW = { ...CROSSING, ...clusterOf(CLUSTER_ID), provider: "consul", ttlMs: YEAR_MS };

const subjectOf = (certificate: Certificate) => new X509Certificate(certificate.der).subject;
const sorted = (certificate: Certificate) =>
  certificate.extensions.map(({ oid }) => oid).sort((a, b) => a.localeCompare(b));

let cas: ReadonlyMap<string, Ca> = new Map();
before(async () => {
  cas = await makeCas();
}, SLOW);

describe("createRoot()", () => {
  for (const name of NAMES)
    it(`createRoot() makes an ${name} root that lints clean and that openssl verifies by itself`, async () => {
      const root = required(cas, name).certificate;
      assert.deepEqual(await lint(root, "root", root), []);
      assert.match(opensslVerify(root, root), /: OK/);
      const second = new X509Certificate(root.der);
      assert.equal(second.ca, true);
      assertVerifies(second, second.publicKey);
    });
  for (const name of NAMES)
    it(`createRoot() decides every field of an ${name} root`, () => {
      const root = required(cas, name).certificate;
      assert.match(subjectOf(root), /^CN=pri-[a-z2-7]{8}\.consul\.ca\.11111111\.consul$/);
      assert.equal(hex(root.issuer), hex(root.subject));
      assert.equal(root.notBefore.getTime(), NOW.getTime() - HOUR_MS);
      assert.equal(root.notAfter.getTime(), NOW.getTime() + 10 * YEAR_MS);
      assert.equal(root.keyUsage, KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign);
      assert.equal(root.extKeyUsage, null);
      assert.equal(root.pathLength, null);
      assert.deepEqual(root.uris, [`spiffe://${CLUSTER_ID}.consul`]);
      assert.equal(hex(root.subjectKeyId ?? new Uint8Array()), hex(keyIdOf(root.key.spki)));
      assert.equal(root.scheme.hash, HASHES[name] ?? "SHA-256");
      assert.equal(root.serial.length, 16);
      assert.ok((root.serial[0] ?? 0) < 0x80 && (root.serial[0] ?? 0) >= 0x40);
    });
  it("createRoot() gives every root a name and a serial of its own", async () => {
    const key = required(cas, "EC 256").key;
    const made = await Promise.all(Array.from({ length: 50 }, () => createRoot(key, BELOW)));
    assert.equal(new Set(made.map(subjectOf)).size, 50);
    assert.equal(new Set(made.map(({ serial }) => hex(serial))).size, 50);
  });
  it("createRoot() keeps to letters and digits of the provider's name, and to lower case", async () => {
    const options = {
      ...BELOW,
      provider: "Vault_PKI-2.x",
      ...clusterOf(CLUSTER_ID.replace(/1/g, "A")),
      random: createSeededRandom(1),
    };
    const root = await createRoot(required(cas, "EC 256").key, options);
    assert.match(subjectOf(root), /^CN=pri-[a-z2-7]{8}\.vaultpki2x\.ca\.aaaaaaaa\.consul$/);
    assert.deepEqual(root.uris, ["spiffe://aaaaaaaa-2222-3333-4444-555555555555.consul"]);
  });
  it("createRoot() cuts times to the whole second", async () => {
    const root = await createRoot(required(cas, "EC 256").key, {
      ...BELOW,
      now: new Date(NOW.getTime() + 999),
      ttlMs: 1500,
    });
    assert.equal(root.notBefore.getTime(), NOW.getTime() - HOUR_MS);
    assert.equal(root.notAfter.getTime(), NOW.getTime() + 2000);
  });
  it("createRoot() makes roots that expire after 2050", async () => {
    const root = await createRoot(required(cas, "EC 256").key, { ...BELOW, ttlMs: 40 * YEAR_MS });
    assert.equal(root.notAfter.getTime(), NOW.getTime() + 40 * YEAR_MS);
    assert.match(opensslVerify(root, root, [], new Date(NOW.getTime() + 39 * YEAR_MS)), /: OK/);
  });
  it("signingUri() is the SPIFFE ID of the trust domain", () => {
    assert.equal(signingUri({ trustDomain: "mesh.example" }), "spiffe://mesh.example");
  });
});

describe("generateCaKey()", () => {
  for (const [name, spec] of CA_KEY_SPECS)
    it(`generateCaKey() makes an ${name} key`, () => {
      const { info, privateKey } = required(cas, name).key;
      assert.equal(info.type, spec.type);
      assert.equal(info.bits, spec.bits);
      assert.equal(privateKey.extractable, true);
    });
  it("generateCaKey() makes a new key each time", async () => {
    const [one, other] = [
      await generateCaKey({ type: "ec", bits: 256 }),
      await generateCaKey({ type: "ec", bits: 256 }),
    ];
    assert.notEqual(hex(one.info.spki), hex(other.info.spki));
  });
});

describe("crossSign()", () => {
  let olds: ReadonlyMap<string, Ca> = new Map();
  before(async () => {
    olds = await makeCas(5 * YEAR_MS);
  }, SLOW);

  for (const oldName of NAMES)
    for (const newName of NAMES)
      it(`crossSign() lets a leaf of an ${newName} root verify under only an ${oldName} root`, async () => {
        const old = required(olds, oldName);
        const root = required(cas, newName);
        const crossed = await crossSign(root.certificate, old, CROSSING);
        assert.deepEqual(await lint(crossed, "cross-signed", old.certificate), []);
        assert.equal(hex(crossed.subject), hex(root.certificate.subject));
        assert.equal(hex(crossed.issuer), hex(old.certificate.subject));
        assert.equal(hex(crossed.key.spki), hex(root.certificate.key.spki));
        assert.equal(crossed.scheme.type, old.certificate.key.type);
        assert.equal(crossed.scheme.hash, HASHES[oldName] ?? "SHA-256");
        assert.deepEqual(sorted(crossed), sorted(root.certificate));
        assert.equal(crossed.notAfter.getTime(), old.certificate.notAfter.getTime());

        const leaf = await makeLeaf(root);
        assert.match(opensslVerify(leaf, old.certificate, [crossed]), /: OK/);
        assert.match(opensslVerify(leaf, root.certificate, [crossed]), /: OK/);
        assert.equal((await findPath(leaf, [crossed], old.certificate, NOW))?.length, 3);
        assert.equal((await findPath(leaf, [crossed], root.certificate, NOW))?.length, 2);
        assert.equal(await findPath(leaf, [], old.certificate, NOW), null);
        assert.throws(() => opensslVerify(leaf, old.certificate));
      });
  it("crossSign() issues a certificate that expires with the root that expires first", async () => {
    const [long, short] = [required(cas, "EC 256"), required(olds, "EC 384")];
    assert.equal(
      (await crossSign(long.certificate, short, CROSSING)).notAfter.getTime(),
      NOW.getTime() + 5 * YEAR_MS,
    );
    assert.equal(
      (await crossSign(short.certificate, long, CROSSING)).notAfter.getTime(),
      NOW.getTime() + 5 * YEAR_MS,
    );
  });
  it("crossSign() issues a certificate that expires at the given instant, to the whole second, if both roots live longer", async () => {
    const until = new Date(NOW.getTime() + HOUR_MS + 400);
    const crossed = await crossSign(required(cas, "EC 256").certificate, required(olds, "EC 384"), {
      ...CROSSING,
      until,
    });
    assert.equal(crossed.notAfter.getTime(), NOW.getTime() + HOUR_MS);
    await assert.rejects(
      crossSign(required(cas, "EC 256").certificate, required(olds, "EC 384"), {
        ...CROSSING,
        until: new Date(NOW.getTime() - 2 * HOUR_MS),
      }),
      { code: "invariant", message: /would end before it begins$/ },
    );
  });
  for (const name of NAMES)
    it(`crossSignTemplate() has the root's name and key and a signature of the kind that an ${name} issuer makes, and is no root`, async () => {
      const [root, by] = [required(cas, "RSA 2048").certificate, required(olds, name).certificate];
      const until = new Date(NOW.getTime() + HOUR_MS);
      const template = await crossSignTemplate(root, by, { ...CROSSING, until });
      assert.deepEqual(
        [template.issuer, template.subject, template.key.spki],
        [root.subject, root.subject, root.key.spki],
      );
      assert.deepEqual([template.notAfter, template.isCa], [until, true]);
      assert.deepEqual(
        [template.scheme.type, template.scheme.hash],
        [by.key.type, HASHES[name] ?? "SHA-256"],
      );
      assert.notEqual(hex(template.serial), hex(root.serial));
      assert.equal(await isSignedBy(template, root), false);
    });
  it("crossSign() issues a certificate valid from the younger of the two roots on, whatever the clock", async () => {
    const [one, other] = [required(cas, "EC 256"), required(olds, "EC 384")];
    const later = { ...CROSSING, now: new Date(NOW.getTime() + YEAR_MS) };
    assert.equal(
      (await crossSign(one.certificate, other, later)).notBefore.getTime(),
      NOW.getTime() - HOUR_MS,
    );
    const young = await makeCa(
      { type: "ec", bits: 256 },
      YEAR_MS,
      new Date(NOW.getTime() + 1800_000),
    );
    assert.equal(
      (await crossSign(one.certificate, young, CROSSING)).notBefore.getTime(),
      young.certificate.notBefore.getTime(),
    );
  });
  it("crossSign() copies the root's own key identifier and points to the one that signs", async () => {
    const [root, old] = [required(cas, "RSA 2048").certificate, required(olds, "EC 521")];
    const crossed = await crossSign(root, old, CROSSING);
    assert.equal(
      hex(crossed.subjectKeyId ?? new Uint8Array()),
      hex(root.subjectKeyId ?? new Uint8Array(1)),
    );
    assert.equal(
      hex(crossed.authorityKeyId ?? new Uint8Array()),
      hex(old.certificate.subjectKeyId ?? new Uint8Array(1)),
    );
    assert.notEqual(hex(crossed.serial), hex(root.serial));
  });
  it("crossSign() copies nothing of a root but its subject, octet by octet, its key, its key identifier and its URI", async () => {
    const vectors = readRootVectors().filter(({ refused }) => refused === null);
    const old = required(olds, "EC 384");
    for (const { cert } of vectors) {
      const root = readCertificatePem(cert);
      const crossed = await crossSign(root, old, {
        ...CROSSING,
        now: new Date("2027-01-01T00:00:00Z"),
      });
      assert.equal(hex(crossed.subject), hex(root.subject));
      assert.equal(hex(crossed.key.spki), hex(root.key.spki));
      assert.equal(
        hex(crossed.subjectKeyId ?? new Uint8Array()),
        hex(root.subjectKeyId ?? new Uint8Array(1)),
      );
      assert.deepEqual(crossed.uris, [URI]);
      const {
        keyUsage,
        basicConstraints,
        subjectKeyIdentifier,
        authorityKeyIdentifier,
        subjectAltName,
      } = OID;
      assert.deepEqual(
        crossed.extensions.map(({ oid }) => oid),
        [keyUsage, basicConstraints, subjectKeyIdentifier, authorityKeyIdentifier, subjectAltName],
      );
    }
  });
  for (const san of [
    null,
    "URI:http://ca.example/",
    "URI:http://ca.example/,URI:spiffe://corp.example/ca,DNS:ca.example",
  ])
    it(`crossSign() certifies a root that was made elsewhere with ${san ?? "no subject alternative name"}, without one`, async () => {
      const names = san === null ? [] : ["-addext", `subjectAltName=${san}`];
      const made = openssl([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "/dev/null",
        "-subj",
        "/CN=x",
        ...names,
      ]);
      const root = readCertificatePem(made);
      const crossed = await crossSign(root, required(olds, "EC 384"), {
        ...CROSSING,
        until: root.notAfter,
      });
      assert.deepEqual([crossed.uris, crossed.dnsNames], [[], []]);
      assert.equal(hex(crossed.subject), hex(root.subject));
    });
  it("crossSign() refuses a root that expired before the other one is valid", async () => {
    const ended = await makeCa({ type: "ec", bits: 256 }, 1000, new Date(NOW.getTime() - YEAR_MS));
    await assert.rejects(crossSign(ended.certificate, required(cas, "EC 256"), CROSSING), {
      code: "invariant",
    });
  });
});

describe("createIntermediate()", () => {
  for (const rootName of NAMES)
    for (const name of ["EC 256", "EC 521", "RSA 2048"])
      it(`createIntermediate() makes an ${name} issuer under an ${rootName} root`, async () => {
        const root = required(cas, rootName);
        const { key } = required(cas, name);
        const certificate = await createIntermediate(key.info, root, BELOW);
        assert.deepEqual(await lint(certificate, "intermediate", root.certificate), []);
        assert.equal(certificate.pathLength, 0);
        assert.equal(certificate.keyUsage, KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign);
        assert.match(subjectOf(certificate), /^CN=sec-[a-z2-7]{8}\.consul\.ca\.11111111\.consul$/);
        assert.equal(certificate.notBefore.getTime(), NOW.getTime() - HOUR_MS);
        assert.equal(certificate.notAfter.getTime(), NOW.getTime() + YEAR_MS);
        assert.match(opensslVerify(certificate, root.certificate), /: OK/);
        const leaf = await makeLeaf({ certificate, privateKey: key.privateKey });
        assert.match(opensslVerify(leaf, root.certificate, [certificate]), /: OK/);
        assert.equal((await findPath(leaf, [certificate], root.certificate, NOW))?.length, 3);
      });
  it("createIntermediate() makes an issuer that never outlives its root", async () => {
    const root = await makeCa({ type: "ec", bits: 256 }, YEAR_MS / 2);
    const certificate = await createIntermediate(required(cas, "EC 384").key.info, root, BELOW);
    assert.equal(certificate.notAfter.getTime(), root.certificate.notAfter.getTime());
  });
  it("createIntermediate() makes an issuer below which openssl accepts no CA", async () => {
    const root = required(cas, "EC 256");
    const first = required(cas, "EC 384").key;
    const second = required(cas, "EC 521").key;
    const outer: Authority = {
      certificate: await createIntermediate(first.info, root, BELOW),
      privateKey: first.privateKey,
    };
    const inner = {
      certificate: await createIntermediate(second.info, outer, BELOW),
      privateKey: second.privateKey,
    };
    const leaf = await makeLeaf(inner);
    assert.throws(() =>
      opensslVerify(leaf, root.certificate, [outer.certificate, inner.certificate]),
    );
    assert.equal(
      await findPath(leaf, [outer.certificate, inner.certificate], root.certificate, NOW),
      null,
    );
    assert.equal(
      OID.basicConstraints,
      inner.certificate.extensions.find(
        ({ critical, oid }) => critical && oid === OID.basicConstraints,
      )?.oid,
    );
  });
});
