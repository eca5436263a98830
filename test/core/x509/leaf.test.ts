/**
 * Leaves of every issuer and subject key type, held against openssl and node:crypto.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { before, describe, it } from "node:test";
import { concat, hex } from "../../../src/core/bytes.ts";
import { createIntermediate } from "../../../src/core/x509/authority.ts";
import {
  type Certificate,
  KEY_USAGE,
  readCertificate,
} from "../../../src/core/x509/certificate.ts";
import {
  type KeyType,
  type PublicKeyInfo,
  readPublicKey,
  caScheme as schemeFor,
  sign,
} from "../../../src/core/x509/keys.ts";
import {
  createSerials,
  LeafTemplate,
  leafKeyUsage,
  SERIAL_LENGTH,
} from "../../../src/core/x509/leaf.ts";
import { lint } from "../../../src/core/x509/lint.ts";
import { createSeededRandom, systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import {
  CA_KEY_SPECS,
  type Ca,
  CLUSTER_ID,
  leafFields,
  makeCas,
  makeLeaf,
  NOW,
  opensslVerify,
  required,
  SLOW,
  YEAR_MS,
} from "./cas.ts";
import { PUBLIC_KEYS, URI } from "./requests.ts";
import { assertVerifies } from "./second-reading.ts";

const NAMES = [...CA_KEY_SPECS.keys()];
const LOOPBACK = Uint8Array.of(127, 0, 0, 1);

let cas: ReadonlyMap<string, Ca> = new Map();
before(async () => {
  cas = await makeCas();
}, SLOW);

const keyOf = (name: string): PublicKeyInfo => readPublicKey(required(PUBLIC_KEYS, name));

function assertSecondReading(leaf: Certificate, issuer: Certificate, key: PublicKeyInfo): void {
  const read = new X509Certificate(leaf.der);
  const parent = new X509Certificate(issuer.der);
  assertVerifies(read, parent.publicKey);
  assert.equal(read.checkIssued(parent), true);
  assert.equal(read.ca, false);
  assert.equal(read.issuer, parent.subject);
  assert.equal(hex(read.publicKey.export({ type: "spki", format: "der" })), hex(key.spki));
  assert.equal(new Date(read.validFrom).getTime(), leaf.notBefore.getTime());
  assert.equal(new Date(read.validTo).getTime(), leaf.notAfter.getTime());
}

describe("LeafDraft.complete()", () => {
  for (const issuerName of NAMES)
    for (const keyName of PUBLIC_KEYS.keys())
      it(`LeafDraft.complete() returns a leaf for an ${keyName} key that verifies under an ${issuerName} issuer`, async () => {
        const ca = required(cas, issuerName);
        const key = keyOf(keyName);
        const leaf = await makeLeaf(ca, { spki: key.spki, keyUsage: leafKeyUsage(key.type) });
        assert.deepEqual(await lint(leaf, "leaf", ca.certificate), []);
        assert.match(opensslVerify(leaf, ca.certificate), /: OK/);
        assertSecondReading(leaf, ca.certificate, key);
      });

  it("LeafDraft.complete() returns a leaf with DNS and IP names that verifies through an intermediate", async () => {
    const [root, { key }] = [required(cas, "EC 256"), required(cas, "EC 384")];
    const issuer = {
      certificate: await createIntermediate(key.info, root, {
        now: NOW,
        random: systemRandom,
        ...clusterOf(CLUSTER_ID),
        provider: "consul",
        ttlMs: YEAR_MS,
      }),
      privateKey: key.privateKey,
    };
    const leaf = await makeLeaf(issuer, {
      dnsNames: ["localhost", "a.b"],
      ipAddresses: [LOOPBACK, new Uint8Array(16)],
    });
    assert.match(opensslVerify(leaf, root.certificate, [issuer.certificate]), /: OK/);
    assert.equal(
      // Deno writes IPv6 addresses shortened.
      new X509Certificate(leaf.der).subjectAltName?.replace(
        "IP Address:::,",
        "IP Address:0:0:0:0:0:0:0:0,",
      ),
      `DNS:localhost, DNS:a.b, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:0, URI:${URI}`,
    );
  });
  it("LeafDraft.complete() writes signatures of every length", () => {
    const template = new LeafTemplate(
      required(cas, "RSA 2048").certificate,
      schemeFor({ type: "rsa" }, "SHA-256"),
    );
    for (const length of [1, 64, 70, 71, 72, 126, 127, 128, 254, 255, 256, 512]) {
      const signature = new Uint8Array(length).fill(9);
      const draft = template.encode(leafFields());
      const signed = hex(draft.signed);
      const read = readCertificate(draft.complete(signature));
      assert.equal(hex(read.signature), hex(signature));
      assert.equal(hex(read.signed), signed);
    }
  });
});

describe("LeafTemplate.encode()", () => {
  it("LeafTemplate.encode() writes the given fields, as readCertificate() reads them", async () => {
    const ca = required(cas, "EC 256");
    const fields = leafFields({ dnsNames: ["x.y"], ipAddresses: [LOOPBACK] });
    const leaf = await makeLeaf(ca, fields);
    assert.equal(hex(leaf.serial), hex(fields.serial));
    assert.equal(leaf.notBefore.getTime(), fields.notBefore.getTime());
    assert.equal(leaf.notAfter.getTime(), fields.notAfter.getTime());
    assert.equal(hex(leaf.key.spki), hex(fields.spki));
    assert.deepEqual(leaf.uris, [URI]);
    assert.deepEqual(leaf.dnsNames, ["x.y"]);
    assert.deepEqual(leaf.ipAddresses.map(hex), ["7f000001"]);
    assert.equal(leaf.subjectEmpty, true);
    assert.equal(hex(leaf.issuer), hex(ca.certificate.subject));
    assert.equal(
      hex(leaf.authorityKeyId ?? new Uint8Array()),
      hex(ca.certificate.subjectKeyId ?? new Uint8Array(1)),
    );
  });
  for (const name of PUBLIC_KEYS.keys())
    it(`LeafTemplate.encode() takes SHA-256 of an ${name} SubjectPublicKeyInfo as the subject key identifier`, async () => {
      const { spki } = keyOf(name);
      const leaf = await makeLeaf(required(cas, "EC 256"), { spki });
      assert.equal(
        hex(leaf.subjectKeyId ?? new Uint8Array()),
        createHash("sha256").update(spki).digest("hex"),
      );
    });
  for (const [type, usage] of [
    ["ec", KEY_USAGE.digitalSignature],
    ["ed25519", KEY_USAGE.digitalSignature],
    ["rsa", KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment],
  ] as readonly (readonly [KeyType, number])[])
    it(`LeafTemplate.encode() writes the key usage of an ${type} key`, async () => {
      assert.equal(
        (await makeLeaf(required(cas, "EC 256"), { keyUsage: leafKeyUsage(type) })).keyUsage,
        usage,
      );
    });
  it("LeafTemplate.encode() writes another validity when only one of its ends has changed", async () => {
    const template = new LeafTemplate(
      required(cas, "EC 256").certificate,
      schemeFor({ type: "ec" }, "SHA-256"),
    );
    const key = required(cas, "EC 256").privateKey;
    const dates = [
      NOW,
      new Date(NOW.getTime() + 1000),
      new Date("2049-12-31T23:59:59Z"),
      new Date("2050-01-01T00:00:00Z"),
    ];
    for (const notBefore of dates)
      for (const notAfter of dates) {
        const draft = template.encode(leafFields({ notBefore, notAfter }));
        const leaf = readCertificate(
          draft.complete(await sign(key, template.scheme, draft.signed)),
        );
        assert.equal(leaf.notBefore.getTime(), notBefore.getTime());
        assert.equal(leaf.notAfter.getTime(), notAfter.getTime());
      }
  });
  it("LeafTemplate.encode() cuts times to the whole second", async () => {
    const leaf = await makeLeaf(required(cas, "EC 256"), {
      notBefore: new Date(NOW.getTime() + 999),
    });
    assert.equal(leaf.notBefore.getTime(), NOW.getTime());
  });
  it("LeafTemplate.encode() returns drafts that do not share their octets", () => {
    const template = new LeafTemplate(
      required(cas, "EC 256").certificate,
      schemeFor({ type: "ec" }, "SHA-256"),
    );
    const first = template.encode(leafFields());
    const before = hex(first.signed);
    const second = template.encode(leafFields({ uri: `${URI}2` }));
    second.complete(new Uint8Array(70));
    assert.equal(hex(first.signed), before);
  });
  for (const length of [0, 15, 17, 20])
    it(`LeafTemplate.encode() refuses a serial of ${length} octets`, () => {
      const template = new LeafTemplate(
        required(cas, "EC 256").certificate,
        schemeFor({ type: "ec" }, "SHA-256"),
      );
      assert.throws(
        () => template.encode(leafFields({ serial: new Uint8Array(length) })),
        RangeError,
      );
    });
  it("new LeafTemplate() refuses an issuer without a subject key identifier", () => {
    const issuer = { ...required(cas, "EC 256").certificate, subjectKeyId: null };
    assert.throws(() => new LeafTemplate(issuer, schemeFor({ type: "ec" }, "SHA-256")), TypeError);
  });
});

describe("createSerials()", () => {
  it("createSerials() makes serials of sixteen octets that are positive, minimal and all different", () => {
    const next = createSerials(systemRandom);
    const serials = Array.from({ length: 2000 }, next);
    for (const serial of serials) {
      assert.equal(serial.length, SERIAL_LENGTH);
      assert.equal((serial[0] ?? 0) >> 6, 1);
    }
    assert.equal(new Set(serials.map(hex)).size, serials.length);
  });
  it("createSerials() takes 126 of 128 bits from its randomness", () => {
    const [from, ones] = [
      createSeededRandom(3),
      createSerials({ bytes: (n) => new Uint8Array(n).fill(0xff), fraction: () => 0 })(),
    ];
    const zeros = createSerials({ bytes: (n) => new Uint8Array(n), fraction: () => 0 })();
    assert.equal(hex(ones), `7f${"ff".repeat(15)}`);
    assert.equal(hex(zeros), `40${"00".repeat(15)}`);
    const expected = createSeededRandom(3).bytes(256 * SERIAL_LENGTH);
    const got = concat(...Array.from({ length: 256 }, createSerials(from)));
    assert.ok(got.every((octet, i) => i % SERIAL_LENGTH === 0 || octet === expected[i]));
  });
  it("createSerials() returns separate octets to each caller", () => {
    const next = createSerials(systemRandom);
    const [one, other] = [next(), next()];
    const before = hex(other);
    one.fill(0);
    assert.equal(hex(other), before);
  });
});
