/**
 * The reader of Redis's replies: its cost, counted in octets.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encodeCommand, ReplyReader } from "../../../src/store/redis/resp.ts";

/** Octets that typed arrays copy or search, and text decoders read, while `work` runs. */
function octetsTouched(work: () => void): number {
  const bytes = Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array;
  const { set, indexOf } = bytes;
  const { decode } = TextDecoder.prototype;
  let touched = 0;
  bytes.set = function (this: Uint8Array, from, at) {
    touched += from.length;
    set.call(this, from, at);
  };
  bytes.indexOf = function (this: Uint8Array, octet, from = 0) {
    const found = indexOf.call(this, octet, from);
    touched += (found < 0 ? this.length : found + 1) - from;
    return found;
  };
  TextDecoder.prototype.decode = function (this: TextDecoder, input, options) {
    touched += input?.byteLength ?? 0;
    return decode.call(this, input, options);
  };
  try {
    work();
  } finally {
    Object.assign(bytes, { set, indexOf });
    TextDecoder.prototype.decode = decode;
  }
  return touched;
}

/** Reads a text that comes in chunks of `size` octets. */
function replies(text: string, size: number): { replies: unknown[]; touched: number } {
  const octets = new TextEncoder().encode(text);
  const reader = new ReplyReader();
  const found: unknown[] = [];
  const touched = octetsTouched(() => {
    for (let at = 0; at < octets.length; at += size)
      found.push(...reader.read(octets.subarray(at, at + size)));
  });
  return { replies: found, touched };
}

describe("ReplyReader", () => {
  const bulk = "x".repeat(2 ** 20);
  const items = Array.from({ length: 20_000 }, (_, i) => `record ${i}`);
  const bulkOf = (text: string) => `$${text.length}\r\n${text}\r\n`;
  const cases: readonly (readonly [string, string, unknown])[] = [
    ["a long bulk string", bulkOf(bulk), bulk],
    ["a long array", `*${items.length}\r\n${items.map(bulkOf).join("")}`, items],
    ["a long line", `+${bulk}\r\n`, bulk],
  ];
  for (const [what, text, reply] of cases)
    for (const size of [256, 16_384])
      it(`reads ${what} in chunks of ${size} octets, touching each octet at most six times`, () => {
        const { replies: found, touched } = replies(`${text}:1\r\n`, size);
        assert.deepEqual(found, [reply, 1]);
        assert.ok(touched >= text.length, "nothing was counted");
        assert.ok(touched <= 6 * text.length, `${touched / text.length} times`);
      });

  it("reads arrays in arrays, empty and absent ones, wherever the reply is cut", () => {
    const text = "*4\r\n*0\r\n*-1\r\n*2\r\n$0\r\n\r\n*1\r\n:-5\r\n-ERR x\r\n+OK\r\n";
    for (let size = 1; size <= text.length; size++)
      assert.deepEqual(replies(text, size).replies, [
        [[], null, ["", [-5]], new Error("ERR x")],
        "OK",
      ]);
  });

  it("gives the replies that come before octets that are not RESP2", () => {
    const reader = new ReplyReader();
    const found = reader.read(new TextEncoder().encode("+OK\r\nHTTP/1.1 400\r\n"));
    assert.deepEqual(found.next(), { done: false, value: "OK" });
    assert.throws(() => found.next(), new TypeError("The reply is not RESP2"));
  });

  for (const line of ["$x", "$", "$1.5", "$1e1", "*x", "*", "*0x1", ":", ":one"])
    it(`refuses ${JSON.stringify(line)}, in which a number should be`, () => {
      const reader = new ReplyReader();
      const found = reader.read(new TextEncoder().encode(`${line}\r\n+OK\r\n`));
      assert.throws(() => found.next(), new TypeError("The reply is not RESP2"));
    });
});

describe("encodeCommand()", () => {
  it("counts octets, not characters", () => {
    assert.equal(
      new TextDecoder().decode(encodeCommand(["SET", "é", ""])),
      "*3\r\n$3\r\nSET\r\n$2\r\né\r\n$0\r\n\r\n",
    );
  });
});
