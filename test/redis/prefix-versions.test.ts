/**
 * This version and the one before it, whose datacenters all have the plain prefix, share one Redis:
 * both as real processes.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { checkOut, missingCommits } from "../fixtures/previous.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, startRedis, until } from "./server.ts";

/** The last commit whose prefix in Redis has no datacenter. */
const PLAIN_PREFIX = "380a402";
const MANAGEMENT = "11111111-2222-4333-8444-555555555555";

it("replicas of the version before and of this one stay together under the plain prefix, and another datacenter has its own", {
  skip: noRedis || missingCommits(PLAIN_PREFIX),
  timeout: 120_000,
}, async () => {
  const folder = checkOut(PLAIN_PREFIX);
  const redis = await startRedis();
  const environment = {
    MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
    MESHCA_KEK: makeKek(),
    MESHCA_PRIMARY_DATACENTER: "dc1",
    MESHCA_ACL: "deny",
    MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
  };
  const servers: ServerProcess[] = [];
  const start = async (starting: Promise<ServerProcess>) => {
    const server = await starting;
    servers.push(server);
    return server;
  };
  const call = async ({ url }: ServerProcess, method: string, path: string, body?: object) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { "X-Consul-Token": MANAGEMENT },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    assert.equal(answer.status, 200, `${path}: ${await answer.clone().text()}`);
    return answer.text();
  };
  const activeOf = async (server: ServerProcess) =>
    (JSON.parse(await call(server, "GET", "/v1/connect/ca/roots")) as { ActiveRootID: string })
      .ActiveRootID;
  const prefixes = async () =>
    [...new Set((await redis.admin.keys("*")).map((key) => key.replace(/:[^}]*$/, "")))].toSorted(
      (a, b) => a.localeCompare(b),
    );
  try {
    const previous = await start(startServer(environment, [], [process.execPath], folder));
    const present = await start(startServer(environment));
    assert.equal(present.trustDomain, previous.trustDomain);
    for (const changer of [previous, present]) {
      await call(changer, "PUT", "/v1/connect/ca/rotate");
      const active = await activeOf(changer);
      await until(
        async () => (await activeOf(previous)) === active && (await activeOf(present)) === active,
      );
    }
    // Access control is one, too.
    const rules = { Name: "dc", Rules: 'intermediate = "write"' };
    const { ID } = JSON.parse(await call(previous, "PUT", "/v1/acl/policy", rules)) as {
      ID: string;
    };
    await until(async () => (await call(present, "GET", "/v1/acl/policies")).includes(ID));
    const { SecretID } = JSON.parse(
      await call(present, "PUT", "/v1/acl/token", { Policies: [{ ID }] }),
    ) as { SecretID: string };
    const secondary = await start(
      startServer({
        ...environment,
        MESHCA_DATACENTER: "dc2",
        MESHCA_PRIMARY_SERVERS: present.url,
        MESHCA_REPLICATION_TOKEN: SecretID,
      }),
    );
    await until(async () => (await fetch(`${secondary.url}/readyz`)).status === 200);
    assert.equal(await activeOf(secondary), await activeOf(present));
    await previous.stop();
    await present.stop();
    const again = await start(startServer(environment));
    assert.equal(again.trustDomain, previous.trustDomain);
    await call(again, "GET", "/v1/acl/policy/name/dc");
    assert.deepEqual(await prefixes(), ["{meshca:dc2}", "{meshca}"]);
  } finally {
    for (const server of servers) await server.stop();
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
