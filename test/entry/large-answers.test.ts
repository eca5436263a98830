/**
 * Large answers to blocking queries on Bun, which takes fifty system calls for one whose body has more
 * than 15 KiB unless it is a stream.
 * @module
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { put } from "../fixtures/refusals.ts";
import { until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";

const ROOTS = "/v1/connect/ca/roots";
const LARGE = 15 * 1024;

describe("a blocking query on Bun", () => {
  let server: ServerProcess;
  before(async () => {
    server = await startServer({}, [], COMMANDS.bun());
  });
  after(async () => {
    await server.stop();
  });

  const roots = async () => {
    const answer = await send(server.port, { method: "GET", target: ROOTS });
    assert.ok(answer !== null);
    return answer;
  };
  const rotate = async () => {
    const target = "/v1/connect/ca/rotate";
    assert.equal((await send(server.port, { method: "PUT", target }))?.status, 200);
  };
  const watched = async () => `${ROOTS}?index=${(await roots()).header("x-consul-index")}&wait=60s`;
  const waiting = () =>
    until(async () => {
      const metrics = await send(server.port, { method: "GET", target: "/metrics" });
      return /^meshca_watchers 1$/m.test(metrics?.body ?? "");
    });

  it("is answered by its length while the listing is small, and by a stream of one chunk once it is large", async () => {
    for (let size = 0; size <= LARGE; ) {
      const answering = send(server.port, { method: "GET", target: await watched() });
      await waiting();
      await rotate();
      const [answer, now] = [await answering, await roots()];
      assert.deepEqual([answer?.status, answer?.body], [200, now.body]);
      size = now.body.length;
      // A listing that was not waited for is written at once in any case.
      assert.equal(now.header("content-length"), String(size));
      const framing = ["content-length", "transfer-encoding"].map((name) => answer?.header(name));
      assert.deepEqual(
        framing,
        size > LARGE ? [undefined, "chunked"] : [String(size), undefined],
        `${size} octets`,
      );
    }
  });

  it("is answered without chunks on HTTP/1.0", async () => {
    const target = await watched();
    const received = new Promise<string>((resolve, reject) => {
      let text = "";
      connect(server.port, "127.0.0.1")
        .setEncoding("utf8")
        .on("data", (data: string) => {
          text += data;
        })
        .on("end", () => resolve(text))
        .on("error", reject)
        .write(`GET ${target} HTTP/1.0\r\nHost: 127.0.0.1:${server.port}\r\n\r\n`);
    });
    await waiting();
    const change = put({ Provider: "consul", Config: { LeafCertTTL: "48h" } });
    assert.equal((await send(server.port, change))?.status, 200);
    const [head = "", body = ""] = (await received).split("\r\n\r\n");
    assert.match(head, /^HTTP\/1\.\d 200 OK\r\n/);
    assert.doesNotMatch(head, /transfer-encoding/i);
    assert.equal(body, (await roots()).body);
    assert.ok(body.length > LARGE);
  });
});
