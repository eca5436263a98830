#!/usr/bin/env node
/**
 * Runs the command on the Bun that is installed with it.
 * @module
 */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const bun = createRequire(import.meta.url).resolve("bun/bin/bun.exe");
const main = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const child = spawn(bun, [main, ...process.argv.slice(2)], { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(signal === null ? (code ?? 70) : 70));
