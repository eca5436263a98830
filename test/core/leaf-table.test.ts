/**
 * Leaf counts as pure functions: the table, the shared record, and what is read of both.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isBehind, isUnwritten, type LeafRecord, nextRecord } from "../../src/core/leaf-record.ts";
import { HOUR_MS, LeafTable, sumOfRows } from "../../src/core/leaf-table.ts";

const NOW = 500_000 * HOUR_MS;

describe("LeafTable", () => {
  it("counts by root, issuer and hour of expiry", () => {
    const table = new LeafTable();
    table.count("a", "i", 7 * HOUR_MS);
    table.count("a", "i", 8 * HOUR_MS - 1);
    table.count("a", "i", 8 * HOUR_MS);
    table.count("a", "j", 7 * HOUR_MS);
    table.count("b", "i", 7 * HOUR_MS);
    table.count("a", "i", 7 * HOUR_MS);
    assert.deepEqual(table.rows(), [
      {
        root: "a",
        issuer: "i",
        hours: [
          [7, 3],
          [8, 1],
        ],
      },
      { root: "a", issuer: "j", hours: [[7, 1]] },
      { root: "b", issuer: "i", hours: [[7, 1]] },
    ]);
    assert.deepEqual(table.rows(8), [{ root: "a", issuer: "i", hours: [[8, 1]] }]);
  });

  it("subtract() leaves what was counted since the rows were read, also in a row that was emptied", () => {
    const table = new LeafTable();
    table.count("a", "i", 7 * HOUR_MS);
    const read = table.rows();
    table.count("a", "i", 7 * HOUR_MS);
    table.count("a", "i", 9 * HOUR_MS);
    table.subtract(read);
    assert.deepEqual(table.rows(), [
      {
        root: "a",
        issuer: "i",
        hours: [
          [7, 1],
          [9, 1],
        ],
      },
    ]);
    table.subtract(table.rows());
    assert.deepEqual(table.rows(), []);
    table.count("a", "i", 7 * HOUR_MS);
    assert.deepEqual(table.rows(), [{ root: "a", issuer: "i", hours: [[7, 1]] }]);
  });

  it("sumOfRows() adds tables, and leaves out the hours before one", () => {
    const row = {
      root: "a",
      issuer: "i",
      hours: [
        [7, 3],
        [9, 1],
      ] as const,
    };
    assert.deepEqual(sumOfRows([[row], [row]], 9), [{ root: "a", issuer: "i", hours: [[9, 2]] }]);
  });
});

describe("nextRecord()", () => {
  const hour = NOW / HOUR_MS;
  const empty: LeafRecord = { since: 0, writers: {}, rows: [] };
  const row = (issuer: string, at = hour + 1, leaves = 1) => ({
    root: "a",
    issuer,
    hours: [[at, leaves]] as const,
  });
  const step = {
    nowMs: NOW,
    mine: { replica: "one", write: 1, rows: [row("i")] },
    ...{ isOpen: true, live: ["one"], lost: [], hasUncounted: false },
  };

  it("adds what a replica signed, under the number of its write", () => {
    const next = nextRecord(nextRecord(empty, step), {
      ...step,
      mine: { replica: "two", write: 4, rows: [row("i", hour + 1, 2)] },
      isOpen: false,
    });
    assert.deepEqual(next, {
      since: 0,
      writers: {
        one: { writes: 1, at: NOW, isOpen: true },
        two: { writes: 4, at: NOW, isOpen: false },
      },
      rows: [row("i", hour + 1, 3)],
    });
  });

  it("forgets hours that are over, and not the present one or the one before", () => {
    const rows = [row("i", hour - 2), row("j", hour - 1), row("k", hour)];
    const { rows: kept } = nextRecord(
      { ...empty, rows },
      { ...step, mine: { ...step.mine, rows: [] } },
    );
    assert.deepEqual(
      kept.map(({ issuer }) => issuer),
      ["j", "k"],
    );
  });

  it("is complete from now on if a replica was lost, or one signs without counting", () => {
    const known = nextRecord(empty, { ...step, mine: { ...step.mine, replica: "two" } });
    const later = { ...step, nowMs: NOW + 5 };
    assert.equal(nextRecord(known, later).since, 0);
    const lost = nextRecord(known, { ...later, lost: ["two"] });
    assert.deepEqual([lost.since, lost.writers.two?.isOpen], [NOW + 5, false]);
    assert.equal(nextRecord(known, { ...later, hasUncounted: true }).since, NOW + 5);
  });

  it("has the live replicas that have written nothing, so that their end is noticed", () => {
    const { writers } = nextRecord(empty, { ...step, live: ["one", "two"] });
    assert.deepEqual(writers.two, { writes: 0, at: NOW, isOpen: true });
  });

  it("keeps replicas that ended for a day, and at most 256 replicas", () => {
    const ended = nextRecord(empty, { ...step, isOpen: false });
    const other = { ...step, mine: { replica: "two", write: 1, rows: [] }, live: ["two"] };
    assert.ok("one" in nextRecord(ended, { ...other, nowMs: NOW + 24 * HOUR_MS - 1 }).writers);
    assert.ok(!("one" in nextRecord(ended, { ...other, nowMs: NOW + 24 * HOUR_MS }).writers));
    const many = Object.fromEntries(
      Array.from({ length: 300 }, (_, i) => [`r${i}`, { writes: 1, at: NOW - i, isOpen: false }]),
    );
    const { writers } = nextRecord({ ...empty, writers: many }, step);
    assert.deepEqual(
      [Object.keys(writers).length, "one" in writers, "r0" in writers, "r299" in writers],
      [256, true, true, false],
    );
  });

  it("keeps at most 256 issuers, those with the longest leaves, and is not complete then", () => {
    const rows = Array.from({ length: 300 }, (_, i) => row(`i${i}`, hour + 2 + i));
    const next = nextRecord({ ...empty, rows }, step);
    assert.deepEqual([next.rows.length, next.since], [256, NOW]);
    assert.ok(next.rows.every(({ hours }) => (hours[0]?.[0] ?? 0) > hour + 40));
  });

  it("isUnwritten() and isBehind() compare an announcement with the writes of its replica", () => {
    const record = nextRecord(empty, step);
    const announced = (write: number) => ({ replica: "one", write, rows: [] });
    assert.deepEqual(
      [1, 2, 3].map((write) => isUnwritten(announced(write), record)),
      [false, true, true],
    );
    assert.deepEqual(
      [1, 2, 3].map((write) => isBehind(announced(write), record)),
      [false, false, true],
    );
  });
});
