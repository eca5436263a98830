/**
 * What an operator reads of a running server in `/readyz`, `/metrics` and the log.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Report } from "../../src/compose/report.ts";
import type { Audit } from "../../src/core/ports/audit.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { createTestCa, silentLog } from "../fakes/ca.ts";
import { startServer } from "../fixtures/process.ts";
import { COMMANDS } from "../runtimes/targets.ts";

const DAY = 86_400_000;
const FAILING: Audit = {
  record: () => undefined,
  beforeChange: async () => undefined,
  refusal: () => undefined,
  ...{ failure: "ENOSPC", stopsSigning: false, stopsChanges: true, lost: 0, reserveLeft: 0 },
};

async function report(audit: Audit | null = null) {
  const ca = await createTestCa();
  const lines: { level: string; message: string; fields: LogFields }[] = [];
  const note =
    (level: string) =>
    (message: string, fields: LogFields = {}) =>
      void lines.push({ level, message, fields });
  const log = { ...silentLog, warn: note("warn"), error: note("error") };
  return {
    ...ca,
    lines,
    report: new Report({
      ca: ca.manager,
      audit,
      serverCertificate: () => null,
      clock: ca.clock,
      log,
    }),
  };
}

describe("Report", () => {
  it("says that changes are possible, and what expires", async () => {
    const { report: subject, manager } = await report();
    const notAfter = manager.require().active.certificate.notAfter.toISOString();
    assert.deepEqual(subject.lines(), [
      ["store", "ok"],
      ["changes", "possible"],
      ["root_expires", notAfter],
      ["issuer_expires", notAfter],
    ]);
  });

  it("says that an audit log that cannot be written stops changes", async () => {
    const { report: subject } = await report(FAILING);
    assert.equal(subject.changeObstacle, "the audit log cannot be written (ENOSPC)");
    assert.ok(
      subject
        .lines()
        .some(
          ([name, value]) => name === "changes" && value.startsWith("not possible: the audit log"),
        ),
    );
  });

  it("warns in the log of a root 30, 7 and 1 day before its end, and of its end, with what to do", async () => {
    const { report: subject, clock, lines } = await report();
    const passed = [3600, 23, 6, 2].map((days) => {
      clock.advance(days * DAY);
      subject.warn();
      subject.warn();
      return lines.splice(0).map(({ level, message }) => `${level} ${message}`);
    });
    const todo =
      "without a valid root no leaf can be signed; rotate it with PUT /v1/connect/ca/rotate";
    // The root lives for 3650 days: 50, 27, 21 and 19 are left.
    assert.deepEqual(passed, [[], [`warn The root expires within 30 days: ${todo}`], [], []]);
    for (const [days, expected] of [
      [13, `warn The root expires within 7 days: ${todo}`],
      [5.5, `warn The root expires within 1 day: ${todo}`],
      [1, `error The root has expired: ${todo}`],
    ] as const) {
      clock.advance(days * DAY);
      subject.warn();
      assert.deepEqual(
        lines.splice(0).map(({ level, message }) => `${level} ${message}`),
        [expected],
      );
    }
  });
});

describe("/metrics", () => {
  for (const name of ["bun", "node", "deno"] as const)
    it(`has the process, the build, durations by route and what can be changed on ${name}`, {
      timeout: 60_000,
    }, async () => {
      const server = await startServer(
        { MESHCA_STORE: "memory:", MESHCA_AUDIT: "stdout" },
        [],
        COMMANDS[name]("/nowhere"),
      );
      try {
        assert.equal((await fetch(`${server.url}/v1/connect/ca/roots`)).status, 200);
        const text = await (await fetch(`${server.url}/metrics`)).text();
        for (const line of [
          /^process_cpu_seconds_total \d/m,
          /^process_resident_memory_bytes \d{7,}$/m,
          /^process_start_time_seconds \d{10}/m,
          /^meshca_build_info\{version="\d+\.\d+\.\d+",runtime="(bun|node|deno) [\d.]+"\} 1$/m,
          /^meshca_http_request_seconds_count\{route="\/v1\/connect\/ca\/roots"\} 1$/m,
          /^# TYPE meshca_audit_lost counter\nmeshca_audit_lost 0$/m,
          /^meshca_changes_possible 1$/m,
          /^meshca_store_away_seconds 0$/m,
          /^meshca_issuer_expiry_seconds \d/m,
        ])
          assert.match(text, line);
      } finally {
        await server.stop();
      }
    });
});
