/**
 * This version and the one before, which knows no promotion, share one Redis; and a secondary
 * datacenter of that version follows a promoted one: all as real processes.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { meshca } from "../cli/run.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { checkOut, missingCommits } from "../fixtures/previous.ts";
import { makeDataDir, runServer, type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, startRedis, until } from "./server.ts";

/** The last commit that knows schema 6 of the state. */
const SCHEMA_6 = "5bda63c";

interface Roots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly { readonly ID: string; readonly Prepared?: boolean }[];
}

it("a promotion waits until no live replica is older, and an older secondary datacenter follows the promoted one", {
  skip: noRedis || missingCommits(SCHEMA_6),
  timeout: 240_000,
}, async () => {
  const folder = checkOut(SCHEMA_6);
  const dataDir = makeDataDir();
  const redis = await startRedis();
  const servers: ServerProcess[] = [];
  const start = async (starting: Promise<ServerProcess>) => {
    const server = await starting;
    servers.push(server);
    return server;
  };
  const older = (environment: Readonly<Record<string, string>>) =>
    start(startServer(environment, [], [process.execPath], folder));
  const put = async ({ url }: ServerProcess, path: string, body?: string) => {
    const answer = await fetch(`${url}${path}`, {
      method: "PUT",
      ...(body === undefined ? {} : { body }),
    });
    const text = await answer.text();
    assert.equal(answer.status, 200, `${path}: ${text}`);
    return text;
  };
  const rootsOf = async ({ url }: ServerProcess) =>
    (await (await fetch(`${url}/v1/connect/ca/roots`)).json()) as Roots;
  const ready = ({ url }: ServerProcess) =>
    until(async () => (await fetch(`${url}/readyz`)).status === 200);
  const has = (server: ServerProcess, active: string) =>
    until(async () => (await rootsOf(server)).ActiveRootID === active);
  const sign = async (server: ServerProcess, datacenter: string) => {
    const { TrustDomain } = await rootsOf(server);
    const uri = `URI:spiffe://${TrustDomain}/ns/default/dc/${datacenter}/svc/web`;
    await put(server, "/v1/connect/ca/sign", opensslCsr(uri).csr);
  };
  const schema = async () =>
    (
      JSON.parse((await redis.admin.hget("{meshca:dc2}:state", "document")) ?? "") as {
        schema: number;
      }
    ).schema;
  const promote = ({ url }: ServerProcess) =>
    meshca(["datacenter", "promote", "--new-root", "--soak", "15s", "--yes"], {
      MESHCA_HTTP_ADDR: url,
    });
  try {
    const one = await start(startServer({ MESHCA_PRIMARY_DATACENTER: "dc1" }));
    const follow = { MESHCA_PRIMARY_DATACENTER: "dc1", MESHCA_PRIMARY_SERVERS: one.url };
    const two = {
      ...{ ...follow, MESHCA_DATACENTER: "dc2", MESHCA_KEK: makeKek() },
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
    };
    const three = { ...follow, MESHCA_DATACENTER: "dc3", MESHCA_DATA_DIR: dataDir };
    const previous = await older(two);
    await ready(previous);
    const present = await start(startServer(two));
    await ready(present);
    const oldThree = await older(three);
    await ready(oldThree);

    // Both follow, whichever leads, and nothing that the older one cannot read is written.
    await put(one, "/v1/connect/ca/rotate");
    const { ActiveRootID } = await rootsOf(one);
    for (const server of [previous, present, oldThree]) await has(server, ActiveRootID);
    assert.equal(await schema(), 6);
    const before = await redis.admin.hget("{meshca:dc2}:state", "document");
    const early = await promote(present);
    assert.equal(early.code, 75, early.stderr);
    assert.match(
      early.stderr,
      /Cannot change the CA: its next state needs schema 7, and replica 127\.0\.0\.1:\d+ runs a version of meshca that reads the stored state up to schema 6; stop that replica, or start the newer version there/,
    );
    assert.equal(await redis.admin.hget("{meshca:dc2}:state", "document"), before);
    for (const server of [previous, present]) {
      await put(server, "/v1/connect/ca/rotate");
      await sign(server, "dc2");
    }
    assert.equal(await schema(), 6);

    await one.stop();
    await previous.stop();
    await until(async () => (await promote(present)).code === 0);
    assert.equal(await schema(), 7);
    const again = await runServer(two, [], [process.execPath], folder);
    assert.notEqual(again.code, 0);
    assert.match(
      again.stderr + again.stdout,
      /it has schema 7, this version of meshca knows up to 6; start the newer version that wrote it/,
    );

    // The older version reads a listing with a prepared root, and headers that it does not know.
    await oldThree.stop();
    const moved = await older({
      ...three,
      MESHCA_PRIMARY_DATACENTER: "dc2",
      MESHCA_PRIMARY_SERVERS: present.url,
    });
    await sign(moved, "dc3");
    const prepared = (await rootsOf(present)).Roots.find(({ Prepared }) => Prepared === true);
    assert.ok(prepared !== undefined);
    await until(async () => (await rootsOf(moved)).Roots.some(({ ID }) => ID === prepared.ID));
    await sign(moved, "dc3");
    await has(present, prepared.ID);
    await has(moved, prepared.ID);
    await sign(moved, "dc3");
    const text = await (await fetch(`${moved.url}/readyz`)).text();
    assert.match(text, /^primary: dc2, last contact \S+, index \d+, followed index \d+$/m);

    // The newer version goes on with the state that the older one stored.
    await moved.stop();
    const newer = await start(
      startServer({
        ...{ ...three, MESHCA_PRIMARY_DATACENTER: "dc2" },
        MESHCA_PRIMARY_SERVERS: present.url,
      }),
    );
    await put(present, "/v1/connect/ca/rotate");
    await has(newer, (await rootsOf(present)).ActiveRootID);
    await sign(newer, "dc3");
  } finally {
    for (const server of servers) await server.stop();
    await redis.stop();
    for (const each of [folder, dataDir]) rmSync(each, { recursive: true, force: true });
  }
});
