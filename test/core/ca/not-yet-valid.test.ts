/**
 * A CA that was created while the clock was ahead: it signs nothing that is not valid yet, and
 * gives the reason and the remedy.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ConfigError, NotReadyError } from "../../../src/core/errors.ts";
import { createIntermediate, generateCaKey } from "../../../src/core/x509/authority.ts";
import { leafValidity } from "../../../src/core/x509/leaf.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { createTestApp } from "../../fixtures/app.ts";
import { BOOTSTRAP, HOUR, providersWith, requireSigning, webCsr } from "./harness.ts";
import { makeRoot } from "./pool.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const csr = webCsr();

/** A CA whose clock was ahead by so many hours when its root was made. */
async function madeAhead(hours: number): Promise<TestCa> {
  const clock = createFakeClock();
  clock.advance(hours * HOUR);
  const ca = await createTestCa({ bootstrap: BOOTSTRAP, clock });
  clock.advance(-hours * HOUR);
  return ca;
}

const notYet = (text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof NotReadyError && error.code === "ca_not_valid_yet", String(error));
  assert.match(error.message, text);
  return true;
};

describe("a CA that was created while the clock was ahead", () => {
  for (const hours of [1.5, 72, 7 * 24, 20 * 8760])
    it(`signs no leaf for ${hours} hours, and reports from when the root is valid and the time of the clock`, async () => {
      const ca = await madeAhead(hours);
      const { notBefore } = ca.manager.require().active.certificate;
      const says = new RegExp(
        `^Cannot sign leaf: the root is not valid before ${notBefore.toISOString()}, and the clock of this server is at ${ca.clock.now().toISOString()}\\. .*rotate`,
      );
      await assert.rejects(ca.manager.sign(csr), notYet(says));
      assert.match(ca.manager.obstacle() ?? "", says);
      ca.clock.advance(notBefore.getTime() - ca.clock.now().getTime() - 1);
      await assert.rejects(
        ca.manager.sign(csr),
        notYet(/^Cannot sign leaf: the root is not valid before/),
      );
      ca.clock.advance(1);
      assert.equal(ca.manager.obstacle(), null);
      await requireSigning(ca.manager, csr, ca.clock.now());
    });

  it("answers 503 with the reason, and /readyz as well", async () => {
    const test = await createTestApp({}, await madeAhead(48));
    const signed = await test.fetch("/v1/connect/ca/sign", { method: "PUT", body: csr });
    assert.deepEqual(
      [signed.status, /the root is not valid before .*clock was ahead/.test(await signed.text())],
      [503, true],
    );
    assert.equal((await test.fetch("/readyz")).status, 503);
    assert.equal((await test.fetch("/v1/connect/ca/roots")).status, 200);
  });

  it("refuses a rotation with the reason, changes nothing, and can be rotated by force", async () => {
    const ca = await madeAhead(48);
    const { active } = ca.manager.require();
    const before = ca.backend.document;
    for (const change of [
      () => ca.manager.rotate(NOW),
      () => ca.manager.configure(configuration({ PrivateKeyBits: 384 })),
    ])
      await assert.rejects(change(), (error: unknown) => {
        assert.ok(error instanceof ConfigError, String(error));
        const why = `root ${active.id}: it is not valid before ${active.certificate.notBefore.toISOString()}, and the store's clock is at `;
        assert.ok(
          error.message.includes(why) &&
            error.message.includes("it was made while a clock was ahead"),
          error.message,
        );
        return true;
      });
    assert.equal(ca.backend.document, before);
    await ca.manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    const { state } = ca.manager.require();
    assert.deepEqual(
      state.roots.filter(({ abandoned }) => abandoned).map(({ id }) => id),
      [active.id],
    );
    await requireSigning(ca.manager, csr, ca.clock.now());
    await ca.manager.rotate(NOW);
    await requireSigning(ca.manager, csr, ca.clock.now());
  });

  it("refuses a new root whose issuer is not valid yet before it is in use, and goes on signing", async () => {
    let ahead = 0;
    const providers = providersWith((type) => ({
      ...type,
      async open(...opening) {
        const provider = await type.open(...opening);
        return {
          ...provider,
          issuer: {
            ...provider.issuer,
            notBefore: new Date(provider.issuer.notBefore.getTime() + ahead),
          },
        };
      },
    }));
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, providers });
    ahead = 10 * HOUR;
    const document = ca.backend.document;
    await assert.rejects(
      ca.manager.rotate(NOW),
      notYet(/^Cannot use the new issuer: it is not valid before .*the store's clock is at/),
    );
    assert.equal(ca.backend.document, document);
    ahead = 0;
    await requireSigning(ca.manager, csr, ca.clock.now());
  });
});

describe("a certificate that would expire before it is valid", () => {
  it("is never issued, neither as a leaf nor as an intermediate", async () => {
    const root = await makeRoot(1);
    const later = new Date(root.certificate.notAfter.getTime() + HOUR);
    const { notBefore, notAfter } = leafValidity(
      root.certificate,
      root.certificate,
      { ttlMs: HOUR, backdateMs: 60_000 },
      later,
    );
    assert.ok(notBefore >= notAfter, "what sign() refuses");
    const key = await generateCaKey({ type: "ec", bits: 256 });
    const options = {
      ...clusterOf("c"),
      provider: "consul",
      ttlMs: HOUR,
      now: new Date(later.getTime() + 2 * HOUR),
      random: systemRandom,
    };
    await assert.rejects(createIntermediate(key.info, root, options), { code: "invariant" });
  });
});
