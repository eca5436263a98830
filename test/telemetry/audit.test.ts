/**
 * The audit log's writer: when lines are written, what stops if they cannot be, and what a line can
 * hold.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { DeniedError, NotReadyError, RateLimitedError } from "../../src/core/errors.ts";
import { type AuditRecord, NOBODY } from "../../src/core/ports/audit.ts";
import { type AuditFailure, AuditLog } from "../../src/telemetry/audit.ts";
import {
  AuditReserve,
  RESERVE_LENGTH,
  type ReserveFile,
} from "../../src/telemetry/audit-reserve.ts";
import { silentLog } from "../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../fakes/clock.ts";
import { settle } from "../fixtures/app.ts";

class DiskFull extends Error {
  readonly code = "ENOSPC";
}

let clock: FakeClock;
/** What is written, how often it was made to last, and how many octets still fit. */
let disk: { text: string; syncs: number; room: number };

/** A file whose blocks are there. */
function reserveFile(): ReserveFile & { text(): string } {
  const bytes = AuditReserve.blank();
  return {
    read: async () => bytes.slice(),
    async write(at, more) {
      bytes.set(more, at);
    },
    close: async () => undefined,
    text: () => Buffer.from(bytes).toString("utf8").trimEnd(),
  };
}

function start(
  onFailure: AuditFailure = "stop-changes",
  reserve: AuditReserve | null = null,
): AuditLog {
  const sink = {
    reserve,
    async write(bytes: Uint8Array) {
      const fits = Math.min(bytes.length, disk.room);
      if (fits === 0) throw new DiskFull();
      disk.room -= fits;
      disk.text += Buffer.from(bytes.subarray(0, fits)).toString("utf8");
      return fits;
    },
    async sync() {
      disk.syncs++;
    },
    close: async () => undefined,
  };
  return new AuditLog({ sink, onFailure, clock, log: silentLog });
}

const leaf = (subject: string): AuditRecord => ({
  caller: NOBODY,
  action: "sign",
  subject,
  outcome: "allowed",
  code: null,
});
const lines = () =>
  disk.text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);

beforeEach(() => {
  clock = createFakeClock();
  disk = { text: "", syncs: 0, room: Number.POSITIVE_INFINITY };
});

describe("AuditLog", () => {
  it("record() writes a line for each leaf within 100 ms, in order and without waiting for it", async () => {
    const audit = start();
    audit.record({
      caller: { accessor: "a1", address: "10.0.0.1", requestId: "r1" },
      action: "sign",
      subject: "spiffe://x/svc/web",
      outcome: "allowed",
      code: null,
      serial: "01:02",
      keyId: "03:04",
    });
    audit.record(leaf("two"));
    await settle();
    assert.equal(disk.text, "");
    clock.advance(100);
    await settle();
    assert.deepEqual(lines()[0], {
      kind: "audit",
      time: "2026-06-01T12:00:00.000Z",
      request: "r1",
      accessor: "a1",
      address: "10.0.0.1",
      action: "sign",
      subject: "spiffe://x/svc/web",
      outcome: "allowed",
      code: null,
      serial: "01:02",
      key_id: "03:04",
    });
    assert.deepEqual(
      [lines().map(({ subject }) => subject), disk.syncs],
      [["spiffe://x/svc/web", "two"], 0],
    );
  });

  it("beforeChange() resolves once the record, and all before it, would outlive a crash", async () => {
    const audit = start();
    audit.record(leaf("before"));
    await audit.beforeChange({ ...leaf("root"), action: "rotate" });
    assert.deepEqual([lines().map(({ action }) => action), disk.syncs], [["sign", "rotate"], 1]);
  });

  it("beforeChange() of many at once loses none", async () => {
    const audit = start();
    await Promise.all(Array.from({ length: 100 }, (_, i) => audit.beforeChange(leaf(String(i)))));
    assert.equal(lines().length, 100);
  });

  it("log injection: no text of a caller ends a line, adds a field, or reaches a terminal", async () => {
    const audit = start();
    const evil = [
      'x"}\n{"kind":"audit","outcome":"allowed"}\r\n',
      "\u2028\u2029\u0085\u007f\u001b[2J\u009b",
      "\u202egnp.exe\ufeff\u2066",
      "\ud800",
      "\0",
    ];
    for (const text of evil)
      audit.record({
        ...leaf(text),
        action: text,
        caller: { accessor: text, address: text, requestId: text },
      });
    await audit.beforeChange(leaf("end"));
    assert.equal(lines().length, evil.length + 1);
    assert.doesNotMatch(disk.text.replaceAll("\n", ""), /[^\u0020-\u007e]/);
    for (const [i, text] of evil.entries()) assert.equal(lines()[i]?.subject, text);
  });

  it("refusal() writes an error once, with its code, whichever caller reports it", async () => {
    const audit = start();
    const error = new DeniedError("permission_denied", "a text with a secret");
    const make = (action: string) => (code: string) =>
      ({ ...leaf("x"), action, outcome: "refused", code }) as const;
    audit.refusal(error, make("inner"));
    audit.refusal(error, make("outer"));
    audit.refusal(new RangeError("secret"), make("other"));
    await audit.beforeChange(leaf("end"));
    const read = lines().map(({ action, code }) => `${action} ${code}`);
    assert.deepEqual(read, ["inner permission_denied", "other internal", "sign null"]);
    assert.doesNotMatch(disk.text, /secret/);
  });

  const caller = (
    accessor: string | null,
    requestId: string | null = "r",
  ): AuditRecord["caller"] => ({
    accessor,
    address: "10.0.0.1",
    requestId,
  });
  const refuse = (audit: AuditLog, record: Partial<AuditRecord> = {}) =>
    audit.refusal(new DeniedError("permission_denied", "no"), (code) => ({
      ...leaf("x"),
      caller: caller(null),
      outcome: "refused",
      code,
      ...record,
    }));

  it("refusal() of callers without a known token writes the first of a code and then how many within a second", async () => {
    const audit = start();
    for (let second = 0; second < 3; second++) {
      for (let i = 0; i < 5000; i++) refuse(audit, { subject: String(i), action: `PUT /${i}` });
      audit.refusal(new RangeError("other"), (code) => ({
        ...leaf("y"),
        caller: caller(null),
        outcome: "failed",
        code,
      }));
      clock.advance(1000);
      await settle();
    }
    await audit.close();
    const each = [
      ["permission_denied", undefined, "10.0.0.1"],
      ["internal", undefined, "10.0.0.1"],
      ["permission_denied", 4999, null],
    ];
    assert.deepEqual(
      lines().map(({ code, count, address }) => [code, count, address]),
      [...each, ...each, ...each],
    );
    assert.ok(disk.text.length < 3000, `${disk.text.length} octets`);
  });

  it("refusal() of a known token writes ten of a code within a second, and then how many, with the accessor", async () => {
    const audit = start();
    for (let i = 0; i < 1000; i++)
      for (const accessor of ["a", "b"])
        refuse(audit, { caller: caller(accessor), subject: String(i) });
    clock.advance(1000);
    await settle();
    await audit.close();
    const of = (name: string) => lines().filter(({ accessor }) => accessor === name);
    for (const name of ["a", "b"]) {
      assert.deepEqual(
        of(name).map(({ subject }) => subject),
        [...Array.from({ length: 10 }, (_, i) => String(i)), null],
      );
      assert.equal(of(name).at(-1)?.count, 990);
    }
  });

  it("refusal() writes every refusal of the CA's own operations", async () => {
    const audit = start();
    for (let i = 0; i < 20; i++) refuse(audit, { caller: NOBODY });
    await audit.close();
    assert.equal(lines().length, 20);
  });

  it("refusal() by a limit writes the first and then how many within a second", async () => {
    const audit = start();
    let made = 0;
    const shed = () =>
      audit.refusal(new RateLimitedError(1000), (code) => {
        made++;
        return { ...leaf("x"), outcome: "refused", code };
      });
    for (let i = 0; i < 1000; i++) shed();
    clock.advance(1000);
    await settle();
    for (let i = 0; i < 3; i++) shed();
    await audit.close();
    assert.equal(made, 2);
    assert.deepEqual(
      lines().map(({ count }) => count),
      [undefined, 999, undefined, 2],
    );
  });
});

describe("AuditLog on a full disk", () => {
  it("stop-changes: beforeChange() throws, record() does not, and both work again when there is room", async () => {
    const audit = start();
    disk.room = 10;
    await assert.rejects(audit.beforeChange(leaf("one")), (error: unknown) => {
      assert.ok(error instanceof NotReadyError && error.code === "audit_unavailable");
      assert.equal(error.message, "Cannot change the CA: the audit log cannot be written (ENOSPC)");
      return true;
    });
    assert.deepEqual([audit.failure, audit.stopsSigning], ["ENOSPC", false]);
    audit.record(leaf("two"));
    disk.room = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    await settle();
    assert.equal(audit.failure, null);
    await audit.beforeChange(leaf("three"));
    // A line that was half written is continued at that octet.
    assert.deepEqual(
      lines().map(({ subject }) => subject),
      ["one", "two", "three"],
    );
  });

  it("with a reserve: beforeChange() succeeds while nothing can be appended, and the log gets each line once there is room", async () => {
    const file = reserveFile();
    const audit = start("stop-changes", new AuditReserve(file));
    disk.room = 10;
    audit.record(leaf("before"));
    await audit.beforeChange(leaf("one"));
    await Promise.all([audit.beforeChange(leaf("two")), audit.beforeChange(leaf("three"))]);
    assert.deepEqual(
      file
        .text()
        .split("\n")
        .map((line) => (JSON.parse(line) as { subject: string }).subject),
      ["one", "two", "three"],
    );
    assert.equal(audit.reserveLeft, RESERVE_LENGTH - file.text().length - 1);
    disk.room = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    await settle();
    assert.deepEqual(
      lines().map(({ subject }) => subject),
      ["before", "one", "two", "three"],
    );
    assert.deepEqual([file.text(), audit.failure, audit.reserveLeft], ["", null, RESERVE_LENGTH]);
    await audit.close();
  });

  it("with a reserve: what a process left in it is in the log after the next start, and stays in it until then", async () => {
    const file = reserveFile();
    const first = start("stop-changes", new AuditReserve(file));
    disk.room = 0;
    await first.beforeChange(leaf("one"));
    const second = start("stop-changes", new AuditReserve(file));
    await second.beforeChange(leaf("two"));
    assert.equal(file.text().split("\n").length, 2);
    disk.room = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    await settle();
    assert.deepEqual(
      [
        lines()
          .slice(-2)
          .map(({ subject }) => subject),
        file.text(),
      ],
      [["one", "two"], ""],
    );
  });

  it("with a reserve: no line of a change is given up, however many others wait in memory", async () => {
    const file = reserveFile();
    const audit = start("stop-changes", new AuditReserve(file));
    disk.room = 0;
    for (let i = 0; i < 50_000; i++) audit.record(leaf("x".repeat(200)));
    await settle();
    const before = audit.lost;
    assert.ok(before > 0);
    await audit.beforeChange(leaf("kept"));
    disk.room = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    await settle();
    await audit.close();
    assert.equal(audit.lost, before);
    assert.equal(lines().filter(({ subject }) => subject === "kept").length, 1);
  });

  it("with a reserve: a full one refuses changes, and what may not use it is refused while it has room", async () => {
    const file = reserveFile();
    const audit = start("stop-changes", new AuditReserve(file));
    disk.room = 0;
    await assert.rejects(audit.beforeChange(leaf("login"), { mayUseReserve: false }), {
      code: "audit_unavailable",
    });
    assert.deepEqual([file.text(), audit.stopsChanges], ["", false]);
    for (let at = 0; at < 10; at++) await audit.beforeChange(leaf("x".repeat(100_000)));
    await assert.rejects(audit.beforeChange(leaf("x".repeat(100_000))), {
      code: "audit_unavailable",
    });
    await audit.beforeChange(leaf("small"));
    while ((audit.reserveLeft ?? 0) >= 4096) await audit.beforeChange(leaf("x".repeat(3000)));
    assert.equal(audit.stopsChanges, true);
  });

  it("with a reserve that fails: changes are refused as without one", async () => {
    const file = { ...reserveFile(), write: () => Promise.reject(new DiskFull()) };
    const audit = start("stop-changes", new AuditReserve(file));
    disk.room = 0;
    await assert.rejects(audit.beforeChange(leaf("one")), { code: "audit_unavailable" });
    const unreadable = start(
      "stop-changes",
      new AuditReserve({ ...reserveFile(), read: () => Promise.reject(new DiskFull()) }),
    );
    await assert.rejects(unreadable.beforeChange(leaf("two")), { code: "audit_unavailable" });
    disk.room = Number.POSITIVE_INFINITY;
    await unreadable.beforeChange(leaf("three"));
    assert.equal(unreadable.reserveLeft, null);
  });

  it("stop-all: record() throws too", async () => {
    const audit = start("stop-all");
    disk.room = 0;
    audit.record(leaf("one"));
    clock.advance(100);
    await settle();
    assert.equal(audit.stopsSigning, true);
    assert.throws(() => audit.record(leaf("two")), { code: "audit_unavailable" });
    await assert.rejects(audit.beforeChange(leaf("three")), { code: "audit_unavailable" });
  });

  it("go-on: neither throws", async () => {
    const audit = start("go-on");
    disk.room = 0;
    await audit.beforeChange(leaf("one"));
    audit.record(leaf("two"));
    assert.deepEqual([audit.failure, audit.stopsSigning], ["ENOSPC", false]);
  });

  it("the queue in memory is bounded, and the log has the number of lost lines", async () => {
    const audit = start();
    disk.room = 0;
    for (let i = 0; i < 50_000; i++) audit.record(leaf("x".repeat(200)));
    await settle();
    assert.ok(audit.lost > 0);
    disk.room = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    await settle();
    await audit.close();
    assert.deepEqual([lines().at(-1)?.code, lines().at(-1)?.count], ["records_lost", audit.lost]);
    assert.equal(lines().length - 1, 50_000 - audit.lost);
  });
});
