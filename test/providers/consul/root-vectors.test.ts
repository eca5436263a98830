/**
 * Roots as the usual tools make them, and odd ones made by hand: each is refused with its reason,
 * or taken, and then leaves verify under every published root by OpenSSL, Go and the JDK, before
 * and after the next rotation.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { ConsulConfig } from "../../../providers/consul/config.ts";
import { CaError } from "../../../src/core/errors.ts";
import { readCertificatePem } from "../../../src/core/x509/certificate.ts";
import {
  BOOTSTRAP,
  providersWith,
  readChain,
  replica,
  requireSigning,
  rootsInUse,
  webCsr,
} from "../../core/ca/harness.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { readRootVectors } from "../../vectors/roots/vector.ts";
import { startVerifiers } from "../../verifiers/x509/verifiers.ts";

/** A moment at which all of them are in force, but for those that are not meant to be. */
const NOW = new Date("2027-06-01T12:00:00Z");
const VECTORS = readRootVectors();
const TIMEOUT = { timeout: 60_000 };

describe("root vectors", () => {
  let csr = "";
  let verifiers: ReturnType<typeof startVerifiers>;
  before(() => {
    csr = webCsr();
    verifiers = startVerifiers();
    if (verifiers.missing.length > 0)
      console.log(`Not asked, since they are not installed: ${verifiers.missing.join("; ")}`);
  });
  after(() => verifiers.close());

  const start = () => createTestCa({ bootstrap: BOOTSTRAP, clock: createFakeClock(NOW) });

  /**
   * Signs a leaf, and asks every verifier about it under every published root by itself.
   * @returns the leaf's answer.
   */
  const requireVerified = async ({ manager, clock }: TestCa, pem: string): Promise<void> => {
    const { leaf, intermediates } = readChain(pem);
    const chain = intermediates.map(({ der }) => der);
    const questions = rootsInUse(manager.require().state, clock.now()).map(
      ({ id, certificate }) => ({ id, roots: [certificate.der] }),
    );
    const outcomes = verifiers.verifiers.flatMap(({ name, verify }) =>
      questions.map(async ({ id, roots }) => ({
        name,
        id,
        reason: await verify({ leaf: leaf.der, chain, roots, at: clock.now() }),
      })),
    );
    assert.deepEqual(
      (await Promise.all(outcomes)).filter(({ reason }) => reason !== null),
      [],
    );
  };

  it("there are at least 60 of them, of at least seven tools", () => {
    assert.ok(VECTORS.length >= 60);
    assert.ok(
      new Set(VECTORS.map(({ how }) => how)).size >= 7,
      [...new Set(VECTORS.map(({ how }) => how))].join(),
    );
  });

  for (const { name, how, cert, key, refused } of VECTORS)
    if (refused === null)
      it(
        `configure() takes ${name} (${how}), under which leaves verify, before and after the next rotation`,
        TIMEOUT,
        async () => {
          const ca = await start();
          await ca.manager.configure(configuration({ PrivateKey: key, RootCert: cert }));
          await requireSigning(ca.manager, csr, ca.clock.now());
          const { certificatePem: early } = await ca.manager.sign(csr);
          await requireVerified(ca, early);
          ca.clock.advance(60_000);
          await ca.manager.configure(configuration({}));
          assert.equal(rootsInUse(ca.manager.require().state, ca.clock.now()).length, 3);
          await requireVerified(ca, (await ca.manager.sign(csr)).certificatePem);
          // Supplied again, it is crossed by the root that followed it, too.
          ca.clock.advance(60_000);
          await ca.manager.configure(configuration({ PrivateKey: key, RootCert: cert }));
          await requireVerified(ca, (await ca.manager.sign(csr)).certificatePem);
        },
      );
    else
      it(`configure() refuses ${name} (${how}), also by force, and says why`, async () => {
        const ca = await start();
        const before = ca.backend.document;
        for (const forceWithoutCrossSigning of [false, true])
          await assert.rejects(
            ca.manager.configure(
              configuration({ PrivateKey: key, RootCert: cert }, { forceWithoutCrossSigning }),
            ),
            (error: unknown) => {
              assert.ok(error instanceof CaError && error.code === "config_invalid", String(error));
              assert.ok(error.message.includes(refused), error.message);
              return true;
            },
          );
        assert.equal(ca.backend.document, before);
      });

  it(
    "a root that an earlier version took stays in use, through a change of its TTL and a rotation away from it",
    TIMEOUT,
    async () => {
      const faulty = VECTORS.find(({ name }) => name === "an extended key usage for anything");
      assert.ok(faulty);
      // An earlier version: the key is made for its root as it is today, and the root is not looked
      // at.
      const unchecked = providersWith((type) => ({
        ...type,
        async prepare(config, request, context) {
          const { rootCert, ...rest } = config as ConsulConfig;
          const keyOnly: ConsulConfig = { ...rest, rootCert: "" };
          const prepared = await type.prepare(keyOnly, request, context);
          return rootCert === "" ? prepared : { ...prepared, root: readCertificatePem(rootCert) };
        },
      }));
      const old = await createTestCa({
        bootstrap: BOOTSTRAP,
        clock: createFakeClock(NOW),
        providers: unchecked,
      });
      await old.manager.configure(configuration({ PrivateKey: faulty.key, RootCert: faulty.cert }));
      const upgraded = await replica(old, "upgraded");
      await upgraded.refresh();
      await requireSigning(upgraded, csr, old.clock.now());
      const { config } = upgraded.require().state.config;
      await upgraded.configure(configuration({ ...config, LeafCertTTL: "5h" }));
      await requireSigning(upgraded, csr, old.clock.now());
      await upgraded.configure(configuration({}));
      await requireSigning(upgraded, csr, old.clock.now());
    },
  );
});
