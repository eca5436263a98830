/**
 * Removes one guard of security at a time from a copy of the tree, and checks that a test fails for
 * it.
 *   bun test/mutants/run.ts [--workers=N] [text of the entries to run: a part of their file or
 *   name] It ends with 1 if a change leaves its tests green, or if the table is wrong: a text that
 *   is not in its file exactly once, a replacement that cannot be parsed, or a test file that fails
 *   without any change. Without redis-server some tests are skipped, and their guards survive.
 * @module
 */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { ROOT } from "../fixtures/root.ts";
import type { Mutant } from "./mutant.ts";
import { MUTANTS } from "./table.ts";

/**
 * How long one test file may take, in milliseconds: the slowest one named takes a minute on two
 * busy cores.
 */
const FILE_MS = 240_000;
/** Folders that no test reads. */
const LEFT_OUT: readonly string[] = [".git", "node_modules", ".meshca", ".wrangler"];

/** What a run of one test file came to, and the names of the tests that failed. */
interface Result {
  readonly outcome: "passed" | "failed" | "timed out";
  readonly failed: readonly string[];
}

/** A copy of the tree in which one change at a time is made. */
class Workspace {
  readonly #folder = mkdtempSync(join(tmpdir(), "meshca-mutants-"));

  constructor() {
    cpSync(ROOT, this.#folder, {
      recursive: true,
      filter: (path) => !LEFT_OUT.includes(relative(ROOT, path)),
    });
    symlinkSync(realpathSync(join(ROOT, "node_modules")), join(this.#folder, "node_modules"));
  }

  /** Runs one test file until its first failure. */
  async run(file: string): Promise<Result> {
    const child = Bun.spawn(
      [process.execPath, "test", "--bail", "--timeout", "60000", `./${file}`],
      {
        cwd: this.#folder,
        env: { ...process.env, PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}` },
        stdout: "ignore",
        stderr: "pipe",
        timeout: FILE_MS,
        killSignal: "SIGKILL",
      },
    );
    const [code, text] = await Promise.all([child.exited, new Response(child.stderr).text()]);
    const failed = text.split("\n").filter((line) => line.startsWith("(fail)"));
    if (child.signalCode !== null) return { outcome: "timed out", failed };
    return { outcome: code === 0 ? "passed" : "failed", failed };
  }

  /**
   * Applies a change, runs its tests, and takes the change back.
   * @returns the test files that did not fail, and why
   */
  async try({ file, from, to, tests }: Mutant): Promise<string[]> {
    const path = join(this.#folder, file);
    const original = readFileSync(path, "utf8");
    writeFileSync(path, replaced(original, from, to));
    const survived: string[] = [];
    try {
      for (const test of tests) {
        const { outcome } = await this.run(test);
        if (outcome !== "failed") survived.push(`${test} ${outcome}`);
      }
    } finally {
      writeFileSync(path, original);
    }
    return survived;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * The places of `text` that are `from` in any layout: white space counts for nothing, nor does a comma before a closing
 * bracket.
 * @returns where each begins and ends
 */
function placesOf(text: string, from: string): (readonly [number, number])[] {
  const compact = (source: string) =>
    [...source.matchAll(/\S/g)].filter(
      ({ 0: char, index }) => char !== "," || !/^,\s*[)\]}]/.test(source.slice(index)),
    );
  const all = compact(text);
  const haystack = all.map(([char]) => char).join("");
  const needle = compact(from)
    .map(([char]) => char)
    .join("");
  const places: (readonly [number, number])[] = [];
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, at + 1)) {
    places.push([all[at]?.index ?? 0, (all[at + needle.length - 1]?.index ?? 0) + 1]);
  }
  return places;
}

/** `text` with `to` in the one place of `from`. */
function replaced(text: string, from: string, to: string): string {
  const [start = 0, end = 0] = placesOf(text, from)[0] ?? [];
  return text.slice(0, start) + to + text.slice(end);
}

/** What is wrong with an entry of the table, or null. */
function faultOf({ file, from, to, tests }: Mutant): string | null {
  const missing = [file, ...tests].find((name) => !existsSync(join(ROOT, name)));
  if (missing !== undefined) return `there is no ${missing}`;
  const text = readFileSync(join(ROOT, file), "utf8");
  const found = placesOf(text, from).length;
  if (found !== 1) return `its text is in the file ${found} times, and must be once`;
  if (from === to) return "it changes nothing";
  if (tests.length === 0) return "it names no test file";
  try {
    new Bun.Transpiler({ loader: "ts" }).transformSync(replaced(text, from, to));
    return null;
  } catch {
    return "the file cannot be parsed with the replacement";
  }
}

const titleOf = ({ file, name }: Mutant): string => `${file}: ${name}`;

/** Runs `work` on every item, at most one at a time in each workspace. */
async function share<T>(
  items: readonly T[],
  workspaces: readonly Workspace[],
  work: (item: T, workspace: Workspace) => Promise<void>,
) {
  const left = [...items];
  await Promise.all(
    workspaces.map(async (workspace) => {
      for (let item = left.shift(); item !== undefined; item = left.shift())
        await work(item, workspace);
    }),
  );
}

const options = process.argv.slice(2);
const workers = Number(
  options.find((option) => option.startsWith("--workers="))?.slice("--workers=".length) ?? 1,
);
const wanted = options.filter((option) => !option.startsWith("--"));
const chosen = MUTANTS.filter(
  (mutant) => wanted.length === 0 || wanted.some((text) => titleOf(mutant).includes(text)),
);
// Every entry is checked, whichever are run: an outdated table is found at once.
const faults = MUTANTS.flatMap((mutant) => {
  const fault = faultOf(mutant);
  return fault === null ? [] : [`${titleOf(mutant)}: ${fault}`];
});
if (chosen.length === 0)
  faults.push(
    `No entry has ${wanted.map((text) => JSON.stringify(text)).join(" or ")} in its name`,
  );
if (!Number.isInteger(workers) || workers < 1)
  faults.push("--workers must be a whole number, 1 or more");
if (faults.length > 0) {
  console.error(faults.join("\n"));
  process.exit(1);
}

const workspaces = Array.from({ length: workers }, () => new Workspace());
process.once("exit", () => {
  for (const workspace of workspaces) workspace.remove();
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
const survivors: string[] = [];
const files = [...new Set(chosen.flatMap(({ tests }) => tests))];
console.log(`${files.length} test files without any change, then ${chosen.length} changes`);
await share(files, workspaces, async (file, workspace) => {
  let result = await workspace.run(file);
  // Some compare times, which concurrent tests may disturb.
  if (result.outcome !== "passed") result = await workspace.run(file);
  if (result.outcome !== "passed")
    faults.push([`${file} ${result.outcome} without any change`, ...result.failed].join("\n"));
});
if (faults.length === 0)
  await share(chosen, workspaces, async (mutant, workspace) => {
    const started = performance.now();
    const survived = await workspace.try(mutant);
    const seconds = Math.round((performance.now() - started) / 1000);
    console.log(
      `${survived.length === 0 ? "killed  " : "SURVIVED"} ${titleOf(mutant)} (${seconds} s)`,
    );
    survivors.push(...survived.map((which) => `${titleOf(mutant)}: ${which} with the change`));
  });
const bad = [...faults, ...survivors];
if (bad.length > 0) console.error(`\n${bad.join("\n")}`);
console.log(`${chosen.length} changes, ${survivors.length} survived`);
process.exit(bad.length > 0 ? 1 : 0);
