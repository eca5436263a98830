/**
 * The cross-chain as OpenSSL verifies it, which takes the first issuer that fits
 * and never backtracks.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { pemOf } from "../../../src/core/x509/certificate.ts";
import { configuration, createTestCa, inFolder, type TestCa } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { BOOTSTRAP, HOUR, rootsInUse, type SuppliedRoot, suppliedRoot, webCsr } from "./harness.ts";

/** openssl's form of an instant. */
const stamp = (instant: Date): string =>
  `${instant.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;

async function requireVerified({ manager, clock }: TestCa): Promise<number> {
  const { certificatePem } = await manager.sign(webCsr());
  const targets = rootsInUse(manager.require().state, clock.now());
  inFolder((folder) => {
    const leaf = join(folder, "leaf.pem");
    writeFileSync(leaf, certificatePem);
    for (const { certificate } of targets) {
      const root = join(folder, "root.pem");
      writeFileSync(root, pemOf(certificate));
      const at = String(Math.floor(clock.now().getTime() / 1000));
      execFileSync(
        "openssl",
        ["verify", "-x509_strict", "-attime", at, "-CAfile", root, "-untrusted", leaf, leaf],
        { stdio: "pipe" },
      );
    }
  });
  return targets.length;
}

const supply = (ca: TestCa, { cert, key }: SuppliedRoot) =>
  ca.manager.configure(configuration({ PrivateKey: key, RootCert: cert }));

describe("a leaf under each published root by itself, verified by openssl", () => {
  it("verifies after the CA went back to a root that is still listed", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, clock: createFakeClock(new Date()) });
    const [one, other] = [suppliedRoot(), suppliedRoot()];
    for (const [turn, root] of [one, other, one, other, one].entries()) {
      await supply(ca, root);
      assert.equal(await requireVerified(ca), Math.min(turn + 2, 3));
      ca.clock.advance(1000);
    }
  });

  it("verifies after pruning of a root that expires before an older one", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, clock: createFakeClock(new Date()) });
    const ending = suppliedRoot({ to: stamp(new Date(Date.now() + 120 * HOUR)) });
    await supply(ca, ending);
    await requireVerified(ca);
    ca.clock.advance(HOUR);
    await ca.manager.configure(configuration({}));
    for (let hours = 0; hours < 170; hours += 10) {
      await requireVerified(ca);
      ca.clock.advance(10 * HOUR);
      await ca.manager.tick();
    }
    assert.equal(await requireVerified(ca), 1);
  });

  it("verifies through any order of rotations within one moment", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, clock: createFakeClock(new Date()) });
    const [one, other] = [suppliedRoot(), suppliedRoot()];
    await supply(ca, one);
    await ca.manager.configure(configuration({ PrivateKeyBits: 384 }));
    await supply(ca, other);
    await supply(ca, one);
    await ca.manager.configure(configuration({ LeafCertTTL: "1h" }));
    await ca.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    await supply(ca, other);
    assert.equal(await requireVerified(ca), 6);
  });
});
