/**
 * Datacenters whose clocks differ: leaves are valid from a minute before they are signed, so that they
 * verify everywhere with a difference beyond the allowed 30 s; a larger one is named before anybody
 * looks for the reason of handshakes that fail.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { newFolder, remove } from "../rotation/harness.ts";
import { opensslVerify } from "../rotation/late-verifiers.ts";
import { LIBRARIES, noPeer, peerCommand, verdicts } from "../verifiers/peers.ts";
import { checkMesh } from "./check.ts";
import { MeshRecorder } from "./history.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { MeshDatacenter, SignedLeaf } from "./mesh-datacenter.ts";
import { ask } from "./servers.ts";

const OPTIONS = { timeout: 300_000 };
/** How far the clock of a datacenter is ahead, in seconds. */
const SKEWS = [-90, -45, -25, 25, 45, 90] as const;
/** Those with which leaves verify when they are signed: up to the minute by which they are back-dated. */
const VERIFIED = SKEWS.filter((skew) => skew < 60);
const nameOf = (skew: number) => `dc${skew < 0 ? "-behind" : "-ahead"}-${Math.abs(skew)}`;

describe("datacenters with clocks that differ", () => {
  let folder: string;
  let mesh: Mesh;
  let files = 0;
  const recorder = new MeshRecorder();
  const write = (text: string): string => {
    const path = join(folder, `${++files}.pem`);
    writeFileSync(path, text);
    return path;
  };
  const rootsPem = async (datacenter: MeshDatacenter) =>
    (await datacenter.roots()).Roots.map(({ RootCert }) => RootCert).join("");

  before(async () => {
    folder = newFolder();
    for (const library of LIBRARIES) if (noPeer(library) === false) await peerCommand(library);
    const skewed = SKEWS.map((skew) => ({ name: nameOf(skew), clockShiftMs: skew * 1000 }));
    mesh = await startMesh({ traffic: false, datacenters: [{ name: "dc1" }, ...skewed] });
  }, OPTIONS);
  after(async () => {
    await mesh?.stop();
    remove(folder);
  });

  /** Requires that a leaf verifies now, by the clock of this machine, under the roots of all others. */
  async function requireVerified(datacenter: MeshDatacenter): Promise<SignedLeaf> {
    const leaf = await recorder.sign(datacenter, "web");
    const chain = write(leaf.pem);
    for (const each of mesh.datacenters) {
      const fault = await opensslVerify(write(await rootsPem(each)), chain, [chain]);
      assert.equal(fault, null, `a leaf of ${datacenter.name} under the roots of ${each.name}`);
    }
    return leaf;
  }

  it(
    "follow a rotation, and their leaves verify everywhere before and after it",
    OPTIONS,
    async () => {
      const verified = [mesh.primary, ...VERIFIED.map((skew) => mesh.datacenter(nameOf(skew)))];
      for (const each of verified) await recorder.read(each).then(() => requireVerified(each));
      await mesh.primary.rotate();
      await mesh.followed();
      const leaves: SignedLeaf[] = [];
      for (const each of verified) {
        await recorder.read(each);
        leaves.push(await requireVerified(each));
      }
      assert.deepEqual(await checkMesh(recorder), []);
      const old = [await rootsPem(mesh.primary), recorder.reads[0]?.roots[0]?.pem ?? ""].map(write);
      for (const library of LIBRARIES) {
        if (noPeer(library) !== false) continue;
        for (const { datacenter, pem, key } of leaves) {
          if (!datacenter.endsWith("-45")) continue;
          const presented = { chain: write(pem), key: write(key), roots: old };
          const good = old.map(() => ({ client: null, server: null }));
          assert.deepEqual(await verdicts(library, presented), good, `${library}, ${datacenter}`);
        }
      }
    },
  );

  it(
    "say by how much in the metrics, and in the log if it is more than 30 s",
    OPTIONS,
    async () => {
      for (const skew of SKEWS) {
        const { server, name } = mesh.datacenter(nameOf(skew));
        const { text } = await ask(server, "GET", "/metrics");
        const [, ahead] = /^meshca_primary_clock_offset_seconds\{.*\} (\S+)$/m.exec(text) ?? [];
        assert.ok(Math.abs(Number(ahead) + skew) <= 5, `${name}: ${ahead}`);
        const logged = server.stdout();
        const line = `"level":"ERROR","message":"The clock of this machine is `;
        assert.equal(logged.includes(line), Math.abs(skew) > 30, name);
      }
    },
  );

  it(
    "sign what is not valid yet elsewhere if they are ahead by more than a minute",
    OPTIONS,
    async () => {
      const { pem } = await mesh.datacenter(nameOf(90)).sign("web");
      const chain = write(pem);
      const roots = write(await rootsPem(mesh.primary));
      assert.match(
        String(await opensslVerify(roots, chain, [chain])),
        /certificate is not yet valid/,
      );
      const later = new Date(Date.now() + 60_000);
      assert.equal(await opensslVerify(roots, chain, [chain], later), null);
    },
  );
});
