/**
 * Rotation as often as the default bound of a chain allows, before the libraries that verify chains
 * elsewhere: each with its default limits, in real handshakes, as a client and as a server.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { configuration, createTestCa, opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import {
  LIBRARIES,
  type Library,
  noPeer,
  peerCommand,
  type Verdict,
  verdicts,
} from "../verifiers/peers.ts";
import { newFolder, remove, SUBJECT_KEYS } from "./harness.ts";
import { opensslVerify } from "./late-verifiers.ts";

/** MESHCA_MAX_CHAIN_LENGTH by default: the leaf and all that goes with it. */
const LONGEST = DEFAULT_POLICY.maxChainLength;
/**
 * A certificate more than JDK clients take by default
 * (jdk.tls.client.maxInboundCertificateChainLength), and servers at least.
 */
const TOO_LONG = 11;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
/** Root keys that follow each other in a line: every kind that all of these libraries verify. */
const KEYS = [
  { PrivateKeyType: "ec", PrivateKeyBits: 384 },
  { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
  { PrivateKeyType: "ec", PrivateKeyBits: 256 },
];
const GOOD: Verdict = { client: null, server: null };

/** What is presented, and the root sets that are published with it, as files. */
interface Presented {
  readonly length: number;
  readonly chain: string;
  readonly key: string;
  /** Each published root by itself. */
  readonly each: readonly string[];
  /** All of them. */
  readonly all: string;
}

describe("chains after several rotations within the drain window", () => {
  let folder: string;
  let files = 0;
  const write = (text: string): string => {
    const path = join(folder, `${++files}.pem`);
    writeFileSync(path, text);
    return path;
  };

  /** Has a leaf signed for a new key. */
  const present = async ({ manager }: TestCa, subjectKey = SUBJECT_KEYS[0]): Promise<Presented> => {
    const { csr, key } = opensslCsr(`URI:${serviceUri(manager, "web")}`, subjectKey);
    const { certificatePem } = await manager.sign(csr);
    const roots = manager.require().state.roots.map(({ certificate }) => pemOf(certificate));
    return {
      length: certificatePem.split("-----BEGIN").length - 1,
      chain: write(certificatePem),
      key: write(key),
      each: roots.map(write),
      all: write(roots.join("")),
    };
  };

  const shortest: Presented[] = [];
  const longest: Presented[] = [];
  let tooLong: Presented;

  before(
    async () => {
      folder = newFolder();
      for (const library of LIBRARIES) if (noPeer(library) === false) await peerCommand(library);
      const ca = await createTestCa({ clock: createFakeClock(new Date()) });
      for (const [turn, key] of KEYS.entries()) {
        await ca.manager.configure(configuration(key));
        if (turn === 0) shortest.push(await present(ca));
      }
      while ((await present(ca)).length < LONGEST) await ca.manager.rotate(NOW);
      for (const key of SUBJECT_KEYS.slice(1)) longest.push(await present(ca, key));
      tooLong = await chainOf(TOO_LONG);
    },
    { timeout: 600_000 },
  );
  after(() => remove(folder));

  /** A chain of so many certificates, by a CA whose bound is raised. */
  const chainOf = async (length: number): Promise<Presented> => {
    const policy = { ...DEFAULT_POLICY, maxChainLength: length };
    const ca = await createTestCa({ clock: createFakeClock(new Date()), policy });
    for (;;) {
      const presented = await present(ca);
      if (presented.length === length) return presented;
      assert.ok(presented.length < length);
      await ca.manager.rotate(NOW);
    }
  };

  it(`are ${LONGEST} certificates long after ${LONGEST - 1} rotations, with a root each`, () => {
    assert.deepEqual(
      [...shortest, ...longest].map(({ length, each }) => [length, each.length]),
      [[2, 2], ...longest.map(() => [LONGEST, LONGEST])],
    );
  });

  it("verify by OpenSSL under each published root, and under all", async () => {
    for (const { chain, each, all } of [...shortest, ...longest])
      for (const roots of [...each, all])
        assert.equal(await opensslVerify(roots, chain, [chain]), null);
  });

  for (const library of LIBRARIES) {
    const skip = noPeer(library);
    // GnuTLS looks for a trusted key at the end of a chain only: it needs all published roots.
    const alone = library !== "GnuTLS";
    it(`verify by ${library} under ${alone ? "each published root, and under all" : "all published roots"}, in both roles`, {
      skip,
      timeout: 120_000,
    }, async () => {
      for (const { chain, key, each, all } of [...shortest, ...longest]) {
        const roots = alone ? [...each, all] : [all];
        assert.deepEqual(
          await verdicts(library, { chain, key, roots }),
          roots.map(() => GOOD),
        );
      }
    });

    it(`are refused by ${library} under a root of another CA, in both roles`, {
      skip,
      timeout: 120_000,
    }, async () => {
      const [{ chain, key }, other] = [
        longest[0] as Presented,
        await present(await createTestCa({ clock: createFakeClock(new Date()) })),
      ];
      const [verdict] = await verdicts(library, { chain, key, roots: [other.all] });
      for (const role of ["client", "server"] as const)
        assert.match(verdict?.[role] ?? "verified", UNTRUSTED[library]);
    });
  }

  it("are refused by JDKs beyond the bound, whatever they trust, in both roles", {
    skip: noPeer("JDK"),
    timeout: 120_000,
  }, async () => {
    const { chain, key, each, all } = tooLong;
    for (const { client, server } of await verdicts("JDK", {
      chain,
      key,
      roots: [each[0] as string, all],
    })) {
      assert.match(
        client ?? "verified",
        /chain length \(11\) exceeds the maximum allowed length \(10\)/,
      );
      // 8 since JDK 22, 10 before, unless an update has JDK-8313236.
      assert.match(
        server ?? "verified",
        /chain length \(11\) exceeds the maximum allowed length \((8|10)\)/,
      );
    }
  });

  it("are refused by rustls and mbed TLS beyond the bound under a root at the end", {
    skip: noPeer("rustls") || noPeer("mbed TLS"),
  }, async () => {
    const { chain, key, each } = tooLong;
    for (const [library, says] of [
      ["rustls", /MaximumPathDepthExceeded/],
      ["mbed TLS", /chain is too long/],
    ] as const) {
      const found = await verdicts(library, { chain, key, roots: each });
      for (const role of ["client", "server"] as const)
        assert.ok(found.some((verdict) => says.test(verdict[role] ?? "")));
    }
  });
});

/** The error of each library for a chain that leads to no trusted root. */
const UNTRUSTED: Readonly<Record<Library, RegExp>> = {
  JDK: /unable to find valid certification path/,
  rustls: /UnknownIssuer/,
  "mbed TLS": /not correctly signed by the trusted CA/,
  GnuTLS: /certificate issuer is unknown/,
  Go: /certificate signed by unknown authority/,
};
