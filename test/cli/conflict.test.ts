/**
 * `meshca conflict` with two states of the CA: a Redis that lost everything, and what its replicas
 * saw before.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { startServer } from "../fixtures/process.ts";
import { noRedis, startRedis, until } from "../redis/server.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

describe("meshca conflict", { skip: noRedis }, () => {
  it("shows both states, keeps one when it is confirmed, and says what cannot be kept", {
    timeout: 120_000,
  }, async () => {
    const redis = await startRedis();
    const server = await startServer({
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
    });
    const environment = { MESHCA_HTTP_ADDR: server.url };
    const run = (...args: readonly string[]) => meshca(["conflict", ...args], environment);
    try {
      await redis.admin.flushall();
      await until(async () => (await run("show")).stdout !== "There is no conflict\n");
      const shown = await run("show");
      assert.deepEqual([shown.code, shown.stderr], [69, ""]);
      assert.match(
        shown.stdout,
        /^it holds no state, index 1 was seen \(noticed by 127\.0\.0\.1:\d+ at \S+Z\)\nsnapshot +index 1, term \d+\nstored +cannot be read\n/,
      );
      assert.match(
        shown.stdout,
        /meshca conflict resolve snapshot, or meshca conflict resolve stored\n$/,
      );
      const json = JSON.parse((await run("show", "--json")).stdout) as Record<string, unknown>;
      assert.deepEqual([json.Conflict, json.Stored], [true, null]);
      const status = await meshca(["status"], environment);
      assert.match(status.stdout, /meshca conflict show/);

      const stored = await run("resolve", "stored", "--yes");
      assert.equal(stored.code, 75, stored.stderr);
      const asked = await meshcaOnTerminal(["conflict", "resolve", "snapshot"], environment, {
        type: [["[y/N]", "n\r"]],
      });
      assert.equal(asked.code, 1, asked.screen);
      assert.equal((await run("show")).code, 69);
      const kept = await meshcaOnTerminal(["conflict", "resolve", "snapshot"], environment, {
        type: [["[y/N]", "y\r"]],
      });
      assert.equal(kept.code, 0, kept.screen);
      assert.match(
        plain(kept.screen),
        /^Kept; the active root is (?:[0-9a-f]{2}:){19}[0-9a-f]{2}$/m,
      );
      assert.deepEqual((await run("show")).stdout, "There is no conflict\n");
    } finally {
      await server.stop();
      await redis.stop();
    }
  });
});
