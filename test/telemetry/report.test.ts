/**
 * What an operator reads of a running server in `/readyz`, `/metrics` and the log.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { REMEDIES } from "../../src/compose/remedies.ts";
import { Report } from "../../src/compose/report.ts";
import type { Audit } from "../../src/core/ports/audit.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { CLUSTER, suppliedRoot } from "../core/ca/harness.ts";
import { configuration, createTestCa, DEFAULT_BOOTSTRAP, silentLog } from "../fakes/ca.ts";
import { startServer } from "../fixtures/process.ts";
import { COMMANDS } from "../runtimes/targets.ts";

const DAY = 86_400_000;
const FAILING: Audit = {
  record: () => undefined,
  beforeChange: async () => undefined,
  refusal: () => undefined,
  ...{ failure: "ENOSPC", stopsSigning: false, stopsChanges: true, lost: 0, reserveLeft: 0 },
};

async function report(
  audit: Audit | null = null,
  overrides: Parameters<typeof createTestCa>[0] = {},
) {
  const ca = await createTestCa(overrides);
  const lines: { level: string; message: string; fields: LogFields }[] = [];
  const note =
    (level: string) =>
    (message: string, fields: LogFields = {}) =>
      void lines.push({ level, message, fields });
  const log = { ...silentLog, info: note("info"), warn: note("warn"), error: note("error") };
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
    const todo = REMEDIES["root expires"].text;
    // The root lives for 3650 days: 50, 27, 21 and 19 are left.
    assert.deepEqual(passed, [[], [`warn The root expires within 30 days: ${todo}`], [], []]);
    for (const [days, expected] of [
      [13, `warn The root expires within 7 days: ${todo}`],
      [5.5, `warn The root expires within 1 day: ${todo}`],
      [1, `error The root has expired: ${REMEDIES["root expired"].text}`],
    ] as const) {
      clock.advance(days * DAY);
      subject.warn();
      assert.deepEqual(
        lines.splice(0).map(({ level, message }) => `${level} ${message}`),
        [expected],
      );
    }
  });

  it("names the command that mends an expiry in /readyz, once for a root that signs leaves itself", async () => {
    const { report: subject, manager, clock } = await report();
    const remedies = () =>
      subject.lines().flatMap(([name, text]) => (name === "remedy" ? [text] : []));
    const { notAfter } = manager.require().active.certificate;
    clock.advance(notAfter.getTime() - clock.now().getTime() - 20 * DAY);
    assert.deepEqual(remedies(), [
      `the root expires at ${notAfter.toISOString()}: ${REMEDIES["root expires"].text}`,
    ]);
    assert.match(remedies()[0] ?? "", /run|rotate it with meshca rotate/);
    clock.advance(20 * DAY);
    assert.deepEqual(remedies(), [
      `the root has expired at ${notAfter.toISOString()}: ${REMEDIES["root expired"].text}`,
    ]);
    assert.match(remedies()[0] ?? "", /run meshca recover/);
    await manager.heartbeat();
    await manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    assert.deepEqual(remedies(), []);
  });

  it("names what to do about a supplied root, which is not rotated by itself", async () => {
    const bootstrap = { ...DEFAULT_BOOTSTRAP, clusterId: CLUSTER };
    const { report: subject, manager, clock, lines } = await report(null, { bootstrap });
    const { cert, key } = suppliedRoot();
    await manager.configure(
      configuration({
        PrivateKey: key,
        RootCert: cert,
        RootAutoRotate: 0.8,
      }),
    );
    const { notAfter, id } = manager.require().active.certificate;
    clock.advance(notAfter.getTime() - clock.now().getTime() - 20 * DAY);
    subject.warn();
    assert.deepEqual(
      lines.map(({ level, message }) => `${level} ${message}`),
      [
        `warn The root expires within 30 days: ${REMEDIES["supplied root expires"].text}`,
        `warn RootAutoRotate does not rotate the root, whose share of life ends within 30 days: ${REMEDIES["supplied root expires"].text}`,
      ],
    );
    assert.equal(lines[1]?.fields.root, id);
    const line = subject.lines().find(([name]) => name === "root_auto_rotate");
    assert.match(
      line?.[1] ?? "",
      /^not at \S+: Cannot rotate: the root was supplied by an operator\./,
    );
  });

  it("announces an automatic rotation once, 30 days before", async () => {
    const bootstrap = { ...DEFAULT_BOOTSTRAP, config: { RootAutoRotate: 0.8 } };
    const { report: subject, clock, lines, manager } = await report(null, { bootstrap });
    const at = new Date(
      manager.require().active.certificate.notBefore.getTime() + 0.8 * 3650 * DAY,
    );
    const announced = () => lines.splice(0).map(({ message, fields }) => [message, fields.at]);
    clock.advance(0.8 * 3650 * DAY - 31 * DAY);
    subject.warn();
    assert.deepEqual(announced(), []);
    clock.advance(2 * DAY);
    subject.warn();
    subject.warn();
    const [[message, when] = [], ...more] = announced();
    assert.deepEqual([message, more], ["RootAutoRotate rotates the root within 30 days", []]);
    assert.ok(Math.abs(new Date(String(when)).getTime() - at.getTime()) < DAY);
    const line = subject.lines().find(([name]) => name === "root_auto_rotate");
    assert.equal(line?.[1], when);
  });

  it("names what to do about a provider that does not answer, and the fallback certificate", async () => {
    const { manager, clock } = await report();
    const certificate = {
      notBefore: clock.now(),
      notAfter: new Date(clock.now().getTime() + 300 * DAY),
      fingerprint: "sha256:00",
      fallback: "the root has expired",
    };
    const ca = {
      snapshot: manager.snapshot,
      isSecondary: false,
      autoRotation: null,
      rotationObstacle: null,
      leaves: manager.leaves,
      status: { ...manager.status, providerUnavailable: true },
    };
    const subject = new Report({
      ca,
      audit: null,
      serverCertificate: () => certificate,
      clock,
      log: silentLog,
    });
    assert.deepEqual(
      subject.troubles().map(([, trouble]) => trouble),
      ["fallback certificate", "provider unavailable"],
    );
    const [line = ["", ""]] = subject
      .lines()
      .filter(([, text]) => text.startsWith("the provider of the CA"));
    assert.match(
      line[1],
      /vault operator unseal, bao operator unseal.*meshca recover moves the CA to the built-in provider$/,
    );
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
