/**
 * Dropping roots in Vault: what meshca made is deleted at once, what others made is left and named, and
 * a Vault that is away refuses the drop or has it finished later.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { DropRequest } from "../../src/core/ca/plan-drop.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { configuration, silentLog, type TestCa } from "../fakes/ca.ts";
import {
  bootstrapIn,
  createVaultCa,
  csrOf,
  cutting,
  inventory,
  NOW,
  requireAll,
  settle,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const drop = ({ manager }: TestCa, id: string, more: Partial<DropRequest> = {}) =>
  manager.drop({
    ...{ id, newRoot: false, alsoThrough: false },
    ...{ forceWithoutCrossSigning: false, modifyIndex: null },
    ...more,
  });
const activeId = ({ manager }: TestCa) => manager.require().active.id;

for (const kind of vaultKinds)
  describe(`dropped roots in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    /** Issuers and keys in the mounts of the root and of the intermediate. */
    async function held(config: Readonly<Record<string, unknown>>): Promise<number[]> {
      const found = (await inventory(server)) as Record<string, { issuers: number; keys: number }>;
      return [config.RootPKIPath, config.IntermediatePKIPath].flatMap((path) => {
        const mount = found[`${path}/`];
        return mount === undefined ? [0, 0] : [mount.issuers, mount.keys];
      });
    }

    it("a retired root of ours is deleted with its key and its intermediate, and the rest goes on", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const ids = [activeId(ca)];
      for (let i = 0; i < 2; i++) {
        ca.clock.advance(1000);
        await ca.manager.rotate(NOW);
        ids.push(activeId(ca));
      }
      assert.deepEqual(await held(config), [3, 3, 3, 3]);
      const { left } = await drop(ca, ids[1] ?? "");
      assert.deepEqual(left, []);
      assert.deepEqual(await held(config), [2, 2, 2, 2]);
      assert.equal(activeId(ca), ids[2]);
      assert.equal(ca.manager.require().active.intermediates.length, 2);
      assert.deepEqual(
        Object.keys(ca.manager.require().state.provider.retired),
        [ids[0]],
        "no garbage is left",
      );
      await requireAll(ca);
      await ca.manager.rotate(NOW);
      await requireAll(ca);
      await ca.manager.close();
    });

    it("an active root of ours is replaced by the retired one, which signs by the intermediate that it had, or by a new one", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const first = activeId(ca);
      ca.clock.advance(1000);
      await ca.manager.rotate(NOW);
      await drop(ca, activeId(ca));
      assert.equal(activeId(ca), first);
      assert.deepEqual(await held(config), [1, 1, 1, 1]);
      await requireAll(ca);
      // What is read of the configuration then, and sent again, changes nothing.
      const { config: read } = ca.manager.require().state.config;
      assert.equal(await ca.manager.configure(toVault({ ...read })), false);
      await drop(ca, first, { newRoot: true });
      assert.equal(ca.manager.require().state.roots.length, 1);
      assert.notEqual(activeId(ca), first);
      assert.deepEqual(await held(config), [1, 1, 1, 1]);
      await requireAll(ca);
      await ca.manager.rotate(NOW);
      await requireAll(ca);
      await ca.manager.close();
    });

    it("a root that others made is left and named, and is not adopted again", async () => {
      const config = vaultConfig(server);
      await server.must("POST", `sys/mounts/${config.RootPKIPath}`, {
        type: "pki",
        config: { max_lease_ttl: "87600h" },
      });
      const { data } = await server.must("POST", `${config.RootPKIPath}/root/generate/internal`, {
        common_name: "theirs",
        ttl: "80000h",
      });
      const policy = { ...DEFAULT_POLICY, inspectMs: 0 };
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), policy });
      const theirs = activeId(ca);
      const before = ca.backend.document;
      await assert.rejects(drop(ca, theirs, { newRoot: true }), {
        code: "transition_invalid",
        message: /no new root can be made in its place .*was not made by meshca/,
      });
      assert.equal(ca.backend.document, before);
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      const { left } = await drop(ca, theirs);
      assert.deepEqual(left, [
        `issuer ${data.issuer_id} at "${config.RootPKIPath}" in Vault, with its key: meshca did not make it`,
      ]);
      assert.deepEqual((await held(config)).slice(0, 2), [1, 1]);
      const away = ca.backend.document;
      await assert.rejects(ca.manager.configure(toVault(config)), { code: "root_dropped" });
      assert.equal(ca.backend.document, away);
      await settle(ca);
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      await ca.manager.close();
    });

    it("a Vault that is away refuses a drop, at whichever call; by force it is finished later", async () => {
      const config = vaultConfig(server);
      const cuts = cutting();
      const warnings: string[] = [];
      const log = { ...silentLog, warn: (text: string) => void warnings.push(text) };
      const ca = await createVaultCa({
        ...{ connect: cuts.connect, log },
        bootstrap: bootstrapIn(config),
      });
      const ids = [activeId(ca)];
      for (let i = 0; i < 2; i++) {
        ca.clock.advance(1000);
        await ca.manager.rotate(NOW);
        ids.push(activeId(ca));
      }
      const middle = ids[1] ?? "";
      let refused = 0;
      for (let n = 1; ; n++) {
        const { commitId } = ca.manager.require().state;
        cuts.arm(n, "away");
        const outcome = await drop(ca, middle).then(
          () => "done",
          ({ code }: { code: string }) => code,
        );
        cuts.disarm();
        // For as long no call is tried after one that failed.
        ca.clock.advance(10_000);
        if (outcome === "done") break;
        assert.equal(outcome, "provider_unavailable", cuts.hit ?? "");
        assert.equal(ca.manager.require().state.commitId, commitId);
        await requireAll(ca);
        refused++;
      }
      assert.ok(refused >= 2, "the look and the certificates");
      // The commit was made, and Vault went away before all was deleted.
      assert.ok(warnings.some((text) => text.startsWith("Failed to delete what a dropped root")));
      assert.ok(!ca.manager.require().state.roots.some(({ id }) => id === middle));
      await settle(ca);
      assert.deepEqual(await held(config), [2, 2, 2, 2]);
      await requireAll(ca);

      // A root whose Vault does not answer goes by force, and what is there once it does.
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      cuts.arm(1, "away");
      const old = ids[2] ?? "";
      await assert.rejects(drop(ca, old), { code: "provider_unavailable" });
      await drop(ca, old, { forceWithoutCrossSigning: true });
      assert.ok(!ca.manager.require().state.roots.some(({ id }) => id === old));
      assert.equal(cuts.hit === null, false);
      cuts.disarm();
      for (let i = 0; i < 5; i++) {
        ca.clock.advance(300_000);
        await settle(ca);
      }
      // The first root's intermediate waits for its leaves, as always.
      assert.deepEqual((await held(config)).slice(0, 2), [1, 1]);
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      await ca.manager.close();
    });
  });
