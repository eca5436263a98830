/**
 * Certificates as they are read: recorded ones of a Consul cluster, and malformed ones.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, describe, it } from "node:test";
import { type Bytes, colonHex, concat, fromUtf8, hex, utf8 } from "../../../src/core/bytes.ts";
import { FormatError } from "../../../src/core/errors.ts";
import {
  type Certificate,
  inForce,
  KEY_USAGE,
  pemOf,
  readCertificate,
  readCertificatePem,
} from "../../../src/core/x509/certificate.ts";
import { findPath, isSignedBy } from "../../../src/core/x509/chain.ts";
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  element,
  encode,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";
import { keyIdOf } from "../../../src/core/x509/keys.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import { type Ca, makeCa, makeLeaf } from "./cas.ts";
import {
  type CraftedCertificate,
  craftCertificate,
  generalizedTime,
  rawExtension,
  utcTime,
} from "./odd-certificates.ts";
import { URI } from "./requests.ts";

interface RecordedRoot {
  readonly ID: string;
  readonly SerialNumber: string;
  readonly SigningKeyID: string;
  readonly NotBefore: string;
  readonly NotAfter: string;
  readonly RootCert: string;
  readonly IntermediateCerts: readonly string[] | null;
}

/** The roots of a recorded answer; serial numbers as text, since a number would round them. */
function recorded(name: string): readonly RecordedRoot[] {
  const text = readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8");
  return (
    JSON.parse(text.replace(/("SerialNumber": )(\d+)/g, '$1"$2"')) as {
      Roots: readonly RecordedRoot[];
    }
  ).Roots;
}

const FILES = ["roots-before-rotation.consul.json", "roots-after-rotation.consul.json"];
const AT = new Date("2020-01-01T00:00:00Z");

describe("readCertificatePem()", () => {
  for (const file of FILES)
    for (const root of recorded(file))
      it(`readCertificatePem() reads the root ${root.ID.slice(0, 8)} of ${file} as Consul does`, async () => {
        const certificate = readCertificatePem(root.RootCert);
        assert.equal(certificate.id, root.ID);
        assert.equal(
          BigInt.asUintN(64, BigInt(`0x${hex(certificate.serial)}`)),
          BigInt(root.SerialNumber),
        );
        assert.equal(certificate.notBefore.getTime(), Date.parse(root.NotBefore));
        assert.equal(certificate.notAfter.getTime(), Date.parse(root.NotAfter));
        assert.deepEqual(certificate.uris, [
          "spiffe://36cb52cd-4058-f811-0432-6798a240c5d3.consul",
        ]);
        assert.equal(pemOf(certificate).trim(), root.RootCert.trim());
        assert.equal(await isSignedBy(certificate, certificate), true);
      });

  const [built = "", other = ""] = recorded("roots-after-rotation.consul.json").map(
    ({ RootCert }) => RootCert,
  );
  it("readCertificatePem() reads the built-in provider's root of 2018", () => {
    const { key, isCa, pathLength, keyUsage, subjectKeyId } = readCertificatePem(built);
    assert.deepEqual([key.type, key.bits, isCa, pathLength], ["ec", 256, true, null]);
    assert.equal(keyUsage, KEY_USAGE.digitalSignature | KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign);
    // Consul wrote the text of the key identifier, not its octets, into certificates then.
    assert.equal(
      fromUtf8(subjectKeyId ?? new Uint8Array()),
      recorded("roots-after-rotation.consul.json")[0]?.SigningKeyID,
    );
    assert.equal(
      colonHex(keyIdOf(key.spki)),
      recorded("roots-after-rotation.consul.json")[0]?.SigningKeyID,
    );
  });
  it("readCertificatePem() reads a root with only one extension and a serial number over 2^63", () => {
    const { key, isCa, keyUsage, extKeyUsage, subjectKeyId, authorityKeyId, serial } =
      readCertificatePem(other);
    assert.deepEqual([key.type, key.bits, isCa], ["rsa", 2048, false]);
    assert.deepEqual(
      [keyUsage, extKeyUsage, subjectKeyId, authorityKeyId],
      [null, null, null, null],
    );
    assert.equal(BigInt(`0x${hex(serial)}`), 16238269036752183483n);
  });
  it("readCertificatePem() reads the recorded cross-signed root, which verifies under the old root", async () => {
    const [old, root] = recorded("roots-after-rotation.consul.json");
    const crossed = readCertificatePem(root?.IntermediateCerts?.[0] ?? "");
    const oldRoot = readCertificatePem(old?.RootCert ?? "");
    const newRoot = readCertificatePem(root?.RootCert ?? "");
    assert.equal(hex(crossed.key.spki), hex(newRoot.key.spki));
    assert.equal(hex(crossed.subject), hex(newRoot.subject));
    assert.equal(BigInt(`0x${hex(crossed.serial)}`), 23n);
    assert.equal((await findPath(crossed, [], oldRoot, AT))?.length, 2);
    assert.equal(await findPath(crossed, [], newRoot, AT), null);
    assert.equal(await isSignedBy(crossed, newRoot), false);
  });

  const refused: readonly (readonly [name: string, pem: string, message: string])[] = [
    ["an empty text", "", "no PEM-encoded data found"],
    [
      "another label",
      built.replaceAll("CERTIFICATE", "PUBLIC KEY"),
      "first PEM-block should be CERTIFICATE type",
    ],
    ["two certificates", `${built}${built}`, "there must be exactly one PEM block, not 2"],
  ];
  for (const [name, pem, message] of refused)
    it(`readCertificatePem() refuses ${name}`, () => {
      assert.throws(() => readCertificatePem(pem), { name: "FormatError", message });
    });
});

describe("readCertificate()", () => {
  let ca: Ca;
  let leaf: Certificate;
  before(async () => {
    ca = await makeCa();
    leaf = await makeLeaf(ca, {
      dnsNames: ["localhost"],
      ipAddresses: [Uint8Array.of(127, 0, 0, 1)],
    });
  });

  const names = (...entries: readonly Uint8Array[]) =>
    rawExtension(
      OID.subjectAltName,
      sequence(...entries.map((entry) => element(contextPrimitive(6), entry))),
    );
  const san = names(utf8(URI));
  const malformed: readonly (readonly [name: string, parts: CraftedCertificate])[] = [
    ["a negative serial number", { serial: element(TAG.integer, Uint8Array.of(0xff)) }],
    ["a serial number that is not minimal", { serial: element(TAG.integer, Uint8Array.of(0, 1)) }],
    [
      "two signature algorithms",
      { innerIdentifier: encode(sequence(oid(oidContent(OID.ecdsaSha384)))) },
    ],
    ["extensions in version 1", { version: [], extensions: [san] }],
    ["a unique identifier", { behindKey: [element(contextPrimitive(1), Uint8Array.of(0, 1))] }],
    ["an extension that appears twice", { extensions: [san, san] }],
    [
      "a critical flag that is no BOOLEAN",
      {
        extensions: [
          rawExtension(OID.subjectAltName, sequence(), element(TAG.boolean, Uint8Array.of(1))),
        ],
      },
    ],
    [
      "basic constraints that are no SEQUENCE",
      { extensions: [rawExtension(OID.basicConstraints, element(TAG.null))] },
    ],
    [
      "a negative path length",
      {
        extensions: [
          rawExtension(OID.basicConstraints, sequence(element(TAG.integer, Uint8Array.of(0x80)))),
        ],
      },
    ],
    [
      "a key identifier with trailing octets",
      {
        extensions: [
          rawExtension(
            OID.subjectKeyIdentifier,
            concat(encode(element(TAG.octetString)), Uint8Array.of(5, 0)),
          ),
        ],
      },
    ],
    ["a time of another type", { notBefore: element(TAG.utf8String, utf8("260101000000Z")) }],
    ["a UTCTime without seconds", { notBefore: utcTime("2601010000Z") }],
    ["a UTCTime with an offset", { notBefore: utcTime("260101000000+0100") }],
    ["a GeneralizedTime with a fraction", { notBefore: generalizedTime("20260101000000.5Z") }],
    ["a GeneralizedTime without Z", { notBefore: generalizedTime("20260101000000") }],
    ["a thirteenth month", { notBefore: utcTime("261301000000Z") }],
    ["a 32nd day", { notBefore: utcTime("260132000000Z") }],
    ["a leap second", { notBefore: utcTime("260101235960Z") }],
    ["the 30th of February", { notBefore: utcTime("260230000000Z") }],
    ["the 29th of February of a common year", { notBefore: utcTime("260229000000Z") }],
    ["the hour 24", { notBefore: utcTime("260101240000Z") }],
    ["a time that is no UTF-8", { notBefore: element(TAG.utcTime, new Uint8Array(13).fill(0xff)) }],
    ["a URI that is no UTF-8", { extensions: [names(Uint8Array.of(0xff))] }],
    [
      "octets behind the version",
      {
        version: [
          element(contextConstructed(0), element(TAG.integer, Uint8Array.of(2)), element(TAG.null)),
        ],
      },
    ],
  ];
  for (const [name, parts] of malformed)
    it(`readCertificate() refuses ${name}`, () => {
      assert.throws(() => readCertificate(craftCertificate(parts)), FormatError);
    });
  it("readCertificate() reads the certificate from which the refused ones are made", () => {
    assert.equal(readCertificate(craftCertificate({ extensions: [san] })).uris[0], URI);
  });
  for (const [text, iso] of [
    ["500101000000Z", "1950-01-01T00:00:00Z"],
    ["991231235959Z", "1999-12-31T23:59:59Z"],
    ["000101000000Z", "2000-01-01T00:00:00Z"],
    ["491231235959Z", "2049-12-31T23:59:59Z"],
    ["240229000000Z", "2024-02-29T00:00:00Z"],
  ] as const)
    it(`readCertificate() reads the UTCTime ${text} as ${iso}`, () => {
      assert.equal(
        readCertificate(craftCertificate({ notBefore: utcTime(text) })).notBefore.getTime(),
        Date.parse(iso),
      );
    });
  it("readCertificate() reads no usage into a key usage bit that has no name", () => {
    // Bit 37 of a BIT STRING of five octets: 37 modulo 32 is keyCertSign's bit.
    const long = element(TAG.bitString, Uint8Array.of(2, 0x80, 0, 0, 0, 0x04));
    const { keyUsage } = readCertificate(
      craftCertificate({ extensions: [rawExtension(OID.keyUsage, long)] }),
    );
    assert.equal((keyUsage ?? 0) & KEY_USAGE.keyCertSign, 0);
  });
  it("readCertificate() reads key identifiers, purposes and path length", () => {
    const { pathLength, extKeyUsage, authorityKeyId } = readCertificate(
      craftCertificate({
        extensions: [
          rawExtension(
            OID.basicConstraints,
            sequence(
              element(TAG.boolean, Uint8Array.of(0xff)),
              element(TAG.integer, Uint8Array.of(3)),
            ),
          ),
          rawExtension(
            OID.extKeyUsage,
            sequence(oid(oidContent("2.999.3")), oid(oidContent(OID.serverAuth))),
          ),
          rawExtension(
            OID.authorityKeyIdentifier,
            sequence(
              element(contextPrimitive(0), utf8("id")),
              element(contextPrimitive(2), utf8("1")),
            ),
          ),
        ],
      }),
    );
    assert.equal(pathLength, 3);
    assert.deepEqual(extKeyUsage, ["2.999.3", OID.serverAuth]);
    assert.equal(hex(authorityKeyId ?? new Uint8Array()), hex(utf8("id")));
  });
  it("readCertificate() copies its input", () => {
    const der = leaf.der.slice();
    const read = readCertificate(der);
    der.fill(0);
    assert.equal(read.id, leaf.id);
    assert.equal(hex(read.signed), hex(leaf.signed));
  });

  const damage = function* (der: Bytes): Generator<Bytes> {
    for (let at = 0; at < der.length; at++) {
      yield der.slice(0, at);
      for (const mask of [0x01, 0x20, 0x40, 0x80, 0xff]) {
        const mutant = der.slice();
        mutant[at] = (mutant[at] ?? 0) ^ mask;
        yield mutant;
      }
    }
  };
  it("readCertificate() throws nothing but FormatError on a certificate with one changed octet", () => {
    for (const der of [ca.certificate.der, leaf.der])
      for (const mutant of damage(der))
        try {
          readCertificate(mutant);
        } catch (error) {
          assert.ok(error instanceof FormatError, `${error}: ${hex(mutant)}`);
        }
  });
  it("readCertificate() reads no damaged certificate whose signature still verifies", async () => {
    for (const mutant of damage(leaf.der)) {
      let read: Certificate;
      try {
        read = readCertificate(mutant);
      } catch {
        continue;
      }
      assert.equal(await isSignedBy(read, ca.certificate).catch(() => false), false, hex(mutant));
    }
  });
  it("readCertificate() refuses a signature that is not of whole octets", () => {
    assert.throws(
      () => readCertificate(encode(sequence(sequence(), sequence(), bitString()))),
      FormatError,
    );
  });
});

describe("inForce()", () => {
  const span = {
    notBefore: new Date("2026-01-01T00:00:00Z"),
    notAfter: new Date("2026-02-01T00:00:00Z"),
  };
  for (const [at, holds] of [
    ["2025-12-31T23:59:59.999Z", false],
    ["2026-01-01T00:00:00.000Z", true],
    ["2026-02-01T00:00:00.000Z", true],
    ["2026-02-01T00:00:00.999Z", true],
    ["2026-02-01T00:00:01.000Z", false],
  ] as const)
    it(`inForce() is ${holds} at ${at} of the month from 2026-01-01 to 2026-02-01`, () => {
      assert.equal(inForce(span, new Date(at)), holds);
    });
});
