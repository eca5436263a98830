/**
 * Switches under traffic: while TLS peers fetch leaves and roots whenever they like, the root goes into Vault, from mount to
 * mount, and back, and no handshake fails.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type Peers, serveCa, startPeers } from "../rotation/harness.ts";
import { createMesh } from "../rotation/mesh.ts";
import { vaultConfig } from "./harness.ts";
import { BUILD_MS, noVault, startVault, type VaultServer, vaultKinds } from "./server.ts";

const HANDSHAKES = 200;

for (const kind of vaultKinds)
  describe(`switches with ${kind} under TLS traffic`, { skip: noVault }, () => {
    let server: VaultServer;
    let peers: Peers;
    before(
      async () => {
        server = await startVault({ kind });
        peers = await startPeers(1);
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      await peers.close();
      await server.stop();
    });

    it("no handshake fails through built-in, Vault, another mount, local, rotation, and back", { timeout: 240_000 }, async () => {
      const ca = await serveCa();
      const mesh = await createMesh(ca, peers);
      try {
        const ids = [(await mesh.record()).rootId];
        const [a, b] = [vaultConfig(server), vaultConfig(server)];
        const steps: [string, () => Promise<void>, boolean][] = [
          ["built-in -> Vault", () => ca.switchTo("vault", a), true],
          ["mount A -> mount B", () => ca.switchTo("vault", b), true],
          ["vault -> local", () => ca.switchTo("vault", { ...b, Token: "hidden", LeafSigning: "local" }), false],
          ["a new root in the same mount", () => ca.rotate(), true],
          ["local -> vault", () => ca.switchTo("vault", { ...b, Token: "hidden" }), false],
          ["Vault -> built-in", () => ca.switchTo("consul", {}), true],
        ];
        for (const [name, change, isNew] of steps) {
          const counts = await mesh.window(HANDSHAKES, async () => {
            await change();
            ids.push((await mesh.record()).rootId);
          });
          assert.equal(ids.at(-1) !== ids.at(-2), isNew, name);
          assert.ok(counts.handshakes >= HANDSHAKES && counts.during > 0, name);
          console.log(`${name}: ${counts.handshakes} handshakes, ${counts.during} of them meanwhile, 0 failed; ${counts.leaves} leaves`);
        }
      } finally {
        mesh.close();
        await ca.close();
      }
    });
  });
