/**
 * Issuers below the root: their place in the issuer chain, when they are renewed, and
 * secrets in maps.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { colonHex } from "../../../src/core/bytes.ts";
import { redact, requireKept } from "../../../src/core/ca/config-fields.ts";
import { crossChainOf, issuerChainOf } from "../../../src/core/ca/cross-chain.ts";
import { nextStep } from "../../../src/core/ca/schedule.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import {
  bootstrap,
  changeConfig,
  prune,
  renewIssuer,
  rotate,
} from "../../../src/core/ca/transitions.ts";
import { type DeletionTime, trusted } from "../../../src/core/deletion-time.ts";
import { type CaState, HIDDEN } from "../../../src/core/state.ts";
import {
  createIntermediate,
  createRoot,
  crossSign,
  generateCaKey,
} from "../../../src/core/x509/authority.ts";
import type { Certificate } from "../../../src/core/x509/certificate.ts";
import { systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { CLUSTER, HOUR } from "./harness.ts";

const NOW = new Date("2026-03-01T00:00:00Z");
const CONFIG = { provider: "vault", config: {}, forceWithoutCrossSigning: false };
const OPTIONS = { ...clusterOf(CLUSTER), provider: "vault", now: NOW, random: systemRandom };

async function rootWithIssuer(ttlMs = 1000 * HOUR) {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const certificate = await createRoot(key, { ...OPTIONS, ttlMs: 10_000 * HOUR });
  const authority = { certificate, privateKey: key.privateKey };
  const issue = async () =>
    createIntermediate((await generateCaKey({ type: "ec", bits: 256 })).info, authority, {
      ...OPTIONS,
      ttlMs,
    });
  return { authority, certificate, issue, issuer: await issue() };
}

const newRoot = (certificate: Certificate, issuer: Certificate) => ({
  name: "Root",
  certificate,
  issuerKeyId: issuer.subjectKeyId as Uint8Array,
  issuers: [issuer],
  state: {},
});
const id = (n: number) => n.toString(16).padStart(32, "0");

describe("issuers below the root", () => {
  it("issuerChainOf() puts them before the cross-chain, through rotation, renewal and pruning", async () => {
    const [old, next] = [await rootWithIssuer(), await rootWithIssuer()];
    const first = bootstrap(clusterOf(CLUSTER), id(1), {
      config: CONFIG,
      root: newRoot(old.certificate, old.issuer),
      leafTtlMs: HOUR,
      now: NOW,
    });
    const crossed = await crossSign(next.certificate, old.authority, {
      now: NOW,
      random: systemRandom,
      until: old.certificate.notAfter,
    });
    const root = newRoot(next.certificate, next.issuer);
    const second = rotate(first, id(2), {
      config: CONFIG,
      root,
      chain: [crossed],
      abandonedRoots: [],
      leafTtlMs: HOUR,
      now: NOW,
    });
    const active = (state: CaState) =>
      state.roots.find(({ status }) => status === "active") ?? assert.fail();
    assert.deepEqual(issuerChainOf(active(second)), [next.issuer]);
    assert.deepEqual(crossChainOf(active(second)), [crossed]);

    const renewed = await next.issue();
    const third = renewIssuer(
      second,
      id(3),
      { facts: "new" },
      { issuerKeyId: renewed.subjectKeyId as Uint8Array, issuers: [renewed], now: NOW },
    );
    assert.deepEqual(issuerChainOf(active(third)), [renewed]);
    assert.deepEqual(crossChainOf(active(third)), [crossed]);
    assert.equal(active(third).signingKeyId, colonHex(renewed.subjectKeyId as Uint8Array));
    assert.equal(active(third).modifyIndex, third.index);

    const dead = new Date(NOW.getTime() + 3 * HOUR);
    const fourth = prune(third, id(4), DEFAULT_POLICY, trusted(dead));
    assert.equal(fourth.roots.length, 1);
    assert.deepEqual(active(fourth).intermediates, [renewed]);
  });

  it("each root records the issuers that signed its leaves, until every leaf of them must have expired", async () => {
    const [old, next] = [await rootWithIssuer(), await rootWithIssuer(1.5 * HOUR)];
    const record = (state: CaState, { id: of }: Certificate) =>
      state.roots
        .find((root) => root.id === of)
        ?.leafIssuers.map(({ certificate, leavesUntil }) => [certificate, leavesUntil]);
    const at = (hours: number) => new Date(NOW.getTime() + hours * HOUR);
    const first = bootstrap(clusterOf(CLUSTER), id(1), {
      config: CONFIG,
      root: newRoot(old.certificate, old.issuer),
      leafTtlMs: HOUR,
      now: NOW,
    });
    assert.deepEqual(record(first, old.certificate), [[old.issuer, null]]);
    assert.equal(
      first.roots[0]?.leafIssuers[0]?.keyId,
      colonHex(old.issuer.subjectKeyId as Uint8Array),
    );

    const renewed = await old.issue();
    const issuing = {
      issuerKeyId: renewed.subjectKeyId as Uint8Array,
      issuers: [renewed],
      now: at(1),
    };
    const second = renewIssuer(first, id(2), {}, issuing);
    const both = [
      [renewed, null],
      [old.issuer, at(3)],
    ];
    assert.deepEqual(record(second, old.certificate), both);
    assert.deepEqual(
      record(
        changeConfig(second, id(3), { config: CONFIG, provider: {}, leafTtlMs: HOUR, issuing }),
        old.certificate,
      ),
      both,
    );

    const rotation = { config: CONFIG, chain: [], abandonedRoots: [], leafTtlMs: HOUR };
    const third = rotate(second, id(4), {
      ...rotation,
      root: newRoot(next.certificate, next.issuer),
      now: at(2),
    });
    assert.deepEqual(record(third, old.certificate), [
      [renewed, at(4)],
      [old.issuer, at(3)],
    ]);
    assert.deepEqual(record(third, next.certificate), [[next.issuer, null]]);

    // Back to the first root: what it signed before counts as long as it did, and a certificate
    // that ends sooner ends its record.
    const fourth = rotate(third, id(5), {
      ...rotation,
      root: newRoot(old.certificate, old.issuer),
      now: at(3),
    });
    assert.deepEqual(record(fourth, old.certificate), [
      [old.issuer, null],
      [renewed, at(4)],
    ]);
    // Only a prune drops expired records, once looks at the clock have confirmed the expiry.
    assert.deepEqual(record(fourth, next.certificate), [[next.issuer, next.issuer.notAfter]]);
    const fifth = prune(fourth, id(6), DEFAULT_POLICY, trusted(at(5)));
    assert.deepEqual(record(fifth, old.certificate), [[old.issuer, null]]);
  });

  it("nextStep() renews an issuer once half its life is spent, after pruning and before collecting", async () => {
    const { certificate, issuer } = await rootWithIssuer();
    const state = bootstrap(clusterOf(CLUSTER), id(1), {
      config: CONFIG,
      root: newRoot(certificate, issuer),
      leafTtlMs: HOUR,
      now: NOW,
    });
    const half = (issuer.notBefore.getTime() + issuer.notAfter.getTime()) / 2;
    assert.deepEqual(nextStep(state, DEFAULT_POLICY, trusted(new Date(half - 1))), {
      kind: "wait",
      until: new Date(half + 1),
    });
    assert.equal(nextStep(state, DEFAULT_POLICY, trusted(new Date(half))).kind, "renew");
    assert.equal(
      nextStep(state, DEFAULT_POLICY, trusted(new Date(half)), { collectAt: NOW, rotateAt: null })
        .kind,
      "renew",
    );
    assert.equal(
      nextStep(state, DEFAULT_POLICY, trusted(new Date(half - 1)), {
        collectAt: NOW,
        rotateAt: null,
      }).kind,
      "collect",
    );
    const until = new Date(NOW.getTime() + HOUR / 8);
    const doubted: DeletionTime = {
      now: new Date(NOW.getTime() + 1),
      confirmed: () => new Date(NOW.getTime() - 1),
      confirmsAt: () => until,
      at: () => doubted,
    };
    assert.deepEqual(nextStep(state, DEFAULT_POLICY, doubted, { collectAt: NOW, rotateAt: null }), {
      kind: "wait",
      until,
    });
  });
});

describe("secrets of a configuration", () => {
  const PATHS = ["Token", "AuthMethod.Params.secret_id"];

  it("redact() hides them at any depth and in any spelling, and keeps empty ones", () => {
    const config = {
      token: "t",
      AuthMethod: { Type: "approle", params: { SecretID: "s", role_id_file_path: "/r" } },
      Address: "a",
    };
    assert.deepEqual(redact(config, PATHS), {
      token: HIDDEN,
      AuthMethod: { Type: "approle", params: { SecretID: HIDDEN, role_id_file_path: "/r" } },
      Address: "a",
    });
    assert.deepEqual(redact({ Token: "", AuthMethod: null }, PATHS), {
      Token: "",
      AuthMethod: null,
    });
  });

  it("requireKept() accepts a hidden secret only if the secret of that field is stored", () => {
    const kept = { AuthMethod: { Params: { secret_id: HIDDEN } } };
    const stored = { provider: "vault", config: kept };
    requireKept({ provider: "vault", config: kept }, stored, PATHS);
    assert.throws(
      () => requireKept({ provider: "vault", config: { Token: HIDDEN } }, stored, PATHS),
      /none is stored/,
    );
    assert.throws(
      () =>
        requireKept(
          { provider: "vault", config: kept },
          { provider: "consul", config: kept },
          PATHS,
        ),
      /provider changes/,
    );
  });
});
