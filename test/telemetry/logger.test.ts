/**
 * The log's lines: their fields and order, levels, request ids, and the text for a terminal.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { LogFields } from "../../src/core/ports/log.ts";
import { Logger, type LoggerOptions } from "../../src/telemetry/logger.ts";

const TIME = "2026-11-27T04:05:06.007Z";
const clock = { now: () => new Date(TIME) };

function loggerTo(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const log = new Logger({
    level: "info",
    clock,
    write: (line) => void lines.push(line),
    ...options,
  });
  return { log, lines };
}

describe("Logger", () => {
  it("writes one JSON object per line: time, level, message, logger, request id, then the fields", () => {
    const { log, lines } = loggerTo({ level: "debug" });
    const fields = { a: 1, none: undefined, nothing: null, list: ["x"], flag: true, text: "é\n" };
    log.debug("d {a}", fields);
    log.info("i");
    log.inRequest("id-1", () => log.warn("w", { code: "x" }));
    log.inRequest("id-1", () => log.error("e", { requestId: "own" }));
    const head = (level: string, message: string) =>
      `{"@timestamp":"${TIME}","level":"${level}","message":"${message}","logger":"meshca"`;
    assert.deepEqual(lines, [
      `${head("DEBUG", "d {a}")},"a":1,"nothing":null,"list":["x"],"flag":true,"text":"é\\n"}\n`,
      `${head("INFO", "i")}}\n`,
      `${head("WARN", "w")},"requestId":"id-1","code":"x"}\n`,
      `${head("ERROR", "e")},"requestId":"own"}\n`,
    ]);
  });

  it("writes the lines of its level and above, also after setLevel()", () => {
    const { log, lines } = loggerTo();
    const levels = ["debug", "info", "warning", "error"] as const;
    const written = levels.map((level) => {
      lines.length = 0;
      log.setLevel(level);
      for (const write of ["debug", "info", "warn", "error"] as const) log[write](write);
      return lines.map((line) => (JSON.parse(line) as { message: string }).message);
    });
    assert.deepEqual(written, [
      ["debug", "info", "warn", "error"],
      ["info", "warn", "error"],
      ["warn", "error"],
      ["error"],
    ]);
  });

  it("shares nothing with another logger: neither sink nor level nor request id", async () => {
    const one = loggerTo({ level: "debug" });
    const two = loggerTo({ level: "error", format: "text" });
    await one.log.inRequest("of-one", async () => {
      await null;
      one.log.debug("first");
      two.log.debug("left out");
      two.log.error("second");
      two.log.setLevel("warning");
      one.log.debug("third");
    });
    assert.deepEqual(
      one.lines
        .map((line) => JSON.parse(line))
        .map(({ message, requestId }) => [message, requestId]),
      [
        ["first", "of-one"],
        ["third", "of-one"],
      ],
    );
    assert.deepEqual(two.lines, [`${TIME} ERROR second\n`]);
  });

  it("gives each of two concurrent requests its own id", async () => {
    const { log, lines } = loggerTo();
    const request = (id: string) =>
      log.inRequest(id, async () => {
        for (let i = 0; i < 3; i++) {
          await new Promise((resolve) => setImmediate(resolve));
          log.info(id);
        }
      });
    await Promise.all([request("a"), request("b")]);
    log.info("none");
    for (const line of lines) {
      const { message, requestId = "none" } = JSON.parse(line) as Record<string, string>;
      assert.equal(requestId, message);
    }
    assert.equal(lines.length, 7);
  });

  it("writes readable text for a terminal, on which no value can act", () => {
    const { log, lines } = loggerTo({ format: "text" });
    const fields = {
      redis: "127.0.0.1:6379",
      reason: "it is \u001b[2Jaway",
      list: ["a"],
      no: undefined,
    };
    log.inRequest("r1", () => log.warn("Lost \u202e\nconnection", fields));
    assert.deepEqual(lines, [
      `${TIME} WARN  Lost \\u202e\\u000aconnection requestId=r1 redis=127.0.0.1:6379 reason="it is \\u001b[2Jaway" list=["a"]\n`,
    ]);
  });

  it("escapes in JSON too what a terminal would act on, and JSON reads the same text", () => {
    const { log, lines } = loggerTo();
    const text = "it is \u009b2Jaway\u0085\u2028\u202e\u007f";
    log.warn(text, { text });
    const escaped = "it is \\u009b2Jaway\\u0085\\u2028\\u202e\\u007f";
    const [line = ""] = lines;
    assert.ok(line.includes(`"message":"${escaped}"`), line);
    assert.ok(line.includes(`"text":"${escaped}"`), line);
    assert.equal((JSON.parse(line) as { text: string }).text, text);
  });

  it("writes a line without its fields if they cannot be encoded", () => {
    const fields: Record<string, unknown> = { count: 1n };
    for (const format of ["json", "text"] as const) {
      const { log, lines } = loggerTo({ format });
      log.error("Alarm", fields as LogFields);
      assert.match(lines[0] ?? "no line", /Alarm/);
    }
  });

  it("does not fail what is logged when the line cannot be written", () => {
    const { log } = loggerTo({
      write: () => {
        throw new Error("EPIPE");
      },
    });
    assert.doesNotThrow(() => log.error("x"));
  });
});
