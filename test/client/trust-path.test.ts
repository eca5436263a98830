/**
 * Paths from a leaf to a root: which are found, and which are not although a signature fits. Each
 * refused path has one fault, and is found without it.
 * @module
 */
import "reflect-metadata";
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { Extension, SubjectAlternativeNameExtension } from "@peculiar/x509";
import { findTrustPath, MAX_INTERMEDIATES } from "../../src/client/spiffe/path.ts";
import { utf8 } from "../../src/core/bytes.ts";
import type { Authority } from "../../src/core/x509/authority.ts";
import { type Certificate, KEY_USAGE } from "../../src/core/x509/certificate.ts";
import {
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  encode,
  sequence,
} from "../../src/core/x509/der.ts";
import { keyIdOf } from "../../src/core/x509/keys.ts";
import { OID } from "../../src/core/x509/oids.ts";
import { NOW, opensslVerify, YEAR_MS } from "../core/x509/cas.ts";
import {
  basic,
  makeOdd,
  makeOddCa,
  type OddCertificate,
  subjectKey,
  uris,
  usage,
} from "../core/x509/odd-certificates.ts";
import { URI } from "../core/x509/requests.ts";

const PERMITTED = 0;
const EXCLUDED = 1;

/** Name constraints with one subtree. */
function constraints(which: number, base: DerNode): Extension {
  const value = encode(sequence(element(contextConstructed(which), sequence(base))));
  return new Extension(OID.nameConstraints, true, value);
}
const uriBase = (host: string) => element(contextPrimitive(6), utf8(host));
const dnsBase = (name: string) => element(contextPrimitive(2), utf8(name));
const emailBase = (name: string) => element(contextPrimitive(1), utf8(name));
const ipBase = (...octets: number[]) => element(contextPrimitive(7), Uint8Array.from(octets));

const certificateOf = ({ certificate }: Authority): Certificate => certificate;

/** Whether OpenSSL finds a path too. */
function opensslFinds(leaf: Certificate, through: readonly Certificate[], root: Certificate) {
  try {
    opensslVerify(leaf, root, through, NOW, []);
    return true;
  } catch {
    return false;
  }
}

/** Requires that there is no path, and that OpenSSL agrees. */
async function requireNone(
  leaf: Certificate,
  through: readonly Certificate[],
  root: Certificate,
): Promise<void> {
  assert.equal(await findTrustPath(leaf, through, [root], NOW), null);
  assert.equal(opensslFinds(leaf, through, root), false, "OpenSSL finds a path");
}

async function requirePath(
  leaf: Certificate,
  through: readonly Certificate[],
  roots: readonly Certificate[],
  length: number,
): Promise<readonly Certificate[]> {
  const path = await findTrustPath(leaf, through, roots, NOW);
  assert.equal(path?.length, length);
  assert.equal(path[0], leaf);
  assert.ok(roots.includes(path.at(-1) as Certificate));
  return path;
}

describe("findTrustPath()", () => {
  let root: Authority;
  let middle: Authority;
  let issuer: Authority;
  let leaf: Certificate;
  before(async () => {
    root = await makeOddCa(null, { subject: "CN=root" });
    middle = await makeOddCa(root, { subject: "CN=middle" });
    issuer = await makeOddCa(middle, { subject: "CN=issuer" });
    leaf = await makeOdd(issuer);
  });

  it("orders a chain that was sent in any order, with certificates of others in between", async () => {
    const other = certificateOf(await makeOddCa(null, { subject: "CN=other" }));
    const [a, b] = [middle.certificate, issuer.certificate];
    for (const sent of [
      [a, b],
      [b, a],
      [other, a, other, b, a, b],
      [leaf, a, leaf, b],
    ]) {
      const path = await requirePath(leaf, sent, [other, root.certificate], 4);
      assert.deepEqual(path, [leaf, b, a, root.certificate]);
    }
  });

  it("finds none without one certificate of the chain, or under an unknown root", async () => {
    await requireNone(leaf, [middle.certificate], root.certificate);
    await requireNone(leaf, [issuer.certificate], root.certificate);
    const stranger = certificateOf(await makeOddCa(null, { subject: "CN=root" }));
    const all = [middle.certificate, issuer.certificate];
    await requireNone(leaf, all, stranger);
    await requireNone(leaf, [...all, root.certificate], stranger);
    assert.equal(await findTrustPath(leaf, all, [], NOW), null);
  });

  it("takes no certificate whose key did not sign, though its name and key identifier fit", async () => {
    const { subjectKeyId } = issuer.certificate;
    const forged = await makeOddCa(root, {
      subject: "CN=issuer",
      extensions: { subjectKey: subjectKey(subjectKeyId as Uint8Array) },
    });
    await requireNone(leaf, [forged.certificate], root.certificate);
    await requirePath(
      leaf,
      [forged.certificate, middle.certificate, issuer.certificate],
      [root.certificate],
      4,
    );
  });

  const ROOT_SIGNS: Record<string, OddCertificate> = {
    "is not a CA": { extensions: { basic: basic(false) } },
    "has no basic constraints": { extensions: { basic: null } },
    "has no key usage for certificates": { extensions: { keyUsage: usage(KEY_USAGE.cRLSign) } },
    "has expired": { notAfter: new Date(NOW.getTime() - 1000) },
    "is not valid yet": { notBefore: new Date(NOW.getTime() + 1000) },
    "has a critical extension that nobody knows": {
      extensions: { more: new Extension("1.3.6.1.4.1.99999.1", true, Uint8Array.of(5, 0)) },
    },
    "does not permit the trust domain": {
      extensions: { more: constraints(PERMITTED, uriBase("other.consul")) },
    },
    "excludes the trust domain": {
      extensions: { more: constraints(EXCLUDED, uriBase(new URL(URI).hostname)) },
    },
    "excludes the DNS name": { extensions: { more: constraints(EXCLUDED, dnsBase("localhost")) } },
    "does not permit the DNS name": {
      extensions: { more: constraints(PERMITTED, dnsBase("example.com")) },
    },
    "has name constraints that cannot be read": {
      extensions: { more: new Extension(OID.nameConstraints, true, Uint8Array.of(4, 0)) },
    },
  };
  for (const [what, odd] of Object.entries(ROOT_SIGNS)) {
    it(`finds none through an intermediate that ${what}`, async () => {
      const bad = await makeOddCa(root, { ...odd, subject: "CN=bad" });
      const below = await makeOdd(bad);
      await requireNone(below, [bad.certificate], root.certificate);
      const good = await makeOddCa(root, { subject: "CN=bad", key: bad });
      await requirePath(below, [bad.certificate, good.certificate], [root.certificate], 3);
    });

    it(`finds none under a root that ${what}`, async () => {
      const bad = await makeOddCa(null, { ...odd, subject: "CN=bad" });
      const below = await makeOdd(bad);
      assert.equal(await findTrustPath(below, [], [bad.certificate], NOW), null);
      const good = await makeOddCa(null, { subject: "CN=bad", key: bad });
      await requirePath(below, [], [good.certificate], 2);
    });
  }

  for (const [what, odd] of [
    ["has expired", { notAfter: new Date(NOW.getTime() - 1000) }],
    ["is not valid yet", { notBefore: new Date(NOW.getTime() + 1000) }],
    [
      "has a critical extension that nobody knows",
      { extensions: { more: new Extension("1.3.6.1.4.1.99999.1", true, Uint8Array.of(5, 0)) } },
    ],
  ] as const)
    it(`finds none for a leaf that ${what}`, async () => {
      await requireNone(await makeOdd(root, odd), [], root.certificate);
      await requirePath(await makeOdd(root), [], [root.certificate], 2);
    });

  it("finds none for a leaf whose names cannot be read by others", async () => {
    const san = (...more: readonly DerNode[]) => ({
      extensions: {
        names: new Extension(OID.subjectAltName, true, encode(sequence(uriBase(URI), ...more))),
      },
    });
    await requirePath(await makeOdd(root, san()), [], [root.certificate], 2);
    const unknown = element(contextPrimitive(9), utf8("a"));
    await requireNone(await makeOdd(root, san(unknown)), [], root.certificate);
  });

  it("finds none for a leaf that names the serial number of another issuer", async () => {
    const by = (serial: Uint8Array) => ({
      extensions: {
        authorityKey: new Extension(
          OID.authorityKeyIdentifier,
          false,
          encode(sequence(element(contextPrimitive(2), serial))),
        ),
      },
    });
    const { serial } = root.certificate;
    await requirePath(await makeOdd(root, by(serial)), [], [root.certificate], 2);
    await requireNone(await makeOdd(root, by(Uint8Array.of(9))), [], root.certificate);
  });

  it("counts the intermediates below a path length, but not self-issued ones and the leaf", async () => {
    for (const pathLength of [0, 1]) {
      const top = await makeOddCa(null, {
        subject: "CN=top",
        extensions: { basic: basic(true, pathLength) },
      });
      const second = await makeOddCa(top, { subject: "CN=second" });
      const third = await makeOdd(second);
      const selfIssued = await makeOddCa(top, { subject: "CN=top" });
      await requirePath(await makeOdd(selfIssued), [selfIssued.certificate], [top.certificate], 3);
      if (pathLength === 0) await requireNone(third, [second.certificate], top.certificate);
      else await requirePath(third, [second.certificate], [top.certificate], 3);
      const fourth = await makeOddCa(second, { subject: "CN=fourth" });
      await requireNone(
        await makeOdd(fourth),
        [fourth.certificate, second.certificate],
        top.certificate,
      );
    }
  });

  it("the path length of an intermediate counts as well", async () => {
    const limited = await makeOddCa(root, {
      subject: "CN=limited",
      extensions: { basic: basic(true, 0) },
    });
    await requirePath(await makeOdd(limited), [limited.certificate], [root.certificate], 3);
    const below = await makeOddCa(limited, { subject: "CN=below" });
    await requireNone(
      await makeOdd(below),
      [below.certificate, limited.certificate],
      root.certificate,
    );
  });

  describe("with name constraints above", () => {
    const below = async (which: number, base: DerNode, odd: OddCertificate = {}) => {
      const top = await makeOddCa(null, {
        subject: "CN=constrained",
        extensions: { more: constraints(which, base) },
      });
      return { leaf: await makeOdd(top, odd), root: top.certificate };
    };
    const names = (...more: { type: "dns" | "email" | "ip"; value: string }[]) => ({
      extensions: {
        names: new SubjectAlternativeNameExtension([{ type: "url", value: URI }, ...more], true),
      },
    });
    const host = new URL(URI).hostname;

    for (const [what, which, base, odd] of [
      ["its own trust domain", PERMITTED, uriBase(host), {}],
      ["another excluded trust domain", EXCLUDED, uriBase("other.consul"), {}],
      ["another kind of names", EXCLUDED, ipBase(10, 0, 0, 0, 255, 0, 0, 0), {}],
      [
        "names of a permitted domain",
        PERMITTED,
        dnsBase("example.com"),
        names({ type: "dns", value: "WEB.example.com" }),
      ],
    ] as const)
      it(`a leaf with ${what} is taken`, async () => {
        const made = await below(which, base, odd);
        await requirePath(made.leaf, [], [made.root], 2);
        assert.ok(opensslFinds(made.leaf, [], made.root));
      });

    for (const [what, which, base, odd] of [
      [
        "an excluded name in upper case",
        EXCLUDED,
        dnsBase("evil.example"),
        names({ type: "dns", value: "WEB.EVIL.EXAMPLE" }),
      ],
      [
        "a name outside the permitted domain",
        PERMITTED,
        dnsBase("example.com"),
        names({ type: "dns", value: "web.xexample.com" }),
      ],
      [
        "an excluded address",
        EXCLUDED,
        ipBase(10, 0, 0, 0, 255, 0, 0, 0),
        names({ type: "ip", value: "10.1.2.3" }),
      ],
      [
        "an address outside the permitted range",
        PERMITTED,
        ipBase(10, 0, 0, 0, 255, 0, 0, 0),
        names({ type: "ip", value: "11.1.2.3" }),
      ],
      [
        "an excluded e-mail address",
        EXCLUDED,
        emailBase("evil.example"),
        names({ type: "email", value: "a@evil.example" }),
      ],
      [
        "an e-mail address outside the permitted domain",
        PERMITTED,
        emailBase("example.com"),
        names({ type: "email", value: "a@evil.example" }),
      ],
    ] as const)
      it(`a leaf with ${what} is refused`, async () => {
        const made = await below(which, base, odd);
        await requireNone(made.leaf, [], made.root);
      });

    for (const uri of [
      "https://evil.example:443/",
      "urn:evil",
      "https://evil.example?a",
      "https://a@evil.example/",
    ])
      it(`an intermediate with the URI ${uri} below an excluded host is refused`, async () => {
        const top = await makeOddCa(null, {
          subject: "CN=constrained",
          extensions: { more: constraints(EXCLUDED, uriBase("evil.example")) },
        });
        const make = async (own: string) => {
          const between = await makeOddCa(top, {
            subject: "CN=between",
            extensions: { names: uris([own], false) },
          });
          return { leaf: await makeOdd(between), between: between.certificate };
        };
        const good = await make("https://good.example:443/");
        await requirePath(good.leaf, [good.between], [top.certificate], 3);
        const bad = await make(uri);
        assert.equal(await findTrustPath(bad.leaf, [bad.between], [top.certificate], NOW), null);
      });
  });

  it("goes back from cross-signed certificates that lead nowhere", async () => {
    const dead = await makeOddCa(null, { subject: "CN=dead" });
    const fresh = await makeOddCa(null, { subject: "CN=fresh" });
    const old = await makeOddCa(null, { subject: "CN=old" });
    const own = await makeOddCa(old, { subject: "CN=own" });
    const below = await makeOdd(own);
    const cross = async (by: Authority, odd: OddCertificate = {}) =>
      certificateOf(await makeOddCa(by, { subject: "CN=old", key: old, ...odd }));
    const crossDead = await cross(dead);
    const crossLimited = await cross(fresh, { extensions: { basic: basic(true, 0) } });
    const crossConstrained = await cross(fresh, {
      extensions: { more: constraints(PERMITTED, uriBase("other.consul")) },
    });
    const crossExpired = await cross(fresh, { notAfter: new Date(NOW.getTime() - 1000) });
    const crossFresh = await cross(fresh);
    const wrong = [crossDead, crossLimited, crossConstrained, crossExpired, old.certificate];
    assert.equal(
      await findTrustPath(below, [own.certificate, ...wrong], [fresh.certificate], NOW),
      null,
    );
    for (const sent of [
      [own.certificate, ...wrong, crossFresh],
      [crossFresh, ...wrong, own.certificate],
      [...wrong.toReversed(), own.certificate, crossFresh],
    ]) {
      const path = await requirePath(below, sent, [fresh.certificate], 4);
      assert.equal(path[2], crossFresh);
    }
  });

  it("comes to an end where roots certify each other", async () => {
    const [a, b, c] = await Promise.all(
      ["CN=a", "CN=b", "CN=c"].map((subject) => makeOddCa(null, { subject })),
    );
    if (a === undefined || b === undefined || c === undefined) throw new RangeError();
    const made = await Promise.all(
      [
        [a, b],
        [b, a],
        [b, c],
        [c, b],
        [a, c],
        [c, a],
      ].map(async ([by, of]) =>
        certificateOf(
          await makeOddCa(by as Authority, {
            key: of as Authority,
            subject: of === a ? "CN=a" : of === b ? "CN=b" : "CN=c",
          }),
        ),
      ),
    );
    const below = await makeOdd(a);
    assert.equal(await findTrustPath(below, made, [root.certificate], NOW), null);
    const path = await findTrustPath(below, made, [c.certificate], NOW);
    assert.equal(path?.at(-1), c.certificate);
  });

  it("verifies a bounded number of signatures, and takes a bounded number of certificates", {
    timeout: 120_000,
  }, async () => {
    // Thirty certificates of one name and key identifier, and no key that signed.
    const id = keyIdOf(issuer.certificate.key.spki);
    const decoys = await Promise.all(
      Array.from({ length: MAX_INTERMEDIATES - 2 }, async (_, i) =>
        certificateOf(
          await makeOddCa(root, {
            subject: i % 2 === 0 ? "CN=issuer" : "CN=middle",
            extensions: {
              subjectKey: subjectKey(
                i % 2 === 0 ? id : (middle.certificate.subjectKeyId as Uint8Array),
              ),
            },
          }),
        ),
      ),
    );
    const real = [middle.certificate, issuer.certificate];
    await requirePath(leaf, [...decoys, ...real], [root.certificate], 4);
    const tooMany = [...decoys, ...real, root.certificate];
    assert.equal(await findTrustPath(leaf, tooMany, [root.certificate], NOW), null);
    // Six roots that all certify each other, and no way out: a few thousand signatures without a bound.
    const circle = await Promise.all(
      Array.from({ length: 6 }, (_, i) => makeOddCa(null, { subject: `CN=circle ${i}` })),
    );
    const sent = await Promise.all(
      circle.flatMap((by) =>
        circle.flatMap((key, i) =>
          by === key ? [] : [makeOddCa(by, { subject: `CN=circle ${i}`, key }).then(certificateOf)],
        ),
      ),
    );
    const first = circle[0] as Authority;
    const counter = countVerifications();
    try {
      const below = await makeOdd(first);
      assert.equal(await findTrustPath(below, sent, [root.certificate], NOW), null);
      assert.ok(counter.count() <= 64, String(counter.count()));
    } finally {
      counter.stop();
    }
  });

  it("a path has a bounded length", async () => {
    let by = root;
    const sent: Certificate[] = [];
    for (let i = 0; i < 11; i++) {
      if (i === 10) await requirePath(await makeOdd(by), sent, [root.certificate], 12);
      by = await makeOddCa(by, { subject: `CN=${i}` });
      sent.push(by.certificate);
    }
    assert.ok(opensslFinds(await makeOdd(by), sent, root.certificate));
    assert.equal(await findTrustPath(await makeOdd(by), sent, [root.certificate], NOW), null);
  });

  it("a leaf is in force to the end of its last second", async () => {
    const end = new Date(NOW.getTime() + YEAR_MS);
    const made = await makeOdd(root, { notAfter: end });
    const long = certificateOf(
      await makeOddCa(null, {
        subject: "CN=root",
        key: root,
        notAfter: new Date(end.getTime() + YEAR_MS),
      }),
    );
    const at = (ms: number) => findTrustPath(made, [], [long], new Date(end.getTime() + ms));
    assert.notEqual(await at(999), null);
    assert.equal(await at(1000), null);
  });
});

/** Counts calls of `crypto.subtle.verify`. */
function countVerifications() {
  const { subtle } = crypto;
  const verify = subtle.verify;
  let count = 0;
  const counting: typeof verify = (...args) => {
    count++;
    return verify.apply(subtle, args);
  };
  // Own property of this object, as another test assigns it.
  const shown = { configurable: true, writable: true };
  Object.defineProperty(subtle, "verify", { ...shown, value: counting });
  return {
    count: () => count,
    stop: () => Object.defineProperty(subtle, "verify", { ...shown, value: verify }),
  };
}
