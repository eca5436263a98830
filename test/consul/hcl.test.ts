/**
 * Here documents of HCL, as HCL 1.0.0 reads them.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readHcl } from "../../src/consul/hcl.ts";
import { FormatError } from "../../src/core/errors.ts";
import { requireLinear } from "../fixtures/linear.ts";

const firstValue = (text: string) => readHcl(text).items[0]?.value;

describe("readHcl()", () => {
  const values: readonly (readonly [what: string, text: string, value: string])[] = [
    ["one line", "a = <<EOF\nb\nEOF\n", "b\n"],
    ["no line", "a = <<EOF\nEOF\n", ""],
    ["empty lines", "a = <<EOF\n\n\nEOF\n", "\n\n"],
    [
      "quotes, escapes and interpolation as they stand",
      'a = <<EOF\n"\\n" \u0024{x} #\nEOF\n',
      '"\\n" \u0024{x} #\n',
    ],
    [
      "lines with the mark and more",
      "a = <<EOF\nEOF b\nb EOF\nEOF.\nEOF\n",
      "EOF b\nb EOF\nEOF.\n",
    ],
    [
      "an end that is indented, with its indentation, as HCL has it",
      "a = <<EOF\nb\n  EOF\n",
      "b\n  ",
    ],
    ["lines of Windows", "a = <<EOF\r\nb\r\nEOF\r\n", "b\r\n"],
    ["no line end behind it", "a = <<EOF\nb\nEOF", "b\n"],
    ["another mark", "a = <<MY_MARK2\nb\nEOF\nMY_MARK2\n", "b\nEOF\n"],
    ["the indentation of the end taken away", "a = <<-EOF\n  b\n    c\n  EOF\n", "b\n  c\n"],
    ["tabs taken away", "a = <<-EOF\n\tb\n\tEOF\n", "b\n"],
    ["no indentation to take away", "a = <<-EOF\n  b\nEOF\n", "  b\n"],
    [
      "a line that is less indented, so that nothing is taken away",
      "a = <<-EOF\n b\n    c\n  EOF\n",
      " b\n    c\n",
    ],
    [
      "an empty line, so that nothing is taken away",
      "a = <<-EOF\n  b\n\n  c\n  EOF\n",
      "  b\n\n  c\n",
    ],
  ];
  for (const [what, text, value] of values)
    it(`reads a heredoc with ${what}`, () => assert.equal(firstValue(text), value));

  it("reads on behind a heredoc, with the right places", () => {
    const { items } = readHcl('a = <<EOF\n1\n2\nEOF\nb = [<<X\nc\nX\n, "d"]\n e = 1');
    assert.deepEqual(
      items.map(({ names, line, column }) => [names[0]?.text, line, column]),
      [
        ["a", 1, 1],
        ["b", 5, 1],
        ["e", 9, 2],
      ],
    );
    assert.deepEqual(items[1]?.value, ["c\n", "d"]);
  });

  const refused: readonly (readonly [what: string, text: string, says: RegExp])[] = [
    ["without an end", "a = <<EOF\nb\n", /line 1, column 5: the heredoc is not closed/],
    ["without a mark", "a = <<\nb\n\n", /line 1, column 5: a heredoc must begin with/],
    ["with a mark in quotes", 'a = <<"EOF"\nb\nEOF\n', /a heredoc must begin with/],
    ["with more on its first line", "a = <<EOF b\nEOF\n", /a heredoc must begin with/],
    ["in JSON", '{"a": <<EOF\nb\nEOF\n}', /line 1, column 7: unexpected "<"/],
    ["as a name", "<<EOF\na\nEOF\n = 1", /expected a name/],
  ];
  for (const [what, text, says] of refused)
    it(`refuses a heredoc ${what}`, () =>
      assert.throws(
        () => readHcl(text),
        (error: unknown) => error instanceof FormatError && says.test(error.message),
      ));

  it("repeats nothing of a heredoc in an error of a file that may hold secrets", () => {
    assert.throws(
      () => readHcl("a <<EOF\nsecret\nEOF\n", true),
      (error: unknown) =>
        error instanceof FormatError &&
        /found a heredoc/.test(error.message) &&
        !error.message.includes("secret"),
    );
  });

  it("reads a long text with many marks in time that grows with its length", () => {
    const readWith = (lines: number) => {
      const text = `a = <<EOF\n${"EOF EOF\n".repeat(lines)}EOF\n`;
      assert.equal(String(firstValue(text)).length, 8 * lines);
    };
    requireLinear(readWith, 14_000);
  });
});
