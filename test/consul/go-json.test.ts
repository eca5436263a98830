/**
 * JSON as Go reads and writes it.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Json, readJson, sortKeys, writeJson } from "../../src/consul/go-json.ts";
import { RequestError } from "../../src/core/errors.ts";

/** The text of the error that `readJson` throws, without Consul's prefix. */
function goError(text: string): string {
  try {
    readJson(text);
  } catch (error) {
    assert.ok(error instanceof RequestError && error.code === "request_malformed", String(error));
    assert.match(error.message, /^Request decode failed: /);
    return error.message.slice("Request decode failed: ".length);
  }
  throw new Error(`${text} was read`);
}

/** Malformed JSON and the error of Go's encoding/json. */
const GO_ERRORS: readonly (readonly [string, string])[] = [
  ["", "EOF"],
  [" \t\r\n", "EOF"],
  ["{", "unexpected EOF"],
  ["[", "unexpected EOF"],
  ["[1", "unexpected EOF"],
  ["[1,", "unexpected EOF"],
  ['{"a"', "unexpected EOF"],
  ['{"a":', "unexpected EOF"],
  ['{"a":1', "unexpected EOF"],
  ['{"a":1,', "unexpected EOF"],
  ['"', "unexpected EOF"],
  ['"\\', "unexpected EOF"],
  ['"\\u12', "unexpected EOF"],
  ["-", "unexpected EOF"],
  ["1.", "unexpected EOF"],
  ["1e", "unexpected EOF"],
  ["1e+", "unexpected EOF"],
  ["tru", "unexpected EOF"],
  ["n", "unexpected EOF"],
  ["nonsense", "invalid character 'o' in literal null (expecting 'u')"],
  ["trve", "invalid character 'v' in literal true (expecting 'u')"],
  ["fals3", "invalid character '3' in literal false (expecting 'e')"],
  ["x", "invalid character 'x' looking for beginning of value"],
  ["'a'", "invalid character '\\'' looking for beginning of value"],
  ["]", "invalid character ']' looking for beginning of value"],
  ["+1", "invalid character '+' looking for beginning of value"],
  [".5", "invalid character '.' looking for beginning of value"],
  ["[1,]", "invalid character ']' looking for beginning of value"],
  ["[1 2]", "invalid character '2' after array element"],
  ["{a:1}", "invalid character 'a' looking for beginning of object key string"],
  ["{'a':1}", "invalid character '\\'' looking for beginning of object key string"],
  ['{"a":1,}', "invalid character '}' looking for beginning of object key string"],
  ["{1:1}", "invalid character '1' looking for beginning of object key string"],
  ['{"a" 1}', "invalid character '1' after object key"],
  ['{"a"=1}', "invalid character '=' after object key"],
  ['{"a":1 "b":2}', "invalid character '\"' after object key:value pair"],
  ['{"a":1]', "invalid character ']' after object key:value pair"],
  ['{"a":01}', "invalid character '1' after object key:value pair"],
  ["[-x]", "invalid character 'x' in numeric literal"],
  ["[1.x]", "invalid character 'x' after decimal point in numeric literal"],
  ["[1ex]", "invalid character 'x' in exponent of numeric literal"],
  ['"a\nb"', "invalid character '\\n' in string literal"],
  ['"a\tb"', "invalid character '\\t' in string literal"],
  ['"\\x41"', "invalid character 'x' in string escape code"],
  ['"\\u00g0"', "invalid character 'g' in \\u hexadecimal character escape"],
];

describe("readJson()", () => {
  for (const [text, message] of GO_ERRORS)
    it(`readJson() refuses ${JSON.stringify(text)} with Go's text: ${message}`, () =>
      assert.equal(goError(text), message));

  it("readJson() ignores what follows the first value, as Go's Decoder does", () => {
    assert.deepEqual(readJson('{"a":1} trailing'), { a: 1 });
    assert.deepEqual(readJson("[] ]"), []);
    assert.equal(readJson("1 2"), 1);
  });

  it("readJson() keeps integers exact that a number cannot hold", () => {
    for (const literal of [
      "18446744073709551615",
      "9007199254740993",
      "-9223372036854775808",
      "16238269036752183483",
    ])
      assert.equal(readJson(literal), BigInt(literal), literal);
    assert.equal(readJson("9007199254740991"), Number.MAX_SAFE_INTEGER);
    assert.equal(readJson("0"), 0);
    assert.equal(readJson("1e3"), 1000);
    assert.equal(readJson("256.5"), 256.5);
  });

  it("readJson() reads every escape", () => {
    assert.equal(readJson('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"'), '"\\/\b\f\n\r\té😀');
  });

  it("readJson() refuses a key that occurs twice in an object, with or without escapes", () => {
    for (const text of [
      '{"a":1,"a":2}',
      '{"a":1,"b":{},"a":1}',
      '{"a":1,"\\u0061":2}',
      '[{"x":{"a":1,"a":1}}]',
    ])
      assert.equal(goError(text), 'json: duplicate key "a"', text);
    assert.equal(goError('{"__proto__":1,"__proto__":2}'), 'json: duplicate key "__proto__"');
    assert.deepEqual(readJson('[{"a":1},{"a":2,"A":3}]'), [{ a: 1 }, { a: 2, A: 3 }]);
  });

  it("readJson() refuses a text of more than 2,000 keys and items in total, and accepts 2,000", () => {
    const list = (count: number) => `[${Array.from({ length: count }, () => "0").join()}]`;
    const object = (count: number) =>
      `{${Array.from({ length: count }, (_, i) => `"${i}":0`).join()}}`;
    const nested = `[${Array.from({ length: 1001 }, () => "[0]").join()}]`;
    for (const text of [list(2001), object(2001), nested])
      assert.equal(goError(text), "more than 2000 keys and items");
    for (const text of [list(2000), object(2000)]) assert.doesNotThrow(() => readJson(text));
  });

  it("readJson() reads a key with a meaning in JavaScript as a plain key", () => {
    const read = readJson('{"__proto__":{"polluted":true},"constructor":1}') as {
      readonly [key: string]: Json;
    };
    assert.deepEqual(Object.keys(read), ["__proto__", "constructor"]);
    assert.equal(Object.getPrototypeOf(read), Object.prototype);
    assert.equal("polluted" in read, false);
  });

  it("readJson() refuses a text that nests too deeply, at any depth", () => {
    for (const depth of [66, 10_000, 1_000_000])
      for (const open of ["[", '{"a":'])
        assert.equal(goError(open.repeat(depth)), "exceeded max depth", `${depth} of ${open}`);
    assert.doesNotThrow(() => readJson("[".repeat(64) + "]".repeat(64)));
  });

  it("readJson() agrees with JSON.parse on every JSON text", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 8 }), (text) => {
        const asNumbers = (value: Json): unknown =>
          JSON.parse(
            JSON.stringify(value, (_, item) => (typeof item === "bigint" ? Number(item) : item)),
          );
        assert.deepEqual(asNumbers(readJson(text)), JSON.parse(JSON.stringify(JSON.parse(text))));
      }),
      { numRuns: 2000 },
    );
  });

  it("readJson() throws a RequestError or nothing, whatever it is given", () => {
    const token = fc.constantFrom(
      ..."{}[],:\"\\'-+.0123456789eEtrufalsn \n\t\u0000é",
      "null",
      "true",
      '"a"',
      "\\u00",
      "\ud800",
    );
    const nearJson = fc.array(token, { maxLength: 40 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.oneof(nearJson, fc.string({ unit: "binary" })), (text) => {
        try {
          readJson(text);
        } catch (error) {
          assert.ok(error instanceof RequestError, String(error));
        }
      }),
      { numRuns: 5000 },
    );
  });
});

describe("writeJson()", () => {
  it("writeJson() writes compactly without a final newline, and with 4 spaces and one when pretty", () => {
    const value = { b: [1, { c: null }], a: [], d: {} };
    assert.equal(writeJson(value, false), '{"b":[1,{"c":null}],"a":[],"d":{}}');
    assert.equal(
      writeJson(value, true),
      '{\n    "b": [\n        1,\n        {\n            "c": null\n        }\n    ],\n    "a": [],\n    "d": {}\n}\n',
    );
  });

  it("writeJson() escapes what Go escapes in strings and keys", () => {
    assert.equal(writeJson("<a>&\u2028\u2029", false), '"\\u003ca\\u003e\\u0026\\u2028\\u2029"');
    assert.equal(writeJson({ "<": 1 }, false), '{"\\u003c":1}');
  });

  it("writeJson() writes integers of 64 bits exactly", () => {
    assert.equal(
      writeJson([18_446_744_073_709_551_615n, 13_436_921_739_510_417_995n], false),
      "[18446744073709551615,13436921739510417995]",
    );
  });

  it("readJson() reads back what writeJson() writes", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.boolean(), (value, pretty) => {
        const clean = JSON.parse(JSON.stringify(value)) as Json;
        assert.deepEqual(JSON.parse(writeJson(clean, pretty)), clean);
        assert.equal(writeJson(readJson(writeJson(clean, false)), false), writeJson(clean, false));
      }),
      { numRuns: 1000 },
    );
  });
});

describe("sortKeys()", () => {
  it("sortKeys() puts the keys of every object in order and leaves arrays as they are", () => {
    assert.equal(
      writeJson(sortKeys({ b: { d: 1, c: [{ z: 1, y: 2 }] }, a: 2, B: 3 }), false),
      '{"B":3,"a":2,"b":{"c":[{"y":2,"z":1}],"d":1}}',
    );
  });
});
