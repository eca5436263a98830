/**
 * Datacenters at one Vault, with real ones: each creates, uses and deletes what is its own, refuses
 * what is another one's, and takes over the root with the primary role.
 * @module
 */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { createProviders } from "../../providers/index.ts";
import { proveCrossing } from "../../src/core/ca/snapshot.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { ProviderContext } from "../../src/core/ports/provider.ts";
import { activeRecord, type ProviderRecord } from "../../src/core/state.ts";
import type { Certificate } from "../../src/core/x509/certificate.ts";
import {
  configuration,
  confirmOver,
  createTestCa,
  type FlatCaOptions,
  type TestCa,
} from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import {
  bootstrapIn,
  clockNow,
  connectReal,
  inventory,
  NOW,
  requireAll,
  toVault,
  vaultConfig,
} from "../vault/harness.ts";
import { noVault, useVault, vaultKinds } from "../vault/server.ts";
import { type Pair, pair } from "./pair.ts";

const HOUR = 3_600_000;
type Config = Readonly<Record<string, unknown>>;

for (const kind of vaultKinds)
  describe(`datacenters at one ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });
    const running: TestCa[] = [];
    after(async () => {
      for (const ca of running.toReversed()) await ca.manager.close();
    });

    /** A secondary's: it needs no root's mount. */
    const withoutRoot = ({ RootPKIPath: _, ...config }: Config): Config => config;

    async function start(
      one: Partial<FlatCaOptions>,
      two: Partial<FlatCaOptions> = {},
    ): Promise<Pair> {
      const clock = clockNow();
      const providers = createProviders({ connect: connectReal, clock });
      const both = await pair({ clock, one: { providers, ...one }, two: { providers, ...two } });
      running.push(both.one, both.two);
      return both;
    }

    /** Names of the issuers in a mount. */
    async function names(path: unknown): Promise<string[]> {
      const { body } = await server.call("GET", `${path}/issuers?list=true`);
      const info = (body?.data?.key_info ?? {}) as Record<string, { issuer_name: string }>;
      return Object.values(info).map(({ issuer_name }) => issuer_name);
    }

    /** The datacenters in the names of the issuers in a mount, in their order. */
    async function marks(path: unknown): Promise<string[]> {
      const found = (await names(path)).map((name) => name.split("-")[3] ?? "");
      return found.toSorted((a, b) => a.localeCompare(b));
    }

    const descriptionOf = async (path: unknown): Promise<string> =>
      (await server.must("GET", `sys/mounts/${path}`)).data.description;

    /** Whether a change is refused, with its reason and without an effect in Vault. */
    async function requireRefused(change: () => Promise<unknown>, reason: RegExp): Promise<void> {
      const before = await inventory(server);
      await assert.rejects(change(), (error: unknown) => {
        assert.ok(error instanceof ConfigError, String(error));
        assert.match(error.message, reason);
        return true;
      });
      assert.deepEqual(await inventory(server), before);
    }

    const belongsTo = (field: string, path: unknown, whose: string) =>
      new RegExp(
        `^error configuring provider: ${field}: the mount "${path}" belongs to ${whose}; choose another path: each datacenter needs mounts of its own$`,
      );

    it("names its mounts and issuers by the datacenter, and refuses those of another one", async () => {
      const config = vaultConfig(server);
      const own = withoutRoot(vaultConfig(server));
      const { one, two } = await start(
        { bootstrap: bootstrapIn(config) },
        { bootstrap: bootstrapIn(own) },
      );
      const { clusterId } = one.manager.require().state;
      const { RootPKIPath: root, IntermediatePKIPath: first } = config;
      const { IntermediatePKIPath: second } = own;
      assert.deepEqual(await Promise.all([root, first, second].map(descriptionOf)), [
        `meshca ${clusterId} dc1 root`,
        `meshca ${clusterId} dc1 intermediate`,
        `meshca ${clusterId} dc2 intermediate`,
      ]);
      const uid = clusterId.slice(0, 8);
      const issuers = (await Promise.all([root, first, second].map(names))).flat();
      assert.deepEqual(
        issuers.filter((name) => name !== "").map((name) => name.replace(/-[0-9a-f]{12}$/, "")),
        [`meshca-${uid}-root-dc1`, `meshca-${uid}-int-dc1`, `meshca-${uid}-int-dc2`],
      );

      for (const path of [first, root])
        await requireRefused(
          () => two.manager.configure(toVault({ ...own, IntermediatePKIPath: path })),
          belongsTo("IntermediatePKIPath", path, "datacenter dc1 of this cluster"),
        );
      await requireRefused(
        () => one.manager.configure(toVault({ ...config, IntermediatePKIPath: second })),
        belongsTo("IntermediatePKIPath", second, "datacenter dc2 of this cluster"),
      );
      await requireRefused(
        () => one.manager.configure(toVault({ ...config, RootPKIPath: second })),
        belongsTo("RootPKIPath", second, "datacenter dc2 of this cluster"),
      );
      await requireAll(one);
    });

    it("refuses mounts of operators in which another datacenter has issuers", async () => {
      const config = vaultConfig(server);
      for (const path of [config.RootPKIPath, config.IntermediatePKIPath])
        await server.must("POST", `sys/mounts/${path}`, {
          type: "pki",
          config: { max_lease_ttl: "87600h" },
        });
      const { one, two } = await start({ bootstrap: bootstrapIn(config) });
      const path = String(config.IntermediatePKIPath);
      const all = '{ capabilities = ["create", "read", "update", "delete", "list"] }';
      // Also if the token may not read the mount.
      const Token = await server.tokenWith(`path "${path}/*" ${all}`);
      for (const more of [{}, { Token }])
        await requireRefused(
          () => two.manager.configure(toVault({ ...withoutRoot(config), ...more })),
          belongsTo("IntermediatePKIPath", path, "datacenter dc1 of this cluster"),
        );
      await requireAll(one);
    });

    it("does not join with a mount of another datacenter, and says why", async () => {
      const config = vaultConfig(server);
      const clock = clockNow();
      const providers = createProviders({ connect: connectReal, clock });
      const { one, two } = await pair({
        clock,
        one: { providers, bootstrap: bootstrapIn(config) },
        two: { providers, bootstrap: bootstrapIn(withoutRoot(config)) },
      });
      running.push(one, two);
      assert.equal(two.manager.snapshot, null);
      assert.match(
        two.manager.obstacle() ?? "",
        /belongs to datacenter dc1 of this cluster; choose another path/,
      );
    });

    it("deletes superseded issuers of its own and nothing of another datacenter", async () => {
      const config = vaultConfig(server, { LeafCertTTL: "1h" });
      const own = withoutRoot(vaultConfig(server, { LeafCertTTL: "1h" }));
      const both = await start({ bootstrap: bootstrapIn(config) }, { bootstrap: bootstrapIn(own) });
      const { one, two } = both;
      const [first, second] = [config.IntermediatePKIPath, own.IntermediatePKIPath];
      const issuers = () => Promise.all([first, second].map(names));
      await two.manager.rotate(NOW);
      // A new mount for the primary, which leaves the old one.
      const moved = vaultConfig(server).IntermediatePKIPath;
      await one.manager.configure(toVault({ ...config, IntermediatePKIPath: moved }));
      const [before, [kept = "", latest = ""]] = (await issuers()) as [string[], string[]];
      assert.deepEqual([before.length, kept !== latest], [1, true]);
      await collect(both, two);
      const [untouched, left] = (await issuers()) as [string[], string[]];
      assert.deepEqual([untouched, left.length], [before, 1]);
      await collect(both, one);
      assert.equal(await mountAt(first), false);
      assert.deepEqual(await names(second), left);
      assert.equal((await names(moved)).length, 1);
    });

    it("keeps a mount of its own in which another datacenter has an issuer", async () => {
      const config = vaultConfig(server, { LeafCertTTL: "1h" });
      const both = await start({ bootstrap: bootstrapIn(config) });
      const { one } = both;
      const path = config.IntermediatePKIPath;
      const uid = one.manager.require().state.clusterId.slice(0, 8);
      const name = `meshca-${uid}-int-dc2-0a0b0c0d0e0f`;
      await server.must("POST", `${path}/root/generate/internal`, {
        common_name: "theirs",
        issuer_name: name,
      });
      await one.manager.configure(configuration({}));
      await one.manager.rotate(NOW);
      await collect(both, one);
      assert.deepEqual(await names(path), [name]);
    });

    /** Lets one of them delete what no leaf of it needs. */
    async function collect({ one, two }: Pair, ca: TestCa): Promise<void> {
      for (let i = 0; i < 3; i++) {
        one.clock.advance(200 * HOUR);
        for (const each of [one, two]) await each.manager.heartbeat();
        await confirmOver(ca);
        await ca.manager.heartbeat();
        for (let tick = 0; tick < 6; tick++) await ca.manager.tick();
      }
    }

    async function mountAt(path: unknown): Promise<boolean> {
      return Object.hasOwn((await server.must("GET", "sys/mounts")).data, `${path}/`);
    }

    it("goes on with what it had before there were others, which another one refuses", async () => {
      const config = vaultConfig(server, { LeafCertTTL: "1h" });
      const clock = clockNow();
      const providers = createProviders({ connect: connectReal, clock });
      const alone = await createTestCa({ clock, providers, bootstrap: bootstrapIn(config) });
      const { clusterId } = alone.manager.require().state;
      const { IntermediatePKIPath: path, RootPKIPath: root } = config;
      assert.equal(await descriptionOf(path), `meshca ${clusterId} intermediate`);
      await alone.manager.close();
      const { backend, sealer } = alone;
      const both = await start({ backend, sealer, clock, providers } as Partial<FlatCaOptions>);
      const { one, two } = both;
      assert.equal(one.manager.require().state.clusterId, clusterId);
      for (const each of [path, root])
        await requireRefused(
          () =>
            two.manager.configure(toVault({ ...withoutRoot(config), IntermediatePKIPath: each })),
          belongsTo(
            "IntermediatePKIPath",
            each,
            "the primary datacenter, which used it before there were others",
          ),
        );

      await one.manager.rotate(NOW);
      await requireAll(one);
      const latest = (await names(path)).filter((name) => name.includes("-int-dc1-"));
      assert.deepEqual([latest.length, (await names(path)).length], [1, 2]);
      const moved = vaultConfig(server).IntermediatePKIPath;
      await one.manager.configure(toVault({ ...config, IntermediatePKIPath: moved }));
      await requireAll(one);
      await collect(both, one);
      assert.equal(await mountAt(path), false, "the mount of before is left");
    });

    describe("after a promotion", () => {
      /** What the new primary has of the lost one: its record, and the root. */
      async function lost(): Promise<{
        readonly ca: TestCa;
        readonly record: ProviderRecord;
        readonly root: Certificate;
        readonly context: ProviderContext;
      }> {
        const { one } = await start({ bootstrap: bootstrapIn(vaultConfig(server)) });
        const { state, active } = one.manager.require();
        const { clusterId, trustDomain } = state;
        const context = { clusterId, trustDomain, datacenter: "dc2", random: systemRandom };
        return {
          ...{ ca: one, record: activeRecord(state), root: active.certificate },
          context: { ...context, sealer: one.sealer },
        };
      }

      const vault = createProviders({ connect: connectReal, clock: clockNow() }).get("vault");

      it("the new primary signs and renews in the mounts of the lost one, and deletes nothing there", async () => {
        const { ca, record, root, context } = await lost();
        assert.ok(vault?.handOver !== undefined && vault.renew !== undefined);
        const now = ca.clock.now();
        const taken = vault.handOver(record.state);
        const config = vault.parse(record.config);
        // The lost one deletes its issuer once it has another: the new primary needs its own soon.
        const borrowing = await vault.open(config, taken, root, context);
        assert.deepEqual(await borrowing.external?.inspect(), {
          issuerLost: true,
          rootReplaced: false,
        });
        await borrowing.close();
        const renewed = await vault.renew(
          config,
          { state: taken, root, now, onRollback: () => undefined },
          context,
        );
        const [path, rootPath] = [record.config?.IntermediatePKIPath, record.config?.RootPKIPath];
        assert.deepEqual(await marks(path), ["dc1", "dc2"]);
        assert.equal(vault.garbage?.dueAt(renewed.state), null);

        // A rotation makes the next root next to the one that was taken over.
        const rotated = await vault.prepare(
          config,
          {
            previous: { config, state: renewed.state, root },
            ...{ fresh: true, now, onRollback: () => undefined, checkRoot: async () => undefined },
          },
          context,
        );
        assert.notEqual(rotated.root.id, root.id);
        assert.deepEqual(await marks(rootPath), ["dc1", "dc2"]);
        for (const [state, current] of [
          [renewed.state, root],
          [rotated.state, rotated.root],
        ] as const) {
          const opened = await vault.open(config, state, current, context);
          const failed = await proveCrossing(opened, current, [], [current], { ...context, now });
          assert.deepEqual([...failed], []);
          assert.deepEqual(await opened.external?.inspect(), {
            issuerLost: false,
            rootReplaced: false,
          });
          await opened.close();
        }
        // The lost one comes back: its own are there, and no root of the other one is adopted.
        await requireAll(ca);
        assert.deepEqual(await ca.manager.require().provider?.external?.inspect(), {
          issuerLost: false,
          rootReplaced: false,
        });

        // What the new primary leaves of its own is deleted, and nothing of the lost one.
        const own = vaultConfig(server).IntermediatePKIPath;
        const moved = vault.parse({ ...record.config, IntermediatePKIPath: own });
        const { state } = await vault.prepare(
          moved,
          {
            previous: { config, state: renewed.state, root },
            ...{ fresh: false, now, onRollback: () => undefined },
            checkRoot: async () => undefined,
          },
          context,
        );
        const due = vault.garbage?.dueAt(state);
        assert.ok(due instanceof Date);
        await vault.garbage?.collect(
          moved,
          { state, others: [], requireLease: () => undefined, now: due },
          context,
        );
        assert.deepEqual(await marks(path), ["dc1", "dc2"]);
        await requireAll(ca);
      });

      it("no issuer of another datacenter is deleted, also if the state names it as superseded", async () => {
        const { ca, record, root, context } = await lost();
        assert.ok(vault?.renew !== undefined && vault.garbage !== undefined);
        const config = vault.parse(record.config);
        const work = { now: ca.clock.now(), onRollback: () => undefined };
        const { state } = await vault.renew(
          config,
          { ...work, state: record.state, root },
          context,
        );
        const now = vault.garbage.dueAt(state);
        assert.ok(now !== null);
        const request = { state, others: [], requireLease: () => undefined, now };
        assert.equal(
          vault.garbage.dueAt(await vault.garbage.collect(config, request, context)),
          null,
        );
        assert.equal((await names(record.config?.IntermediatePKIPath)).length, 2);
        await requireAll(ca);
      });

      it("another datacenter takes nothing over without the record", async () => {
        const { ca, record, context } = await lost();
        assert.ok(vault !== undefined);
        const prepare = async (config: Config) =>
          vault.prepare(
            vault.parse({ ...config, Token: server.token }),
            {
              ...{ previous: null, fresh: false, now: ca.clock.now() },
              onRollback: () => undefined,
              checkRoot: async () => undefined,
            },
            context,
          );
        const { RootPKIPath: root, IntermediatePKIPath: path } = record.config ?? {};
        await requireRefused(
          () => prepare({ ...record.config, IntermediatePKIPath: vaultConfig(server).RootPKIPath }),
          belongsTo("RootPKIPath", root, "datacenter dc1 of this cluster"),
        );
        await requireRefused(
          () => prepare({ ...record.config, RootPKIPath: vaultConfig(server).RootPKIPath }),
          belongsTo("IntermediatePKIPath", path, "datacenter dc1 of this cluster"),
        );
      });
    });
  });
