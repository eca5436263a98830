#!/usr/bin/env node
/**
 * The `meshca` command. Installed from npm it runs on the runtime that runs this file; in a clone, on
 * the Bun of the lock file, which it installs at first if `npm start` has not done so.
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const source = new URL("../src/cli/main.ts", import.meta.url);
const { bun, deno, node } = process.versions;

if (existsSync(source)) runInClone(fileURLToPath(source));
else if (bun === undefined && deno === undefined && Number.parseInt(node, 10) < 24) {
  process.stderr.write(
    `Cannot run on Node ${node}: it must be Node 24.0 or newer; install it, or run meshca with Bun, or its single binary\n`,
  );
  // sysexits.h: EX_CONFIG.
  process.exitCode = 78;
} else await import(new URL("../dist/src/cli/main.js", import.meta.url).href);

/** @param {string} main */
function runInClone(main) {
  const program = installedBun() ?? installBun();
  const child = spawn(program, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
    process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) =>
    process.exit(signal === null ? (code ?? 70) : 128 + constants.signals[signal]),
  );
}

function installedBun() {
  try {
    return createRequire(import.meta.url).resolve("bun/bin/bun.exe");
  } catch {
    return null;
  }
}

/** As `npm start` does; what npm prints goes to standard error, the command's own output does not. */
function installBun() {
  const { status } = spawnSync("npm", ["run", "--silent", "prestart"], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: ["ignore", 2, 2],
  });
  const program = installedBun();
  if (program !== null) return program;
  process.stderr.write(
    `Cannot install the packages of the clone: npm run prestart exited with ${status}; see its output above\n`,
  );
  // sysexits.h: EX_UNAVAILABLE.
  process.exit(69);
}
