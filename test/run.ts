/**
 * Runs the test suite and closes with its count. What takes minutes runs concurrently, some with
 * MESHCA_SLOW=1 and in CI only. With CI=true a skipped test fails the run: there every server that
 * a test may need has been brought up.
 * @module
 */
import { Glob } from "bun";

const ci = process.env.CI === "true";
const asked = process.argv.slice(2);
const filesIn = (pattern: string) =>
  [...new Glob(pattern).scanSync(".")]
    .map((file) => `./${file}`)
    .toSorted((a, b) => a.localeCompare(b));
const slow = ci || process.env.MESHCA_SLOW === "1" ? filesIn("test/**/*.slow.ts") : [];

/** The part of a failure that is repeated at the end. */
const MAX_LINES = 40;

/**
 * For a test, or a hook, that does not say how long it takes, in milliseconds: hooks cannot say it, and
 * those of slow files build images.
 */
const timeoutOf = (files: readonly string[]): number =>
  files.every((file) => file.endsWith(".slow.ts")) ? 900_000 : 120_000;

/** Runs bun's test runner and counts by its last lines. */
async function run(files: readonly string[]) {
  const timeout = String(timeoutOf(files));
  const child = Bun.spawn([process.execPath, "test", "--timeout", timeout, ...files], {
    stdout: "inherit",
    stderr: "pipe",
  });
  let text = "";
  for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
    process.stderr.write(chunk);
    text += chunk;
  }
  const count = (word: string) =>
    Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(text)?.[1] ?? 0);
  return {
    code: await child.exited,
    passed: count("pass"),
    failed: count("fail"),
    skipped: count("skip"),
    failures: failuresIn(text),
  };
}

/** What was said about each test that failed: all since the test before it. */
function failuresIn(text: string): string[] {
  const failures: string[] = [];
  let said: string[] = [];
  for (const line of text.split("\n")) {
    if (/^\d+ tests? failed:$/.test(line)) break;
    said.push(line);
    if (line.startsWith("(fail)")) failures.push(said.slice(-MAX_LINES).join("\n"));
    if (/^\((fail|pass|skip|todo)\)/.test(line)) said = [];
  }
  return failures;
}

const isAboutServers = (file: string) => /^\.\/test\/(?:faults|vault)\//.test(file);
const all = filesIn("test/**/*.test.ts");
// What is slow, and what is about other servers, waits most of the time: each by itself takes as
// long as the longest of them.
const beside = [all.filter(isAboutServers), ...slow.map((file) => [file])];
// The others are halved, since they wait for half of their time: neighbours of a folder take as long.
const others = all.filter((file) => !isAboutServers(file));
const halves = [0, 1].map((half) => others.filter((_, i) => i % 2 === half));
const groups = asked.length > 0 ? [asked] : [...halves, ...beside];
const results = await Promise.all(groups.map(run));
const sum = (field: "passed" | "failed" | "skipped") =>
  results.reduce((total, result) => total + result[field], 0);
for (const failure of results.flatMap(({ failures }) => failures)) console.error(`${failure}\n`);
const skippedInCi = ci && sum("skipped") > 0;
if (skippedInCi) console.error("A skipped test fails here: CI=true");
console.log(`${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
process.exit(results.some(({ code, passed }) => code !== 0 || passed === 0) || skippedInCi ? 1 : 0);
