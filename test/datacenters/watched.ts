/**
 * A secondary datacenter whose `/readyz`, log and stored document a test watches while its primary
 * answers what does not hold.
 * @module
 */
import assert from "node:assert/strict";
import { Report } from "../../src/compose/report.ts";
import type { Log } from "../../src/core/ports/log.ts";
import { silentLog } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { leafOf, requireMutual } from "./leaves.ts";
import { type Pair, pair } from "./pair.ts";

export interface Watched extends Pair {
  /** What `/readyz` answers. */
  readyz(): Promise<string>;
  /** Warnings with their fields. */
  readonly logged: readonly string[];
}

/** A log that notes warnings and errors with their fields. */
export function notingLog(): { readonly log: Log; readonly logged: readonly string[] } {
  const logged: string[] = [];
  const note: Log["warn"] = (message, fields) =>
    void logged.push(`${message} ${JSON.stringify(fields)}`);
  return { log: { ...silentLog, warn: note, error: note }, logged };
}

/** What `/readyz` of the secondary answers. */
export async function readyzOf(two: Pair["two"], log: Log): Promise<Watched["readyz"]> {
  const { manager, clock } = two;
  const report = new Report({
    ...{ ca: manager, audit: null, clock, log },
    serverCertificate: () => null,
  });
  const app = await createTestApp(
    { details: () => report.lines(), server: { datacenter: "dc2" } },
    two,
  );
  return async () => (await app.fetch("/readyz")).text();
}

export async function watched(overrides: Parameters<typeof pair>[0] = {}): Promise<Watched> {
  const { log, logged } = notingLog();
  const both = await pair({ ...overrides, two: { ...overrides.two, log } });
  return { ...both, logged, readyz: await readyzOf(both.two, log) };
}

export const named = ({ one, two }: Pair) => [
  { ...one, name: "dc1" },
  { ...two, name: "dc2" },
];

/** The failures in the log that have a reason. */
function saidIn({ logged }: Pick<Watched, "logged">, reason: RegExp): string[] {
  return logged.filter(
    (each) =>
      each.startsWith("Failed to ") &&
      reason.test(JSON.parse(each.slice(each.indexOf("{"))).reason),
  );
}

/** Requires that a failure was logged once for each reason, however often it was tried again. */
export function requireLoggedOnce(both: Pick<Watched, "logged">, reason: RegExp): void {
  const said = saidIn(both, reason);
  assert.equal(new Set(said).size, said.length, said.join("\n"));
}

/** Requires that nothing changes while the primary answers so, and that the reason is shown. */
export async function requireRefused(
  both: Pick<Watched, "two" | "settle" | "readyz" | "logged">,
  reason: RegExp,
): Promise<void> {
  const { document } = both.two.backend;
  for (let i = 0; i < 3; i++) await both.settle();
  assert.equal(both.two.backend.document, document);
  assert.match(both.two.manager.status.primary?.fault?.reason ?? "", reason);
  const text = await both.readyz();
  const line = text.split("\n").find((each) => each.startsWith("primary: dc1, ")) ?? "";
  assert.match(line.replace(/^.*; not followed since \S+ \(\w+\): /, ""), reason, text);
  const said = saidIn(both, reason);
  assert.ok(said.length > 0, both.logged.join("\n"));
  const step = document === null ? "join" : "follow";
  assert.match(
    said.at(-1) ?? "",
    new RegExp(`^Failed to (?:${step}|read the roots of) the primary datacenter`),
  );
  for (const each of [text, ...both.logged]) assert.doesNotMatch(each, /-----BEGIN/);
  if (document === null) {
    assert.match(text, /^Cannot sign: CA has not finished initializing: it waits for the primary/);
    return;
  }
  assert.match(text, /^ok\n/);
  await leafOf({ ...both.two, name: "dc2" });
}

/** Requires that the secondary follows without a call of an operator. */
export async function requireRecovery(both: Watched): Promise<void> {
  const { document } = both.two.backend;
  both.primary.change = {};
  await both.settle();
  assert.notEqual(both.two.backend.document, document);
  assert.equal(both.two.manager.status.primary?.fault, null);
  assert.doesNotMatch(await both.readyz(), /not followed since/);
  await requireMutual(named(both));
}
