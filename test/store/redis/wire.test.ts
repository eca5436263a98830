/**
 * The Redis client of a request, over a real socket: replies that come in pieces.
 * @module
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { describe, it } from "node:test";
import { systemClock } from "../../../src/entry/platform.ts";
import { Wire } from "../../../src/store/redis/wire.ts";
import { redisUrl } from "../../redis/server.ts";

/** Connects to a server whose side of the connection the test writes. */
async function connected(
  work: (wire: Wire, answers: Socket, other: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const settings = redisUrl(port, { connectTimeoutMs: 10_000, commandTimeoutMs: 10_000 });
  const connect = async () => {
    const [wire, [socket]] = await Promise.all([
      Wire.connect(settings, systemClock),
      once(server, "connection") as Promise<[Socket]>,
    ]);
    socket.setNoDelay(true);
    return [wire, socket] as const;
  };
  const [wire, answers] = await connect();
  const [second, echo] = await connect();
  echo.on("data", () => echo.write("+PONG\r\n"));
  /**
   * What was written before has come: each of these goes to the server and back on another
   * connection.
   */
  const other = async () => {
    for (let i = 0; i < 5; i++) assert.equal(await second.send("PING"), "PONG");
  };
  try {
    await work(wire, answers, other);
  } finally {
    for (const one of [wire, second]) one.close();
    server.close();
  }
}

const REPLIES: readonly (readonly [what: string, text: string, reply: unknown])[] = [
  ["a bulk string", "$3\r\nabc\r\n", "abc"],
  ["a bulk string with CRLF in it", "$5\r\na\r\nbc\r\n", "a\r\nbc"],
  ["an empty bulk string", "$0\r\n\r\n", ""],
  ["no string", "$-1\r\n", null],
  ["a status", "+OK\r\n", "OK"],
  ["a number", ":42\r\n", 42],
  ["an array", "*3\r\n$1\r\na\r\n:1\r\n*1\r\n$-1\r\n", ["a", 1, [null]]],
];

describe("Wire", () => {
  for (const [what, text, reply] of REPLIES)
    it(`send() reads ${what}, wherever the reply is cut into pieces`, () =>
      connected(async (wire, answers, other) => {
        for (let at = 1; at < text.length; at++) {
          let settled = false;
          const [first, second] = [wire.send("GET", "a"), wire.send("GET", "b")];
          const done = () => {
            settled = true;
          };
          void first.then(done, done);
          answers.write(text.slice(0, at));
          await other();
          assert.equal(settled, false, `after ${JSON.stringify(text.slice(0, at))}`);
          answers.write(`${text.slice(at)}+NEXT\r\n`);
          assert.deepEqual([await first, await second], [reply, "NEXT"], `cut at ${at}`);
        }
      }));

  it("send() rejects with Redis's error, and the connection stays usable", () =>
    connected(async (wire, answers) => {
      const [first, second] = [wire.send("GET", "a"), wire.send("GET", "b")];
      answers.write("-ERR no\r\n+OK\r\n");
      await assert.rejects(first, /^Error: ERR no$/);
      assert.equal(await second, "OK");
    }));

  it("send() rejects all pending commands if a reply is not RESP2, and the connection is over", () =>
    connected(async (wire, answers) => {
      const waiting = [wire.send("GET", "a"), wire.send("GET", "b")];
      answers.write("HTTP/1.1 400 Bad Request\r\n");
      for (const one of waiting) await assert.rejects(one, /The reply is not RESP2/);
      assert.equal(wire.ended, true);
      await assert.rejects(wire.send("GET", "c"), /The reply is not RESP2/);
    }));
});
