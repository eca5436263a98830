/**
 * Thousands of streams on one socket: every one gets each change, memory stays bounded, and the
 * bound of streams is kept.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { Admission, MAX_STREAMS } from "../../src/agent/admission.ts";
import { startEndpoint, until } from "./endpoint.ts";
import { TestClient } from "./grpc-client.ts";
import { RawRequest } from "./raw-http2.ts";
import { CountingMetrics } from "./workload-set.ts";

const STREAMS = 3000;

describe("many streams", () => {
  it("on one socket all get every change, and are freed", { timeout: 60_000 }, async () => {
    await using endpoint = await startEndpoint();
    const { set, metrics, path } = endpoint;
    // Some share a connection, as gRPC clients do.
    const clients = Array.from({ length: 10 }, () => new TestClient(`unix:${path}`));
    const readers = clients.flatMap((client) =>
      Array.from({ length: STREAMS / clients.length }, () => client.svids().reader),
    );
    await Promise.all(readers.map((reader) => reader.next()));
    assert.equal(metrics.open["workload-api"], STREAMS);
    const { chain } = await set.renew();
    const leaf = Buffer.from(chain[0] ?? []);
    const messages = await Promise.all(readers.map((reader) => reader.next()));
    assert.ok(
      messages.every(({ svids }) => svids[0]?.x509Svid.subarray(0, leaf.length).equals(leaf)),
    );
    set.workloads[0]?.svid.set(null);
    const errors = await Promise.all(readers.map((reader) => reader.error()));
    assert.ok(errors.every(({ code }) => code === status.UNAVAILABLE));
    await until(() => metrics.open["workload-api"] === 0);
    for (const client of clients) client.close();
  });

  it("that are not read cost no memory with each change", { timeout: 60_000 }, async () => {
    await using endpoint = await startEndpoint();
    const { set, path, metrics } = endpoint;
    const [web] = set.workloads;
    const first = web?.svid.current;
    assert.ok(web !== undefined && first !== null && first !== undefined);
    const requests = Array.from(
      { length: 200 },
      () => new RawRequest(path, "/SpiffeWorkloadAPI/FetchX509SVID", 100),
    );
    await until(() => requests.every(({ received }) => received === 100));
    const before = process.memoryUsage().rss;
    // 200 streams, 100 changes of 20 KB: 400 MB if each was kept.
    for (let i = 1; i <= 100; i++) {
      web.svid.set({ ...first, privateKey: new Uint8Array(20_000 + i) });
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(process.memoryUsage().rss - before < 100e6);
    for (const request of requests) request.close();
    await until(() => metrics.open["workload-api"] === 0);
  });

  it("are bounded: one more is not admitted until another one ends", () => {
    const metrics = new CountingMetrics();
    const admission = new Admission(metrics, 2);
    const first = admission.open("sds");
    assert.ok(first !== null && admission.open("workload-api") !== null);
    assert.equal(admission.open("sds"), null);
    first();
    assert.ok(admission.open("sds") !== null);
    assert.deepEqual(metrics.open, { sds: 1, "workload-api": 1 });
    assert.ok(MAX_STREAMS >= 10_000);
  });
});
