/**
 * The frame of commands: a closed pipe, unknown flags, help at 40 columns, flags of `serve`.
 * @module
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { linesOf, makeDataDir, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { freePort, until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { meshca, meshcaOnTerminal } from "./run.ts";

const OPTIONS = { timeout: 120_000 };

/** In bash: descriptor 3 is a pipe whose reader has closed it already. */
const CLOSED_PIPE = "exec 3> >(exec true); wait $!";

describe("the frame of commands", () => {
  for (const name of ["bun", "node", "deno"] as const)
    it(`ends quietly when its reader closes the pipe, on ${name}`, OPTIONS, () => {
      const command = name === "deno" ? COMMANDS.deno("/tmp") : COMMANDS[name]();
      for (const args of ["completion bash", "sign --help", "serve -h", "--version"]) {
        const run = `${command.join(" ")} src/cli/main.ts ${args}`;
        const { stderr } = spawnSync("bash", ["-c", `${CLOSED_PIPE}; ${run} >&3`], {
          cwd: ROOT,
          encoding: "utf8",
        });
        assert.equal(stderr, "", args);
      }
    });

  for (const name of ["bun", "node", "deno"] as const)
    it(`serves on when the reader of its log closes the pipe, on ${name}`, OPTIONS, async () => {
      const dataDir = makeDataDir();
      const command = name === "deno" ? COMMANDS.deno(dataDir) : COMMANDS[name]();
      const port = await freePort();
      const run = `exec ${command.join(" ")} src/cli/main.ts serve`;
      const server = spawn("bash", ["-c", `${CLOSED_PIPE}; ${run} >&3`], {
        cwd: ROOT,
        env: {
          ...process.env,
          MESHCA_DATA_DIR: dataDir,
          MESHCA_LISTEN: `127.0.0.1:${port}`,
        },
        stdio: ["ignore", "ignore", "pipe"],
      });
      let stderr = "";
      server.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
        stderr += chunk;
      });
      const ended = new Promise<number | null>((resolve) =>
        server.once("close", (code) => resolve(code)),
      );
      try {
        const ask = (path: string, method = "GET") =>
          fetch(`http://127.0.0.1:${port}${path}`, { method }).then(
            ({ status }) => status,
            () => 0,
          );
        await until(async () => (await ask("/readyz")) === 200);
        // Each rotation writes a line.
        for (let i = 0; i < 3; i++) assert.equal(await ask("/v1/connect/ca/rotate", "PUT"), 200);
        assert.equal(await ask("/readyz"), 200);
        server.kill("SIGTERM");
        assert.deepEqual([await ended, stderr], [0, ""]);
      } finally {
        server.kill("SIGKILL");
        await ended;
        rmSync(dataDir, { recursive: true, force: true });
      }
    });

  it("names the nearest command of a group, and the nearest flag", OPTIONS, async () => {
    const command = await meshca(["connect", "ca", "get-confg"]);
    assert.equal(command.code, 64);
    assert.match(
      command.stderr,
      /^"get-confg" is not a command of meshca connect ca; did you mean get-config\?\n/,
    );
    const flag = await meshca(["roots", "-htp-addr=x"]);
    assert.equal(flag.code, 64);
    assert.match(
      flag.stderr,
      /^-htp-addr is not a flag of meshca roots; did you mean --http-addr\?\n/,
    );
    const secret = await meshca(["roots", "-tokn", "planted-secret"]);
    assert.equal(secret.code, 64);
    assert.doesNotMatch(secret.stderr, /planted-secret/);
  });

  it("wraps its help at the width of the terminal", OPTIONS, async () => {
    for (const columns of [40, 60, 120]) {
      const { code, screen } = await meshcaOnTerminal(["rotate", "--help"], {}, { columns });
      assert.equal(code, 0);
      assert.match(screen, /\nExample:\n {2}meshca rotate\n/);
      for (const line of screen.split("\n")) assert.ok(line.length <= columns, line);
    }
  });
});

describe("the flags of meshca serve", () => {
  it("win over variables, and --dev keeps the state in memory", OPTIONS, async () => {
    const dataDir = makeDataDir();
    const server = await startServer(
      { MESHCA_LISTEN: "127.0.0.1:1", MESHCA_HTTP_TOKEN: "of-the-command-line" },
      ["-listen", "127.0.0.1:0", "-data-dir", dataDir, "-dev"],
    );
    const [ready] = linesOf(server.stdout()).filter(({ message }) => message === "Listening");
    await server.stop();
    assert.equal(ready?.store, "memory");
    assert.equal(existsSync(join(dataDir, "meshca.db")), false);
  });

  it("refuse --dev with a store, and workers out of range", OPTIONS, async () => {
    const dev = await meshca(["serve", "--dev"], { MESHCA_STORE: "sqlite:x" });
    assert.deepEqual([dev.code, dev.stdout], [64, ""]);
    assert.match(dev.stderr, /^--dev keeps the state in memory only: unset MESHCA_STORE/);
    const workers = await meshca(["serve", "--workers", "65"]);
    assert.equal(workers.code, 64);
    assert.match(workers.stderr, /^--workers must be a whole number from 1 to 64\n$/);
  });
});
