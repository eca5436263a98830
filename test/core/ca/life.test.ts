/**
 * The lives of a CA from its first root to the end of its last one and on, hour by hour: leaves are
 * signed throughout, and each verifies until it expires, for peers that fetched the roots at any
 * time.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { NotReadyError } from "../../../src/core/errors.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import { type Certificate, inForce } from "../../../src/core/x509/certificate.ts";
import { findPath } from "../../../src/core/x509/chain.ts";
import { LEAF_BACKDATE_MS } from "../../../src/core/x509/leaf.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import {
  BOOTSTRAP,
  HOUR,
  readChain,
  replica,
  requireSigning,
  rootsInUse,
  suppliedRoot,
  webCsr,
} from "./harness.ts";

const STEP = HOUR / 2;
const SHORT = { LeafCertTTL: "1h", IntermediateCertTTL: "20h", RootCertTTL: "100h" };
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

interface Issued {
  readonly leaf: Certificate;
  readonly intermediates: readonly Certificate[];
  readonly paths: (readonly Certificate[])[];
}

/**
 * A CA with a second replica that reads the store one step late, and all leaves still unexpired.
 */
class Life {
  readonly ca: TestCa;
  readonly late: CertificateAuthority;
  readonly #csr: string;
  #alive: Issued[] = [];
  /** What a peer trusts that last fetched the roots a step ago. */
  #fetched: readonly Certificate[] = [];

  constructor(ca: TestCa, late: CertificateAuthority, csr: string) {
    [this.ca, this.late, this.#csr] = [ca, late, csr];
  }

  get state(): CaState {
    return this.ca.manager.require().state;
  }

  get now(): Date {
    return this.ca.clock.now();
  }

  /** Hours since the clock's start. */
  get hour(): number {
    return (this.now.getTime() - createFakeClock().now().getTime()) / HOUR;
  }

  /** Signs on both replicas, and checks every unexpired leaf under the roots of each peer. */
  async check(): Promise<void> {
    await requireSigning(this.ca.manager, this.#csr, this.now);
    for (const manager of [this.ca.manager, this.late]) {
      const issued = { ...readChain((await manager.sign(this.#csr)).certificatePem), paths: [] };
      const { active, config } = manager.require();
      const end = Math.min(
        this.now.getTime() - LEAF_BACKDATE_MS + config.leafTtlMs,
        active.certificate.notAfter.getTime(),
      );
      assert.equal(issued.leaf.notAfter.getTime(), end);
      assert.ok(issued.leaf.notBefore >= active.certificate.notBefore);
      this.#alive.push(issued);
    }
    this.#alive = this.#alive.filter(({ leaf }) => leaf.notAfter > this.now);
    const published = rootsInUse(this.state, this.now).map(({ certificate }) => certificate);
    for (const trusted of [published, this.#fetched.filter(({ notAfter }) => notAfter > this.now)])
      for (const issued of trusted.length > 0 ? this.#alive : [])
        assert.ok(
          await this.#verifies(issued, trusted),
          `a leaf that is alive does not verify at hour ${this.hour}`,
        );
    this.#fetched = published;
  }

  /** A path that was found holds for as long as its certificates do, and its root is trusted. */
  async #verifies(issued: Issued, trusted: readonly Certificate[]): Promise<boolean> {
    const holds = (path: readonly Certificate[]) =>
      path.every((one) => inForce(one, this.now)) &&
      trusted.some(({ id }) => id === path.at(-1)?.id);
    if (issued.paths.some(holds)) return true;
    for (const root of trusted) {
      const path = await findPath(issued.leaf, issued.intermediates, root, this.now);
      if (path === null) continue;
      issued.paths.push(path);
      return true;
    }
    return false;
  }

  /** Lives on until an hour. */
  async until(hour: number): Promise<void> {
    while (this.hour < hour) {
      await this.late.refresh();
      this.ca.clock.advance(STEP);
      await this.ca.manager.tick();
      if (activeRoot(this.state).certificate.notAfter <= this.now) return;
      await this.check();
    }
  }

  /** How many certificates go with a leaf. */
  async sent(): Promise<number> {
    return readChain((await this.ca.manager.sign(this.#csr)).certificatePem).intermediates.length;
  }

  async change(work: (manager: CertificateAuthority) => Promise<unknown>): Promise<void> {
    await work(this.ca.manager);
    await this.check();
  }

  /** A change after the end, of which the other replica has to hear before it can sign again. */
  async recover(work: (manager: CertificateAuthority) => Promise<unknown>): Promise<void> {
    await work(this.ca.manager);
    await this.late.refresh();
    await this.check();
  }

  /**
   * The moment of the end: a millisecond before it leaves are signed, from it on they are refused.
   */
  async end(): Promise<void> {
    const { notAfter } = activeRoot(this.state).certificate;
    await this.until((notAfter.getTime() - createFakeClock().now().getTime()) / HOUR - 0.5);
    this.ca.clock.advance(notAfter.getTime() - this.now.getTime() - 1);
    await this.late.refresh();
    await this.check();
    this.ca.clock.advance(1);
    for (const manager of [this.ca.manager, this.late]) {
      await assert.rejects(manager.sign(this.#csr), (error: unknown) => {
        assert.ok(error instanceof NotReadyError);
        assert.equal(error.code, "ca_expired");
        const date = notAfter.toISOString().slice(0, 19).replace("T", " ");
        assert.ok(
          error.message.startsWith(
            `root expired: certificate expired, expiration date: ${date} +0000 UTC`,
          ),
          error.message,
        );
        return true;
      });
      assert.match(manager.obstacle() ?? "", /^root expired/);
    }
    assert.ok(
      this.#alive.every(({ leaf }) => leaf.notAfter <= this.now),
      "a leaf outlives its root",
    );
    this.#fetched = [];
  }
}

describe("the life of a CA", () => {
  let life: Life;

  beforeEach(async () => {
    const ca = await createTestCa({ bootstrap: { ...BOOTSTRAP, config: SHORT } });
    const late = await replica(ca, "late");
    await late.refresh();
    life = new Life(ca, late, webCsr());
  });

  it("leaves verify through rotations, prunes, the end of the root and two recoveries", {
    timeout: 60_000,
  }, async () => {
    await life.check();
    await life.until(20);
    await life.change((manager) => manager.rotate(NOW));
    assert.equal(life.state.roots.length, 2);
    // Due at 22; the first look that finds it so is half an hour later, and confirmed an eighth of
    // an hour after that.
    await life.until(22.5);
    assert.equal(life.state.roots.length, 2);
    await life.until(23);
    assert.equal(life.state.roots.length, 1);
    assert.deepEqual(activeRoot(life.state).intermediates, []);
    assert.deepEqual(life.state.provider.retired, {});

    await life.until(30);
    await life.change((manager) =>
      manager.configure(configuration({ ...SHORT, LeafCertTTL: "5h" })),
    );
    await life.until(40);
    await life.change((manager) =>
      manager.configure(configuration({ ...SHORT, LeafCertTTL: "5h", PrivateKeyBits: 384 })),
    );
    await life.until(41);
    await life.change((manager) =>
      manager.configure(configuration({ ...SHORT, PrivateKeyBits: 384 })),
    );
    await life.until(51);
    assert.equal(life.state.roots.length, 2);
    await life.until(51.5);
    assert.equal(life.state.roots.length, 1);

    await life.end();
    assert.equal(life.hour, 140);
    const { cert, key } = suppliedRoot();
    await life.recover((manager) =>
      manager.configure(configuration({ ...SHORT, PrivateKey: key, RootCert: cert })),
    );
    assert.deepEqual(activeRoot(life.state).intermediates, []);
    assert.equal(life.state.roots.length, 2);
    // It has expired: no leaf of it is alive, whenever it was retired.
    await life.until(142);
    assert.equal(life.state.roots.length, 1);
    await life.until(151.5);
    await life.change((manager) =>
      manager.configure(configuration({ ...SHORT, PrivateKeyBits: 521 })),
    );
    await life.until(160);

    await life.end();
    assert.equal(life.hour, 251.5);
    await life.recover((manager) =>
      manager.configure(configuration({ ...SHORT, PrivateKeyBits: 256 })),
    );
    await life.until(252);
    await life.change((manager) => manager.rotate(NOW));
    await life.until(260);
    assert.equal(life.state.roots.length, 1);
    assert.equal(
      life.state.roots.some(({ abandoned }) => abandoned),
      false,
    );
  });

  it("leaves verify if the old root expires before the new one may be pruned", async () => {
    await life.until(95);
    await life.change((manager) =>
      manager.configure(configuration({ ...SHORT, LeafCertTTL: "6h", RootCertTTL: "300h" })),
    );
    await life.change((manager) => manager.rotate(NOW));
    assert.equal(activeRoot(life.state).intermediates.length, 1);
    await life.until(99.5);
    assert.equal(activeRoot(life.state).intermediates.length, 1);
    await life.until(99.5);
    assert.equal(await life.sent(), 1);
    // It is sent no more from its end on, and deleted once looks have confirmed that.
    await life.until(100.5);
    assert.equal(await life.sent(), 0);
    assert.equal(activeRoot(life.state).intermediates.length, 1);
    await life.until(101);
    assert.equal(life.state.roots.length, 2);
    assert.deepEqual(activeRoot(life.state).intermediates, []);
    await life.until(108.5);
    assert.equal(life.state.roots.length, 1);
  });

  it("leaves verify through a rotation every hour, back and forth between two supplied roots", async () => {
    const roots = [suppliedRoot(), suppliedRoot()];
    for (let turn = 0; turn < 12; turn++) {
      const { cert, key } = roots[turn % 2] ?? suppliedRoot();
      await life.change((manager) =>
        manager.configure(configuration({ ...SHORT, PrivateKey: key, RootCert: cert })),
      );
      await life.until(turn + 1);
      assert.ok(life.state.roots.length <= 3);
    }
    await life.until(20);
    assert.equal(life.state.roots.length, 1);
  });
});
