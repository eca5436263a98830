/**
 * The SVID of a peer: what it must be (SPIFFE X509-SVID), and damaged ones, none of which is accepted
 * that OpenSSL refuses.
 * @module
 */
import "reflect-metadata";
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { Extension, SubjectAlternativeNameExtension } from "@peculiar/x509";
import { ClientError } from "../../src/client/errors.ts";
import { verifyPeer } from "../../src/client/spiffe/verify-peer.ts";
import type { TrustBundle } from "../../src/client/svid.ts";
import { type Bytes, equal, hex } from "../../src/core/bytes.ts";
import { FormatError } from "../../src/core/errors.ts";
import type { Authority } from "../../src/core/x509/authority.ts";
import { type Certificate, KEY_USAGE, readCertificate } from "../../src/core/x509/certificate.ts";
import { bitString, encode, sequence } from "../../src/core/x509/der.ts";
import { caHash, caScheme, encodeSignature, sign } from "../../src/core/x509/keys.ts";
import { NOW, opensslVerify, SLOW, YEAR_MS } from "../core/x509/cas.ts";
import {
  basic,
  makeOdd,
  makeOddCa,
  type OddCertificate,
  uris,
  usage,
} from "../core/x509/odd-certificates.ts";
import { URI } from "../core/x509/requests.ts";
import { createSeededRandom } from "../fakes/clock.ts";

const TRUST_DOMAIN = new URL(URI).hostname;
const HOUR = 3_600_000;

function bundleWith(...roots: readonly Authority[]): TrustBundle {
  return {
    trustDomain: TRUST_DOMAIN,
    roots: roots.map(({ certificate }) => certificate.der),
    activeRootId: roots[0]?.certificate.id ?? "",
    index: 1,
    json: "",
  };
}

let root: Authority;
let middle: Authority;
let leaf: Certificate;
before(async () => {
  root = await makeOddCa(null, { subject: "CN=root" });
  middle = await makeOddCa(root, { subject: "CN=middle" });
  leaf = await makeOdd(middle);
});

/** Verifies a leaf and `middle` under `root`. */
const verify = (
  der: Certificate | Uint8Array,
  expected: readonly string[] | null = null,
  now = NOW,
) =>
  verifyPeer(
    [der instanceof Uint8Array ? der : der.der, middle.certificate.der],
    bundleWith(root),
    expected,
    now,
  );

/** Requires that a peer is refused for a reason. */
async function refuse(peer: Promise<unknown>, reason: RegExp): Promise<void> {
  await assert.rejects(peer, (error) => {
    assert.ok(error instanceof ClientError, String(error));
    assert.equal(error.code, "unusable");
    assert.match(error.message, reason);
    return true;
  });
}

describe("verifyPeer()", () => {
  it("returns the SPIFFE ID and the path", async () => {
    const { spiffeId, path } = await verify(leaf, [URI]);
    assert.equal(spiffeId, URI);
    assert.deepEqual(
      path.map(({ id }) => id),
      [leaf, middle.certificate, root.certificate].map(({ id }) => id),
    );
  });

  const names = (...list: readonly string[]): OddCertificate => ({
    extensions: { names: uris(list) },
  });
  const keyUsage = (...bits: readonly number[]): OddCertificate => ({
    extensions: { keyUsage: usage(bits.reduce((all, bit) => all | bit, 0)) },
  });
  const { digitalSignature, keyCertSign, cRLSign, keyEncipherment } = KEY_USAGE;
  const CASES: readonly (readonly [what: string, odd: OddCertificate, reason: RegExp])[] = [
    [
      "a CA certificate",
      { extensions: { basic: basic(true) } },
      /^The certificate is a CA certificate$/,
    ],
    ["no names", { extensions: { names: null } }, /has 0 URIs in place of one SPIFFE ID$/],
    [
      "DNS names only",
      {
        extensions: {
          names: new SubjectAlternativeNameExtension([{ type: "dns", value: "web" }], true),
        },
      },
      /has 0 URIs/,
    ],
    ["two URIs", names(URI, `${URI}2`), /has 2 URIs/],
    ["the same URI twice", names(URI, URI), /has 2 URIs/],
    [
      "another trust domain",
      names("spiffe://other.consul/ns/default/dc/dc1/svc/web"),
      /^The certificate is of the trust domain "other\.consul"$/,
    ],
    [
      "a trust domain that ends alike",
      names(URI.replace("spiffe://", "spiffe://x")),
      /is of the trust domain "x1/,
    ],
    [
      "the trust domain as a subdomain",
      names(URI.replace("spiffe://", "spiffe://a.")),
      /is of the trust domain "a\.1/,
    ],
    [
      "the ID of the trust domain",
      names(`spiffe://${TRUST_DOMAIN}`),
      /ID of a trust domain itself/,
    ],
    ["an empty path", names(`spiffe://${TRUST_DOMAIN}/`), /has no SPIFFE ID: .*is empty/],
    ["an empty segment", names(URI.replace("/ns/", "//ns/")), /has no SPIFFE ID: .*is empty/],
    ["a trailing slash", names(`${URI}/`), /has no SPIFFE ID: .*is empty/],
    ["a dot segment", names(URI.replace("/ns/", "/../ns/")), /has no SPIFFE ID: .*dot segment/],
    ["percent-encoding", names(`${URI}%2f`), /has no SPIFFE ID: .*percent-encoded/],
    ["a query", names(`${URI}?a`), /has no SPIFFE ID/],
    ["a fragment", names(`${URI}#a`), /has no SPIFFE ID/],
    ["a port", names(URI.replace(".consul", ".consul:80")), /has no SPIFFE ID/],
    ["a user", names(URI.replace("spiffe://", "spiffe://a@")), /has no SPIFFE ID/],
    ["another scheme", names(URI.replace("spiffe", "https")), /has no SPIFFE ID: .*scheme/],
    ["no key usage", { extensions: { keyUsage: null } }, /no key usage that allows signing/],
    ["a key usage without signing", keyUsage(keyEncipherment), /no key usage that allows signing/],
    [
      "a key usage for certificates",
      keyUsage(digitalSignature, keyCertSign),
      /only CA certificates/,
    ],
    [
      "a key usage for revocation lists",
      keyUsage(digitalSignature, cRLSign),
      /only CA certificates/,
    ],
    [
      "an end in the past",
      { notBefore: new Date(NOW.getTime() - HOUR), notAfter: new Date(NOW.getTime() - 1000) },
      /^The certificate of the peer expired at 2\d{3}-/,
    ],
    [
      "a beginning in the future",
      { notBefore: new Date(NOW.getTime() + HOUR) },
      /is not valid before 2\d{3}-.*by the clock of this machine/,
    ],
    [
      "a critical extension that nobody knows",
      { extensions: { more: new Extension("1.3.6.1.4.1.99999.1", true, Uint8Array.of(5, 0)) } },
      /does not verify under a root/,
    ],
  ];
  for (const [what, odd, reason] of CASES)
    it(`refuses a leaf with ${what}`, async () => {
      await refuse(verify(await makeOdd(middle, odd)), reason);
    });

  it("takes an ID in another case of scheme and trust domain as its canonical form", async () => {
    const odd = await makeOdd(
      middle,
      names(URI.replace("spiffe://", "SPIFFE://").replace(".consul", ".CONSUL")),
    );
    assert.equal((await verify(odd, [URI])).spiffeId, URI);
  });

  it("refuses an ID that is not expected, also in another case of its path", async () => {
    await refuse(
      verify(leaf, []),
      /^The peer is "spiffe:.*\/svc\/web", which is not expected here$/,
    );
    await refuse(verify(leaf, [`${URI}2`, URI.slice(0, -1)]), /not expected/);
    await refuse(
      verify(await makeOdd(middle, names(URI.replace("web", "WEB"))), [URI]),
      /not expected/,
    );
  });

  it("refuses a peer without certificates, and octets that are no certificate", async () => {
    await refuse(verifyPeer([], bundleWith(root), null, NOW), /^The peer sent no certificate$/);
    await refuse(verify(new Uint8Array()), /cannot be read/);
    await refuse(verify(new TextEncoder().encode("-----BEGIN CERTIFICATE-----")), /cannot be read/);
    await refuse(
      verifyPeer([leaf.der, Uint8Array.of(48, 0)], bundleWith(root), null, NOW),
      /A certificate of the peer cannot be read/,
    );
    await refuse(verify(Uint8Array.of(...leaf.der, 0)), /cannot be read/);
  });

  it("refuses a chain under an unknown root, and one of an empty bundle", async () => {
    const chain = [leaf.der, middle.certificate.der];
    const stranger = await makeOddCa(null, { subject: "CN=root" });
    const reason = /^The certificate of the peer does not verify under a root of "1{8}-/;
    await refuse(verifyPeer(chain, bundleWith(stranger), null, NOW), reason);
    await refuse(
      verifyPeer([...chain, root.certificate.der], bundleWith(stranger), null, NOW),
      reason,
    );
    await refuse(verifyPeer(chain, bundleWith(), null, NOW), reason);
  });

  it("refuses the intermediate's or the root's own certificate as a leaf", async () => {
    for (const { certificate } of [middle, root])
      await refuse(verify(certificate), /is of the trust domain "a\.consul"/);
    const own = await makeOddCa(root, names(URI));
    await refuse(
      verifyPeer([own.certificate.der], bundleWith(root), null, NOW),
      /is a CA certificate/,
    );
  });

  it("refuses a leaf that a service's leaf signed", async () => {
    const signer = await makeOddCa(middle, {
      subject: "CN=service",
      extensions: {
        basic: basic(false),
        keyUsage: usage(digitalSignature),
        names: uris([URI]),
      },
    });
    const below = await makeOdd(signer, names(URI.replace("web", "admin")));
    const chain = [below, signer.certificate, middle.certificate].map(({ der }) => der);
    await refuse(verifyPeer(chain, bundleWith(root), null, NOW), /does not verify under a root/);
  });

  it("refuses a path whose intermediate or root expired", async () => {
    const later = new Date(NOW.getTime() + 2 * YEAR_MS);
    const long = { notAfter: new Date(NOW.getTime() + 3 * YEAR_MS) };
    const lasting = await makeOdd(middle, long);
    await refuse(verify(lasting, null, later), /does not verify under a root/);
    const longMiddle = await makeOddCa(root, { ...long, subject: "CN=middle", key: middle });
    const longRoot = await makeOddCa(null, { ...long, subject: "CN=root", key: root });
    const chain = [lasting.der, longMiddle.certificate.der];
    await refuse(verifyPeer(chain, bundleWith(root), null, later), /does not verify under a root/);
    await verifyPeer(chain, bundleWith(root, longRoot), null, later);
  });
});

describe("a damaged chain", () => {
  // No date becomes this one by a change of one octet: OpenSSL takes the last second of a certificate
  // for the first after its end.
  const at = new Date(NOW.getTime() + 12_345_000);

  /** Whether a peer is accepted; anything thrown that is not a refusal fails the test. */
  async function isAccepted(chain: readonly Uint8Array[], what: string): Promise<boolean> {
    try {
      await verifyPeer(chain, bundleWith(root), null, at);
      return true;
    } catch (error) {
      assert.ok(error instanceof ClientError && error.code === "unusable", `${what}: ${error}`);
      return false;
    }
  }

  function opensslAccepts(chain: readonly Bytes[]): boolean {
    try {
      const [first, ...through] = chain.map((der) => ({ der }) as Certificate);
      opensslVerify(first as Certificate, root.certificate, through, at, []);
      return true;
    } catch {
      return false;
    }
  }

  /** Requires that what is accepted is accepted by OpenSSL too. @returns whether it was */
  async function compare(chain: readonly Bytes[], what: string): Promise<boolean> {
    if (!(await isAccepted(chain, what))) return false;
    // A key that is no point of its curve is refused in the handshake, which comes before.
    if (!equal(readCertificate(chain[0] as Bytes).key.spki, leaf.key.spki)) return false;
    assert.ok(
      opensslAccepts(chain),
      `${what} is accepted here and refused by openssl: ${chain.map(hex).join(" ")}`,
    );
    return true;
  }

  const random = createSeededRandom(20);
  const below = (bound: number): number => Math.floor(random.fraction() * bound);

  /** One random change of octets, which may change the length. */
  function damage(bytes: Bytes): { damaged: Bytes; what: string } {
    const place = below(bytes.length);
    const value = below(256);
    const kind = below(4);
    if (kind === 0)
      return {
        damaged: Uint8Array.of(...bytes.subarray(0, place), ...bytes.subarray(place + 1)),
        what: `without octet ${place}`,
      };
    if (kind === 1)
      return {
        damaged: Uint8Array.of(...bytes.subarray(0, place), value, ...bytes.subarray(place)),
        what: `${value} before octet ${place}`,
      };
    const damaged = bytes.slice();
    damaged[place] = kind === 2 ? value : (damaged[place] ?? 0) ^ (1 << (value & 7));
    return { damaged, what: `octet ${place} is ${damaged[place]}` };
  }

  it("is not accepted where OpenSSL refuses it", SLOW, async () => {
    const chain = [leaf.der, middle.certificate.der];
    for (let i = 0; i < 600; i++) {
      const which = i % 2;
      const { damaged, what } = damage(chain[which] as Bytes);
      await compare(chain.with(which, damaged), `certificate ${which}, ${what}`);
    }
  });

  /** A certificate whose signed part was changed before it was signed. */
  async function signAgain(signed: Bytes, by: Authority): Promise<Bytes> {
    const scheme = caScheme(by.certificate.key, caHash(by.certificate.key));
    const signature = encodeSignature(scheme, await sign(by.privateKey, scheme, signed));
    return encode(sequence(signed, scheme.identifier, bitString(signature)));
  }

  it("is not accepted where OpenSSL refuses it, though its signature is right", SLOW, async () => {
    const signers = [middle, root];
    const chain = [leaf, middle.certificate];
    let accepted = 0;
    for (let i = 0; i < 1500; i++) {
      const which = i % 2;
      const { damaged, what } = damage((chain[which] as Certificate).signed);
      const made = await signAgain(damaged, signers[which] as Authority);
      const whole = chain.map(({ der }) => der).with(which, made);
      if (await compare(whole, `signed part of certificate ${which}, ${what}`)) accepted++;
    }
    assert.ok(accepted > 50, `only ${accepted} were accepted`);
  });

  it("is read, or refused as malformed", async () => {
    for (let i = 0; i < 2000; i++) {
      const { damaged } = damage(leaf.der);
      try {
        readCertificate(damaged);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }
  });
});
