/**
 * Rollback under traffic: through ten rollbacks back and forth no TLS handshake fails between peers
 * that fetch leaves and roots whenever they like. Leaves of before, between and after, by OpenSSL and
 * by Go.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { configuration, createTestCa, opensslCsr, serviceUri, type TestCa } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { noPeer, verdicts } from "../verifiers/peers.ts";
import { type CaProcess, inNewFolder, type Peers, serveCa, startPeers } from "./harness.ts";
import { opensslVerify } from "./late-verifiers.ts";
import { createMesh, type Mesh } from "./mesh.ts";

const HANDSHAKES = 200;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
/** The roots, by number, that are gone back to, from the last of three on. */
const TURNS = [1, 2, 0, 1, 0, 2, 1, 0, 2, 0];

describe("rollback under TLS traffic", () => {
  let peers: Peers;
  before(async () => {
    peers = await startPeers(2);
  });
  after(() => peers.close());

  it("ten rollbacks between three roots fail no handshake, whatever each side has fetched", {
    timeout: 300_000,
  }, async () => {
    const ca = await serveCa();
    try {
      const mesh = await createMesh(ca, peers);
      try {
        await rollBackTenTimes(ca, mesh);
      } finally {
        mesh.close();
      }
    } finally {
      await ca.close();
    }
  });
});

async function rollBackTenTimes(ca: CaProcess, mesh: Mesh): Promise<void> {
  const roots = [(await mesh.record()).rootId];
  for (const key of [
    { PrivateKeyType: "ec", PrivateKeyBits: 384 },
    { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
  ]) {
    await ca.configure(key);
    roots.push((await mesh.record()).rootId);
  }
  let [handshakes, during] = [0, 0];
  for (const [number, turn] of TURNS.entries()) {
    const id = roots[turn] as string;
    const counts = await mesh.window(HANDSHAKES, async () => {
      await ca.rollBack(id);
      // Each root once after it came back; what is on record meets all that was fetched since.
      if (number < roots.length) await mesh.record();
      assert.equal((await ca.roots()).ActiveRootID, id);
    });
    assert.ok(counts.during > 0, "The CA rolled back while there was no traffic");
    handshakes += counts.handshakes;
    during += counts.during;
  }
  assert.equal((await ca.roots()).Roots.length, roots.length);
  console.log(
    `${TURNS.length} rollbacks: ${handshakes} handshakes, ${during} of them during rollbacks, 0 failed`,
  );
}

describe("leaves of before, between and after a rollback", () => {
  it("verify by OpenSSL and by Go under each root that was published when they were signed, and under all of now", {
    skip: noPeer("Go"),
    timeout: 120_000,
  }, async () => {
    const ca = await createTestCa({ clock: createFakeClock(new Date()) });
    await inNewFolder(async (folder) => {
      let files = 0;
      const write = (text: string): string => {
        const path = join(folder, `${++files}.pem`);
        writeFileSync(path, text);
        return path;
      };
      const first = ca.manager.require().active.id;
      const signed = [await present(ca, write)];
      await ca.manager.configure(configuration({ PrivateKeyBits: 384 }));
      signed.push(await present(ca, write));
      await ca.manager.rollBack({ ...NOW, to: first });
      signed.push(await present(ca, write));
      assert.deepEqual(
        signed.map(({ each }) => each.length),
        [1, 2, 2],
      );
      const now = (signed.at(-1) as Presented).all;
      for (const { chain, key, each } of signed) {
        const roots = [...each, now];
        for (const file of roots) assert.equal(await opensslVerify(file, chain, [chain]), null);
        assert.deepEqual(
          await verdicts("Go", { chain, key, roots }),
          roots.map(() => ({ client: null, server: null })),
        );
      }
    });
  });
});

/** A leaf with its chain, and the roots that are published with it, as files. */
interface Presented {
  readonly chain: string;
  readonly key: string;
  /** Each root by itself. */
  readonly each: readonly string[];
  readonly all: string;
}

async function present({ manager }: TestCa, write: (text: string) => string): Promise<Presented> {
  const { csr, key } = opensslCsr(`URI:${serviceUri(manager, "web")}`);
  const { certificatePem } = await manager.sign(csr);
  const roots = manager.require().state.roots.map(({ certificate }) => pemOf(certificate));
  return {
    chain: write(certificatePem),
    key: write(key),
    each: roots.map(write),
    all: write(roots.join("")),
  };
}
