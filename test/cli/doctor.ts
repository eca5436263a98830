/**
 * Runs `meshca doctor` and reads what it found.
 * @module
 */
import assert from "node:assert/strict";
import type { CheckId, Finding, Report, Result } from "../../src/cli/doctor/types.ts";
import { meshca } from "./run.ts";

type Environment = Readonly<Record<string, string>>;

/** One run with `--json`. */
export interface Examined extends Report {
  /** The result of a check of the server, or of the only agent. */
  of(id: CheckId): Result;
  /** The only finding of a check. */
  finding(id: CheckId): Finding;
}

/** @param command the runtime with its flags */
export async function doctor(
  environment: Environment,
  args: readonly string[] = [],
  command?: readonly string[],
): Promise<Examined> {
  const { code, stdout, stderr } = await meshca(
    ["doctor", "--json", ...args],
    environment,
    "",
    command,
  );
  assert.notEqual(stdout, "", `It ended with ${code}: ${stderr}`);
  const report: Report = JSON.parse(stdout);
  assert.equal(code, report.exit);
  const of = (id: CheckId): Result => {
    const result = report.results.find((one) => one.id === id);
    assert.ok(result !== undefined, `${id} was not made`);
    return result;
  };
  return {
    ...report,
    of,
    finding(id) {
      const { findings, outcome, detail } = of(id);
      const [first] = findings;
      assert.ok(first !== undefined && findings.length === 1, `${id}: ${outcome}, ${detail}`);
      return first;
    },
  };
}
