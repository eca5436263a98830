/**
 * Switches under traffic: while TLS peers fetch leaves and roots whenever they like, the root goes
 * into Vault, from mount to mount, and back, and no handshake fails.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { until } from "../redis/server.ts";
import { type Peers, serveCa, startPeers } from "../rotation/harness.ts";
import { createMesh } from "../rotation/mesh.ts";
import { generateAnother, importBelowExternal, vaultConfig } from "./harness.ts";
import { BUILD_MS, noVault, startVault, type VaultServer, vaultKinds } from "./server.ts";

const HANDSHAKES = 200;

for (const kind of vaultKinds)
  describe(`switches with ${kind} under TLS traffic`, { skip: noVault }, () => {
    let server: VaultServer;
    let other: VaultServer;
    let peers: Peers;
    before(
      async () => {
        [server, other] = await Promise.all([startVault({ kind }), startVault({ kind })]);
        peers = await startPeers(1);
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      await peers.close();
      await Promise.all([server.stop(), other.stop()]);
    });

    it("no handshake fails through built-in, Vault, mounts, servers, local, rotation, a root by others, an external one, and back, also by rollbacks", {
      timeout: 600_000,
    }, async () => {
      const ca = await serveCa();
      const mesh = await createMesh(ca, peers);
      try {
        const ids = [(await mesh.record()).rootId];
        const [a, b, c, external] = [
          vaultConfig(server),
          vaultConfig(server),
          vaultConfig(other),
          vaultConfig(other),
        ];
        await importBelowExternal(other, external);
        const takeUp = async () => {
          const { ActiveRootID } = await ca.roots();
          await generateAnother(other, c);
          const isTaken = async () => (await ca.roots()).ActiveRootID !== ActiveRootID;
          // meshca is not notified: it polls once a minute, and `until` waits for half of one.
          await until(isTaken)
            .catch(() => until(isTaken))
            .catch(() => until(isTaken));
        };
        const steps: [string, () => Promise<void>, boolean][] = [
          ["built-in -> Vault", () => ca.switchTo("vault", a), true],
          ["mount A -> mount B", () => ca.switchTo("vault", b), true],
          [
            "vault -> local",
            () => ca.switchTo("vault", { ...b, Token: "hidden", LeafSigning: "local" }),
            false,
          ],
          ["a new root in the same mount", () => ca.rotate(), true],
          ["local -> vault", () => ca.switchTo("vault", { ...b, Token: "hidden" }), false],
          ["Vault -> another server", () => ca.switchTo("vault", c), true],
          ["a root that was generated in Vault", takeUp, true],
          ["Vault -> below an external root", () => ca.switchTo("vault", external), true],
          ["Vault -> built-in", () => ca.switchTo("consul", {}), true],
          ["built-in, back to mount A", () => ca.rollBack(ids[1] as string), true],
          ["mount A, back to mount B", () => ca.rollBack(ids[2] as string), true],
          ["mount B, back to the first one, built-in", () => ca.rollBack(ids[0] as string), true],
          ["built-in, back to mount A again", () => ca.rollBack(ids[1] as string), true],
        ];
        for (const [name, change, isNew] of steps) {
          const counts = await mesh.window(HANDSHAKES, async () => {
            await change();
            ids.push((await mesh.record()).rootId);
          });
          assert.equal(ids.at(-1) !== ids.at(-2), isNew, name);
          assert.ok(counts.handshakes >= HANDSHAKES && counts.during > 0, name);
          console.log(
            `${name}: ${counts.handshakes} handshakes, ${counts.during} of them during changes, 0 failed; ${counts.leaves} leaves`,
          );
        }
      } finally {
        mesh.close();
        await ca.close();
      }
    });
  });
