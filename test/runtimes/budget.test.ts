/**
 * The Worker can be deployed, and is small and quick to start.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  growth,
  gzipBytes,
  MAX_GROWTH,
  MAX_GZIP_BYTES,
  recordedWeights,
  total,
  weightsOf,
} from "./budget.ts";
import { type Bundle, buildWorker } from "./workerd.ts";

describe("the Worker's bundle", () => {
  let bundle: Bundle;
  before(() => {
    // `wrangler deploy --dry-run`, without a network.
    bundle = buildWorker();
  });
  after(() => bundle?.remove());

  it("is within its budget; what grew is named", () => {
    const [recorded, now] = [recordedWeights(), weightsOf(bundle)];
    const grew = `grew: ${growth(recorded, now).join(", ")}`;
    assert.ok(
      gzipBytes(bundle) <= MAX_GZIP_BYTES,
      `${gzipBytes(bundle)} octets with gzip are more than ${MAX_GZIP_BYTES}; ${grew}`,
    );
    assert.ok(
      total(now) <= MAX_GROWTH * total(recorded),
      `${total(now)} octets are a tenth more than the ${total(recorded)} of test/vectors/worker-bundle.json; ${grew}`,
    );
  });

  it("has neither a full Redis client nor SQLite nor anything of a process in it", () => {
    for (const name of ["ioredis", "prom-client", "@hono/node-server"])
      assert.equal(weightsOf(bundle)[name], undefined, name);
  });

  it("growth() names what is heavier than before, the heaviest growth first", () => {
    assert.deepEqual(growth({ a: 10, b: 10, c: 10 }, { a: 11, b: 5, c: 30, d: 2 }), [
      "c by 20 octets",
      "d by 2 octets (new)",
      "a by 1 octets",
    ]);
  });
});
