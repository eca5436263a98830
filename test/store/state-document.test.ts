/**
 * The stored form of the state: each schema that there was is read, and none that would lose
 * something is written.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type CaState, SCHEMA, SCHEMAS, schemaFor } from "../../src/core/state.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { createTestCa } from "../fakes/ca.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const codec = createCodec(createSealer(await readKeks(makeKek())));
const recode = async (state: CaState) => codec.decode(await codec.encode(state));

async function rotatedState(): Promise<CaState> {
  const { manager } = await createTestCa();
  await manager.rotate(NOW);
  return manager.require().state;
}

describe("codec", () => {
  it("gives every field of the newest schema back", async () => {
    const state = await rotatedState();
    const full: CaState = {
      ...state,
      schema: SCHEMA,
      trustDomain: "mesh.example.com",
      access: { keyId: "k1", bootstrapAccessorId: "11111111-2222-4333-8444-555555555555" },
    };
    assert.deepEqual(await recode(full), full);
    assert.deepEqual(await recode(state), state);
  });

  it("verifies and parses an unchanged document once, and one that differs again", async () => {
    const sealer = createSealer(await readKeks(makeKek()));
    let verified = 0;
    const counting = createCodec({
      mac: (...args) => sealer.mac(...args),
      verifyMac: (...args) => {
        verified++;
        return sealer.verifyMac(...args);
      },
    });
    const document = await counting.encode(await rotatedState());
    const first = await counting.decode(document);
    assert.equal(await counting.decode(document), first);
    assert.equal(verified, 1);
    const forged = document.replace('"index":', '"index":1');
    await assert.rejects(counting.decode(forged), /MAC/);
    assert.equal(await counting.decode(document), first);
    assert.equal(verified, 2);
  });

  it("derives the issuers of an older schema: the active root's own, and a retired root's for as long as a leaf of it can live", async () => {
    const state = await rotatedState();
    for (const schema of SCHEMAS.filter((older) => older < SCHEMA)) {
      const { roots, access, ancestors, trustDomain } = await recode({ ...state, schema });
      assert.equal(access, null);
      assert.equal(trustDomain, `${state.clusterId}.consul`);
      assert.deepEqual(ancestors, schema < 2 ? [] : state.ancestors);
      assert.deepEqual(roots, state.roots);
      assert.deepEqual(
        roots
          .map(({ status, leafIssuers }) => [
            status,
            leafIssuers.map(({ leavesUntil }) => leavesUntil !== null),
          ])
          .toSorted(),
        [
          ["active", [false]],
          ["retired", [true]],
        ],
      );
    }
  });

  it("writes nothing of an older schema into a newer one's fields", async () => {
    const state = await rotatedState();
    const fields = async (schema: CaState["schema"]) => {
      const { body } = JSON.parse(await codec.encode({ ...state, schema })) as { body: string };
      const { roots, ...rest } = JSON.parse(body) as { roots: object[] };
      return [...Object.keys(rest), ...Object.keys(roots[0] ?? {})];
    };
    for (const [schema, field] of [
      [2, "ancestors"],
      [3, "access"],
      [3, "leafIssuers"],
      [4, "trustDomain"],
      [6, "datacenter"],
      [6, "primary"],
    ] as const)
      for (const written of SCHEMAS)
        assert.equal(
          (await fields(written)).includes(field),
          written >= schema,
          `${field} in schema ${written}`,
        );
  });

  it("refuses to write a schema that would lose what access control recorded", async () => {
    const state = { ...(await rotatedState()), access: { keyId: "k1", bootstrapAccessorId: null } };
    for (const schema of [1, 2] as const)
      await assert.rejects(codec.encode({ ...state, schema }), /Schema \d cannot hold this state/);
  });

  it("refuses to write a schema whose readers would ignore roles", async () => {
    const access = { keyId: "k1", bootstrapAccessorId: null, recordSchema: 3 } as const;
    const state: CaState = { ...(await rotatedState()), access };
    for (const schema of [1, 2, 3, 4] as const)
      await assert.rejects(codec.encode({ ...state, schema }), /Schema \d cannot hold this state/);
    assert.deepEqual((await recode({ ...state, schema: 5 })).access, access);
  });

  it("refuses to write a schema whose readers do not know a field of the configuration, of a retired root's too", async () => {
    const state: CaState = { ...(await rotatedState()), schema: 4 };
    const [id = assert.fail()] = Object.keys(state.provider.retired);
    const retired = state.provider.retired[id] ?? assert.fail();
    for (const name of ["ServiceDNSNames", "service_dns_names", "serviceIPRanges"]) {
      const config = { [name]: ["{service}"] };
      const configured = { ...state, config: { ...state.config, config } };
      const retiredWith = {
        ...state,
        provider: { ...state.provider, retired: { [id]: { ...retired, config } } },
      };
      for (const changed of [configured, retiredWith]) {
        assert.deepEqual(await recode(changed), changed);
        await assert.rejects(
          codec.encode({ ...changed, schema: 3 }),
          /Schema 3 cannot hold this state/,
        );
      }
    }
  });

  it("refuses to write a schema that would lose a trust domain of one's own", async () => {
    const state = { ...(await rotatedState()), trustDomain: "mesh.example.com" };
    for (const schema of [1, 2, 3] as const)
      await assert.rejects(codec.encode({ ...state, schema }), /Schema \d cannot hold this state/);
    assert.equal((await recode({ ...state, schema: 4 })).trustDomain, "mesh.example.com");
  });

  it("refuses to write a schema that would lose the datacenter, or the intermediates of others", async () => {
    const state = await rotatedState();
    const issued = {
      ...{ serial: "01", keyId: "02", rootId: "03", accessor: null, address: null },
      ...{ notBefore: new Date(0), notAfter: new Date(1000) },
    };
    const bound: CaState = {
      ...{ ...state, schema: 6, datacenter: "dc2" },
      primary: { datacenter: "dc1", index: 7, leafTtlMs: null, renewAt: null },
    };
    const issuing: CaState = { ...state, schema: 6, intermediates: [issued] };
    const configured: CaState = {
      ...{ ...state, schema: 6 },
      config: { ...state.config, config: { root_auto_rotate: 0.8 } },
    };
    for (const changed of [bound, issuing, configured]) {
      assert.deepEqual(await recode(changed), changed);
      for (const schema of [1, 2, 3, 4, 5] as const)
        await assert.rejects(
          codec.encode({ ...changed, schema }),
          /Schema \d cannot hold this state/,
        );
    }
  });

  it("writes what schema 7 adds, and schema 6 without the primary's LeafCertTTL", async () => {
    const state = await rotatedState();
    const [active, retired] = state.roots.toSorted((a) => (a.status === "active" ? -1 : 1));
    assert.ok(active !== undefined && retired !== undefined);
    const full: CaState = {
      ...{ ...state, schema: 7, datacenter: "dc2", promotions: 2 },
      otherPrimary: { datacenter: "dc3", promotions: 3, by: "dc1" },
      primary: {
        datacenter: "dc1",
        index: 7,
        leafTtlMs: 1000,
        renewAt: new Date("2026-06-02T00:00:00Z"),
      },
      roots: [
        { ...active, abandoned: true, lost: true },
        { ...retired, status: "prepared", rotatedOutAt: null },
      ],
      provider: {
        ...state.provider,
        prepared: {
          ...{ rootId: retired.id, activateAt: new Date(1000) },
          ...{ provider: "consul", config: null, state: { key: "k" } },
        },
      },
    };
    assert.deepEqual(await recode(full), full);
    await assert.rejects(codec.encode({ ...full, schema: 6 }), /Schema 6 cannot hold this state/);
    const followed: CaState = {
      ...{ ...state, schema: 6, datacenter: "dc2" },
      primary: {
        datacenter: "dc1",
        index: 7,
        leafTtlMs: 1000,
        renewAt: new Date("2026-06-02T00:00:00Z"),
      },
    };
    assert.equal(schemaFor(followed, 6), 6);
    assert.equal(schemaFor(followed, 7), 7);
    assert.deepEqual((await recode(followed)).primary, {
      ...{ datacenter: "dc1", index: 7 },
      leafTtlMs: null,
      renewAt: null,
    });
  });

  it("refuses a trust domain that was changed in the document", async () => {
    const state: CaState = {
      ...(await rotatedState()),
      schema: 4,
      trustDomain: "mesh.example.com",
    };
    const document = await codec.encode(state);
    const forged = document.replace("mesh.example.com", "evil.example.com");
    assert.notEqual(forged, document);
    await assert.rejects(codec.decode(forged), /the MAC of its document is invalid/);
  });

  it("keeps dropped roots in schema 8, and no schema before holds them", async () => {
    const before = await rotatedState();
    const instant = new Date("2026-07-01T00:00:00.000Z");
    const through = [{ rootId: "00:01", until: instant }];
    const dropped = [{ id: "00:02", keyId: "00:03", notAfter: instant, at: instant, through }];
    const state: CaState = { ...before, schema: 8, dropped };
    assert.deepEqual(await codec.decode(await codec.encode(state)), state);
    await assert.rejects(codec.encode({ ...state, schema: 7 }), /Schema 7 cannot hold this state/);
    assert.deepEqual((await codec.decode(await codec.encode(before))).dropped, []);
  });

  it("refuses a schema that is too new, and a body with a field that its schema does not have", async () => {
    const document = JSON.parse(await codec.encode(await rotatedState())) as Record<
      string,
      unknown
    >;
    await assert.rejects(
      codec.decode(JSON.stringify({ ...document, schema: SCHEMA + 1 })),
      /it has schema 9, this version of meshca knows up to 8/,
    );
    await assert.rejects(
      codec.decode(JSON.stringify({ ...document, schema: 2 })),
      /the MAC of its document is invalid/,
    );
  });
});
