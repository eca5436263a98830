/**
 * The checker notices faults put into the code: each schedule passes with
 * the code as it is, and fails with the fault.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { loseMaster, noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import type { Violation } from "./check.ts";
import { changeUntil, createMesh, type Mesh } from "./mesh.ts";
import type { Mutation } from "./messages.ts";
import { createProxy } from "./proxy.ts";
import type { ReplicaProcess } from "./replica-process.ts";

type Rules = readonly Violation["rule"][];

const rulesOf = (found: readonly Violation[]): Rules => [...new Set(found.map(({ rule }) => rule))];

describe("faults put into the code", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  const inMesh = async (work: (mesh: Mesh) => Promise<Rules>): Promise<Rules> => {
    const mesh = await createMesh([redis as RedisServer]);
    try {
      return await work(mesh);
    } finally {
      await mesh.close();
    }
  };

  /** What a schedule breaks with the code as it is, and with a fault in it. */
  const both = (schedule: (mutated: boolean) => Promise<Rules>) =>
    Promise.all([schedule(false), schedule(true)]);

  it("the term left out of the commit script is noticed", async () => {
    const [right, wrong] = await both((mutated) =>
      inMesh((mesh) => lateCommit(mesh, mutated ? "no-term" : null)),
    );
    assert.deepEqual(right, []);
    assert.ok(wrong.includes("term-below-grant"), wrong.join());
    assert.ok(wrong.includes("change-refused-but-made"), wrong.join());
  });

  it("index and commit id left out of the commit script are noticed", async () => {
    const [right, wrong] = await both((mutated) => lostGrant(mutated ? "no-index" : null));
    assert.deepEqual(right, []);
    for (const rule of ["index-back", "write-lost", "change-lost"] as const)
      assert.ok(wrong.includes(rule), wrong.join());
  });

  it("pruning at once is noticed", async () =>
    assert.deepEqual(await both((mutated) => inMesh((mesh) => oldLeaf(mesh, mutated))), [
      [],
      ["pair-fails"],
    ]));

  it("a cross-signed certificate left out is noticed", async () =>
    assert.deepEqual(
      await both((mutated) => inMesh((mesh) => oldRoots(mesh, mutated ? "no-crossing" : null))),
      [[], ["pair-fails"]],
    ));
});

/**
 * A replica stalls before its commit, another one gets the next term and stalls there too, and the
 * first goes on.
 */
async function lateCommit(mesh: Mesh, mutation: Mutation | null): Promise<Rules> {
  const [late, next] = [await mesh.start({ mutation }), await mesh.start()];
  const [one, two] = [mesh.client(), mesh.client()];
  const commit = { port: "store.commit" };
  const { change: lateChange } = await changeUntil(
    () => late.arm(commit),
    () => one.configure(late),
  );
  late.pause();
  // Waits until the lease of the one that is stopped has ended.
  const { change: nextChange } = await changeUntil(
    () => next.arm(commit),
    () => two.configure(next),
  );
  late.go();
  late.wake();
  assert.equal((await lateChange).outcome, "refused");
  next.go();
  assert.equal((await nextChange).outcome, mutation === null ? "made" : "refused");
  await mesh.settle();
  return rulesOf(await mesh.verdict());
}

/**
 * A failover loses the grant of a term, so that it is granted again, and both who have it commit.
 */
async function lostGrant(mutation: Mutation | null): Promise<Rules> {
  const master = await startRedis();
  const copy = await startRedis({
    config: [`replicaof 127.0.0.1 ${master.port}`, "repl-diskless-sync-delay 0"],
  });
  const [toLate, toNext] = [await createProxy(master.port), await createProxy(master.port)];
  await until(async () => /master_link_status:up/.test(await copy.admin.info("replication")));
  const mesh = await createMesh([master, copy]);
  try {
    // No lease ends here, so that each gets the first term that it asks for.
    const policy = { operationLeaseMs: 60_000 };
    const late = await mesh.start({ port: toLate.port, mutation, policy });
    const next = await mesh.start({ port: toNext.port, policy });
    const [one, two] = [mesh.client(), mesh.client()];
    await mesh.settle();
    await until(async () => (await mesh.stored(copy))?.index === 1);
    // The other one must not see the grant that gets lost.
    toNext.lead(null);
    toNext.cut();
    await loseMaster(copy);
    const held = late.arm({ port: "store.commit" });
    const lateChange = one.configure(late);
    await held;
    toLate.lead(null);
    toLate.cut();
    master.kill("SIGKILL");
    await copy.admin.call("REPLICAOF", "NO", "ONE");
    toNext.lead(copy.port);
    await reaches(next);
    assert.equal((await two.configure(next)).outcome, "made");
    toLate.lead(copy.port);
    await reaches(late);
    late.go();
    assert.equal((await lateChange).outcome, "refused");
    // Both have worked under the same term.
    const lines = await Promise.all(mesh.monitors.map((monitor) => monitor.line()));
    assert.deepEqual(
      lines
        .map(({ events }) => events.findLast(({ kind }) => kind === "grant"))
        .map((event) => event?.kind === "grant" && event.term),
      [2, 2],
    );
    if (mutation === null) await mesh.settle(copy);
    return rulesOf(await mesh.verdict({ server: copy }));
  } finally {
    await mesh.close();
    for (const proxy of [toLate, toNext]) proxy.close();
    await Promise.all([master.stop(), copy.stop()]);
  }
}

/** A peer gets its leaf, the root is rotated, and another peer fetches the roots. */
async function oldLeaf(mesh: Mesh, mutated: boolean): Promise<Rules> {
  const policy = mutated ? { pruneFactor: 0, confirmShare: 0 } : {};
  const [one] = [await mesh.start({ policy }), await mesh.start({ policy })];
  const [old, fresh] = [mesh.client(), mesh.client()];
  await old.sign(one);
  await fresh.rotate(one);
  if (mutated) await until(async () => (await mesh.stored())?.roots.length === 1);
  await mesh.settle();
  return rulesOf(await mesh.verdict());
}

/** A peer fetches roots, the root is rotated, and another replica signs a leaf for another peer. */
async function oldRoots(mesh: Mesh, mutation: Mutation | null): Promise<Rules> {
  const [one, two] = [await mesh.start({ mutation }), await mesh.start()];
  const [old, fresh] = [mesh.client(), mesh.client()];
  await old.sign(two);
  await old.roots(two);
  await fresh.rotate(one);
  await mesh.settle();
  return rulesOf(await mesh.verdict());
}

/** Resolves once a replica gets answers from its Redis. */
async function reaches(replica: ReplicaProcess): Promise<void> {
  await until(async () => (await fetch(`${replica.url}/v1/status/leader`)).status === 200);
}
