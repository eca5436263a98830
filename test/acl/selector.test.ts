/**
 * Selectors and name templates of binding rules.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readSelector, readTemplate } from "../../src/acl/selector.ts";
import { FormatError } from "../../src/core/errors.ts";

const KNOWN = new Map([
  ["value.name", "text"],
  ["value.team", "text"],
  ["value.absent", "text"],
  ["value.level", "text"],
  ["value.long", "text"],
  ["list.groups", "list"],
  ["list.none", "list"],
] as const);
const FIELDS = new Map<string, string | readonly string[]>([
  ["value.name", "web"],
  ["value.team", ""],
  ["value.level", "7"],
  ["value.long", "x".repeat(2049)],
  ["list.groups", ["ops", "dev"]],
  ["list.none", []],
]);

describe("readSelector()", () => {
  const table: readonly [selector: string, selected: boolean][] = [
    ["", true],
    ["  ", true],
    ['value.name == "web"', true],
    ["value.name == `web`", true],
    ['value.name=="web"', true],
    ['value.name == "we"', false],
    ['value.name != "web"', false],
    ['value.name != "api"', true],
    ['"eb" in value.name', true],
    ['"ops" in list.groups', true],
    ['"op" in list.groups', false],
    ['"op" not in list.groups', true],
    ['list.groups contains "dev"', true],
    ['list.groups not contains "dev"', false],
    ["list.none is empty", true],
    ["list.groups is empty", false],
    ["list.groups is not empty", true],
    ["value.team is empty", true],
    ['not value.name == "api"', true],
    ['not not value.name == "web"', true],
    ['value.name == "web" and "ops" in list.groups', true],
    ['value.name == "web" and "x" in list.groups', false],
    ['value.name == "x" or "ops" in list.groups', true],
    ['value.name == "web" or value.name == "x" and value.name == "y"', true],
    ['(value.name == "web" or value.name == "x") and value.name == "y"', false],
    ['not (value.name == "x" or value.name == "y")', true],
    ['value.name == "w\\"eb"', false],
    // Consul's own form, without quotes.
    ["value.name==web", true],
    ["value.name==we", false],
    ["value.name!=web", false],
    ["value.name == web and value.name != api", true],
    ["value.name==web-1 or value.name==web", true],
    ["value.level==7", true],
    ["value.level != 7.5", true],
    ["value.level == -7", false],
    ["ops in list.groups", true],
    ["op not in list.groups", true],
    ["list.groups contains dev", true],
    ["list.groups not contains dev", false],
    ["not value.name==api", true],
    ['value["name"] == web', true],
    ["value[`name`]==web", true],
    ['"/value/name" == "web"', true],
    ['"/value/name" matches "^w"', true],
    ['"/value/name" in list.groups', false],
    // Go's regular expressions.
    ['value.name matches "^w.b$"', true],
    ["value.name matches `^w\\w+$`", true],
    ['value.name matches "E"', false],
    ['value.name matches "(?i)E"', true],
    ['value.name not matches "^a"', true],
    ['value.name not matches "b"', false],
    ["value.name matches eb", true],
    ["not value.name matches `x`", true],
    ['value.absent matches ".*"', false],
    ['value.absent not matches "x"', false],
    ['value.long matches "x"', false],
    ['value.long not matches "y"', false],
    // A missing claim selects nothing, whatever the operator.
    ['value.absent == "x"', false],
    ['value.absent != "x"', false],
    ['not value.absent == "x"', false],
    ["value.absent is empty", false],
  ];
  for (const [selector, selected] of table)
    it(`readSelector() returns ${selected} for ${selector === "" ? "nothing" : selector}`, () => {
      assert.equal(readSelector(selector, KNOWN)(FIELDS), selected);
    });

  const bad: readonly [what: string, selector: string, expected: RegExp][] = [
    [
      "a field that is not known",
      'value.nmae == "x"',
      /column 1: unknown field "value.nmae"; did you mean value.name\?/,
    ],
    ["a value that is a sign", "value.name == (", /column 15: expected a value/],
    ["no value", "value.name ==", /column 14: expected a value/],
    [
      "a regular expression that Go refuses",
      "value.name matches `(a`",
      /column 20: error parsing regexp: missing closing \): `\(a`/,
    ],
    ["a look ahead", 'value.name matches "(?=a)"', /invalid or unsupported Perl syntax: `\(\?=`/],
    ["a back reference", "value.name matches `(a)\\1`", /invalid escape sequence: `\\1`/],
    [
      "a regular expression that is too large",
      'value.name matches "((a{100}){10}){10}"',
      /regular expression is too large/,
    ],
    [
      "a long regular expression",
      `value.name matches "${"a".repeat(1025)}"`,
      /longer than 1024 characters/,
    ],
    ["a list that is matched", 'list.groups matches "ops"', /list.groups is a list; use contains/],
    [
      "not before an operator that it does not go with",
      'value.name not == "x"',
      /expected contains, matches or in/,
    ],
    ["any of a list", 'any list.groups as g { g == "x" }', /unknown field "any"|unexpected/],
    ["an index that is no text", "value[name] == web", /expected a string in quotes/],
    ["an index that does not end", 'value["name" == web', /expected "\]"/],
    ["a pointer to what is not there", '"/value/nmae" == web', /unknown field "value.nmae"/],
    ["a list compared as text", 'list.groups == "ops"', /list.groups is a list; use contains/],
    ["an operator that is not known", 'value.name = "x"', /column 12: unexpected "="/],
    [
      "two comparisons side by side",
      'value.name == "x" value.name == "y"',
      /expected "and" or "or"/,
    ],
    ["a parenthesis that does not end", '(value.name == "x"', /expected "\)"/],
    ["a parenthesis too many", 'value.name == "x")', /found "\)"/],
    ["a text that does not end", 'value.name == "x', /column 15: unexpected "\\""/],
    ["nothing after and", 'value.name == "x" and', /unknown field ""/],
    ["a text on its own", '"x"', /expected "in"/],
    ["a text compared with a text", '"x" == "x"', /expected "in"/],
    ["a field on its own", "value.name", /expected ==/],
    ["a property of all objects", 'constructor == "x"', /unknown field "constructor"/],
    [
      "deep nesting",
      `${"(".repeat(1000)}value.name == "x"${")".repeat(1000)}`,
      /nesting is deeper than 16/,
    ],
    ["many nots", `${"not ".repeat(1000)}value.name == "x"`, /nesting is deeper than 16/],
    ["too much text", `value.name == "${"x".repeat(5000)}"`, /longer than 4096 characters/],
  ];
  for (const [what, selector, expected] of bad)
    it(`readSelector() refuses ${what}`, () => {
      assert.throws(
        () => readSelector(selector, KNOWN),
        (error) => error instanceof FormatError && expected.test(error.message),
      );
    });
});

const variable = (name: string) => ["$", "{", name, "}"].join("");

describe("readTemplate()", () => {
  it("fill() substitutes variables, and returns null if one is missing or a list", () => {
    const fill = (text: string) => readTemplate(text).fill(FIELDS);
    assert.equal(fill("web"), "web");
    assert.equal(fill(variable("value.name")), "web");
    assert.equal(fill(`a-${variable("value.name")}-${variable(" value.name ")}`), "a-web-web");
    assert.equal(fill(variable("value.absent")), null);
    assert.equal(fill(variable("list.groups")), null);
  });

  for (const text of [
    "",
    "a$b",
    "$",
    variable(""),
    variable("value.name + 1"),
    "${value.name".slice(0),
    variable(variable("x")),
    "x".repeat(257),
  ])
    it(`readTemplate() refuses ${JSON.stringify(text.slice(0, 30))}`, () => {
      assert.throws(() => readTemplate(text), FormatError);
    });
});
