/**
 * `meshca healthcheck` checks the server of the same settings, over HTTP or TLS.
 * @module
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { startAgent } from "../fixtures/agent.ts";
import { makeDataDir, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { KEK } from "../redis/replica.ts";
import { freePort, startRedis, until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";

type Environment = Readonly<Record<string, string>>;

function healthcheck(
  environment: Environment,
  command: readonly string[] = [process.execPath],
  args: readonly string[] = [],
): Promise<{ code: number | null; stderr: string }> {
  const [program = "", ...flags] = command;
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(program, [...flags, "src/cli/main.ts", "healthcheck", ...args], {
    cwd: ROOT,
    env: { PATH, HOME, ...environment },
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, stderr })));
}

const FINE = { code: 0, stderr: "" };

describe("meshca healthcheck", () => {
  const settings: readonly (readonly [string, Environment])[] = [
    ["plain HTTP", {}],
    ["TLS with a certificate of its own CA", { MESHCA_TLS: "self" }],
    [
      "client certificates, if there are any",
      { MESHCA_TLS: "self", MESHCA_TLS_CLIENT_CA_FILE: "self" },
    ],
    [
      "client certificates only",
      { MESHCA_TLS: "self", MESHCA_TLS_CLIENT_CA_FILE: "self", MESHCA_TLS_CLIENT_CERT: "required" },
    ],
    [
      "any address, with access control and names for Host",
      {
        MESHCA_LISTEN: "0.0.0.0:0",
        MESHCA_TLS: "self",
        MESHCA_ACL: "deny",
        MESHCA_HOSTS: "ca.example",
      },
    ],
  ];
  for (const [what, environment] of settings)
    it(`is 0 for a server with ${what}, and 1 once it is gone`, { timeout: 60_000 }, async () => {
      const port = await freePort();
      const [host = "127.0.0.1"] = (environment.MESHCA_LISTEN ?? "127.0.0.1").split(":");
      const given = { ...environment, MESHCA_STORE: "memory:", MESHCA_LISTEN: `${host}:${port}` };
      const server = await startServer(given);
      try {
        assert.deepEqual(await healthcheck(given), FINE);
      } finally {
        await server.stop();
      }
      assert.deepEqual(await healthcheck(given), {
        code: 1,
        stderr: `Not healthy: 127.0.0.1:${port} cannot be reached: ECONNREFUSED\n`,
      });
    });

  for (const name of ["node", "deno"] as const)
    it(`runs on ${name} too`, { timeout: 60_000 }, async () => {
      const [port, dataDir] = [await freePort(), makeDataDir()];
      const given = {
        MESHCA_TLS: "self",
        MESHCA_STORE: "memory:",
        MESHCA_LISTEN: `127.0.0.1:${port}`,
      };
      const server = await startServer(given);
      try {
        assert.deepEqual(await healthcheck(given, COMMANDS[name](dataDir)), FINE);
      } finally {
        await server.stop();
      }
    });

  it("is 1 for a server that accepts connections and does not respond, and does not wait for ever", {
    timeout: 60_000,
  }, async () => {
    const silent: Server = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const address = silent.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    for (const more of [
      {},
      { MESHCA_TLS: "self" },
      { MESHCA_TLS: "self", MESHCA_TLS_CLIENT_CA_FILE: "self", MESHCA_TLS_CLIENT_CERT: "required" },
    ] as Environment[]) {
      const { code, stderr } = await healthcheck({ MESHCA_LISTEN: `127.0.0.1:${port}`, ...more });
      assert.deepEqual(
        [code, stderr],
        [1, `Not healthy: 127.0.0.1:${port} does not answer in time\n`],
      );
    }
    silent.close();
  });

  const withFlags = (environment: Environment, ...args: string[]) =>
    healthcheck(environment, [process.execPath], args);

  it("asks with --ready whether the server is ready, which it is not without its store", {
    timeout: 60_000,
  }, async () => {
    const [listen, redis] = [await freePort(), await freePort()];
    const given = {
      MESHCA_LISTEN: `127.0.0.1:${listen}`,
      MESHCA_STORE: `redis://127.0.0.1:${redis}`,
      MESHCA_KEK: KEK,
      MESHCA_DATA_DIR: makeDataDir(),
    };
    const starting = startServer(given);
    await until(async () => (await healthcheck(given)).code === 0);
    assert.deepEqual(await withFlags(given, "--ready"), {
      code: 1,
      stderr: `Not healthy: 127.0.0.1:${listen} answers /readyz with 503\n`,
    });
    const store = await startRedis({ port: redis });
    const server = await starting;
    await until(async () => (await withFlags(given, "--ready")).code === 0);
    await server.stop();
    await store.stop();
  });

  it("asks an agent by its listener, on an address or a Unix socket", {
    timeout: 60_000,
  }, async () => {
    const server = await startServer({ MESHCA_STORE: "memory:", MESHCA_LISTEN: "127.0.0.1:0" });
    const port = await freePort();
    const socket = join(makeDataDir(), "agent.sock");
    for (const listen of [`127.0.0.1:${port}`, `unix:${socket}`]) {
      const flags = ["--server", server.url, "--service", "web", "--listen", listen];
      const agent = await startAgent(flags);
      assert.deepEqual(await withFlags({}, "--agent", listen), FINE);
      assert.deepEqual(await withFlags({}, "--agent", listen, "--ready"), FINE);
      await agent.stop();
      const gone = await withFlags({}, "--agent", listen, "--ready");
      assert.equal(gone.code, 1);
      assert.match(
        gone.stderr,
        /^Not healthy: \S+ cannot be reached: (ECONNREFUSED|ENOENT|FailedToOpenSocket)\n$/,
      );
    }
    const waiting = await startAgent(
      ["--server", "http://127.0.0.1:1", "--service", "web", "--listen", `127.0.0.1:${port}`],
      { until: "open" },
    );
    assert.deepEqual(await withFlags({}, "--agent", `127.0.0.1:${port}`), FINE);
    assert.deepEqual(await withFlags({}, "--agent", `127.0.0.1:${port}`, "--ready"), {
      code: 1,
      stderr: `Not healthy: 127.0.0.1:${port} answers /readyz with 503\n`,
    });
    await waiting.stop();
    await server.stop();
  });

  it("is 1, with the reason, for an agent's address that is none and a server that only its clients can ask", async () => {
    assert.deepEqual(await withFlags({}, "--agent", "web"), {
      code: 1,
      stderr:
        "Not healthy: --agent must be HOST:PORT with a loopback address, for example 127.0.0.1:8502, or unix:PATH\n",
    });
    const required = {
      MESHCA_STORE: "memory:",
      MESHCA_TLS: "self",
      MESHCA_TLS_CLIENT_CA_FILE: "self",
      MESHCA_TLS_CLIENT_CERT: "required",
    };
    assert.match(
      (await withFlags(required, "--ready")).stderr,
      /^Not healthy: the server requires client certificates, .* leave out --ready\n$/,
    );
    assert.equal((await withFlags({}, "--port", "1")).code, 64);
  });

  it("is 1, with the reason, for settings that cannot be served and for a port that is not known", async () => {
    assert.match(
      (await healthcheck({ MESHCA_LISTEN: "x" })).stderr,
      /^Not healthy: Cannot start:\n {2}MESHCA_LISTEN: must be HOST:PORT/,
    );
    assert.deepEqual(await healthcheck({ MESHCA_LISTEN: "127.0.0.1:0" }), {
      code: 1,
      stderr:
        "Not healthy: MESHCA_LISTEN has port 0: the port that the system chose is not known to this command\n",
    });
  });
});
