/**
 * Every lint rule has a certificate that breaks it; good certificates break none.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type Authority, createIntermediate, crossSign } from "../../../src/core/x509/authority.ts";
import { type Certificate, KEY_USAGE } from "../../../src/core/x509/certificate.ts";
import { type CertificateKind, lint } from "../../../src/core/x509/lint.ts";
import { OID } from "../../../src/core/x509/oids.ts";
import { systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { type Ca, CLUSTER_ID, makeCa, makeLeaf, NOW, YEAR_MS } from "./cas.ts";
import {
  authorityKey,
  basic,
  type Extensions,
  makeOdd,
  makeOddCa,
  type OddCertificate,
  purposes,
  subjectKey,
  uris,
  usage,
} from "./odd-certificates.ts";
import { publicKey, URI } from "./requests.ts";

const CA_USAGE = KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign;
const extensions = (some: Partial<Extensions>): OddCertificate => ({ extensions: some });
const ended = new Date(NOW.getTime() - 1000);

type Rule = readonly [
  breaks: string,
  kind: CertificateKind,
  odd: OddCertificate,
  field: string,
  message: string,
];

const EVERY_KIND: readonly Rule[] = [
  [
    "a serial number of 21 octets",
    "leaf",
    { serial: `40${"00".repeat(20)}` },
    "serialNumber",
    "Must be positive and at most 20 octets",
  ],
  ["another issuer name", "leaf", { issuer: "CN=other" }, "issuer", "Must be the issuer's subject"],
  [
    "an end before the start",
    "leaf",
    { notAfter: ended },
    "validity",
    "Must not end before it starts",
  ],
  [
    "an end behind its issuer's",
    "leaf",
    { notAfter: new Date(NOW.getTime() + 3 * YEAR_MS) },
    "validity",
    "Must not outlive its issuer",
  ],
  [
    "a start before its issuer's",
    "leaf",
    { notBefore: ended },
    "validity",
    "Must not start before its issuer",
  ],
  [
    "no key usage",
    "leaf",
    extensions({ keyUsage: null }),
    "keyUsage",
    "Must be present and critical",
  ],
  [
    "key usage that is not critical",
    "leaf",
    extensions({ keyUsage: usage(KEY_USAGE.digitalSignature, false) }),
    "keyUsage",
    "Must be present and critical",
  ],
  [
    "no basic constraints",
    "leaf",
    extensions({ basic: null }),
    "basicConstraints",
    "Must be present and critical",
  ],
  [
    "basic constraints that are not critical",
    "leaf",
    extensions({ basic: basic(false, undefined, false) }),
    "basicConstraints",
    "Must be present and critical",
  ],
  [
    "no subject key identifier",
    "leaf",
    extensions({ subjectKey: null }),
    "subjectKeyIdentifier",
    "Must be present",
  ],
  [
    "no authority key identifier",
    "leaf",
    extensions({ authorityKey: null }),
    "authorityKeyIdentifier",
    "Must be the issuer's subject key identifier",
  ],
  [
    "another authority key identifier",
    "leaf",
    extensions({ authorityKey: authorityKey(new Uint8Array(32)) }),
    "authorityKeyIdentifier",
    "Must be the issuer's subject key identifier",
  ],
  [
    "another authority key identifier",
    "root",
    extensions({ authorityKey: authorityKey(new Uint8Array(32)) }),
    "authorityKeyIdentifier",
    "Must be the issuer's subject key identifier",
  ],
  [
    "no URI",
    "leaf",
    extensions({ names: uris([]) }),
    "subjectAltName",
    "Must have exactly one URI",
  ],
  [
    "no subject names",
    "leaf",
    extensions({ names: null }),
    "subjectAltName",
    "Must have exactly one URI",
  ],
  [
    "two URIs",
    "leaf",
    extensions({ names: uris([URI, `${URI}2`]) }),
    "subjectAltName",
    "Must have exactly one URI",
  ],
];

const LEAVES: readonly Rule[] = [
  ...["Web", "web.", "*.web", "a.*.b", "w*.web.x", "web_1", ""].map(
    (dnsName): Rule => [
      `the DNS name ${JSON.stringify(dnsName)}`,
      "leaf",
      extensions({ names: uris([URI], true, dnsName) }),
      "subjectAltName",
      "Must have DNS names in lower case, a wildcard as the first of three labels",
    ],
  ),
  [
    "the CA flag",
    "leaf",
    extensions({ basic: basic(true) }),
    "basicConstraints",
    "Must not be a CA",
  ],
  [
    "no digitalSignature",
    "leaf",
    extensions({ keyUsage: usage(KEY_USAGE.keyEncipherment) }),
    "keyUsage",
    "Must have digitalSignature",
  ],
  ...[KEY_USAGE.keyCertSign, KEY_USAGE.cRLSign].map(
    (bit) =>
      [
        `key usage bit ${bit}`,
        "leaf",
        extensions({ keyUsage: usage(KEY_USAGE.digitalSignature | bit) }),
        "keyUsage",
        "Must not sign certificates",
      ] as const,
  ),
  ...["EC 256", "Ed25519"].map(
    (name) =>
      [
        `keyEncipherment with an ${name} key`,
        "leaf",
        {
          spki: publicKey(name),
          extensions: { keyUsage: usage(KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment) },
        },
        "keyUsage",
        "Must not have keyEncipherment with this key",
      ] as const,
  ),
  ...(
    [
      ["no extended key usage", null],
      ["only serverAuth", purposes(OID.serverAuth)],
      ["the purposes in another order", purposes(OID.serverAuth, OID.clientAuth)],
      ["a third purpose", purposes(OID.clientAuth, OID.serverAuth, "1.3.6.1.5.5.7.3.3")],
    ] as const
  ).map(
    ([name, extKeyUsage]) =>
      [
        name,
        "leaf",
        extensions({ extKeyUsage }),
        "extKeyUsage",
        "Must be clientAuth and serverAuth",
      ] as const,
  ),
  [
    "an empty subject and names that are not critical",
    "leaf",
    extensions({ names: uris([URI], false) }),
    "subjectAltName",
    "Must be critical with an empty subject",
  ],
  ...["spiffe://a.consul", "spiffe://a.consul/", "https://a.consul/x", "spiffe:///x"].map(
    (uri) =>
      [
        `the URI ${uri}`,
        "leaf",
        extensions({ names: uris([uri]) }),
        "subjectAltName",
        "Must be a SPIFFE ID with a path",
      ] as const,
  ),
  [
    "another subject key identifier",
    "leaf",
    extensions({ subjectKey: subjectKey(new Uint8Array(32)) }),
    "subjectKeyIdentifier",
    "Must be the SHA-256 of the public key",
  ],
];

const CAS: readonly Rule[] = (["root", "cross-signed", "intermediate"] as const).flatMap(
  (kind): readonly Rule[] => [
    ["no CA flag", kind, extensions({ basic: basic(false) }), "basicConstraints", "Must be a CA"],
    ["an empty subject", kind, { subject: "" }, "subject", "Must not be empty"],
    [
      "no keyCertSign",
      kind,
      extensions({ keyUsage: usage(KEY_USAGE.cRLSign) }),
      "keyUsage",
      "Must have keyCertSign",
    ],
    [
      "a URI with a path",
      kind,
      extensions({ names: uris([URI], false) }),
      "subjectAltName",
      "Must be the trust domain's SPIFFE ID",
    ],
    kind === "intermediate"
      ? [
          "no pathLen",
          kind,
          extensions({ basic: basic(true) }),
          "basicConstraints",
          "Must have pathLen 0",
        ]
      : [
          "pathLen 0",
          kind,
          extensions({ basic: basic(true, 0) }),
          "basicConstraints",
          "Must have no pathLen",
        ],
    kind === "intermediate"
      ? [
          "pathLen 1",
          kind,
          extensions({ basic: basic(true, 1) }),
          "basicConstraints",
          "Must have pathLen 0",
        ]
      : [
          "pathLen 3",
          kind,
          extensions({ basic: basic(true, 3) }),
          "basicConstraints",
          "Must have no pathLen",
        ],
  ],
);

describe("lint()", () => {
  let root: Authority;
  let ca: Ca;
  before(async () => {
    root = await makeOddCa(null, { notAfter: new Date(NOW.getTime() + 2 * YEAR_MS) });
    ca = await makeCa();
  });

  /** A certificate that keeps all rules of its kind except those that `odd` breaks. */
  async function make(
    kind: CertificateKind,
    odd: OddCertificate,
  ): Promise<readonly [Certificate, Certificate]> {
    if (kind === "leaf") return [await makeOdd(root, odd), root.certificate];
    const own = { subject: `CN=${kind}`, ...odd };
    if (kind === "root") {
      const { certificate } = await makeOddCa(null, own);
      return [certificate, certificate];
    }
    const limits = kind === "intermediate" ? { basic: basic(true, 0) } : {};
    const { certificate } = await makeOddCa(root, {
      ...own,
      extensions: { ...limits, ...odd.extensions },
    });
    return [certificate, root.certificate];
  }

  for (const kind of ["root", "cross-signed", "intermediate", "leaf"] as const)
    it(`lint() finds nothing wrong with a good ${kind} certificate`, async () => {
      const [certificate, issuer] = await make(kind, {});
      assert.deepEqual(await lint(certificate, kind, issuer), []);
    });
  it("lint() finds nothing wrong with what the CA makes", async () => {
    const options = { now: NOW, random: systemRandom };
    const other = await makeCa();
    const below = await createIntermediate(other.key.info, ca, {
      ...options,
      ...clusterOf(CLUSTER_ID),
      provider: "consul",
      ttlMs: YEAR_MS,
    });
    assert.deepEqual(
      await lint(
        await crossSign(other.certificate, ca, { ...options, until: ca.certificate.notAfter }),
        "cross-signed",
        ca.certificate,
      ),
      [],
    );
    assert.deepEqual(await lint(below, "intermediate", ca.certificate), []);
    assert.deepEqual(await lint(await makeLeaf(ca), "leaf", ca.certificate), []);
  });
  it("lint() lets a root do without an authority key identifier, and a leaf with an RSA key encipher", async () => {
    const [certificate] = await make("root", extensions({ authorityKey: null }));
    assert.deepEqual(await lint(certificate, "root", certificate), []);
    const rsa = await makeOdd(root, {
      spki: publicKey("RSA 2048"),
      extensions: { keyUsage: usage(KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment) },
    });
    assert.deepEqual(await lint(rsa, "leaf", root.certificate), []);
  });

  for (const [breaks, kind, odd, field, message] of [...EVERY_KIND, ...LEAVES, ...CAS])
    it(`lint() finds ${breaks} in a ${kind} certificate`, async () => {
      const [certificate, issuer] = await make(kind, odd);
      const found = await lint(certificate, kind, issuer);
      assert.ok(found.includes(`${field}: ${message}`), JSON.stringify(found));
    });
  it("lint() finds an issuer without a name and one without a subject key identifier", async () => {
    const nameless = await makeOddCa(null, {
      subject: "",
      extensions: { keyUsage: usage(CA_USAGE), subjectKey: null },
    });
    const found = await lint(await makeOdd(nameless), "leaf", nameless.certificate);
    assert.ok(found.includes("issuer: Must not be empty"));
    assert.ok(
      found.includes("authorityKeyIdentifier: Must be the issuer's subject key identifier"),
    );
  });
  it("lint() finds a serial number of zero", async () => {
    const leaf = await makeLeaf(ca, { serial: new Uint8Array(16).fill(1) });
    const found = await lint({ ...leaf, serial: new Uint8Array(1) }, "leaf", ca.certificate);
    assert.equal(found[0], "serialNumber: Must be positive and at most 20 octets");
  });

  const misread: readonly (readonly [
    field: string,
    change: (leaf: Certificate) => Partial<Certificate>,
  ])[] = [
    ["serialNumber", () => ({ serial: new Uint8Array(16).fill(2) })],
    ["notBefore", ({ notBefore }) => ({ notBefore: new Date(notBefore.getTime() + 1000) })],
    ["notAfter", ({ notAfter }) => ({ notAfter: new Date(notAfter.getTime() - 1000) })],
    ["subjectPublicKeyInfo", ({ key }) => ({ key: { ...key, spki: publicKey("EC 384") } })],
    ["basicConstraints", () => ({ isCa: true })],
    ["extensions", (leaf) => ({ extensions: leaf.extensions.slice(1) })],
    ["subjectAltName", () => ({ uris: [`${URI}x`] })],
    ["subjectAltName", () => ({ dnsNames: ["web"] })],
    ["subjectAltName", () => ({ ipAddresses: [Uint8Array.of(10, 0, 0, 1)] })],
  ];
  for (const [field, change] of misread)
    it(`lint() finds a ${field} that a second reader reads otherwise`, async () => {
      const leaf = await makeLeaf(ca);
      const found = await lint({ ...leaf, ...change(leaf) }, "leaf", ca.certificate);
      assert.ok(found.includes(`${field}: Two readers disagree on it`));
    });
});
