/**
 * `meshca healthcheck` checks the server of the same settings, over HTTP or TLS.
 * @module
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer, type Server } from "node:net";
import { describe, it } from "node:test";
import { makeDataDir, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { freePort } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";

type Environment = Readonly<Record<string, string>>;

function healthcheck(
  environment: Environment,
  command: readonly string[] = [process.execPath],
): Promise<{ code: number | null; stderr: string }> {
  const [program = "", ...flags] = command;
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(program, [...flags, "src/cli/main.ts", "healthcheck"], {
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

  it("is 1 for a server that accepts connections and does not respond, within three seconds", {
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
      const started = performance.now();
      const { code, stderr } = await healthcheck({ MESHCA_LISTEN: `127.0.0.1:${port}`, ...more });
      assert.deepEqual(
        [code, stderr],
        [1, `Not healthy: 127.0.0.1:${port} does not answer in time\n`],
      );
      assert.ok(performance.now() - started < 5000);
    }
    silent.close();
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
