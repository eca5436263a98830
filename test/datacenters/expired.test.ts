/**
 * Expired certificates across datacenters, by a fake clock: the primary recovers, and the others
 * follow by themselves within seconds, however long it took.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createTlsCa } from "../../src/cli/tls/certificates.ts";
import { keyText } from "../../src/cli/tls/command-values.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { configuration, createTestCa, type TestCa, trustDomain } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { leafOf, requireMutual } from "./leaves.ts";
import { primaryOf, type TestPrimary } from "./pair.ts";

const DAY = 86_400_000;
/** Longer than RootCertTTL, 87600h, and IntermediateCertTTL, 8760h. */
const LIFE = { root: 3651 * DAY, intermediate: 366 * DAY };
/** Within what time a secondary looks at the primary again, in milliseconds. */
const POLL_MS = 10_000;
const TTL = { IntermediateCertTTL: "8760h", LeafCertTTL: "72h", RootCertTTL: "87600h" };

interface Mesh {
  readonly one: TestCa;
  readonly secondaries: readonly Secondary[];
}
interface Secondary extends TestCa {
  readonly name: string;
  readonly primary: TestPrimary;
}

/** A secondary of a primary; it has joined if it could. */
async function secondaryOf(one: TestCa, name: string, before?: TestCa): Promise<Secondary> {
  const primary = primaryOf(one);
  const ca = await createTestCa({
    ...{ clock: one.clock, datacenter: name, hasDatacenters: true, primary, started: false },
    ...(before === undefined ? {} : { backend: before.backend, sealer: before.sealer }),
  });
  await ca.manager.tick();
  return { ...ca, name, primary };
}

async function meshOf(...names: readonly string[]): Promise<Mesh> {
  const one = await createTestCa({ hasDatacenters: true });
  const secondaries: Secondary[] = [];
  for (const name of names) secondaries.push(await secondaryOf(one, name));
  return { one, secondaries };
}

/** What the background tasks of all do in a while: each looks every two seconds. */
async function pass({ one, secondaries }: Mesh, ms: number): Promise<void> {
  const { signal } = new AbortController();
  for (let passed = 0; passed < ms; passed += 2000) {
    one.clock.advance(2000);
    for (const { manager } of [one, ...secondaries]) await manager.heartbeat();
    await one.manager.tick();
    for (const { manager } of secondaries) {
      await manager.followPrimary(signal);
      await manager.tick();
    }
  }
}

/** Gives the primary a root, as `meshca recover` does. @returns its ID. */
async function recover({ manager, clock }: TestCa): Promise<string> {
  const { certificate, key } = await createTlsCa({
    ...{ key: { type: "ec", bits: 256 }, commonName: null, permitted: null, days: 365 },
    ...{ trustDomain: trustDomain(manager), now: clock.now(), random: systemRandom },
  });
  const supplied = { RootCert: pemOf(certificate), PrivateKey: await keyText(key) };
  assert.equal(await manager.configure(configuration({ ...TTL, ...supplied })), true);
  return certificate.id;
}

const cas = ({ one, secondaries }: Mesh) => [
  { ...one, name: "dc1" },
  ...secondaries.map((each) => ({ ...each, name: each.name })),
];

async function requireNobodySigns(mesh: Mesh, reason: RegExp): Promise<void> {
  for (const each of cas(mesh)) await assert.rejects(leafOf(each), reason, each.name);
}

const faultOf = ({ manager }: TestCa) => manager.status.primary?.fault?.reason ?? null;

describe("the root of the primary has expired, and every intermediate with it", () => {
  for (const again of [false, true])
    it(`secondaries follow its recovery within ten seconds, after hours of failures${again ? ", and after restarts of all" : ""}`, async () => {
      let mesh = await meshOf("dc2", "dc3");
      mesh.one.clock.advance(LIFE.root);
      if (again) mesh = await restarted(mesh);
      await pass(mesh, 3_600_000);
      await requireNobodySigns(mesh, /root expired: certificate expired, expiration date: /);
      const documents = mesh.secondaries.map(({ backend }) => backend.document);
      for (const each of mesh.secondaries)
        assert.match(
          faultOf(each) ?? "",
          /^Cannot follow datacenter dc1: its active root \S+ expired at \S+; replace the root there, and this datacenter follows$/,
        );
      const id = await recover(mesh.one);
      assert.deepEqual(
        mesh.secondaries.map(({ backend }) => backend.document),
        documents,
      );
      await pass(mesh, POLL_MS);
      for (const each of mesh.secondaries) {
        assert.equal(each.manager.require().active.id, id, faultOf(each) ?? "");
        assert.equal(faultOf(each), null);
      }
      await requireMutual(cas(mesh));
    });

  it("a secondary that starts for the first time is refused with the reason, and joins after the recovery", async () => {
    const { one } = await meshOf();
    one.clock.advance(LIFE.root);
    await one.manager.heartbeat();
    const mesh = { one, secondaries: [await secondaryOf(one, "dc2")] };
    const [two] = mesh.secondaries;
    assert.ok(two !== undefined);
    await pass(mesh, 3_600_000);
    assert.equal(two.manager.snapshot, null);
    assert.equal(two.backend.document, null);
    assert.equal(two.primary.signed, 0);
    assert.match(
      two.manager.obstacle() ?? "",
      /^CA has not finished initializing: it waits for the primary datacenter dc1: Cannot follow datacenter dc1: its active root \S+ expired at /,
    );
    const id = await recover(one);
    await pass(mesh, POLL_MS);
    assert.equal(two.manager.require().active.id, id);
    assert.equal(two.manager.obstacle(), null);
    await requireMutual(cas(mesh));
  });
});

describe("the intermediate of a secondary expired while the primary was away", () => {
  for (const again of [false, true])
    it(`a new one is taken within ten seconds after the primary is back${again ? ", and after a restart" : ""}`, async () => {
      let mesh = await meshOf("dc2");
      const before = mesh.secondaries[0]?.manager.require().active;
      for (const { primary } of mesh.secondaries) primary.away = true;
      mesh.one.clock.advance(LIFE.intermediate);
      if (again) {
        const [two] = mesh.secondaries;
        await two?.manager.close();
        mesh = { ...mesh, secondaries: [await secondaryOf(mesh.one, "dc2", two)] };
        for (const { primary } of mesh.secondaries) primary.away = true;
      }
      const [two] = mesh.secondaries;
      assert.ok(two !== undefined);
      await pass(mesh, again ? 0 : 3_600_000);
      if (!again) {
        await assert.rejects(leafOf(two), /intermediate expired: certificate expired/);
        assert.match(faultOf(two) ?? "", /No CA server answered/);
      }
      // The primary signs on: its root is valid.
      await leafOf({ ...mesh.one, name: "dc1" });
      two.primary.away = false;
      await pass(mesh, POLL_MS);
      const { active } = two.manager.require();
      assert.equal(active.id, before?.id);
      assert.notEqual(active.signingKeyId, before?.signingKeyId);
      assert.equal(faultOf(two), null);
      await requireMutual(cas(mesh));
    });
});

/** The next processes over the same stores. */
async function restarted({ one, secondaries }: Mesh): Promise<Mesh> {
  for (const { manager } of [one, ...secondaries]) await manager.close();
  const { backend, clock, sealer } = one;
  const next = await createTestCa({ backend, clock, sealer, hasDatacenters: true });
  const all: Secondary[] = [];
  for (const each of secondaries) all.push(await secondaryOf(next, each.name, each));
  return { one: next, secondaries: all };
}
