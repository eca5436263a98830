/**
 * Runs the test suite and closes with its count. With CI=true a skipped test fails the run: there every server that a
 * test may need has been brought up.
 * @module
 */
import { spawnSync } from "node:child_process";

const run = spawnSync(process.execPath, ["test", "--timeout", "60000", ...process.argv.slice(2)], {
  encoding: "utf8",
  stdio: ["inherit", "inherit", "pipe"],
  maxBuffer: 1 << 28,
});
process.stderr.write(run.stderr);
const count = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(run.stderr)?.[1] ?? 0);
const [passed, failed, skipped] = [count("pass"), count("fail"), count("skip")];
const skippedInCi = process.env.CI === "true" && skipped > 0;
if (skippedInCi) console.error("A skipped test fails here: CI=true");
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(run.status !== 0 || skippedInCi || passed === 0 ? 1 : 0);
