/**
 * A blocked query outlives every idle timeout of the server. It takes five minutes, so `npm test`
 * runs it with MESHCA_SLOW=1 and in CI only, concurrently with the other tests.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";

const WAIT_SECONDS = 300;

describe("GET /v1/connect/ca/roots over a real connection", () => {
  it(`GET /v1/connect/ca/roots with wait=${WAIT_SECONDS}s is answered after ${WAIT_SECONDS} s, not cut off`, {
    timeout: 360_000,
  }, async () => {
    const server = await startServer();
    try {
      const started = performance.now();
      const answer = await send(server.port, {
        method: "GET",
        target: `/v1/connect/ca/roots?index=1&wait=${WAIT_SECONDS}s`,
      });
      const seconds = (performance.now() - started) / 1000;
      assert.deepEqual([answer?.status, answer?.header("X-Consul-Index")], [200, "1"]);
      // The jitter is at most a sixteenth; 10 s are left for a slow machine.
      assert.ok(seconds >= WAIT_SECONDS && seconds < WAIT_SECONDS * (17 / 16) + 10, `${seconds} s`);
    } finally {
      await server.stop();
    }
  });
});
