/**
 * A primary that answers an intermediate that does not hold: a secondary refuses it, whether it has
 * joined or wants to. The stored document stays as it is, octet by octet, the reason is in `/readyz`
 * and in the log, and the secondary goes on by itself when the answers hold again.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { type Certificate, KEY_USAGE, pemOf } from "../../src/core/x509/certificate.ts";
import { readCsr } from "../../src/core/x509/csr.ts";
import { OID } from "../../src/core/x509/oids.ts";
import { privateKeyPem } from "../../src/core/x509/request.ts";
import { type Ca, CLUSTER_ID, makeCa } from "../core/x509/cas.ts";
import {
  basic,
  CA_EXTENSIONS,
  makeOdd,
  makeOddCa,
  type OddCertificate,
  onlyUri,
  purposes,
  subjectKey,
  unknownExtension,
  uris,
  usage,
} from "../core/x509/odd-certificates.ts";
import { DEFAULT_BOOTSTRAP } from "../fakes/ca.ts";
import { clusterOf } from "../fakes/cluster.ts";
import { createSearch } from "../fixtures/planted.ts";
import { leafOf } from "./leaves.ts";
import {
  requireLoggedOnce,
  requireRecovery,
  requireRefused,
  type Watched,
  watched,
} from "./watched.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
/** Past the half of an intermediate's life. */
const RENEWAL = 183 * DAY;

describe("an intermediate that does not hold is refused", () => {
  /** A pair whose primary has a root of which the test has the key. */
  async function craftable(started = true): Promise<Watched & { readonly ca: Ca }> {
    const ca = await makeCa();
    const both = await watched({
      started,
      one: {
        bootstrap: {
          ...DEFAULT_BOOTSTRAP,
          clusterId: CLUSTER_ID,
          config: {
            ...DEFAULT_BOOTSTRAP.config,
            RootCert: pemOf(ca.certificate),
            PrivateKey: await privateKeyPem(ca.key.privateKey),
          },
        },
      },
    });
    return { ...both, ca };
  }
  const { trustDomain } = clusterOf(CLUSTER_ID);
  /** An intermediate that holds, but for what is given. */
  const craft = (
    by: Pick<Ca, "certificate" | "privateKey">,
    csr: string,
    now: Date,
    { extensions = {}, ...odd }: OddCertificate = {},
  ): Promise<Certificate> => {
    const { spki } = readCsr(csr, true).key;
    return makeOdd(by, {
      ...{ spki, subject: "CN=sec-crafted.consul" },
      notBefore: new Date(now.getTime() - HOUR),
      notAfter: new Date(now.getTime() + 365 * DAY),
      ...odd,
      extensions: {
        ...CA_EXTENSIONS,
        basic: basic(true, 0),
        names: onlyUri(`spiffe://${trustDomain}`),
        ...extensions,
      },
    });
  };

  it("unless it holds", async () => {
    const both = await craftable();
    both.primary.change.sign = async (csr) => [await craft(both.ca, csr, both.one.clock.now())];
    both.one.clock.advance(RENEWAL);
    await both.settle();
    const [, issuer] = await leafOf({ ...both.two, name: "dc2" });
    assert.equal(issuer?.serial.join(), "64,1,2,3,4");
  });

  it("again and again, after pauses that grow and vary", async () => {
    const both = await craftable();
    const { one, two, primary } = both;
    const at: number[] = [];
    primary.change.sign = async () => {
      at.push(one.clock.now().getTime());
      return [];
    };
    one.clock.advance(RENEWAL);
    for (let passed = 0; passed < HOUR; passed += 1000) {
      one.clock.advance(1000);
      for (const { manager } of [one, two]) await manager.heartbeat();
      await two.manager.tick();
    }
    const pauses = at.slice(1).map((each, i) => each - (at[i] as number));
    // 2 s, doubled up to 256 s, and half of that at least; it looks once a second.
    for (const [i, pause] of pauses.entries()) {
      const most = Math.min(1000 * 2 ** (i + 1), 256_000);
      assert.ok(pause >= most / 2 && pause <= most + 1000, `${i}: ${pause}`);
    }
    assert.ok(new Set(pauses.slice(8)).size > 1, pauses.join());
  });

  it("in the answer to an operator who rotates, too", async () => {
    const both = await craftable();
    both.primary.change.sign = async () => [];
    await assert.rejects(both.two.manager.rotate(NOW), / the answer has no certificate$/);
  });

  const PREFIX = "^Cannot take the intermediate that the primary datacenter signed: ";
  const refused = (text: string) => new RegExp(PREFIX + text);
  /** What is answered in place of an intermediate that holds, and why it is refused. */
  const ANSWERS: readonly (readonly [
    what: string,
    answer: (ca: Ca, csr: string, now: Date) => Promise<readonly Certificate[]>,
    reason: RegExp,
  ])[] = [
    ["without a certificate", async () => [], refused("the answer has no certificate$")],
    [
      "that is the root",
      async ({ certificate }) => [certificate],
      refused(
        "basicConstraints: Must have pathLen 0; subjectPublicKeyInfo: Must be the one of the ",
      ),
    ],
    [
      "for another key",
      async (ca, _, now) => {
        const other = await makeCa();
        const certificate = await makeOdd(ca, {
          ...{ spki: other.key.info.spki, subject: "CN=x" },
          ...{ notBefore: now, notAfter: new Date(now.getTime() + 365 * DAY) },
          extensions: {
            ...CA_EXTENSIONS,
            ...{ basic: basic(true, 0), names: onlyUri(`spiffe://${trustDomain}`) },
          },
        });
        return [certificate];
      },
      refused("subjectPublicKeyInfo: Must be the one of the request$"),
    ],
    ...(
      [
        [
          "without the CA flag",
          { extensions: { basic: basic(false) } },
          "basicConstraints: Must be a CA;",
        ],
        [
          "with pathLen 1",
          { extensions: { basic: basic(true, 1) } },
          "basicConstraints: Must have pathLen 0$",
        ],
        [
          "without a pathLen",
          { extensions: { basic: basic(true) } },
          "basicConstraints: Must have pathLen 0$",
        ],
        [
          "with basic constraints that are not critical",
          { extensions: { basic: basic(true, 0, false) } },
          "basicConstraints: Must be present and critical$",
        ],
        [
          "that is not allowed to sign certificates",
          { extensions: { keyUsage: usage(KEY_USAGE.digitalSignature) } },
          "keyUsage: Must have keyCertSign$",
        ],
        [
          "with the ID of another trust domain",
          { extensions: { names: onlyUri("spiffe://other.consul") } },
          "subjectAltName: Must be the trust domain's SPIFFE ID$",
        ],
        [
          "with the ID of a service",
          { extensions: { names: onlyUri(`spiffe://${trustDomain}/ns/default/dc/dc2/svc/web`) } },
          "subjectAltName: Must be the trust domain's SPIFFE ID; ",
        ],
        [
          "with a second ID",
          { extensions: { names: uris([`spiffe://${trustDomain}`, "spiffe://b.consul"]) } },
          "subjectAltName: Must have exactly one URI$",
        ],
        [
          "without an ID",
          { extensions: { names: null } },
          "subjectAltName: Must have exactly one URI; ",
        ],
        ["with the subject of the root", { subject: "ROOT" }, "subject: Must not be the issuer's$"],
        [
          "for other purposes than TLS",
          { extensions: { extKeyUsage: purposes("1.3.6.1.5.5.7.3.3") } },
          "it has an extended key usage without clientAuth and serverAuth",
        ],
        [
          "with a critical extension that no program knows",
          { extensions: { more: unknownExtension("1.2.3.4", true) } },
          "it has the critical extension 1\\.2\\.3\\.4, which not every verifier processes",
        ],
        [
          "with a subject key identifier of no octets",
          { extensions: { subjectKey: subjectKey(new Uint8Array()) } },
          "it has no subject key identifier",
        ],
      ] as const
    ).map(
      ([what, odd, reason]) =>
        [
          what,
          async (ca: Ca, csr: string, now: Date) => {
            const { subject = undefined } = odd as OddCertificate;
            const named =
              subject === "ROOT"
                ? { subject: new X509Certificate(ca.certificate.der).subject }
                : {};
            return [await craft(ca, csr, now, { ...(odd as OddCertificate), ...named })];
          },
          refused(reason),
        ] as const,
    ),
    [
      "that outlives its root",
      async (ca, csr, now) => [
        await craft(ca, csr, now, {
          notAfter: new Date(ca.certificate.notAfter.getTime() + DAY),
        }),
      ],
      refused("validity: Must not outlive its issuer$"),
    ],
    [
      "that has expired",
      async (ca, csr, now) => [
        await craft(ca, csr, now, { notAfter: new Date(now.getTime() - 10_000) }),
      ],
      refused("no path of valid certificates leads from it to the root$"),
    ],
    [
      "that is not valid yet",
      async (ca, csr, now) => [
        await craft(ca, csr, now, { notBefore: new Date(now.getTime() + 10_000) }),
      ],
      refused("no path of valid certificates leads from it to the root$"),
    ],
    [
      "with less than an hour to live",
      async (ca, csr, now) => [
        await craft(ca, csr, now, { notAfter: new Date(now.getTime() + HOUR - 1000) }),
      ],
      /^Cannot take the intermediate that datacenter dc1 signed: it is valid until \S+ only, which is less than an hour; raise IntermediateCertTTL there, or rotate its root$/,
    ],
    [
      "under another root",
      async (_, csr, now) => {
        const other = await makeCa();
        return [await craft(other, csr, now), other.certificate];
      },
      refused("no path of valid certificates leads from it to the root$"),
    ],
    [
      "under another root with the name of this one",
      async ({ certificate }, csr, now) => {
        const { privateKey } = await makeCa();
        return [await craft({ certificate, privateKey }, csr, now)];
      },
      refused("no path of valid certificates leads from it to the root$"),
    ],
    [
      "below a CA that allows none",
      async (ca, csr, now) => {
        const above = await makeOddCa(ca, {
          ...{ subject: "CN=above", notAfter: ca.certificate.notAfter },
          extensions: { basic: basic(true, 0), names: onlyUri(`spiffe://${trustDomain}`) },
        });
        return [await craft(above, csr, now), above.certificate];
      },
      refused("basicConstraints: No certificate of the path may have a pathLen that forbids it$"),
    ],
    [
      "below a CA that is missing in the answer",
      async (ca, csr, now) => {
        const above = await makeOddCa(ca, { subject: "CN=above" });
        return [await craft(above, csr, now)];
      },
      refused("no path of valid certificates leads from it to the root$"),
    ],
    [
      "below a CA for other purposes than TLS",
      async (ca, csr, now) => {
        const above = await makeOddCa(ca, {
          ...{ subject: "CN=above", notAfter: ca.certificate.notAfter },
          extensions: {
            extKeyUsage: purposes(OID.clientAuth),
            names: onlyUri(`spiffe://${trustDomain}`),
          },
        });
        return [await craft(above, csr, now), above.certificate];
      },
      refused(
        "a certificate between it and the root has an extended key usage without clientAuth and serverAuth",
      ),
    ],
  ];

  for (const [what, answer, reason] of ANSWERS)
    for (const started of [true, false])
      it(`if it is one ${what}${started ? "" : ", at the first start"}`, async () => {
        const both = await craftable(false);
        if (started) await both.two.manager.tick();
        const search = createSearch();
        both.primary.change.sign = async (csr) => {
          search.plant(
            "the request",
            Buffer.from(csr.replaceAll(/-----[^-]*-----|\s/g, ""), "base64"),
          );
          const path = await answer(both.ca, csr, both.one.clock.now());
          for (const { der } of path) search.plant("a certificate", der);
          return path;
        };
        if (started) both.one.clock.advance(RENEWAL);
        await requireRefused(both, reason);
        requireLoggedOnce(both, reason);
        assert.ok(both.primary.signed >= 1);
        search.collect("/readyz", await both.readyz());
        search.collect("the log", both.logged.join("\n"));
        assert.deepEqual(search.leaks(), []);
        await requireRecovery(both);
      });
});
