/**
 * Go's regular expressions without backtracking. The table holds the results of Go 1.26's regexp.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { compileRegexp, MAX_TEXT } from "../../src/acl/regexp.ts";
import { FormatError } from "../../src/core/errors.ts";

const MATCHES: readonly (readonly [pattern: string, text: string, matches: boolean])[] = [
  ["", "", true],
  ["web", "a-web-1", true],
  ["^web$", "a-web", false],
  ["^(web|api)-[0-9]+$", "api-42", true],
  ["^(web|api)-[0-9]+$", "api-", false],
  ["a.c", "a\nc", false],
  ["(?s)a.c", "a\nc", true],
  ["^b", "a\nb", false],
  ["(?m)^b$", "a\nb\nc", true],
  ["a$", "a\n", false],
  ["\\Aa\\z", "a", true],
  ["\\bweb\\b", "my web!", true],
  ["\\bweb\\b", "myweb", false],
  ["\\Beb", "web", true],
  ["(?i)WEB", "web", true],
  ["(?i:W)eb", "wEb", false],
  ["(?i)k", "\u212a", true],
  ["(?i)[a-z]", "\u017f", true],
  ["(?i)a(?-i)b", "AB", false],
  ["[^a-c]", "abc", false],
  ["[]a]", "]", true],
  ["[a-]", "-", true],
  ["[[:alpha:]-]", "-", true],
  ["[[:^digit:]]", "7", false],
  ["[\\d-z]", "z", true],
  ["\\D", "0", false],
  ["\\s", "\u00a0", false],
  ["\\s", "\v", false],
  ["\\pL", "\u00e9", true],
  ["\\p{Greek}", "\u03b1", true],
  ["\\p{^L}", "a", false],
  ["\\PL", "a", false],
  ["\\x41\\x{1F600}", "A\u{1f600}", true],
  [".{1}$", "\u{1f600}", true],
  ["^.$", "\u{1f600}", true],
  ["\\101", "A", true],
  ["\\Qa.b\\E*", "a.", true],
  ["\\Qa.b\\E", "axb", false],
  ["a{,2}", "a", false],
  ["a{,2}", "a{,2}", true],
  ["^a{2,3}$", "aaaa", false],
  ["^a{2,}$", "aaaa", true],
  ["^(a*)*$", "aaaa", true],
  ["^(?:)*$", "", true],
  ["(?P<n>a)(?<m>b)", "ab", true],
  ["a|", "x", true],
  ["\\ \\-\\_", " -_", true],
];

const REFUSED: readonly (readonly [pattern: string, says: string])[] = [
  ["(a", "missing closing ): `(a`"],
  ["a)", "unexpected ): `a)`"],
  ["[a", "missing closing ]: `[a`"],
  ["*a", "missing argument to repetition operator: `*`"],
  ["a|*", "missing argument to repetition operator: `*`"],
  ["a**", "invalid nested repetition operator: `**`"],
  ["a{2}{3}", "invalid nested repetition operator: `{2}{3}`"],
  ["a{2,1}", "invalid repeat count: `{2,1}`"],
  ["a{1001}", "invalid repeat count: `{1001}`"],
  ["[b-a]", "invalid character class range: `b-a`"],
  ["[[:foo:]]", "invalid character class range: `[:foo:]`"],
  ["\\p{Foo}", "invalid character class range: `\\p{Foo}`"],
  ["\\", "trailing backslash at end of expression: ``"],
  ["\\1", "invalid escape sequence: `\\1`"],
  ["\\Z", "invalid escape sequence: `\\Z`"],
  ["\\x{110000}", "invalid escape sequence: `\\x{110000}`"],
  ["(?=a)", "invalid or unsupported Perl syntax: `(?=`"],
  ["(?!a)", "invalid or unsupported Perl syntax: `(?!`"],
  ["(?<=a)", "invalid or unsupported Perl syntax: `(?<`"],
  ["(?x)a", "invalid or unsupported Perl syntax: `(?x`"],
  ["(?P<1 >a)", "invalid named capture: `(?P<1 >a)`"],
];

describe("compileRegexp()", () => {
  for (const [pattern, text, expected] of MATCHES)
    it(`compileRegexp() returns ${expected} for ${JSON.stringify(pattern)} and ${JSON.stringify(text)}`, () => {
      assert.equal(compileRegexp(pattern)(text), expected);
    });

  for (const [pattern, says] of REFUSED)
    it(`compileRegexp() refuses ${JSON.stringify(pattern)} with Go's text`, () => {
      assert.throws(() => compileRegexp(pattern), {
        name: "FormatError",
        message: `error parsing regexp: ${says}`,
      });
    });

  const empty = "(".repeat(200) + ")".repeat(200);
  for (const pattern of [
    "a{1000}",
    "((a{30}){30})",
    "(((a?){10}){10}){10}",
    "(a|b|c|d){200}",
    `${"a?".repeat(500)}`,
  ])
    it(`compileRegexp() refuses ${pattern.slice(0, 30)}, which is too large`, () => {
      assert.throws(() => compileRegexp(pattern), {
        name: "FormatError",
        message: "regular expression is too large",
      });
    });
  it("compileRegexp() accepts repeated empty expressions", () => {
    assert.equal(compileRegexp("((((){1000}){1000}){1000}){1000}")(""), true);
    assert.equal(compileRegexp(empty)("x"), true);
  });
  it("compileRegexp() throws nothing but FormatError for deep nesting", () => {
    for (const pattern of [
      "(".repeat(1024),
      "(?i".repeat(341),
      "[".repeat(1024),
      "\\".repeat(1023),
    ])
      assert.throws(() => compileRegexp(pattern), FormatError);
  });

  for (const pattern of [
    "^(a+)+$",
    "^(a|a)*$",
    "^(a*)*b",
    "(.*)*x",
    "(a?){50}a{50}$",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
  ])
    it(`compileRegexp() matches ${pattern} in time that grows with the text, if backtracking would take exponential time`, () => {
      const matches = compileRegexp(pattern);
      matches("a".repeat(100));
      // What backtracks does not come back from here.
      matches(`${"a".repeat(MAX_TEXT - 1)}!`);
    });

  for (const flags of ["", "(?i)"])
    it(`compileRegexp() evaluates a long class that is repeated with ${flags || "no flags"} once for each character`, () => {
      const ranges = Array.from(
        { length: 160 },
        (_, i) => `${String.fromCodePoint(0x400 + 2 * i)}-${String.fromCodePoint(0x401 + 2 * i)}`,
      );
      const timeOf = (pattern: string) => {
        const matches = compileRegexp(pattern);
        const started = performance.now();
        assert.equal(matches("z".repeat(MAX_TEXT)), false);
        assert.equal(matches(`${"z".repeat(1000)}b`), true);
        return performance.now() - started;
      };
      // Evaluated at each step it took 10 times as long as a class of one character, and 100 times
      // with the flag. The shortest of some counts: a longer one may be the machine's.
      let [long, short] = [Number.POSITIVE_INFINITY, 0];
      for (let tries = 0; tries < 10 && long > 3 * short; tries++) {
        short = Math.max(short, timeOf(`${flags}[z]{490}b`));
        long = Math.min(long, timeOf(`${flags}[${ranges.join("")}z]{490}b`));
      }
      assert.ok(long <= 3 * short, `${long} ms, and ${short} ms for a class of one character`);
    });

  it("the function that compileRegexp() returns refuses a text that is too long", () => {
    assert.throws(() => compileRegexp("a")("a".repeat(MAX_TEXT + 1)), RangeError);
  });
});
