/**
 * Replicas that read an older schema of the state: it is written for them, unless it would lose
 * what access control recorded.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NotReadyError } from "../../../src/core/errors.ts";
import { NOBODY } from "../../../src/core/ports/audit.ts";
import type { CrossSigner } from "../../../src/core/ports/provider.ts";
import type { AccessRecord, CaState } from "../../../src/core/state.ts";
import { generateCaKey } from "../../../src/core/x509/authority.ts";
import { makeCaRequest } from "../../../src/core/x509/request.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { createTestCa, DEFAULT_BOOTSTRAP, type TestCa } from "../../fakes/ca.ts";
import { providersWith } from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const ACCESS: AccessRecord = {
  keyId: "k1",
  bootstrapAccessorId: "11111111-2222-4333-8444-555555555555",
};

/** Commits the state with a record of access control, as another replica would. */
async function commitAccess({ manager, backend, sealer }: TestCa): Promise<void> {
  const { store, leases } = backend.open(createCodec(sealer), "other");
  const lease = (await leases.acquire("operation", 30_000)) ?? assert.fail();
  const { state } = manager.require();
  const next: CaState = {
    ...state,
    index: state.index + 1,
    commitId: "a".repeat(32),
    ancestors: [state.commitId],
    access: ACCESS,
  };
  await store.commit(next, { index: state.index, commitId: state.commitId, term: lease.term });
  await leases.release(lease);
  await manager.refresh();
}

const announce = ({ backend, sealer }: TestCa, schema: number) =>
  backend.open(createCodec(sealer), "old").replicas.announce(
    {
      id: "old",
      address: "10.0.0.2:8500",
      keks: sealer.keks,
      schema,
      index: 1,
      clockOffsetMs: 0,
    },
    60_000,
  );

describe("schemas of the state", () => {
  it("a change is refused while a live replica reads no schema with the record of access control", async () => {
    const ca = await createTestCa();
    await commitAccess(ca);
    await announce(ca, 2);
    const before = ca.backend.document;
    await assert.rejects(ca.manager.rotate(NOW), (error: unknown) => {
      assert.ok(error instanceof NotReadyError && error.code === "replica_behind", String(error));
      assert.match(
        error.message,
        /replica 10\.0\.0\.2:8500 runs a version of meshca that reads the stored state up to schema 2, and schema 3 is in use/,
      );
      return true;
    });
    assert.equal(ca.backend.document, before);
  });

  it("the record of access control survives a rotation, a configuration and an older backup", async () => {
    const ca = await createTestCa();
    const backup = ca.manager.require().state;
    await commitAccess(ca);
    await ca.manager.rotate(NOW);
    assert.deepEqual(ca.manager.require().state.access, ACCESS);
    await ca.manager.restore(backup, { forceWithoutCrossSigning: false });
    assert.deepEqual(ca.manager.require().state.access, ACCESS);
    assert.equal(ca.manager.require().active.id, backup.roots[0]?.id);
  });

  it("roles are not recorded while a live replica reads no schema with them, and stay recorded", async () => {
    const ca = await createTestCa();
    await commitAccess(ca);
    const raise = () =>
      ca.manager.recordAccess(async (before) => before && { ...before, recordSchema: 3 });
    await announce(ca, 4);
    const before = ca.backend.document;
    await assert.rejects(raise(), (error: unknown) => {
      assert.ok(error instanceof NotReadyError && error.code === "replica_behind", String(error));
      assert.match(
        error.message,
        /its next state needs schema 5, and replica 10\.0\.0\.2:8500 runs a version of meshca that reads the stored state up to schema 4/,
      );
      return true;
    });
    assert.equal(ca.backend.document, before);
    await ca.manager.rotate(NOW);
    assert.equal(ca.manager.require().state.schema, 3);
    await announce(ca, 5);
    assert.equal(await raise(), true);
    assert.equal(await raise(), false);
    await ca.manager.rotate(NOW);
    const { schema, access } = ca.manager.require().state;
    assert.deepEqual([schema, access], [5, { ...ACCESS, recordSchema: 3 }]);
  });

  it("a trust domain of one's own is not created while a live replica reads no schema with it", async () => {
    const bootstrap = { ...DEFAULT_BOOTSTRAP, trustDomain: "mesh.example.com" };
    const ca = await createTestCa({ bootstrap, started: false });
    await announce(ca, 3);
    await assert.rejects(ca.manager.tick(), (error: unknown) => {
      assert.ok(error instanceof NotReadyError && error.code === "replica_behind", String(error));
      assert.match(
        error.message,
        /its next state needs schema 4, and replica 10\.0\.0\.2:8500 runs a version of meshca that reads the stored state up to schema 3/,
      );
      return true;
    });
    assert.equal(ca.backend.document, null);
    await announce(ca, 4);
    await ca.manager.tick();
    assert.equal(ca.manager.require().state.schema, 4);
    await announce(ca, 3);
    await assert.rejects(ca.manager.rotate(NOW), /up to schema 3, and schema 4 is in use/);
  });

  it("an intermediate is not signed while a live replica reads no schema with the record of it", async () => {
    let signed = 0;
    const types = providersWith((type) => ({
      ...type,
      async open(...given) {
        const provider = await type.open(...given);
        const { crossSigner } = provider;
        if (crossSigner === null) return provider;
        const signIntermediate: CrossSigner["signIntermediate"] = (...request) => {
          signed++;
          return crossSigner.signIntermediate(...request);
        };
        return { ...provider, crossSigner: { ...crossSigner, signIntermediate } };
      },
    }));
    const ca = await createTestCa({ providers: types });
    const key = await generateCaKey({ type: "ec", bits: 256 });
    const uri = `spiffe://${ca.manager.require().state.trustDomain}`;
    const request = {
      csr: await makeCaRequest(key, "sec-1.consul", uri),
      caller: NOBODY,
      permit: () => undefined,
    };
    await announce(ca, 5);
    await assert.rejects(
      ca.manager.signIntermediate(request),
      /its next state needs schema 6, and replica 10\.0\.0\.2:8500 runs a version of meshca that reads the stored state up to schema 5/,
    );
    assert.deepEqual([signed, ca.manager.require().state.schema], [0, 3]);
    await announce(ca, 6);
    await ca.manager.signIntermediate(request);
    assert.deepEqual([signed, ca.manager.require().state.schema], [1, 6]);
  });

  it("a state is bound to its datacenter where there are several, and no other one takes it", async () => {
    const ca = await createTestCa({ hasDatacenters: true });
    const { state } = ca.manager.require();
    assert.deepEqual([state.schema, state.datacenter], [6, "dc1"]);
    const document = ca.backend.document ?? assert.fail();
    const role = (name: string, isSecondary: boolean) => ({ name, isSecondary });
    const read = await createCodec(ca.sealer, role("dc1", false)).decode(document);
    assert.equal(read.commitId, state.commitId);
    for (const isSecondary of [false, true])
      await assert.rejects(createCodec(ca.sealer, role("dc2", isSecondary)).decode(document), {
        code: "datacenter_differs",
        message: "Cannot use the stored CA state: it is of datacenter dc1, and this is dc2",
      });
    // A state from before there were several is that of the primary datacenter.
    const older = (await createTestCa({ sealer: ca.sealer })).backend.document ?? assert.fail();
    await createCodec(ca.sealer, role("dc1", false)).decode(older);
    await assert.rejects(createCodec(ca.sealer, role("dc2", true)).decode(older), {
      message: "Cannot use the stored CA state: it names no datacenter, and this is dc2",
    });
  });

  it("an older schema is written for a replica that reads no newer one, and none that is newer than needed for one that reads more", async () => {
    const ca = await createTestCa();
    for (const [schema, written] of [
      [2, 2],
      [1, 1],
      [3, 3],
      [9, 3],
    ] as const) {
      await announce(ca, schema);
      await ca.manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
      assert.equal(ca.manager.require().state.schema, written);
    }
  });
});
