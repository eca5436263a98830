/**
 * Which files and functions of `src` and `providers` a request enters: one that signs a CSR, one
 * that changes LeafCertTTL, and one that rotates; over the HTTP app, the memory store and the built-in
 * provider, with fakes for the clock, the log and the metrics. Runs on Node, by V8's precise coverage.
 * @module
 */
import assert from "node:assert/strict";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createTestApp, leafTtl } from "../test/fixtures/app.ts";
import { makeRequests } from "./requests.ts";

const ROOT = pathToFileURL(`${join(import.meta.dirname, "..")}/`).href;
/** Requests of each kind before the one that counts, so that caches are filled. */
const WARM_UP = 5;

const { manager, fetch } = await createTestApp();
const csrs = await makeRequests(`${manager.require().state.clusterId}.consul`);

const put = async (path: string, body: string) => {
  const response = await fetch(`/v1/connect/ca/${path}`, { method: "PUT", body });
  assert.equal(response.status, 200, await response.text());
};
const works: Readonly<Record<string, (i: number) => Promise<void>>> = {
  "A CSR": (i) => put("sign", csrs[i]?.pem ?? ""),
  "A change of LeafCertTTL": (i) => put("configuration", leafTtl(`${71 - i}h`).body as string),
  "A rotation": () => put("rotate", ""),
};

const session = new Session();
session.connect();
await session.post("Profiler.enable");
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });

/** The functions entered since this was called last: how many, by file. */
async function entered(): Promise<Map<string, number>> {
  const { result } = await session.post("Profiler.takePreciseCoverage");
  const counts = result
    .filter(({ url }) => url.startsWith(`${ROOT}src/`) || url.startsWith(`${ROOT}providers/`))
    .map(({ url, functions }): [string, number] => [
      url.slice(ROOT.length),
      functions.filter(({ ranges }) => (ranges[0]?.count ?? 0) > 0).length,
    ])
    .filter(([, count]) => count > 0);
  return new Map(counts.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

for (const [name, work] of Object.entries(works)) {
  for (let i = 0; i < WARM_UP; i++) await work(i);
  // As a replica does that follows the store.
  await manager.refresh();
  await entered();
  await work(WARM_UP);
  const files = await entered();
  const functions = [...files.values()].reduce((sum, count) => sum + count, 0);
  console.log(`\n${name} enters ${files.size} files and ${functions} functions:`);
  for (const [file, count] of files) console.log(`${String(count).padStart(5)} ${file}`);
}
session.disconnect();
await manager.close();
