/**
 * How a server ends, the same on every server runtime: requests in flight are answered, and no
 * client can delay it.
 * @module
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { describe, it } from "node:test";
import { makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { until } from "../redis/server.ts";
import { ROOTS, SIGN } from "./client.ts";
import { COMMANDS } from "./targets.ts";

const NAMES = ["bun", "node", "deno"] as const;
/** For requests in flight on SIGTERM, in milliseconds. */
const CLOSE_MS = 5000;

/** A connection on which `text` was sent. It stays open for any response. */
async function open({ port }: ServerProcess, text: string): Promise<Socket> {
  const socket = connect(port, "127.0.0.1").on("error", () => undefined);
  await once(socket, "connect");
  if (text !== "") await new Promise((sent) => socket.write(text, sent));
  return socket;
}

/**
 * Runs a server and sends it SIGTERM while `hold` holds it.
 * @returns how long it took, in milliseconds
 */
async function end(
  name: (typeof NAMES)[number],
  hold: (server: ServerProcess) => Promise<void>,
): Promise<number> {
  const dataDir = makeDataDir();
  try {
    const server = await startServer({ MESHCA_DATA_DIR: dataDir }, [], COMMANDS[name](dataDir));
    await hold(server);
    const asked = performance.now();
    server.kill("SIGTERM");
    const { code, stderr } = await server.ended;
    assert.deepEqual([code, stderr], [0, ""], name);
    return performance.now() - asked;
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

describe("meshca serve on SIGTERM", () => {
  for (const name of NAMES)
    it(`answers waiting clients on ${name}, and does not wait for silent connections`, async () => {
      const answers: ReturnType<typeof send>[] = [];
      const sockets: Socket[] = [];
      const ms = await end(name, async (server) => {
        sockets.push(await open(server, ""));
        const used = await open(server, `GET ${ROOTS} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
        await once(used, "data");
        sockets.push(used);
        for (let i = 0; i < 3; i++)
          answers.push(send(server.port, { method: "GET", target: `${ROOTS}?index=1&wait=600s` }));
        const metrics = async () =>
          (await send(server.port, { method: "GET", target: "/metrics" }))?.body ?? "";
        await until(async () => /^meshca_watchers 3$/m.test(await metrics()));
      });
      for (const answer of await Promise.all(answers))
        assert.deepEqual([answer?.status, answer?.header("X-Consul-Index")], [200, "1"]);
      assert.ok(ms < 60_000, `it took ${ms} ms although nothing was left to answer`);
      for (const socket of sockets) socket.destroy();
    });

  it(`waits ${CLOSE_MS} ms for a body that does not come, and ends with 0 all the same, on ${NAMES.join(", ")}`, async () => {
    const took = await Promise.all(
      NAMES.map((name) =>
        end(name, async (server) => {
          const body = await open(
            server,
            `PUT ${SIGN} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400\r\n\r\nabc`,
          );
          const head = await open(server, `GET ${ROOTS} HTTP/1.1\r\nHo`);
          void server.ended.finally(() => [body, head].map((socket) => socket.destroy()));
          // Answered behind both: it has read them.
          await send(server.port, { method: "GET", target: ROOTS });
        }),
      ),
    );
    for (const ms of took)
      assert.ok(ms > CLOSE_MS - 100 && ms < 60_000, `it took ${took.join(", ")} ms`);
  });
});
