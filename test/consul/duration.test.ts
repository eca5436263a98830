/**
 * Durations against Go's time.ParseDuration and Duration.String.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatDuration, parseDuration } from "../../src/consul/duration.ts";
import { FormatError } from "../../src/core/errors.ts";

const PARSED: readonly (readonly [text: string, ms: number])[] = [
  ["0", 0],
  ["+0", 0],
  ["-0", 0],
  ["0s", 0],
  ["5s", 5000],
  ["+5s", 5000],
  ["-5s", -5000],
  ["5.0s", 5000],
  ["5.s", 5000],
  [".5s", 500],
  ["-.5s", -500],
  ["1.004s", 1004],
  ["10ms", 10],
  ["2500us", 2.5],
  ["2500µs", 2.5],
  ["2500μs", 2.5],
  ["1000000ns", 1],
  ["14s", 14_000],
  ["90m", 5_400_000],
  ["1m0.25s", 60_250],
  ["72h", 259_200_000],
  ["8760h", 31_536_000_000],
  ["1h30m", 5_400_000],
  ["1h30m1h", 9_000_000],
  ["39h9m14.425s", 140_954_425],
  ["87600h0m0s", 315_360_000_000],
  ["2562047h", 9_223_369_200_000],
];

const REFUSED: readonly (readonly [text: string, message: string])[] = [
  ["", 'time: invalid duration ""'],
  ["+", 'time: invalid duration "+"'],
  ["-", 'time: invalid duration "-"'],
  ["--1s", 'time: invalid duration "--1s"'],
  ["s", 'time: invalid duration "s"'],
  [".", 'time: invalid duration "."'],
  [".s", 'time: invalid duration ".s"'],
  ["-.s", 'time: invalid duration "-.s"'],
  [" 1s", 'time: invalid duration " 1s"'],
  ["1..5s", 'time: missing unit in duration "1..5s"'],
  ["3", 'time: missing unit in duration "3"'],
  ["3.", 'time: missing unit in duration "3."'],
  ["1h3", 'time: missing unit in duration "1h3"'],
  ["1d", 'time: unknown unit "d" in duration "1d"'],
  ["1H", 'time: unknown unit "H" in duration "1H"'],
  ["1e3s", 'time: unknown unit "e" in duration "1e3s"'],
  ["1h 30m", 'time: unknown unit "h " in duration "1h 30m"'],
  ["1h-30m", 'time: unknown unit "h-" in duration "1h-30m"'],
  ["1s\n", 'time: unknown unit "s\\n" in duration "1s\\n"'],
  ["3000000h", 'time: invalid duration "3000000h"'],
  ["-3000000h", 'time: invalid duration "-3000000h"'],
  ["9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'],
  [`${"9".repeat(400)}h`, `time: invalid duration "${"9".repeat(400)}h"`],
];

const PRINTED: readonly (readonly [ms: number, text: string])[] = [
  [0, "0s"],
  [-0, "0s"],
  [1e-6, "1ns"],
  [1.1e-3, "1.1µs"],
  [0.25, "250µs"],
  [2.2, "2.2ms"],
  [250, "250ms"],
  [1000, "1s"],
  [1500, "1.5s"],
  [3300, "3.3s"],
  [60_000, "1m0s"],
  [245_000, "4m5s"],
  [245_001, "4m5.001s"],
  [3_600_000, "1h0m0s"],
  [18_367_001, "5h6m7.001s"],
  [259_200_000, "72h0m0s"],
  [315_360_000_000, "87600h0m0s"],
  [-90_000, "-1m30s"],
  [-1, "-1ms"],
];

describe("parseDuration()", () => {
  for (const [text, ms] of PARSED)
    it(`parseDuration() reads ${JSON.stringify(text)} as ${ms} ms`, () => {
      assert.ok(Math.abs(parseDuration(text) - ms) < 1e-9);
    });
  for (const [text, message] of REFUSED)
    it(`parseDuration() refuses ${JSON.stringify(text.slice(0, 24))} with Go's text`, () => {
      assert.throws(() => parseDuration(text), { name: "FormatError", message });
    });
  for (const unit of ["constructor", "toString", "valueOf", "__proto__", "hasOwnProperty"])
    it(`parseDuration() refuses the unit ${JSON.stringify(unit)}, which every object inherits`, () => {
      assert.throws(() => parseDuration(`1${unit}`), FormatError);
    });
  it("parseDuration() reads the longest spans that Go holds", () => {
    for (const text of ["2562047h47m16.854775807s", "9223372036854775807ns"])
      assert.ok(Math.abs(parseDuration(text) - 9223372036854.775) < 0.01);
    assert.ok(Math.abs(parseDuration("-9223372036854775808ns") + 9223372036854.775) < 0.01);
  });
  it("parseDuration() takes a long text of many parts in one pass", () => {
    assert.equal(parseDuration("1ms".repeat(20_000)), 20_000);
  });
});

describe("formatDuration()", () => {
  for (const [ms, text] of PRINTED)
    it(`formatDuration() prints ${Object.is(ms, -0) ? "-0" : ms} ms as ${text}`, () => {
      assert.equal(formatDuration(ms), text);
    });
  it("formatDuration() prints what parseDuration() reads back", () => {
    for (const ms of [
      1, 999, 1000, 59_999, 60_000, 61_001, 3_599_999, 3_600_000, 86_400_001, 315_360_000_000,
    ])
      assert.equal(parseDuration(formatDuration(ms)), ms);
  });
  it("formatDuration() prints any whole number of milliseconds as parseDuration() reads it, to the last bit", () => {
    const milliseconds = fc.oneof(fc.nat(100_000), fc.integer({ min: 0, max: 9_223_372_036_000 }));
    fc.assert(
      fc.property(milliseconds, (ms) => {
        assert.equal(parseDuration(formatDuration(ms)), ms);
        assert.equal(parseDuration(formatDuration(-ms)) + ms, 0);
      }),
      { numRuns: 5000 },
    );
  });
});
