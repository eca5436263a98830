/**
 * Roots and keys that an operator supplies: valid ones are accepted, and all others are refused
 * with every fault named, no secret repeated and nothing changed.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, beforeEach, describe, it } from "node:test";
import type { CaError } from "../../../src/core/errors.ts";
import { certificatePem, type PemBlock, readPem, writePem } from "../../../src/core/pem.ts";
import { activeRoot } from "../../../src/core/state.ts";
import {
  BOOTSTRAP,
  GOOD_EXTENSIONS,
  opensslKey,
  readChain,
  replica,
  requireRefused,
  requireSigning,
  type SuppliedRoot,
  suppliedRoot,
  TRUST_DOMAIN,
  webCsr,
} from "../../core/ca/harness.ts";
import {
  configuration,
  createTestCa,
  inFolder,
  openssl,
  opensslCsr,
  type TestCa,
} from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";

let csr: string;
let ca: TestCa;
let good: SuppliedRoot;

before(() => {
  csr = webCsr();
  good = suppliedRoot({ name: "good" });
});
beforeEach(async () => {
  ca = await createTestCa({ bootstrap: BOOTSTRAP });
});

/** A good root's extensions without those that start so, and with others. */
const extensions = (without: readonly string[], more: readonly string[] = []) => [
  ...GOOD_EXTENSIONS.filter((line) => !without.some((start) => line.startsWith(start))),
  ...more,
];

/** Expects a refusal that says all of `texts` and repeats nothing of the key. */
async function refused(root: SuppliedRoot, ...texts: readonly RegExp[]): Promise<void> {
  const echoed = (error: CaError) => {
    assert.equal(error.code, "config_invalid", error.message);
    for (const text of texts) assert.match(error.message, text);
    const all = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
    for (const line of `${root.key}\n${root.cert}`.split("\n"))
      assert.ok(
        line.length < 20 || line.startsWith("-----") || !all.includes(line),
        "the message repeats the supplied text",
      );
  };
  await requireRefused(
    ca,
    csr,
    (to) => to.configure(configuration({ PrivateKey: root.key, RootCert: root.cert })),
    echoed,
  );
}

/**
 * A key whose curve is only in the EC PARAMETERS before it (RFC 5915 §3: parameters are
 * optional).
 */
function sec1WithoutCurve(pem: string): string {
  const key = readPem(pem).find(({ label }) => label === "EC PRIVATE KEY") as PemBlock;
  // SEQUENCE { version, OCTET STRING of 32, [0] { OID }, [1] public key }.
  const fields = key.bytes.slice(2, 2 + 3 + 34);
  return (
    pem.slice(0, pem.indexOf("-----BEGIN EC PRIVATE")) +
    writePem("EC PRIVATE KEY", Uint8Array.of(0x30, fields.length, ...fields))
  );
}

async function taken(root: SuppliedRoot): Promise<void> {
  assert.equal(
    await ca.manager.configure(configuration({ PrivateKey: root.key, RootCert: root.cert })),
    true,
  );
  const { state } = ca.manager.require();
  assert.ok(
    root.cert
      .replaceAll("\r", "")
      .includes(certificatePem(activeRoot(state).certificate.der).trim()),
  );
  const leaf = await requireSigning(ca.manager, csr, ca.clock.now());
  inFolder((folder) => {
    const [leafFile, rootFile] = [join(folder, "leaf.pem"), join(folder, "root.pem")];
    writeFileSync(leafFile, certificatePem(leaf.der));
    writeFileSync(rootFile, root.cert);
    const at = String(ca.clock.now().getTime() / 1000);
    for (const purpose of ["sslclient", "sslserver"])
      openssl([
        "verify",
        "-x509_strict",
        "-attime",
        at,
        "-purpose",
        purpose,
        "-CAfile",
        rootFile,
        leafFile,
      ]);
  });
}

describe("a supplied root", () => {
  it("configure() takes a root made by openssl, keeps its key hidden and encrypted, and signs under it", async () => {
    await taken(good);
    const { document } = ca.backend;
    assert.deepEqual(ca.manager.require().state.config.config, {
      PrivateKey: "hidden",
      RootCert: good.cert,
    });
    // The private number of a key on P-256 in PKCS#8 stands in the first two lines; after it comes
    // the public key.
    for (const line of good.key.split("\n").slice(1, 3))
      assert.ok(!(document ?? "").includes(line), "the key is stored in clear");
    const other = await replica(ca, "other");
    await other.refresh();
    await requireSigning(other, csr, ca.clock.now());
  });

  it("configure() leaves root and chain as they are if the hidden key is sent back as it was read", async () => {
    await taken(good);
    const { state } = ca.manager.require();
    const read = { ...state.config.config };
    assert.equal(await ca.manager.configure(configuration(read)), false);
    assert.equal(
      await ca.manager.configure(configuration({ ...read, PrivateKey: good.key })),
      false,
    );
    assert.equal(ca.manager.require().state.commitId, state.commitId);
    assert.equal(await ca.manager.configure(configuration({ ...read, LeafCertTTL: "5h" })), true);
    assert.equal(
      await ca.manager.configure(
        configuration({ ...read, PrivateKey: good.key, LeafCertTTL: "6h" }),
      ),
      true,
    );
    const after = ca.manager.require().state;
    assert.deepEqual(
      after.roots.map(({ id, status, intermediates }) => [id, status, intermediates.length]),
      state.roots.map(({ id, status, intermediates }) => [id, status, intermediates.length]),
    );
    await requireSigning(ca.manager, csr, ca.clock.now());
  });

  for (const [what, make, label] of [
    ["P-384", () => opensslKey(["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]), ""],
    ["P-521", () => opensslKey(["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]), ""],
    [
      "P-256 in SEC 1",
      () => openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout"]),
      "EC ",
    ],
    [
      "P-256 after its parameters",
      () => openssl(["ecparam", "-name", "prime256v1", "-genkey"]),
      "EC ",
    ],
    ["RSA 2048", () => opensslKey(["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ""],
    ["RSA 3072", () => opensslKey(["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]), ""],
    ["RSA 2048 in PKCS #1", () => openssl(["genrsa", "-traditional", "2048"]), "RSA "],
  ] as const)
    it(`configure() takes a key of a root: ${what}`, async () => {
      const key = make();
      assert.ok(key.includes(`BEGIN ${label}PRIVATE KEY`), "the form of the key");
      await taken(suppliedRoot({ key }));
    });

  it("configure() takes forms of a key that openssl does not write, and some that it does not read", async () => {
    const key = openssl(["ecparam", "-name", "prime256v1", "-genkey"]);
    const root = suppliedRoot({ key });
    for (const form of [
      openssl(["ec", "-no_public"], key),
      openssl(["pkey"], key),
      `Bag Attributes\r\n    friendlyName: root\r\n${openssl(["pkey"], key).replaceAll("\n", "\r\n")}`,
      `\uFEFF${openssl(["ec"], key)}`,
      sec1WithoutCurve(key),
    ]) {
      await taken({ cert: root.cert, key: form });
      await ca.manager.configure(configuration({}));
    }
  });

  it("configure() takes a certificate with text around it, which stays as it was sent", async () => {
    for (const cert of [
      `Bag Attributes\n    friendlyName: root\n    localKeyID: 54 69 6D 65\nsubject=CN = root\n${good.cert}\n`,
      openssl(["x509", "-text"], good.cert),
      `\uFEFF${good.cert.replaceAll("\n", "\r\n")}`,
    ]) {
      await taken({ cert, key: good.key });
      assert.equal(ca.manager.require().state.config.config?.RootCert, cert);
      await ca.manager.configure(configuration({}));
    }
  });

  it("configure() takes a key without a root and makes the root for it", async () => {
    const key = opensslKey();
    await ca.manager.configure(configuration({ PrivateKey: key }));
    assert.deepEqual(ca.manager.require().state.config.config, { PrivateKey: "hidden" });
    await requireSigning(ca.manager, csr, ca.clock.now());
    assert.equal(await ca.manager.configure(configuration({ PrivateKey: key })), false);
    assert.equal(ca.manager.require().state.roots.length, 2);
  });

  it("configure() refuses a hidden key if none is stored", async () => {
    await refused({ cert: good.cert, key: "hidden" }, /PrivateKey is "hidden".*none is stored/);
  });

  const bad: readonly [why: string, make: () => SuppliedRoot, ...texts: RegExp[]][] = [
    [
      "a key that is not the root's",
      () => ({ cert: good.cert, key: opensslKey() }),
      /PrivateKey is not the key of RootCert/,
    ],
    [
      "an RSA key for an EC root",
      () => ({
        cert: good.cert,
        key: opensslKey(["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
      }),
      /PrivateKey is not the key of RootCert/,
    ],
    [
      "a root that is not a CA",
      () =>
        suppliedRoot({ extensions: extensions(["basic"], ["basicConstraints=critical,CA:FALSE"]) }),
      /not a CA/,
    ],
    [
      "a root without basic constraints",
      () => suppliedRoot({ extensions: extensions(["basic"]) }),
      /not a CA/,
    ],
    [
      "an expired root",
      () => suppliedRoot({ to: "20260601115959Z" }),
      /RootCert expired on 2026-06-01T11:59:59\.000Z/,
    ],
    [
      "a root that is not valid yet",
      () => suppliedRoot({ from: "20260601120001Z" }),
      /not valid before 2026-06-01T12:00:01\.000Z/,
    ],
    [
      "a root of another trust domain",
      () =>
        suppliedRoot({
          extensions: extensions(
            ["subjectAlt"],
            ["subjectAltName=URI:spiffe://99999999-2222-3333-4444-555555555555.consul"],
          ),
        }),
      /must have exactly the URI spiffe:\/\/11111111-.*it has spiffe:\/\/99999999-/,
    ],
    [
      "a root with a path in its URI",
      () =>
        suppliedRoot({
          extensions: extensions(["subjectAlt"], [`subjectAltName=URI:spiffe://${TRUST_DOMAIN}/x`]),
        }),
      /must have exactly the URI/,
    ],
    [
      "a root with two URIs",
      () =>
        suppliedRoot({
          extensions: extensions(
            ["subjectAlt"],
            [`subjectAltName=URI:spiffe://${TRUST_DOMAIN},URI:spiffe://other`],
          ),
        }),
      /must have exactly the URI/,
    ],
    [
      "a root without a URI",
      () => suppliedRoot({ extensions: extensions(["subjectAlt"]) }),
      /must have exactly the URI .* it has none/,
    ],
    [
      "a root without a key identifier",
      () => suppliedRoot({ extensions: extensions(["subjectKey"]) }),
      /no subject key identifier/,
    ],
    [
      "a root with a path length",
      () =>
        suppliedRoot({
          extensions: extensions(["basic"], ["basicConstraints=critical,CA:TRUE,pathlen:0"]),
        }),
      /path length constraint/,
    ],
    [
      "a root that may not sign certificates",
      () =>
        suppliedRoot({
          extensions: extensions(["keyUsage"], ["keyUsage=critical,cRLSign,digitalSignature"]),
        }),
      /key usage lacks keyCertSign/,
    ],
    [
      "a root without key usage",
      () => suppliedRoot({ extensions: extensions(["keyUsage"]) }),
      /no key usage/,
    ],
    [
      "a root with a critical name constraint",
      () =>
        suppliedRoot({
          extensions: extensions([], ["nameConstraints=critical,permitted;DNS:example.com"]),
        }),
      /name constraints that do not permit the DNS name server\.dc1\.peering\./,
    ],
    [
      "a root that may not be used for TLS clients",
      () => suppliedRoot({ extensions: extensions([], ["extendedKeyUsage=serverAuth"]) }),
      /RootCert.*(extended key usage|client)/,
    ],
    [
      "a root that another signed",
      () => suppliedRoot({ by: suppliedRoot() }),
      /not self-signed: its issuer is not its subject/,
    ],
    [
      "a root that another of the same name signed",
      () => suppliedRoot({ name: "twin", by: suppliedRoot({ name: "twin" }) }),
      /RootCert is not signed by its own key/,
    ],
    [
      "two certificates",
      () => ({ cert: good.cert + suppliedRoot().cert, key: good.key }),
      /exactly one PEM block, not 2/,
    ],
    [
      "the same certificate twice",
      () => ({ cert: good.cert + good.cert, key: good.key }),
      /exactly one PEM block, not 2/,
    ],
    [
      "a key in place of the certificate",
      () => ({ cert: good.key, key: good.key }),
      /first PEM-block should be CERTIFICATE type/,
    ],
    [
      "a certificate that is not PEM",
      () => ({ cert: "not PEM at all", key: good.key }),
      /no PEM-encoded data found/,
    ],
    [
      "a certificate that was cut off",
      () => ({ cert: good.cert.slice(0, 300), key: good.key }),
      /error parsing root certificate/,
    ],
    [
      "a certificate of garbage",
      () => ({
        cert: "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n",
        key: good.key,
      }),
      /error parsing root certificate/,
    ],
    [
      "an Ed25519 root",
      () => suppliedRoot({ key: opensslKey(["-algorithm", "ed25519"]) }),
      /private key must be EC on/,
    ],
    [
      "a key that is encrypted",
      () => ({
        cert: good.cert,
        key: openssl(["pkcs8", "-topk8", "-passout", "pass:secret"], good.key),
      }),
      /private key is encrypted/,
    ],
    [
      "a key that is encrypted the old way",
      () => ({
        cert: good.cert,
        key: openssl(["ec", "-aes128", "-passout", "pass:secret"], good.key),
      }),
      /private key is encrypted/,
    ],
    [
      "a key of garbage",
      () => ({
        cert: good.cert,
        key: "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n",
      }),
      /parsing private key/,
    ],
    [
      "a certificate whose lines were joined by blanks",
      () => ({ cert: good.cert.replaceAll("\n", " "), key: good.key }),
      /error parsing root certificate: the line ends of its PEM text are lost/,
    ],
    [
      "a certificate on one line",
      () => ({ cert: good.cert.replaceAll("\n", ""), key: good.key }),
      /the line ends of its PEM text are lost/,
    ],
    [
      "a key whose line ends were escaped twice",
      () => ({ cert: good.cert, key: good.key.replaceAll("\n", "\\n") }),
      /error parsing private key: the line ends of its PEM text are lost/,
    ],
    [
      "a key that is not PEM",
      () => ({ cert: good.cert, key: "very secret words of mine" }),
      /no PEM-encoded data found/,
    ],
    [
      "a key that was cut off",
      () => ({ cert: good.cert, key: good.key.slice(0, 120) }),
      /parsing private key/,
    ],
    [
      "a public key",
      () => ({ cert: good.cert, key: openssl(["pkey", "-pubout"], good.key) }),
      /unknown PEM block type for signing key: PUBLIC KEY/,
    ],
    [
      "two keys",
      () => ({ cert: good.cert, key: good.key + opensslKey() }),
      /exactly one PEM block, without certificates, not PRIVATE KEY and PRIVATE KEY/,
    ],
    [
      "a key with its certificate",
      () => ({ cert: good.cert, key: good.key + good.cert }),
      /exactly one PEM block, without certificates/,
    ],
    [
      "the parameters of a key only",
      () => ({ cert: good.cert, key: openssl(["ecparam", "-name", "prime256v1"]) }),
      /there is no private key, only EC PARAMETERS/,
    ],
    [
      "a key on a curve of another kind",
      () => ({ cert: good.cert, key: openssl(["ecparam", "-name", "secp256k1", "-genkey"]) }),
      /private key must be EC on P-256, P-384 or P-521/,
    ],
    [
      "a key within the text of the certificate",
      () => ({ cert: `${good.key.replaceAll("-----", "----")}${good.cert}`, key: good.key }),
      /no private key in RootCert/,
    ],
    [
      "a root without its key",
      () => ({ cert: good.cert, key: "" }),
      /must provide a private key when providing a root cert/,
    ],
  ];
  for (const [why, make, ...texts] of bad)
    it(`configure() refuses ${why}, and changes nothing`, async () => {
      await refused(make(), ...texts);
    });

  it("configure() names all faults of a root at once", async () => {
    const root = suppliedRoot({
      to: "20260301000000Z",
      extensions: [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "subjectAltName=URI:spiffe://b.consul",
      ],
    });
    await refused(
      { cert: root.cert, key: opensslKey() },
      /not the key of RootCert/,
      /not a CA/,
      /lacks keyCertSign/,
      /no subject key identifier/,
      /expired on/,
      /exactly the URI/,
    );
  });

  it("configure() refuses the same roots with force", async () => {
    const root = { cert: good.cert, key: opensslKey() };
    const request = configuration(
      { PrivateKey: root.key, RootCert: root.cert },
      { forceWithoutCrossSigning: true },
    );
    await requireRefused(
      ca,
      csr,
      (to) => to.configure(request),
      (error) => assert.match(error.message, /not the key of RootCert/),
    );
  });

  it("configure() survives a key of which any octet was changed", { timeout: 60_000 }, async () => {
    const der = Buffer.from(good.key.replace(/-----[^-]+-----|\s/g, ""), "base64");
    for (let i = 0; i < der.length; i++) {
      const changed = Buffer.from(der);
      changed[i] = (changed[i] ?? 0) ^ 0x41;
      const key = `-----BEGIN PRIVATE KEY-----\n${changed.toString("base64")}\n-----END PRIVATE KEY-----\n`;
      const change = ca.manager.configure(configuration({ PrivateKey: key, RootCert: good.cert }));
      const outcome = await change.then(
        () => "taken",
        (error: unknown) => (error as CaError).code,
      );
      // A change in what is not read, such as the copy of the public key, may pass: then the key is
      // the root's all the same.
      assert.ok(outcome === "config_invalid" || outcome === "taken", `octet ${i}: ${outcome}`);
      await requireSigning(ca.manager, csr, ca.clock.now());
    }
  });
});

describe("a supplied root with name constraints", () => {
  const named = (subject: string) =>
    inFolder((folder) => {
      const [config, key] = [join(folder, "c.cnf"), opensslKey()];
      writeFileSync(join(folder, "key.pem"), key);
      const lines = [...GOOD_EXTENSIONS, "authorityKeyIdentifier=none"].join("\n");
      writeFileSync(
        config,
        `[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n${lines}\n`,
      );
      const args = [
        "-config",
        config,
        "-key",
        join(folder, "key.pem"),
        "-subj",
        subject,
        "-days",
        "3650",
      ];
      return { RootCert: openssl(["req", "-x509", "-new", ...args]), PrivateKey: key };
    });
  const constraint = (value: string) =>
    suppliedRoot({ extensions: extensions([], [`nameConstraints=${value}`]) });

  it("configure() refuses one that forbids a name of this server's own certificate", async () => {
    const root = constraint("permitted;DNS:consul,permitted;DNS:localhost");
    await taken(root);
    ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      serverNames: { dnsNames: ["ca.example.com"], ipAddresses: [] },
    });
    await refused(
      root,
      /^The root cannot be used: name constraints of the root do not permit the DNS name ca\.example\.com, which the/,
    );
  });

  it("sign() refuses a name that the root forbids, also while that root is a retired one", async () => {
    const root = constraint(
      "permitted;DNS:consul,permitted;DNS:localhost,permitted;IP:10.0.0.0/255.255.0.0,permitted;IP:127.0.0.1/255.255.255.255,permitted;IP:0:0:0:0:0:0:0:1/FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF",
    );
    const names = { ServiceIPRanges: ["10.0.0.0/8"] };
    const start = new Date(Date.now() + 60_000);
    ca = await createTestCa({ bootstrap: BOOTSTRAP, clock: createFakeClock(start) });
    const supplied = { PrivateKey: root.key, RootCert: root.cert, ...names };
    await ca.manager.configure({ ...configuration(supplied), forceWithoutCrossSigning: true });
    const ask = (more: string) =>
      opensslCsr(`URI:spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web,${more}`).csr;
    const { id } = ca.manager.require().active;
    const check = async () => {
      for (const [more, what] of [
        ["DNS:web.service.consul,DNS:web", "do not permit the DNS name web"],
        ["IP:10.1.0.1", "do not permit the IP address 10.1.0.1"],
      ] as const)
        await assert.rejects(ca.manager.sign(ask(more)), {
          code: "profile_violation",
          message: `Cannot sign leaf for "spiffe://${TRUST_DOMAIN}/ns/default/dc/dc1/svc/web": name constraints of the CA certificate ${id} ${what}`,
        });
      const { leaf } = readChain(
        (await ca.manager.sign(ask("DNS:web.service.consul,IP:10.0.9.9"))).certificatePem,
      );
      assert.deepEqual(leaf.dnsNames, ["web.service.consul"]);
      // A leaf without names is signed as before.
      await requireSigning(ca.manager, csr, ca.clock.now());
    };
    await check();
    await ca.manager.configure({ ...configuration(names), forceWithoutCrossSigning: true });
    assert.notEqual(ca.manager.require().active.id, id);
    const retired = ca.manager.require().state.roots.find((each) => each.id === id);
    // Who has only that root verifies by its constraints; nobody does once it is abandoned.
    if (retired?.abandoned === false) await check();
    else assert.deepEqual((await ca.manager.sign(ask("DNS:web"))).uri.endsWith("/web"), true);
  });

  it("configure() refuses to leave one for a root whose subject it forbids, however that is spelled", async () => {
    const [evil, fine] = [named("/O=evil  corp/CN=x"), named("/O=Good/CN=x")];
    const start = new Date(Date.now() + 60_000);
    ca = await createTestCa({ bootstrap: BOOTSTRAP, clock: createFakeClock(start) });
    const section = "excluded;dirName:evil\n[evil]\nO=Evil Corp";
    const old = constraint(section);
    await ca.manager.configure(configuration({ PrivateKey: old.key, RootCert: old.cert }));
    const why =
      /a leaf of the new root would not verify under it: name constraints of the root exclude the subject of a CA certificate/;
    await assert.rejects(ca.manager.configure(configuration(evil)), why);
    await ca.manager.configure(configuration(fine));
    await requireSigning(ca.manager, csr, ca.clock.now());
  });

  it("configure() refuses to leave one on e-mail addresses for a root with one that OpenSSL cannot compare", async () => {
    const [odd, fine] = [
      named("/CN=x/emailAddress=not an address"),
      named("/CN=x/emailAddress=ca@example.com"),
    ];
    ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      clock: createFakeClock(new Date(Date.now() + 60_000)),
    });
    const old = constraint("critical,excluded;email:example.org");
    await ca.manager.configure(configuration({ PrivateKey: old.key, RootCert: old.cert }));
    const why =
      /would not verify under it: name constraints of the root exclude the e-mail address not an address in a subject/;
    await assert.rejects(ca.manager.configure(configuration(odd)), why);
    await ca.manager.configure(configuration(fine));
    await requireSigning(ca.manager, csr, ca.clock.now());
  });
});

describe("known defects of Consul", () => {
  it("configure() with a stale ModifyIndex and another TTL leaves signing alive", async () => {
    await requireRefused(
      ca,
      csr,
      (to) => to.configure(configuration({ LeafCertTTL: "1h" }, { modifyIndex: 999n })),
      (error) => assert.equal(error.code, "index_mismatch"),
    );
    assert.equal(ca.manager.obstacle(), null);
  });

  it("configure() refuses a root without key identifier, so that its leaves never lack one", async () => {
    await refused(
      suppliedRoot({ extensions: extensions(["subjectKey"]) }),
      /no subject key identifier/,
    );
  });

  it("configure() keeps a CA with a supplied root alive through a change of its TTL", async () => {
    await taken(good);
    const { config } = ca.manager.require().state.config;
    await ca.manager.configure(configuration({ ...config, LeafCertTTL: "2h" }));
    await requireSigning(ca.manager, csr, ca.clock.now());
  });

  it("configure() goes from a supplied root to a generated one, which becomes active", async () => {
    await taken(good);
    await ca.manager.configure(configuration({}));
    assert.equal(ca.manager.require().state.roots.length, 3);
    await requireSigning(ca.manager, csr, ca.clock.now());
    await ca.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    await requireSigning(ca.manager, csr, ca.clock.now());
  });
});
