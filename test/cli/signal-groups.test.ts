/**
 * A signal to a whole group of processes, as a terminal and some supervisors send it: npm and
 * `bin/meshca.mjs` pass it on, so that the server gets it twice, and still ends in order.
 * @module
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { describe, it } from "node:test";
import { linesOf, makeDataDir } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";

const COMMANDS = [
  "npm run --silent --ignore-scripts start",
  "npm run --silent --ignore-scripts start:node",
  "node bin/meshca.mjs serve",
  "node bin/meshca.mjs serve --workers 2",
] as const;

describe("a signal to the group", () => {
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    for (const command of COMMANDS)
      it(`${signal} of ${command} ends the server in order`, { timeout: 300_000 }, async () => {
        const dataDir = makeDataDir();
        const { PATH = "", HOME = "" } = process.env;
        const child = spawn("sh", ["-c", `exec ${command}`], {
          cwd: ROOT,
          env: {
            PATH: `${ROOT}node_modules/.bin:${PATH}`,
            HOME,
            MESHCA_LISTEN: "127.0.0.1:0",
            MESHCA_DATA_DIR: dataDir,
          },
          stdio: ["ignore", "pipe", "inherit"],
          detached: true,
        });
        const group = -(child.pid ?? 0);
        try {
          let output = "";
          const messages = () => linesOf(output).map(({ message }) => message);
          // The one of all workers, if there are some, is the last one.
          const readyLines = command.includes("--workers") ? 3 : 1;
          let isSignalled = false;
          child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
            output += chunk;
            const ready = messages().filter((message) => message === "Ready").length;
            if (ready < readyLines || isSignalled) return;
            isSignalled = true;
            process.kill(group, signal);
          });
          const code = await new Promise((resolve) => child.once("close", resolve));
          assert.ok(messages().includes("Stopped"), output);
          if (command.startsWith("node")) assert.equal(code, 0, output);
        } finally {
          try {
            process.kill(group, "SIGKILL");
          } catch {
            // All processes of the group have ended, as they should.
          }
          rmSync(dataDir, { recursive: true, force: true });
        }
      });
});
