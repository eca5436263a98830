/**
 * Values of headers, and addresses of servers.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { httpDate, retryAfterMs, wholeNumber } from "../../src/client/http-values.ts";
import { isLoopback, readServerAddress } from "../../src/net/server-address.ts";

const NOW = new Date("2026-06-01T12:00:00Z");

describe("Retry-After", () => {
  for (const [value, expected] of [
    ["0", 0],
    ["7", 7000],
    [" 7 ", 7000],
    ["Mon, 01 Jun 2026 12:00:30 GMT", 30_000],
    ["Mon, 01 Jun 2026 11:59:00 GMT", 0],
    ["86400", 300_000],
    ["-1", undefined],
    ["1.5", undefined],
    ["soon", undefined],
    ["2026-06-01T12:00:30Z", undefined],
    ["", undefined],
    [null, undefined],
  ] as const)
    it(`${JSON.stringify(value)} is ${expected} ms`, () => {
      assert.equal(retryAfterMs(value, null, NOW), expected);
    });

  it("a date is compared with the server's own clock", () => {
    const serverNow = new Date("2026-06-01T10:00:00Z");
    assert.equal(retryAfterMs("Mon, 01 Jun 2026 10:00:05 GMT", serverNow, NOW), 5000);
  });
});

it("a date of HTTP has one form", () => {
  assert.equal(httpDate("Mon, 01 Jun 2026 12:00:00 GMT")?.toISOString(), NOW.toISOString());
  for (const text of ["2026-06-01", "Mon, 99 Jun 2026 12:00:00 GMT", "now", ""])
    assert.equal(httpDate(text), null, text);
});

it("a number has digits only, and is exact", () => {
  assert.equal(wholeNumber("120"), 120);
  for (const text of ["", "-1", "1e3", "0x10", "9999999999999999", " 1"])
    assert.equal(wholeNumber(text), null, text);
});

describe("the address of a server", () => {
  for (const url of [
    "http://localhost:8500",
    "http://LOCALHOST:8500",
    "http://127.0.0.1:8500",
    "http://127.9.8.7",
    "http://127.1:8500",
    "http://0x7f.1:8500",
    "http://2130706433:8500",
    "http://[::1]:8500",
  ])
    it(`${url} is this machine`, () => {
      assert.equal(isLoopback(new URL(url)), true);
    });

  for (const url of [
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://evil.localhost",
    "http://127.0.0.1@example.com",
    "http://example.com#127.0.0.1",
    "http://[::ffff:10.0.0.1]",
    "http://128.0.0.1",
    "http://10.0.0.1",
    "http://0.0.0.0",
  ])
    it(`${url} is not this machine`, () => {
      assert.equal(isLoopback(new URL(url)), false);
      assert.throws(() => readServerAddress(url, true), /plain HTTP|user or a password|fragment/);
    });

  for (const [text, canVerify, reason] of [
    ["ca.example:8501", true, /must begin with/],
    ["ftp://ca.example", true, /must begin with/],
    ["", true, /is not a URL/],
    ["https://user:secret@ca.example", true, /user or a password/],
    ["https://ca.example/?x=1", true, /query or a fragment/],
    ["http://ca.example:8500", true, /plain HTTP to another machine/],
    ["https://ca.example:8501", false, /cannot be verified at the first contact/],
  ] as const)
    it(`${JSON.stringify(text)} is refused: ${reason.source}`, () => {
      assert.throws(() => readServerAddress(text, canVerify), reason);
    });

  it("https with something to verify it by is taken, and loopback without", () => {
    assert.equal(readServerAddress("https://ca.example:8501/", true).port, "8501");
    assert.equal(readServerAddress("https://localhost:8501", false).port, "8501");
    assert.equal(readServerAddress("http://localhost:8500", false).port, "8500");
  });
});
