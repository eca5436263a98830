/**
 * Requests that are read, and every reason for which one is refused.
 * @module
 */

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type Bytes, concat, hex, utf8 } from "../../../src/core/bytes.ts";
import { MAX_CSR_LENGTH, readCsr, readCsrDer, verifyProof } from "../../../src/core/x509/csr.ts";
import {
  bitString,
  contextPrimitive,
  type DerNode,
  DerReader,
  element,
  encode,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";
import { readPublicKey } from "../../../src/core/x509/keys.ts";
import { openssl, opensslCsr } from "../../fakes/ca.ts";
import { required, SLOW } from "./cas.ts";
import {
  askFor,
  craftCsr,
  csrPem,
  derOf,
  ecSpki,
  extension,
  extensionRequest,
  NEW_KEYS,
  named,
  publicKey,
  rsaSpki,
  type SignedRequest,
  signedCsr,
  URI,
  unsignedInteger,
  uriName,
} from "./requests.ts";

const SAN = `URI:${URI}`;
const malformed = (message: string) => ({ name: "RequestError", code: "csr_malformed", message });
const notRead = (message: string) => malformed(`Cannot read CSR: ${message}`);

/** openssl's request for a key of each accepted type. */
const requests = new Map<string, { readonly csr: string; readonly key: string }>();
before(() => {
  for (const [name, newkey] of NEW_KEYS)
    requests.set(
      name,
      opensslCsr(`${SAN},DNS:localhost,IP:127.0.0.1,IP:::1`, newkey, ["-subj", "/CN=ignored/O=x"]),
    );
}, SLOW);

describe("readCsr()", () => {
  let csr = "";
  before(() => {
    csr = opensslCsr(SAN).csr;
  });

  for (const name of NEW_KEYS.keys())
    it(`readCsr() reads openssl's request for an ${name} key, and verifyProof() accepts it`, async () => {
      const made = required(requests, name);
      const request = readCsr(made.csr);
      await verifyProof(request);
      assert.equal(request.uri, URI);
      assert.deepEqual(request.dnsNames, ["localhost"]);
      assert.deepEqual(request.ipAddresses.map(hex), ["7f000001", `${"00".repeat(15)}01`]);
      const [type = "", bits = "256"] = name.toLowerCase().split(" ");
      assert.equal(request.key.type, type);
      assert.equal(request.key.bits, Number(bits));
      assert.equal(hex(request.key.spki), hex(derOf(openssl(["pkey", "-pubout"], made.key))));
    });

  for (const hash of ["sha256", "sha384", "sha512"])
    for (const name of ["EC 256", "RSA 2048"])
      it(`readCsr() reads an ${name} request signed with ${hash}`, async () => {
        await verifyProof(readCsr(opensslCsr(SAN, NEW_KEYS.get(name), [`-${hash}`]).csr));
      });

  it("readCsr() reads the old label, CRLF lines and text around the block", () => {
    for (const text of [
      csr.replaceAll("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
      csr.replaceAll("\n", "\r\n"),
      `a\n${csr}b\n`,
    ])
      assert.equal(readCsr(text).uri, URI);
  });
  const san = (...flag: readonly DerNode[]) =>
    extension("subjectAltName", sequence(uriName(URI)), ...flag);
  const odd: readonly (readonly [name: string, parts: SignedRequest])[] = [
    ["version 1, as if it were counted from 1", { version: unsignedInteger(Uint8Array.of(1)) }],
    [
      "version 2, as programs with pyOpenSSL's set_version(2) write it",
      { version: unsignedInteger(Uint8Array.of(2)) },
    ],
    [
      "NULL parameters of ECDSA, as keytool of the JDK up to 15 writes them",
      { parameters: element(TAG.null) },
    ],
    ["absent parameters of RSA, as PKI.js writes them", { key: "RSA", parameters: null }],
    [
      "a critical FALSE that is spelled out, as certmonger writes it",
      { attributes: [extensionRequest(san(element(TAG.boolean, new Uint8Array(1))))] },
    ],
    [
      "a critical TRUE",
      { attributes: [extensionRequest(san(element(TAG.boolean, Uint8Array.of(0xff))))] },
    ],
    [
      "an attribute without a value",
      { attributes: [sequence(named("extensionRequest"), element(TAG.set)), askFor(uriName(URI))] },
    ],
    [
      "an attribute with only a type",
      {
        attributes: [
          sequence(named("extensionRequest")),
          sequence(named("commonName")),
          askFor(uriName(URI)),
        ],
      },
    ],
    [
      "a challenge password without a value",
      {
        attributes: [
          sequence(oid(oidContent("1.2.840.113549.1.9.7")), element(TAG.set)),
          askFor(uriName(URI)),
        ],
      },
    ],
    [
      "two extension requests that agree",
      { attributes: [askFor(uriName(URI)), askFor(uriName(URI))] },
    ],
    [
      "a second extension request for something else",
      {
        attributes: [
          askFor(uriName(URI)),
          extensionRequest(extension("keyUsage", element(TAG.bitString, Uint8Array.of(7, 0x80)))),
        ],
      },
    ],
    [
      "an extension request with two values that agree",
      {
        attributes: [
          sequence(named("extensionRequest"), element(TAG.set, sequence(san()), sequence(san()))),
        ],
      },
    ],
    ["subject names that are given twice", { attributes: [extensionRequest(san(), san())] }],
    [
      "Microsoft's extension request",
      {
        attributes: [
          sequence(named("microsoftExtensionRequest"), element(TAG.set, sequence(san()))),
        ],
      },
    ],
    [
      "certreq's attributes before the extension request",
      {
        attributes: [
          sequence(
            oid(oidContent("1.3.6.1.4.1.311.13.2.3")),
            element(TAG.set, element(TAG.ia5String, utf8("10.0.20348.2"))),
          ),
          askFor(uriName(URI)),
        ],
      },
    ],
    [
      "an empty relative distinguished name",
      {
        subject: sequence(
          element(TAG.set),
          element(TAG.set, sequence(named("commonName"), element(TAG.utf8String, utf8("web")))),
        ),
      },
    ],
    [
      "a subject of several types of string",
      {
        subject: sequence(
          ...[TAG.utf8String, TAG.printableString, TAG.ia5String, 0x1e, 0x14].map((tag) =>
            element(TAG.set, sequence(named("commonName"), element(tag, utf8("a_")))),
          ),
        ),
      },
    ],
  ];
  for (const [name, parts] of odd)
    it(`readCsr() reads a request with ${name}, and verifyProof() accepts it`, async () => {
      const request = readCsr(csrPem(await signedCsr(parts)));
      assert.equal(request.uri, URI);
      await verifyProof(request);
    });
  it("readCsr() reads a text with a byte order mark", () => {
    assert.equal(readCsr(`\uFEFF${csr}`).uri, URI);
  });
  it("readCsr() ignores attributes that it does not know", () => {
    const challenge = sequence(
      oid(oidContent("1.2.840.113549.1.9.7")),
      element(TAG.set, element(TAG.utf8String, utf8("x"))),
    );
    assert.equal(
      readCsr(csrPem(craftCsr({ attributes: [challenge, askFor(uriName(URI))] }))).uri,
      URI,
    );
  });

  const openssled: readonly (readonly [
    name: string,
    san: string | null,
    newkey: readonly string[] | undefined,
    message: string,
  ])[] = [
    [
      "an RSA key of 1024 bits",
      SAN,
      ["-newkey", "rsa:1024"],
      "Cannot read CSR: RSA key must have 2048, 3072 or 4096 bits, this one has 1024",
    ],
    [
      "an RSA key with the exponent 3",
      SAN,
      ["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
      "Cannot read CSR: RSA key must have the public exponent 65537",
    ],
    [
      "a P-224 key",
      SAN,
      ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"],
      "Cannot read CSR: EC key must be on P-256, P-384 or P-521",
    ],
    [
      "a secp256k1 key",
      SAN,
      ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
      "Cannot read CSR: EC key must be on P-256, P-384 or P-521",
    ],
    [
      "an EC key with explicit parameters",
      SAN,
      ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
      "Cannot read CSR: EC key must name its curve",
    ],
    [
      "an Ed448 key",
      SAN,
      ["-newkey", "ed448"],
      "Cannot read CSR: key must be EC (P-256, P-384, P-521), RSA (2048, 3072, 4096) or Ed25519",
    ],
    ["no subject names", null, undefined, "CSR SAN contains an invalid number of URIs: 0"],
    ["only a DNS name", "DNS:web", undefined, "CSR SAN contains an invalid number of URIs: 0"],
    [
      "two URIs",
      `${SAN},URI:spiffe://b.consul/x`,
      undefined,
      "CSR SAN contains an invalid number of URIs: 2",
    ],
    [
      "the same URI twice",
      `${SAN},${SAN}`,
      undefined,
      "CSR SAN contains an invalid number of URIs: 2",
    ],
    [
      "an e-mail address",
      `${SAN},email:a@b.example`,
      undefined,
      "CSR SAN does not allow specifying email addresses",
    ],
    [
      "a Kerberos or user principal name",
      `${SAN},otherName:1.3.6.1.4.1.311.20.2.3;UTF8:web@EXAMPLE.COM`,
      undefined,
      "Cannot read CSR: its subject alternative name has an otherName, for example a Kerberos or a user principal name: only URIs, DNS names and IP addresses can be asked for",
    ],
    [
      "a registered ID",
      `${SAN},RID:1.2.3`,
      undefined,
      "Cannot read CSR: its subject alternative name has a registered ID: only URIs, DNS names and IP addresses can be asked for",
    ],
  ];
  for (const [name, san, newkey, message] of openssled)
    it(`readCsr() refuses ${name}`, () => {
      const made = opensslCsr(san, newkey);
      assert.throws(() => readCsr(made.csr), malformed(message));
    });

  const unsupported = (name: string) =>
    `signature algorithm ${name}is not one of ECDSA or RSA PKCS#1 with SHA-256, SHA-384 or SHA-512, or Ed25519`;
  for (const [name, newkey, more] of [
    ["ECDSA with SHA-1", undefined, ["-sha1"]],
    ["RSA with SHA-224", NEW_KEYS.get("RSA 2048"), ["-sha224"]],
    ["RSA-PSS", NEW_KEYS.get("RSA 2048"), ["-sigopt", "rsa_padding_mode:pss"]],
  ] as const)
    it(`readCsr() refuses a request signed with ${name}`, () => {
      const made = opensslCsr(SAN, newkey, more);
      assert.throws(() => readCsr(made.csr), notRead(unsupported(`${name} `)));
    });

  const point = publicKey("EC 256").slice(-65);
  const off = Uint8Array.of(1);
  const crafted: readonly (readonly [
    name: string,
    parts: Parameters<typeof craftCsr>[0],
    message: string,
  ])[] = [
    [
      "an RSA key of 16384 bits",
      { spki: rsaSpki(16384), scheme: "rsaSha256" },
      "RSA key must have 2048, 3072 or 4096 bits, this one has 16384",
    ],
    [
      "an RSA key of 2047 bits",
      { spki: rsaSpki(2047), scheme: "rsaSha256" },
      "RSA key must have 2048, 3072 or 4096 bits, this one has 2047",
    ],
    [
      "an RSA key of 2049 bits",
      { spki: rsaSpki(2049), scheme: "rsaSha256" },
      "RSA key must have 2048, 3072 or 4096 bits, this one has 2049",
    ],
    [
      "the exponent 1",
      { spki: rsaSpki(2048, [1]), scheme: "rsaSha256" },
      "RSA key must have the public exponent 65537",
    ],
    [
      "the exponent 0",
      { spki: rsaSpki(2048, [0]), scheme: "rsaSha256" },
      "RSA key must have the public exponent 65537",
    ],
    [
      "an exponent of 2048 bits",
      { spki: rsaSpki(2048, Array(256).fill(0x7f)), scheme: "rsaSha256" },
      "RSA key must have the public exponent 65537",
    ],
    [
      "a compressed point",
      { spki: ecSpki(named("p256"), Uint8Array.of(2, ...point.slice(1, 33))) },
      "EC key must be an uncompressed point",
    ],
    [
      "the point at infinity",
      { spki: ecSpki(named("p256"), new Uint8Array(1)) },
      "EC key must be an uncompressed point",
    ],
    [
      "a hybrid point",
      { spki: ecSpki(named("p256"), Uint8Array.of(6, ...point.slice(1))) },
      "EC key must be an uncompressed point",
    ],
    [
      "a point of another curve",
      { spki: ecSpki(named("p384"), point) },
      "EC key must be an uncompressed point",
    ],
    [
      "an Ed25519 key of 31 octets",
      {
        spki: encode(sequence(sequence(named("ed25519")), bitString(new Uint8Array(31)))),
        scheme: "ed25519",
      },
      "Ed25519 key must have 32 octets",
    ],
    [
      "a signature algorithm of another key type",
      { scheme: "rsaSha256" },
      "its signature algorithm does not fit its ec key",
    ],
    [
      "an unknown signature algorithm",
      { identifier: encode(sequence(oid(oidContent("1.2.3.4")))) },
      unsupported(""),
    ],
    [
      "an ECDSA algorithm with the parameters of another",
      { identifier: encode(sequence(named("ecdsaSha256"), named("p256"))) },
      "signature algorithm has parameters that it is not allowed to have",
    ],
    [
      "an RSA algorithm with a NULL that is not empty",
      {
        spki: publicKey("RSA 2048"),
        identifier: encode(sequence(named("rsaSha256"), element(TAG.null, off))),
      },
      "signature algorithm has parameters that it is not allowed to have",
    ],
    [
      "an Ed25519 algorithm with a NULL parameter",
      {
        spki: publicKey("Ed25519"),
        identifier: encode(sequence(named("ed25519"), element(TAG.null))),
      },
      "signature algorithm has parameters that it is not allowed to have",
    ],
    [
      "an RSA key whose algorithm has no NULL",
      {
        spki: encode(sequence(sequence(named("rsaEncryption")), bitString(new Uint8Array(270)))),
        scheme: "rsaSha256",
      },
      "RSA key lacks the NULL parameters of its algorithm, without which Go clients cannot read it",
    ],
    ["version 3", { version: unsignedInteger(Uint8Array.of(3)) }, "its version must be 0"],
    [
      "a negative version",
      { version: element(TAG.integer, Uint8Array.of(0xff)) },
      "its version is negative",
    ],
    [
      "a subject that is no Name",
      { subject: sequence(element(TAG.null)) },
      "its subject has the wrong ASN.1 type",
    ],
    [
      "two extension requests that differ",
      { attributes: [askFor(uriName(URI)), askFor(uriName(`${URI}x`))] },
      "it asks twice for subject alternative names, with different names",
    ],
    [
      "an extension request with two values that differ",
      {
        attributes: [
          sequence(
            named("extensionRequest"),
            element(
              TAG.set,
              sequence(extension("subjectAltName", sequence(uriName(URI)))),
              sequence(extension("subjectAltName", sequence(uriName(`${URI}x`)))),
            ),
          ),
        ],
      },
      "it asks twice for subject alternative names, with different names",
    ],
    [
      "two lists of subject names that differ",
      {
        attributes: [
          extensionRequest(
            extension("subjectAltName", sequence(uriName(URI))),
            extension("subjectAltName", sequence(uriName(`${URI}x`))),
          ),
        ],
      },
      "it asks twice for subject alternative names, with different names",
    ],
    [
      "an extension request of another form",
      { attributes: [sequence(named("extensionRequest"), element(TAG.set, element(TAG.null)))] },
      "its extension request has the wrong ASN.1 type",
    ],
    [
      "subject names that are cut off",
      {
        attributes: [
          extensionRequest(extension("subjectAltName", Uint8Array.of(0x30, 0x10, 0x86))),
        ],
      },
      "its subject alternative name ends too early",
    ],
    [
      "a critical flag that is neither true nor false",
      {
        attributes: [
          extensionRequest(
            extension("subjectAltName", sequence(uriName(URI)), element(TAG.boolean, off)),
          ),
        ],
      },
      "its extension request has a flag that is neither true nor false",
    ],
    [
      "an empty list of subject names",
      { attributes: [askFor()] },
      "its subject alternative name is empty",
    ],
    [
      "a NUL in the URI",
      { attributes: [askFor(uriName(`${URI}\u0000x`))] },
      "its subject alternative name is not printable ASCII",
    ],
    [
      "UTF-8 in the URI",
      { attributes: [askFor(uriName(`${URI}é`))] },
      "its subject alternative name is not printable ASCII",
    ],
    [
      "a byte that is no UTF-8 in the URI",
      { attributes: [askFor(element(contextPrimitive(6), Uint8Array.of(0xff)))] },
      "its subject alternative name is not printable ASCII",
    ],
    [
      "an IP address of five octets",
      { attributes: [askFor(uriName(URI), element(contextPrimitive(7), new Uint8Array(5)))] },
      "an IP address in its subject alternative name must have 4 or 16 octets",
    ],
    [
      "a signature with unused bits",
      { signature: element(TAG.bitString, Uint8Array.of(1, 2)) },
      "its signature has a bit string that is not of whole octets",
    ],
  ];
  for (const [name, parts, message] of crafted)
    it(`readCsr() refuses ${name} without looking at the signature`, () => {
      assert.throws(() => readCsr(csrPem(craftCsr(parts))), notRead(message));
    });

  const textual: readonly (readonly [
    name: string,
    change: (csr: string) => string,
    message: string,
  ])[] = [
    ["an empty text", () => "", "no PEM-encoded data found"],
    ["a text without PEM", () => "hello", "no PEM-encoded data found"],
    [
      "the label CERTIFICATE",
      (text) => text.replaceAll("CERTIFICATE REQUEST", "CERTIFICATE"),
      "first PEM-block should be CERTIFICATE REQUEST type",
    ],
    ["two PEM blocks", (text) => text + text, "there must be exactly one PEM block"],
    [
      "a block with headers",
      (text) => text.replace("REQUEST-----\n", "REQUEST-----\nA: b\n\n"),
      "the PEM block must have no headers",
    ],
    [
      "a PEM block without END",
      (text) => text.replace(/-----END.*/s, ""),
      "PEM block CERTIFICATE REQUEST has no matching END line",
    ],
    [
      "a PEM body that is not base64",
      (text) => text.replace("\nMI", "\nM*"),
      "PEM block CERTIFICATE REQUEST is not base64",
    ],
    ["a truncated DER", (text) => csrPem(derOf(text).slice(0, -1)), "it ends too early"],
    [
      "a DER with a byte too many",
      (text) => csrPem(concat(derOf(text), new Uint8Array(1))),
      "it has trailing data",
    ],
    [
      "an element behind the signature",
      (text) => {
        const outer = new DerReader(derOf(text));
        outer.expect(TAG.sequence);
        return csrPem(encode(sequence(outer.content(), element(TAG.null))));
      },
      "it has trailing data",
    ],
    ["a DER of one byte", () => csrPem(Uint8Array.of(0x30)), "it ends too early"],
    [
      "an indefinite length",
      (text) => csrPem(concat(Uint8Array.of(0x30, 0x80), derOf(text).slice(3), new Uint8Array(2))),
      "it is encoded in BER with indefinite lengths, not in DER",
    ],
    [
      "a length that is not minimal",
      (text) => csrPem(concat(Uint8Array.of(0x30, 0x83, 0), derOf(text).slice(2))),
      "it is encoded in BER with overlong lengths, not in DER",
    ],
  ];
  for (const [name, change, message] of textual)
    it(`readCsr() refuses ${name}`, () => {
      assert.throws(() => readCsr(change(csr)), notRead(message));
    });
  it("readCsr() refuses 17 KiB before it reads any of it", () => {
    const message = `Cannot read CSR: it is longer than ${MAX_CSR_LENGTH} characters`;
    assert.throws(() => readCsr(csr.padEnd(17 * 1024, "\n")), {
      name: "RequestError",
      code: "too_large",
      message,
    });
    assert.throws(() => readCsr("x".repeat(MAX_CSR_LENGTH + 1)), { code: "too_large" });
    assert.equal(readCsr(csr.padEnd(MAX_CSR_LENGTH, "\n")).uri, URI);
  });
  it("readCsr() names nothing of the request's body in its errors", () => {
    assert.throws(
      () => readCsr(csr.replace("\nMI", "\nM*")),
      (error: Error) => !error.message.includes(csr.slice(60, 80)),
    );
  });
});

describe("verifyProof()", () => {
  const refused = {
    name: "RequestError",
    code: "csr_proof_failed",
    message: "Cannot accept CSR: its signature does not verify with its own public key",
  };
  for (const name of NEW_KEYS.keys())
    it(`verifyProof() refuses an ${name} request with another signature, another key or another content`, async () => {
      const request = readCsr(required(requests, name).csr);
      const flipped = (octets: Bytes, at: number) =>
        octets.map((octet, i) => (i === at ? octet ^ 1 : octet));
      await assert.rejects(
        verifyProof({
          ...request,
          signature: flipped(request.signature, request.signature.length - 1),
        }),
        refused,
      );
      await assert.rejects(
        verifyProof({ ...request, signed: flipped(request.signed, request.signed.length - 1) }),
        refused,
      );
      await assert.rejects(
        verifyProof({ ...request, key: readPublicKey(publicKey(name)) }),
        refused,
      );
      for (const length of [
        0,
        1,
        32,
        63,
        65,
        request.signature.length - 1,
        request.signature.length + 1,
      ])
        await assert.rejects(
          verifyProof({ ...request, signature: new Uint8Array(length) }),
          refused,
        );
    });
  for (const name of ["EC 256", "Ed25519"])
    it(`verifyProof() refuses an ${name} request with another request's signature`, async () => {
      const [one, other] = ["a", "b"].map((host) =>
        readCsr(opensslCsr(`URI:spiffe://${host}.consul/x`, NEW_KEYS.get(name)).csr),
      );
      assert.ok(one && other);
      await assert.rejects(verifyProof({ ...one, signature: other.signature }), refused);
    });
  it("verifyProof() refuses an EC key that is not a point of its curve", async () => {
    const request = readCsrDer(
      craftCsr({ spki: ecSpki(named("p256"), Uint8Array.of(4, ...new Uint8Array(64).fill(1))) }),
    );
    await assert.rejects(verifyProof(request), refused);
  });
  for (const [name, r, s] of [
    ["r and s of zero", [0], [0]],
    ["an s of zero", [1], [0]],
    ["an r longer than the curve's order", Array(33).fill(0x7f), [1]],
    ["r and s above the curve's order", Array(32).fill(0xff), Array(32).fill(0xff)],
  ] as const)
    it(`verifyProof() refuses an ECDSA signature with ${name}`, async () => {
      const signature = bitString(
        encode(sequence(unsignedInteger(Uint8Array.from(r)), unsignedInteger(Uint8Array.from(s)))),
      );
      await assert.rejects(verifyProof(readCsrDer(craftCsr({ signature }))), refused);
    });
});
