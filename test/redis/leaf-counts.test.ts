/**
 * Counts of leaves as real processes make them: replicas over one Redis, one of which is
 * stopped, and with the version before at the same Redis and over the same SQLite file.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { checkOut, missingCommits } from "../fixtures/previous.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, startRedis, until } from "./server.ts";

/** The last commit that does not count leaves. */
const BEFORE = "ab9278e";
const LIMIT = { timeout: 180_000 };

interface Counts {
  readonly Counting: boolean;
  readonly CompleteSince: string | null;
  readonly LowerBound: boolean;
  readonly Roots: readonly {
    readonly ID: string;
    readonly Status: string;
    readonly Leaves: number;
  }[];
}

async function countsOf({ url }: ServerProcess): Promise<Counts> {
  const answer = await fetch(`${url}/v1/connect/ca/leaves`);
  assert.equal(answer.status, 200);
  return (await answer.json()) as Counts;
}

const sumOf = async (server: ServerProcess) =>
  (await countsOf(server)).Roots.map(({ Leaves }) => Leaves);

async function sign({ url, trustDomain }: ServerProcess, leaves: number): Promise<void> {
  const { csr } = opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`);
  for (let i = 0; i < leaves; i++) {
    const answer = await fetch(`${url}/v1/connect/ca/sign`, { method: "PUT", body: csr });
    assert.equal(answer.status, 200, await answer.text());
  }
}

/** Runs work with servers that are stopped afterwards. */
async function withServers(
  work: (start: (starting: Promise<ServerProcess>) => Promise<ServerProcess>) => Promise<void>,
): Promise<void> {
  const servers: ServerProcess[] = [];
  try {
    await work(async (starting) => {
      const server = await starting;
      servers.push(server);
      return server;
    });
  } finally {
    for (const server of servers) await server.stop();
  }
}

it("replicas count together, one that is stopped leaves its counts, and no write of them changes the state", {
  skip: noRedis,
  ...LIMIT,
}, async () => {
  const redis = await startRedis();
  const environment = { MESHCA_STORE: `redis://127.0.0.1:${redis.port}`, MESHCA_KEK: makeKek() };
  try {
    await withServers(async (start) => {
      const one = await start(startServer(environment));
      const two = await start(startServer(environment));
      const roots = async () => {
        const answer = await fetch(`${two.url}/v1/connect/ca/roots`);
        await answer.arrayBuffer();
        return [answer.headers.get("etag"), answer.headers.get("x-consul-index")];
      };
      const before = await roots();
      await sign(one, 3);
      await sign(two, 2);
      // In the background, that they count.
      const written = async () => (await redis.admin.hget("{meshca}:leaves", "counts")) ?? "";
      await until(async () => (await written()).match(/isOpen/g)?.length === 2);
      // By the heartbeats, long before the next write.
      await until(async () => (await sumOf(one))[0] === 5 && (await sumOf(two))[0] === 5);
      await one.stop();
      await until(async () => {
        const peers = await fetch(`${two.url}/v1/status/peers`);
        return ((await peers.json()) as string[]).length === 1;
      });
      await until(async () => (await sumOf(two))[0] === 5);
      await two.stop();
      const again = await start(startServer(environment));
      await until(async () => (await sumOf(again))[0] === 5);
      const { Counting, CompleteSince, LowerBound, Roots } = await countsOf(again);
      assert.deepEqual([Counting, CompleteSince, LowerBound], [true, null, false]);
      assert.deepEqual(Roots[0]?.Status, "active");
      const answer = await fetch(`${again.url}/v1/connect/ca/roots`);
      await answer.arrayBuffer();
      assert.deepEqual([answer.headers.get("etag"), answer.headers.get("x-consul-index")], before);
    });
  } finally {
    await redis.stop();
  }
});

it("the version before shares the store with this one, and makes the counts a lower bound", {
  skip: noRedis || missingCommits(BEFORE),
  ...LIMIT,
}, async () => {
  const folder = checkOut(BEFORE);
  const data = mkdtempSync(join(tmpdir(), "meshca-leaves-"));
  const redis = await startRedis();
  const startPrevious = (environment: Record<string, string>) =>
    startServer(environment, [], [process.execPath], folder);
  try {
    await withServers(async (start) => {
      const shared = { MESHCA_STORE: `redis://127.0.0.1:${redis.port}`, MESHCA_KEK: makeKek() };
      const previous = await start(startPrevious(shared));
      const present = await start(startServer(shared));
      assert.equal(present.trustDomain, previous.trustDomain);
      await sign(previous, 2);
      await sign(present, 3);
      await until(async () => (await sumOf(present))[0] === 3);
      assert.equal((await countsOf(present)).LowerBound, true);
      // Each reads the other's heartbeat.
      for (const { url } of [previous, present])
        await until(
          async () =>
            ((await (await fetch(`${url}/v1/status/peers`)).json()) as string[]).length === 2,
        );
      const rotated = await fetch(`${previous.url}/v1/connect/ca/rotate`, { method: "PUT" });
      assert.equal(rotated.status, 200, await rotated.text());
      await present.stop();
      assert.ok((await redis.admin.hget("{meshca}:leaves", "counts")) !== null);
      await sign(previous, 1);
      const again = await start(startServer(shared));
      await until(async () => (await sumOf(again))[0] === 3);
      const { Roots, LowerBound } = await countsOf(again);
      assert.deepEqual([Roots.map(({ Status }) => Status), LowerBound], [["retired"], true]);
    });
    await withServers(async (start) => {
      const embedded = { MESHCA_STORE: `sqlite:${join(data, "meshca.db")}`, MESHCA_KEK: makeKek() };
      const present = await start(startServer(embedded));
      await sign(present, 3);
      await present.stop();
      const previous = await start(startPrevious(embedded));
      await sign(previous, 1);
      await previous.stop();
      const again = await start(startServer(embedded));
      await until(async () => (await sumOf(again))[0] === 3);
    });
  } finally {
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
    rmSync(data, { recursive: true, force: true });
  }
});
