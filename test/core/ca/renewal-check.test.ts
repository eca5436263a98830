/**
 * Which leaves are ours: those of the issuers that are recorded under a published root that was not
 * abandoned.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { isOwnLeaf, requireOwnLeaf } from "../../../src/core/ca/renewal-check.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { bootstrap, prune, renewIssuer, rotate } from "../../../src/core/ca/transitions.ts";
import { trusted } from "../../../src/core/deletion-time.ts";
import { DeniedError } from "../../../src/core/errors.ts";
import type { CaState } from "../../../src/core/state.ts";
import {
  type Authority,
  createIntermediate,
  generateCaKey,
} from "../../../src/core/x509/authority.ts";
import { type Certificate, readCertificate } from "../../../src/core/x509/certificate.ts";
import { findPath } from "../../../src/core/x509/chain.ts";
import { systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";
import { CLUSTER, HOUR } from "./harness.ts";
import {
  at,
  CONFIG,
  commitId,
  crossed,
  firstState,
  makeLeaf,
  makeRoot,
  newRoot,
  type PoolRoot,
  rotated,
} from "./pool.ts";

const TTL = 72 * HOUR;

/** A leaf of an hour's life, signed at `now`. */
const leafOf = (by: Authority, now: Date, hours = 1) =>
  makeLeaf(by, now, new Date(now.getTime() + hours * HOUR));

async function refused(leaf: Certificate, state: CaState, now: Date, why: RegExp): Promise<void> {
  await assert.rejects(requireOwnLeaf(leaf, state, now), (error: unknown) => {
    assert.ok(error instanceof DeniedError && error.code === "permission_denied", String(error));
    assert.match(error.message, why);
    return true;
  });
  assert.equal(await isOwnLeaf(leaf, state, now), false);
}

const NOT_OURS =
  /not of this CA: no issuer of a published root signed it, or its root was abandoned$/;

async function intermediateOf(root: PoolRoot, ttlHours = 5000): Promise<Authority> {
  const key = await generateCaKey({ type: "ec", bits: 256 });
  const options = {
    ...clusterOf(CLUSTER),
    provider: "vault",
    now: at(0),
    random: systemRandom,
    ttlMs: ttlHours * HOUR,
  };
  return {
    certificate: await createIntermediate(key.info, root, options),
    privateKey: key.privateKey,
  };
}

const below = (root: PoolRoot, { certificate }: Authority) => ({
  ...newRoot(root),
  issuerKeyId: certificate.subjectKeyId as Uint8Array,
  issuers: [certificate],
});

describe("requireOwnLeaf()", () => {
  let [a, b, c]: PoolRoot[] = [];
  const root = (of: PoolRoot | undefined) => of ?? assert.fail();
  before(async () => {
    [a, b, c] = [await makeRoot(8760), await makeRoot(8760), await makeRoot(8760)];
  });

  it("accepts a leaf of the active root and of a retired one, and returns its identity", async () => {
    const state = await rotated(firstState(root(a), TTL), [root(a)], {
      to: root(b),
      now: at(1),
      leafTtlMs: TTL,
    });
    for (const by of [root(a), root(b)])
      assert.equal(
        await requireOwnLeaf(await leafOf(by, at(1)), state, at(1.5)),
        `spiffe://${CLUSTER}.consul/agent/server/dc/dc1`,
      );
  });

  it("refuses a leaf of a root that was abandoned, although a cross-signed certificate leads from it to a published root", async () => {
    const two = await rotated(firstState(root(a), TTL), [root(a), root(b)], {
      to: root(b),
      now: at(1),
      leafTtlMs: TTL,
    });
    const three = rotate(two, commitId(), {
      config: CONFIG,
      root: newRoot(root(c)),
      chain: [await crossed(root(c), root(a), at(2))],
      abandonedRoots: [root(b).certificate.id],
      leafTtlMs: TTL,
      now: at(2),
    });
    const forged = await leafOf(root(b), at(2));
    // The chain of a thief of b's key: b certified by a, which is published.
    assert.notEqual(
      await findPath(forged, [await crossed(root(b), root(a), at(1))], root(a).certificate, at(2)),
      null,
    );
    await refused(forged, three, at(2), NOT_OURS);
    assert.ok(await isOwnLeaf(await leafOf(root(a), at(2)), three, at(2)));
  });

  it("refuses a leaf of a root that was pruned, whatever leads from it to a published root", async () => {
    const two = await rotated(firstState(root(a), TTL), [root(a), root(b)], {
      to: root(b),
      now: at(1),
      leafTtlMs: TTL,
    });
    const three = await rotated(two, [root(a), root(b)], {
      to: root(c),
      now: at(2),
      leafTtlMs: 10 * TTL,
    });
    const later = at(2 + 2 * 72 + 1);
    const pruned = prune(three, commitId(), DEFAULT_POLICY, trusted(later));
    assert.deepEqual(pruned.roots.map(({ id }) => id).includes(root(b).certificate.id), false);
    await refused(await leafOf(root(b), later), pruned, later, NOT_OURS);
  });

  it("accepts a leaf of an issuer that was renewed since, until every leaf of it must have expired", async () => {
    const [first, second] = [await intermediateOf(root(a)), await intermediateOf(root(a))];
    const state = bootstrap(clusterOf(CLUSTER), commitId(), {
      config: CONFIG,
      root: below(root(a), first),
      leafTtlMs: TTL,
      now: at(0),
    });
    const issuing = {
      issuerKeyId: second.certificate.subjectKeyId as Uint8Array,
      issuers: [second.certificate],
      now: at(10),
    };
    const renewed = renewIssuer(state, commitId(), {}, issuing);
    for (const by of [first, second])
      assert.ok(await isOwnLeaf(await leafOf(by, at(20)), renewed, at(20)));
    // The leaf ends after every leaf that the first signed for us, or is shown after that time.
    await refused(await leafOf(first, at(20), 200), renewed, at(20), NOT_OURS);
    await refused(await leafOf(first, at(160)), renewed, at(160), NOT_OURS);
    assert.ok(await isOwnLeaf(await leafOf(second, at(160)), renewed, at(160)));
  });

  it("accepts a leaf of a retired root's issuer, which is in no published certificate any more", async () => {
    const issuer = await intermediateOf(root(a));
    const state = bootstrap(clusterOf(CLUSTER), commitId(), {
      config: CONFIG,
      root: below(root(a), issuer),
      leafTtlMs: TTL,
      now: at(0),
    });
    const rotation = {
      config: CONFIG,
      chain: [await crossed(root(b), root(a), at(5))],
      abandonedRoots: [],
      leafTtlMs: TTL,
      now: at(5),
    };
    const next = rotate(state, commitId(), { ...rotation, root: newRoot(root(b)) });
    assert.ok(
      next.roots.every(
        ({ intermediates }) => !intermediates.some(({ id }) => id === issuer.certificate.id),
      ),
    );
    assert.ok(await isOwnLeaf(await leafOf(issuer, at(4)), next, at(4.5)));
  });

  it("refuses a leaf below an intermediate that the root signed for another party, and one of a root whose leaves an intermediate signs", async () => {
    const [ours, theirs] = [await intermediateOf(root(a)), await intermediateOf(root(a))];
    const state = bootstrap(clusterOf(CLUSTER), commitId(), {
      config: CONFIG,
      root: below(root(a), ours),
      leafTtlMs: TTL,
      now: at(0),
    });
    const foreign = await leafOf(theirs, at(1));
    assert.notEqual(
      await findPath(foreign, [theirs.certificate], root(a).certificate, at(1)),
      null,
    );
    await refused(foreign, state, at(1), NOT_OURS);
    await refused(await leafOf(root(a), at(1)), state, at(1), NOT_OURS);
    // A copy of our issuer's name and key identifier, with another key.
    const twin = { certificate: ours.certificate, privateKey: theirs.privateKey };
    await refused(await leafOf(twin, at(1)), state, at(1), NOT_OURS);
  });

  it("refuses a leaf that is not valid yet or has expired, a CA, and a leaf whose root has expired", async () => {
    const short = await makeRoot(10);
    const state = firstState(short, TTL);
    await refused(await leafOf(short, at(2)), state, at(1), /not valid yet$/);
    await refused(await leafOf(short, at(1)), state, at(2), /has expired$/);
    await refused(short.certificate, state, at(1), /is not a leaf$/);
    await refused(await makeLeaf(short, at(1), at(20)), state, at(11), NOT_OURS);
  });

  it("verifies one signature at most for a certificate that names our issuer, and none for any other", async () => {
    const state = await rotated(firstState(root(a), TTL), [root(a)], {
      to: root(b),
      now: at(1),
      leafTtlMs: TTL,
    });
    const { verify } = crypto.subtle;
    let verified = 0;
    crypto.subtle.verify = (...args: Parameters<typeof verify>) => {
      verified++;
      return verify.apply(crypto.subtle, args);
    };
    try {
      const leaf = await leafOf(root(a), at(1));
      const damaged = leaf.der.slice();
      damaged[damaged.length - 3] = (damaged[damaged.length - 3] ?? 0) ^ 1;
      // The same key under several certificates of its name, too.
      const twins = { roots: [...state.roots, ...state.roots] };
      assert.equal(await isOwnLeaf(readCertificate(damaged), twins, at(1.5)), false);
      assert.equal(verified, 1);
      assert.equal(await isOwnLeaf(await leafOf(root(c), at(1)), twins, at(1.5)), false);
      assert.equal(verified, 1);
    } finally {
      crypto.subtle.verify = verify;
    }
  });
});
