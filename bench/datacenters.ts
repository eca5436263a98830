/**
 * What several datacenters cost, on each runtime: how soon the watchers of two secondaries see a
 * rotation in the primary, and leaves a second in a secondary compared with a primary.
 * `bun bench/datacenters.ts watchers` and `... leaves` run one part; a number behind it is that of
 * the watchers of each secondary.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { measureLeaves } from "./datacenter-leaves.ts";
import { measureWatchers } from "./datacenter-watchers.ts";

const [part = "all", number] = process.argv.slice(2);
const WATCHERS = Number(number ?? 3000);
const RUNTIMES = {
  Bun: [process.execPath],
  "Node 24": [join(import.meta.dir, "../node_modules/.bin/node")],
};
/** The whole of it takes half, more on a machine that does other work. */
const DEADLINE_MS = 1_500_000;

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
try {
  await Promise.race([measure(), tooLong()]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

async function tooLong(): Promise<never> {
  await Bun.sleep(DEADLINE_MS);
  throw new TypeError(`It takes longer than ${DEADLINE_MS / 1000} s`);
}

async function measure(): Promise<void> {
  for (const [name, runtime] of Object.entries(RUNTIMES)) {
    if (part !== "leaves") await measureWatchers(name, { folder, runtime }, WATCHERS);
    if (part !== "watchers") await measureLeaves(name, { folder, runtime });
  }
}
