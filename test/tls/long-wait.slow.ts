/**
 * A blocked query outlives every idle timeout of the server for TLS too. It takes five minutes, so
 * `npm test` runs it with MESHCA_SLOW=1 and in CI only, concurrently with the other tests.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { startServer } from "../fixtures/process.ts";
import { openHttp1, openHttp2 } from "./harness.ts";

const WAIT_SECONDS = 300;

describe("GET /v1/connect/ca/roots over TLS", () => {
  it(`GET /v1/connect/ca/roots with wait=${WAIT_SECONDS}s is answered after ${WAIT_SECONDS} s, not cut off`, {
    timeout: 360_000,
  }, async () => {
    const server = await startServer({ MESHCA_TLS: "self" });
    try {
      const [one, two] = [await openHttp1(server.port), await openHttp2(server.port)];
      const path = `/v1/connect/ca/roots?index=1&wait=${WAIT_SECONDS}s`;
      const started = performance.now();
      for (const answer of [one.get(path), two.request(path)]) {
        assert.equal((await answer).status, 200);
        const seconds = (performance.now() - started) / 1000;
        // The jitter is at most a sixteenth; 10 s are left for a slow machine.
        assert.ok(
          seconds >= WAIT_SECONDS && seconds < WAIT_SECONDS * (17 / 16) + 10,
          `${seconds} s`,
        );
      }
      one.socket.destroy();
      two.session.destroy();
    } finally {
      await server.stop();
    }
  });
});
