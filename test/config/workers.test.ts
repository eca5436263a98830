/**
 * `meshca serve --workers N`: several processes that act as one server.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { makeDataDir, runServer, type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, startRedis, until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";

/** Processes that a process started. */
function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8")
      .split(" ")
      .filter((text) => text !== "")
      .map(Number),
  );
}

/** Asks over a new connection each time, so that the system picks a worker. */
const ask = async (server: ServerProcess, path: string, method = "GET") => {
  const answer = await fetch(`${server.url}${path}`, {
    method,
    headers: { Connection: "close" },
    keepalive: false,
  });
  return { status: answer.status, text: await answer.text() };
};

async function serveTogether(environment: Readonly<Record<string, string>>): Promise<void> {
  const server = await startServer(environment, ["--workers", "2"]);
  try {
    const ids = async () =>
      (JSON.parse((await ask(server, "/v1/status/peers")).text) as string[]).length;
    await until(async () => (await ids()) === 2);
    assert.equal((await ask(server, "/v1/connect/ca/rotate", "PUT")).status, 200);
    // Workers are distinguished by their counts of requests; all of them have the new root soon.
    await until(async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(server, "/metrics")));
      return answers.every(({ text }) => /^meshca_index 2$/m.test(text));
    });
    const [victim] = childrenOf(server.pid);
    process.kill(victim ?? 0, "SIGKILL");
    await until(
      () => childrenOf(server.pid).length === 2 && !childrenOf(server.pid).includes(victim ?? 0),
    );
    assert.equal((await ask(server, "/v1/connect/ca/roots")).status, 200);
    const workers = childrenOf(server.pid);
    const ended = await server.stop();
    assert.equal(ended.code, 0, ended.stderr);
    for (const pid of workers) assert.throws(() => process.kill(pid, 0), `worker ${pid} lives on`);
  } finally {
    server.kill("SIGKILL");
  }
}

describe("meshca serve --workers", () => {
  it(
    "serves one SQLite CA with two processes, and restarts one that ended",
    { timeout: 60_000 },
    () => serveTogether({}),
  );

  it("serves one Redis CA with two processes, and restarts one that ended", {
    skip: noRedis,
    timeout: 60_000,
  }, async () => {
    const redis = await startRedis();
    try {
      await serveTogether({
        MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
        MESHCA_KEK: makeKek(),
      });
    } finally {
      await redis.stop();
    }
  });

  it("keeps a second server away from the workers' file", async () => {
    const server = await startServer({}, ["--workers", "2"]);
    try {
      for (const args of [[], ["--workers", "2"]]) {
        const second = await runServer(
          { MESHCA_LISTEN: "127.0.0.1:0", MESHCA_DATA_DIR: server.dataDir },
          args,
        );
        assert.equal(second.code, 69);
        assert.match(second.stderr, /another process has it open/);
      }
    } finally {
      await server.stop();
    }
  });

  it("ends its workers when it is killed", async () => {
    const server = await startServer({}, ["--workers", "2"]);
    const workers = childrenOf(server.pid);
    assert.equal(workers.length, 2);
    server.kill("SIGKILL");
    const alive = (pid: number) => {
      try {
        return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
      } catch {
        return false;
      }
    };
    await until(() => !workers.some(alive));
  });

  it("refuses an invalid number of workers, and memory:", async () => {
    for (const args of [
      ["--workers", "0"],
      ["--workers", "65"],
      ["--workers", "x"],
      ["--workers"],
      ["--worker"],
      ["--other"],
      ["x"],
    ])
      assert.equal((await runServer({}, args)).code, 64, args.join(" "));
    const refused = await runServer({ MESHCA_STORE: "memory:" }, ["--workers", "2"]);
    assert.equal(refused.code, 78);
    assert.match(
      refused.stderr,
      /^Cannot start workers with MESHCA_STORE=memory: each worker would have its own CA/,
    );
  });

  it("refuses Deno before it reads any setting", async () => {
    const [dataDir, faulty] = [makeDataDir(), { MESHCA_LISTEN: "nowhere" }];
    const refused = await runServer(faulty, ["--workers", "2"], COMMANDS.deno(dataDir));
    assert.equal(refused.code, 78);
    assert.match(refused.stderr, /^Cannot start workers on Deno: serve without --workers/);
  });

  it("prints its usage", () => {
    assert.match(
      execFileSync(process.execPath, ["src/cli/main.ts", "serve", "--help"], { encoding: "utf8" }),
      /--workers <N> +N processes/,
    );
  });
});
