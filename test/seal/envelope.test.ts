/**
 * Sealing and opening keys, changing the key-encryption key, and MACs.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { base64, fromBase64, utf8 } from "../../src/core/bytes.ts";
import { SealError } from "../../src/core/errors.ts";
import type { SealedKeyAlgorithm, Sealer } from "../../src/core/ports/sealer.ts";
import { generateCaKey } from "../../src/core/x509/authority.ts";
import {
  type CaKeySpec,
  caHash,
  caScheme,
  encodeSignature,
  keyAlgorithm,
  sign,
  verifySignature,
} from "../../src/core/x509/keys.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";

const SPECS: readonly CaKeySpec[] = [
  { type: "ec", bits: 256 },
  { type: "ec", bits: 384 },
  { type: "ec", bits: 521 },
  { type: "rsa", bits: 2048 },
  { type: "rsa", bits: 4096 },
];
const PURPOSE = { clusterId: "cluster", purpose: "ca-key", id: "abcd" };
const EC: SealedKeyAlgorithm = { name: "ECDSA", namedCurve: "P-256" };

const refusedWith = (code: SealError["code"]) => (error: unknown) => {
  assert.ok(error instanceof SealError, String(error));
  assert.equal(error.code, code);
  return true;
};

/** Flips one bit of one octet of a base64 part. */
function flipped(part: string, at: number): string {
  const bytes = fromBase64(part);
  assert.ok(bytes !== null);
  const place = at < 0 ? bytes.length + at : at;
  bytes[place] = (bytes[place] ?? 0) ^ 1;
  return base64(bytes);
}

describe("createSealer()", () => {
  const [oldText, newText] = [makeKek(), makeKek()];
  let old: Sealer;
  let both: Sealer;
  let fresh: Sealer;
  let privateKey: CryptoKey;
  let sealed: string;

  before(async () => {
    [old, both, fresh] = [
      createSealer(await readKeks(oldText)),
      createSealer(await readKeks(`${newText},${oldText}`)),
      createSealer(await readKeks(newText)),
    ];
    ({ privateKey } = await generateCaKey({ type: "ec", bits: 256 }));
    sealed = await old.sealKey(privateKey, PURPOSE);
  });

  for (const spec of SPECS)
    it(`openKey() gives back a ${spec.type} key of ${spec.bits} bits that signs and cannot be exported`, async () => {
      const key = await generateCaKey(spec);
      const text = await old.sealKey(key.privateKey, PURPOSE);
      const opened = await old.openKey(text, PURPOSE, keyAlgorithm(key.info, caHash(key.info)));
      assert.equal(opened.extractable, false);
      assert.deepEqual(opened.usages, ["sign"]);
      await assert.rejects(crypto.subtle.exportKey("pkcs8", opened));
      await assert.rejects(crypto.subtle.exportKey("jwk", opened));
      const scheme = caScheme(key.info, caHash(key.info));
      const data = utf8("a certificate to be");
      assert.ok(
        await verifySignature(
          key.info,
          scheme,
          encodeSignature(scheme, await sign(opened, scheme, data)),
          data,
        ),
      );
    });

  it("openKey() gives back an Ed25519 key", async () => {
    const pair = (await crypto.subtle.generateKey("Ed25519", true, [
      "sign",
      "verify",
    ])) as CryptoKeyPair;
    const opened = await old.openKey(await old.sealKey(pair.privateKey, PURPOSE), PURPOSE, {
      name: "Ed25519",
    });
    assert.equal(opened.extractable, false);
  });

  it("sealKey() gives text that holds nothing of the key, and another each time", async () => {
    const jwk = await crypto.subtle.exportKey("jwk", privateKey);
    const pkcs8 = base64(new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey)));
    assert.ok(!sealed.includes(jwk.d ?? "?") && !sealed.includes(pkcs8.slice(40, 60)));
    assert.match(sealed, /^sealed:1:[A-Za-z0-9_-]+:[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$/);
    const again = await old.sealKey(privateKey, PURPOSE);
    const [a, b] = [sealed.split(":"), again.split(":")];
    assert.notEqual(a[3], b[3]);
    assert.notEqual(a[4], b[4]);
  });

  for (const [what, purpose] of [
    ["another cluster", { ...PURPOSE, clusterId: "cluster2" }],
    ["another purpose", { ...PURPOSE, purpose: "token" }],
    ["another id", { ...PURPOSE, id: "abce" }],
    ["fields that join to the same text", { clusterId: "cluster,", purpose: "ca-key", id: "abcd" }],
    ["fields in another place", { clusterId: "ca-key", purpose: "cluster", id: "abcd" }],
  ] as const)
    it(`openKey() refuses a key encrypted for ${what}`, async () => {
      await assert.rejects(old.openKey(sealed, purpose, EC), refusedWith("open_failed"));
    });

  it("binds what it encrypts to a datacenter, and still decrypts what was encrypted before", async () => {
    const ring = await readKeks(makeKek());
    const [none, one, two] = [null, "dc1", "dc2"].map((name) => createSealer(ring, name)) as [
      Sealer,
      Sealer,
      Sealer,
    ];
    const before = await none.sealKey(privateKey, PURPOSE);
    const bound = await one.sealKey(privateKey, PURPOSE);
    assert.match(bound, /^sealed:2:/);
    await one.openKey(before, PURPOSE, EC);
    for (const text of [bound, await one.rewrap(bound), await two.rewrap(bound)]) {
      assert.match(text, /^sealed:2:/);
      await one.openKey(text, PURPOSE, EC);
      for (const other of [none, two])
        await assert.rejects(other.openKey(text, PURPOSE, EC), refusedWith("open_failed"));
      const relabelled = text.replace("sealed:2:", "sealed:1:");
      await assert.rejects(one.openKey(relabelled, PURPOSE, EC), refusedWith("open_failed"));
    }
    const secret = await one.sealSecret(new Uint8Array([1, 2, 3]), PURPOSE);
    assert.deepEqual(await one.openSecret(secret, PURPOSE), new Uint8Array([1, 2, 3]));
    await assert.rejects(two.openSecret(secret, PURPOSE), refusedWith("open_failed"));
    assert.equal(one.kekOf(bound), ring.ids[0]);
  });

  it("openKey() refuses text of which any part was changed", async () => {
    const [, , id = "", wrapped = "", secret = ""] = sealed.split(":");
    const texts = [
      ...[0, 12, 20, -1].map((at) => `sealed:1:${id}:${flipped(wrapped, at)}:${secret}`),
      ...[0, 12, 40, -1].map((at) => `sealed:1:${id}:${wrapped}:${flipped(secret, at)}`),
      `sealed:1:${id}:${secret}:${wrapped}`,
      `sealed:1:${id}:${wrapped}:`,
      `sealed:1:${id}:${wrapped}`,
      `sealed:1:${id}::${secret}`,
      `sealed:1:${id}:AAAA:${secret}`,
      `sealed:1:${id}:${wrapped}:${secret.slice(0, 16)}`,
      `sealed:2:${id}:${wrapped}:${secret}`,
      `sealed:1:${id}:${wrapped}:!`,
      ` ${sealed}`,
      "",
      "hidden",
    ];
    for (const text of texts) {
      await assert.rejects(old.openKey(text, PURPOSE, EC), refusedWith("open_failed"), text);
      await assert.rejects(
        old.rewrap(text).then((rewrapped) => old.openKey(rewrapped, PURPOSE, EC)),
        refusedWith("open_failed"),
        text,
      );
    }
  });

  it("openKey() refuses text with an additional part", async () => {
    await assert.rejects(old.openKey(`${sealed}:AAAA`, PURPOSE, EC), refusedWith("open_failed"));
  });

  it("openKey() refuses the wrapped data key of one secret with the ciphertext of another", async () => {
    const [a, b] = [sealed.split(":"), (await old.sealKey(privateKey, PURPOSE)).split(":")];
    await assert.rejects(
      old.openKey([...a.slice(0, 4), b[4]].join(":"), PURPOSE, EC),
      refusedWith("open_failed"),
    );
  });

  it("openKey() refuses text wrapped with an unknown key-encryption key, naming its id", async () => {
    await assert.rejects(fresh.openKey(sealed, PURPOSE, EC), refusedWith("kek_unknown"));
    await assert.rejects(fresh.rewrap(sealed), refusedWith("kek_unknown"));
    await assert.rejects(fresh.openKey(sealed, PURPOSE, EC), (error: Error) =>
      error.message.includes(sealed.split(":")[2] ?? "?"),
    );
  });

  it("openKey() refuses text wrapped with another key-encryption key of the same id", async () => {
    const impostor = createSealer(
      await readKeks(`${oldText.split(":")[0]}:${newText.split(":")[1]}`),
    );
    await assert.rejects(impostor.openKey(sealed, PURPOSE, EC), refusedWith("open_failed"));
  });

  it("openKey() refuses an algorithm other than the key's", async () => {
    for (const algorithm of [
      { name: "ECDSA", namedCurve: "P-384" },
      { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
    ] as const)
      await assert.rejects(old.openKey(sealed, PURPOSE, algorithm), refusedWith("open_failed"));
  });

  it("kekOf() names the key-encryption key of a text, and returns null for text that is not encrypted", async () => {
    assert.equal(old.kekOf(sealed), old.keks[0]);
    assert.equal(both.kekOf(sealed), both.keks[1]);
    assert.equal(both.kekOf(await both.sealKey(privateKey, PURPOSE)), both.keks[0]);
    assert.equal(both.kekOf("not sealed at all"), null);
  });

  it("rewrap() makes text that only the new key-encryption key decrypts, for the same purpose", async () => {
    const rewrapped = await both.rewrap(sealed);
    assert.equal(both.kekOf(rewrapped), both.keks[0]);
    assert.equal(rewrapped.split(":")[4], sealed.split(":")[4], "the secret itself was not opened");
    for (const sealer of [both, fresh]) await sealer.openKey(rewrapped, PURPOSE, EC);
    await assert.rejects(
      fresh.openKey(rewrapped, { ...PURPOSE, id: "other" }, EC),
      refusedWith("open_failed"),
    );
    await assert.rejects(old.openKey(rewrapped, PURPOSE, EC), refusedWith("kek_unknown"));
  });

  it("verifyMac() takes its own MAC and no other", async () => {
    const bytes = utf8("a document");
    const mac = await old.mac(bytes);
    const [id = "", value = ""] = mac.split(":");
    assert.equal(await old.verifyMac(bytes, mac), true);
    assert.equal(await old.verifyMac(utf8("a document."), mac), false);
    assert.equal(await old.verifyMac(utf8(""), mac), false);
    for (const wrong of [
      `${id}:${flipped(value, 0)}`,
      `${id}:${flipped(value, -1)}`,
      `${id}:`,
      `${id}:AAAA`,
      `${id}:!`,
      id,
    ])
      assert.equal(await old.verifyMac(bytes, wrong), false, wrong);
  });

  it("verifyMac() takes a MAC of any key-encryption key it has, and makes one with the current", async () => {
    const bytes = utf8("a document");
    assert.equal(await both.verifyMac(bytes, await old.mac(bytes)), true);
    assert.equal(await fresh.verifyMac(bytes, await both.mac(bytes)), true);
    await assert.rejects(old.verifyMac(bytes, await both.mac(bytes)), refusedWith("kek_unknown"));
  });

  it("verifyMac() rejects a MAC of one key under the id of another", async () => {
    const bytes = utf8("a document");
    const [, value = ""] = (await old.mac(bytes)).split(":");
    const [id = ""] = (await fresh.mac(bytes)).split(":");
    assert.equal(await both.verifyMac(bytes, `${id}:${value}`), false);
  });

  it("verifyMac() refuses a MAC of an unknown key-encryption key, naming its id", async () => {
    const bytes = utf8("a document");
    const mac = await old.mac(bytes);
    await assert.rejects(fresh.verifyMac(bytes, mac), refusedWith("kek_unknown"));
    await assert.rejects(fresh.verifyMac(bytes, mac), (error: Error) =>
      error.message.includes(mac.split(":")[0] ?? "?"),
    );
  });
});

describe("sealSecret()", () => {
  const secret = utf8("a secret of the access store");
  const [oldText, newText] = [makeKek(), makeKek()];

  it("openSecret() decrypts a secret for its purpose only, and with the key it was encrypted with", async () => {
    const sealer = createSealer(await readKeks(oldText));
    const sealed = await sealer.sealSecret(secret, PURPOSE);
    assert.deepEqual(await sealer.openSecret(sealed, PURPOSE), secret);
    for (const other of [
      { ...PURPOSE, clusterId: "other" },
      { ...PURPOSE, purpose: "other" },
      { ...PURPOSE, id: "other" },
    ])
      await assert.rejects(sealer.openSecret(sealed, other), refusedWith("open_failed"));
    await assert.rejects(
      createSealer(await readKeks(newText)).openSecret(sealed, PURPOSE),
      refusedWith("kek_unknown"),
    );
    assert.ok(!sealed.includes(base64(secret).slice(0, 16)));
  });

  it("rewrap() keeps a secret that is encrypted again", async () => {
    const sealed = await createSealer(await readKeks(oldText)).sealSecret(secret, PURPOSE);
    const again = await createSealer(await readKeks(`${newText},${oldText}`)).rewrap(sealed);
    assert.deepEqual(
      await createSealer(await readKeks(newText)).openSecret(again, PURPOSE),
      secret,
    );
  });

  it("openKey() does not decrypt a secret, nor openSecret() a key, for another purpose", async () => {
    const sealer = createSealer(await readKeks(oldText));
    await assert.rejects(
      sealer.openKey(await sealer.sealSecret(secret, PURPOSE), PURPOSE, EC),
      refusedWith("open_failed"),
    );
  });
});
