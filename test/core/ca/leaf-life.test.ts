/**
 * How long leaves live: bounds of a requested lifetime, what is back-dated, and that renewals by a
 * leaf's own key neither prolong nor shorten.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { VAULT_LEAF_LIMITS } from "../../../providers/vault/limits.ts";
import { maxLeafLifeMs } from "../../../src/core/ca/leaf-issuers.ts";
import { leafLife, renewAfter, requireTtl } from "../../../src/core/ca/leaf-life.ts";
import { isOwnLeaf } from "../../../src/core/ca/renewal-check.ts";
import { pruneAt } from "../../../src/core/ca/root-removal.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { RequestError } from "../../../src/core/errors.ts";
import { activeRoot } from "../../../src/core/state.ts";
import { type Certificate, readCertificatePem } from "../../../src/core/x509/certificate.ts";
import {
  backdateOf,
  LOCAL_LEAF_LIMITS,
  leafValidity,
  longestLife,
} from "../../../src/core/x509/leaf.ts";
import { createTestCa, opensslCsr, serviceUri } from "../../fakes/ca.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const LEAF_TTL = 72 * HOUR;
const LIMITS = [LOCAL_LEAF_LIMITS, VAULT_LEAF_LIMITS];

const { manager, clock } = await createTestCa();
const { state } = manager.require();
const root = activeRoot(state).certificate;
const now = new Date(clock.now().getTime() + 2 * HOUR);

/** The validity of a leaf of this CA, signed at an instant. */
function signed(at: Date, life: ReturnType<typeof leafLife>): Certificate {
  return { ...root, ...leafValidity(root, root, life, at), authorityKeyId: root.subjectKeyId };
}
const span = ({ notBefore, notAfter }: Pick<Certificate, "notBefore" | "notAfter">) =>
  notAfter.getTime() - notBefore.getTime();

describe("requireTtl()", () => {
  it("requireTtl() takes the bounds, and names them for what is outside", () => {
    for (const limits of LIMITS) {
      requireTtl(limits.minTtlMs, LEAF_TTL, limits);
      requireTtl(LEAF_TTL, LEAF_TTL, limits);
    }
    for (const [ttlMs, limits, says] of [
      [
        MINUTE - 1,
        LOCAL_LEAF_LIMITS,
        "TTL 59.999 s is out of range: it must be at least 1 min and",
      ],
      [5 * MINUTE - 1, VAULT_LEAF_LIMITS, "it must be at least 5 min and at most 72 h, which is"],
      [LEAF_TTL + 1, LOCAL_LEAF_LIMITS, "it must be at least 1 min and at most 72 h, which is"],
      [0, LOCAL_LEAF_LIMITS, "TTL 0 s is out of range"],
      [-HOUR, LOCAL_LEAF_LIMITS, "TTL -1 h is out of range"],
    ] as const)
      assert.throws(
        () => requireTtl(ttlMs, LEAF_TTL, limits),
        (error: unknown) => {
          assert.ok(error instanceof RequestError && error.code === "profile_violation");
          assert.ok(error.message.includes(says), error.message);
          return true;
        },
      );
  });
});

describe("leafLife()", () => {
  it("leafLife() without a requested lifetime gives a validity of LeafCertTTL, as Consul", () => {
    const leaf = signed(now, leafLife(null, LEAF_TTL, LOCAL_LEAF_LIMITS, null));
    assert.equal(span(leaf), LEAF_TTL);
    assert.equal(leaf.notBefore.getTime(), now.getTime() - MINUTE);
  });

  it("leafLife() counts a requested lifetime from the moment of signing, back-dated by a tenth below ten minutes", () => {
    for (const [ttlMs, backdated] of [
      [MINUTE, 6 * SECOND],
      [95 * SECOND, 9 * SECOND],
      [5 * MINUTE, 30 * SECOND],
      [10 * MINUTE - SECOND, 59 * SECOND],
      [10 * MINUTE, MINUTE],
      [LEAF_TTL, MINUTE],
    ] as const) {
      const leaf = signed(now, leafLife(ttlMs, LEAF_TTL, LOCAL_LEAF_LIMITS, null));
      assert.equal(leaf.notAfter.getTime() - now.getTime(), ttlMs);
      assert.equal(now.getTime() - leaf.notBefore.getTime(), backdated);
    }
    assert.equal(leafLife(LEAF_TTL, HOUR, LOCAL_LEAF_LIMITS, null).ttlMs, HOUR);
  });

  it("repeated renewals by the leaf's own key neither prolong nor shorten, whatever they ask for", () => {
    for (const limits of LIMITS)
      fc.assert(
        fc.property(
          fc.oneof(
            fc.constant(null),
            fc.integer({ min: limits.minTtlMs, max: 20 * MINUTE }),
            fc.integer({ min: limits.minTtlMs, max: LEAF_TTL }),
          ),
          fc.array(fc.option(fc.integer({ min: limits.minTtlMs, max: LEAF_TTL })), {
            maxLength: 5,
          }),
          (first, later) => {
            let leaf = signed(now, leafLife(first, LEAF_TTL, limits, null));
            const longest = span(leaf);
            for (const wanted of later) {
              const life = leafLife(wanted, LEAF_TTL, limits, { leaf, state });
              const next = signed(new Date(now.getTime() + 999), life);
              assert.ok(span(next) <= span(leaf), `${span(next)} after ${span(leaf)}`);
              if (wanted === null) assert.equal(span(next), Math.min(span(leaf), LEAF_TTL));
              leaf = next;
            }
            assert.ok(span(leaf) <= longest);
          },
        ),
      );
  });

  it("a renewal of a leaf that its issuer cut short may live as long as the configuration says", () => {
    for (const before of [0, 119_000]) {
      const late = new Date(root.notAfter.getTime() - HOUR);
      const cut = { ...signed(late, leafLife(null, LEAF_TTL, LOCAL_LEAF_LIMITS, null)) };
      const leaf = { ...cut, notAfter: new Date(cut.notAfter.getTime() - before) };
      assert.ok(leaf.notAfter <= root.notAfter);
      const life = leafLife(null, LEAF_TTL, LOCAL_LEAF_LIMITS, { leaf, state });
      assert.equal(life.ttlMs, LEAF_TTL - MINUTE);
    }
    const until = new Date(root.notAfter.getTime() - 121_000);
    const short = { ...root, authorityKeyId: root.subjectKeyId, notAfter: until };
    const leaf = { ...short, notBefore: new Date(until.getTime() - HOUR) };
    const life = leafLife(null, LEAF_TTL, LOCAL_LEAF_LIMITS, { leaf, state });
    assert.equal(life.ttlMs, HOUR - MINUTE);
  });

  it("a renewal is not prolonged because an earlier certificate of the issuer's key has expired", () => {
    const leaf = signed(now, leafLife(5 * MINUTE, LEAF_TTL, LOCAL_LEAF_LIMITS, null));
    for (const end of [leaf.notBefore.getTime(), leaf.notAfter.getTime() - SECOND]) {
      const certificate = { ...root, id: "earlier", notAfter: new Date(end) };
      const [entry] = state.roots;
      assert.ok(entry !== undefined);
      const issuer = { certificate, keyId: entry.signingKeyId, leavesUntil: now };
      const roots = [
        { ...entry, leafIssuers: [...entry.leafIssuers, issuer] },
        { ...entry, certificate, leafIssuers: [issuer] },
      ];
      const life = leafLife(null, LEAF_TTL, LOCAL_LEAF_LIMITS, { leaf, state: { roots } });
      assert.equal(life.ttlMs, 5 * MINUTE);
    }
  });

  it("a leaf whose begin its issuer cut renews without a longer validity", () => {
    const start = new Date(root.notBefore.getTime() + 2 * SECOND);
    const leaf = signed(start, leafLife(MINUTE, LEAF_TTL, LOCAL_LEAF_LIMITS, null));
    assert.equal(leaf.notBefore.getTime(), root.notBefore.getTime());
    assert.equal(span(leaf), MINUTE + 2 * SECOND);
    const renewed = leafLife(null, LEAF_TTL, LOCAL_LEAF_LIMITS, { leaf, state });
    assert.equal(span(signed(now, renewed)), span(leaf));
  });
});

describe("what counts the longest life", () => {
  it("a retired root is listed, and a denylist entry lasts, for longer than any leaf lives, whatever was asked for", async () => {
    const test = await createTestCa();
    const csr = opensslCsr(`URI:${serviceUri(test.manager, "web")}`).csr;
    const before = test.manager.require().active.leafTtlMaxMs;
    const short = await test.manager.sign(csr, { ttlMs: MINUTE });
    const long = await test.manager.sign(csr, { ttlMs: LEAF_TTL });
    assert.ok(short.notAfter < long.notAfter);
    assert.equal(long.notAfter.getTime() - test.clock.now().getTime(), LEAF_TTL);
    await test.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    const snapshot = test.manager.require();
    const retired = snapshot.state.roots.find(({ status }) => status === "retired");
    assert.ok(retired !== undefined && retired.leafTtlMaxMs === before && before === LEAF_TTL);
    assert.ok(pruneAt(retired, DEFAULT_POLICY) > long.notAfter);
    assert.ok(retired.leafIssuers.every(({ leavesUntil }) => (leavesUntil ?? 0) > long.notAfter));
    assert.ok(maxLeafLifeMs(snapshot, DEFAULT_POLICY) > LEAF_TTL);
    assert.equal(
      await isOwnLeaf(readCertificatePem(long.certificatePem), snapshot.state, test.clock.now()),
      true,
    );
  });
});

describe("longestLife()", () => {
  it("longestLife() is the longest life that fits, and gives every life back", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 1500 }),
        fc.constantFrom(30, 60),
        (seconds, backdate) => {
          const backdateMs = backdate * SECOND;
          const validity = (ttlMs: number) => ttlMs + backdateOf({ ttlMs, backdateMs });
          const spanMs = seconds * SECOND;
          const found = longestLife(spanMs, backdateMs);
          assert.ok(validity(found) <= spanMs && validity(found + SECOND) > spanMs);
          assert.equal(longestLife(validity(spanMs), backdateMs), spanMs);
        },
      ),
      { numRuns: 5000 },
    );
  });
});

describe("renewAfter()", () => {
  it("renewAfter() is between 60 and 80 % of the time from signing to expiry", () => {
    const notAfter = new Date(now.getTime() + 100 * SECOND);
    for (const [fraction, seconds] of [
      [0, 60],
      [0.5, 70],
      [1 - 2 ** -53, 80],
    ] as const)
      assert.ok(
        Math.abs(
          renewAfter(now, notAfter, fraction).getTime() - now.getTime() - seconds * SECOND,
        ) <= 1,
      );
  });
});
