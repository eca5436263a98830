/**
 * Eight replicas start at once on an empty Redis: they create one CA, whichever of them dies in
 * between.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { createMesh } from "./mesh.ts";
import type { Arm } from "./messages.ts";
import type { ReplicaProcess } from "./replica-process.ts";
import { itWithSeeds } from "./seeds.ts";

const COMMIT: Arm = { scope: "any", moment: "before", port: "store.commit", call: 1 };

describe("cold start", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  itWithSeeds("eight replicas on an empty Redis become one CA", async (choices) => {
    const mesh = await createMesh([redis as RedisServer]);
    try {
      await Promise.all(Array.from({ length: 8 }, () => mesh.start()));
      for (let i = 0; i < 3; i++) mesh.client();
      await mesh.settle();
      assert.equal((await mesh.stored())?.index, 1);
      await mesh.traffic(choices.pick);
      await mesh.prove();
    } finally {
      await mesh.close();
    }
  });

  itWithSeeds(
    "the first of four replicas is killed or stopped at a call of its start",
    async (choices) => {
      const call = {
        scope: "any",
        moment: choices.pick(["before", "after"] as const),
        port: null,
        call: 1 + choices.below(16),
      } as const;
      await firstIsLost(call, choices.below(2) === 0);
    },
  );

  it("the first replica is killed in its commit, and its lease outlasts the others' patience", () =>
    firstIsLost(COMMIT, true));
  it("the first replica is stopped in its commit, and starts when it resumes", () =>
    firstIsLost(COMMIT, false));

  /** Starts a replica that is lost at a call, then three others, then it again. */
  const firstIsLost = async (arm: Arm, kill: boolean) => {
    const mesh = await createMesh([redis as RedisServer]);
    // As with the usual numbers, a change is not waited for as long as a lease may last.
    const policy = { operationLeaseMs: 3000, operationWaitMs: 500 };
    try {
      const held = Promise.withResolvers<ReplicaProcess>();
      const first = mesh.start({ arm, policy, onHeld: held.resolve });
      first.catch(() => undefined);
      const lost = await Promise.race([held.promise, first.then(() => null)]);
      if (kill) await lost?.kill();
      else lost?.pause();
      lost?.go();
      await Promise.all([1, 2, 3].map(() => mesh.start({ policy })));
      if (!kill) {
        lost?.wake();
        await first;
      }
      mesh.client();
      await mesh.settle();
      assert.equal((await mesh.stored())?.index, 1);
      await mesh.prove();
    } finally {
      await mesh.close();
    }
  };
});
