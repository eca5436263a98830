/**
 * A replica is killed, or stopped for longer than its lease and resumed, at every port call of
 * a rotation that it makes, and at any call while it leads.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import type { Client } from "./client.ts";
import { changeUntilMade, createMesh, type Mesh } from "./mesh.ts";
import type { ReplicaProcess } from "./replica-process.ts";
import { type Choices, itWithSeeds } from "./seeds.ts";

/** More than a rotation makes calls. */
const MOST_TRIES = 30;

describe("kill -9 and SIGSTOP", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  const inMesh = async (work: (mesh: Mesh) => Promise<void>) => {
    const mesh = await createMesh([redis as RedisServer]);
    try {
      await Promise.all([1, 2, 3].map(() => mesh.start()));
      await work(mesh);
      await mesh.settle();
      await mesh.prove();
    } finally {
      await mesh.close();
    }
  };

  itWithSeeds("the rotating replica, at every port call", async (choices) =>
    inMesh(async (mesh) => {
      const [one, two] = [mesh.client(), mesh.client()];
      let call = 1;
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        await mesh.traffic(choices.pick);
        const target = choices.pick(mesh.awake);
        const held = target.arm({ call, moment: choices.pick(["before", "after"] as const) });
        const rotation = one.rotate(target);
        const first = await Promise.race([
          held.then(() => "held"),
          rotation.then(({ outcome }) => outcome),
        ]);
        if (first === "made") break;
        // On a busy machine a change may be refused before it gets there.
        if (first !== "held") continue;
        call++;
        await strike(mesh, target, two, choices);
        await rotation;
      }
      // Lease, state, live replicas, times, commit, lease.
      assert.ok(call > 6 && call < MOST_TRIES, `the rotation ended after ${call - 1} calls`);
    }),
  );

  itWithSeeds("the leader, at any port call", async (choices) =>
    inMesh(async (mesh) => {
      const client = mesh.client();
      for (let round = 0; round < 2; round++) {
        const leader = await leaderOf(mesh);
        await leader.arm({
          scope: "any",
          call: 1 + choices.below(12),
          moment: choices.pick(["before", "after"] as const),
        });
        await strike(mesh, leader, client, choices, async () => {
          const others = mesh.awake;
          await until(async () => others.includes(await leaderOf(mesh)));
        });
      }
    }),
  );
});

/** Kills or stops a waiting replica, has the others make a change, and brings it back. */
async function strike(
  mesh: Mesh,
  target: ReplicaProcess,
  client: Client,
  choices: Choices,
  between = async (): Promise<void> => undefined,
): Promise<void> {
  const kill = choices.below(2) === 0;
  if (kill) await target.kill();
  else target.pause();
  // Sent to a stopped replica, answered when it resumes.
  const asked = kill ? [] : [client.sign(target), client.roots(target)];
  target.go();
  await changeUntilMade(mesh, (replica) => client.configure(replica));
  await between();
  await mesh.traffic(choices.pick);
  if (kill) await mesh.startAgain(target);
  else target.wake();
  await Promise.all(asked);
}

async function leaderOf(mesh: Mesh): Promise<ReplicaProcess> {
  let leader: ReplicaProcess | undefined;
  await until(async () => {
    const response = await fetch(`${mesh.awake[0]?.url}/v1/status/leader`);
    const address: unknown = await response.json();
    leader = mesh.replicas.find(({ url }) => url === `http://${address}`);
    return leader?.awake === true;
  });
  return leader as ReplicaProcess;
}
