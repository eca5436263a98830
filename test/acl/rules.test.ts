/**
 * Consul's policy language: rules that are accepted, and rules that are refused with which texts.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Rule, readRules } from "../../src/acl/rules.ts";
import { MAX_LENGTH, readHcl } from "../../src/consul/hcl.ts";
import { FormatError, RequestError } from "../../src/core/errors.ts";
import { requireLinear } from "../fixtures/linear.ts";

const WEB: Rule = { resource: "service", match: "exact", name: "web", disposition: "write" };
const ALL: Rule = { resource: "service", match: "prefix", name: "", disposition: "read" };
const OPERATOR: Rule = { resource: "operator", match: "whole", name: "", disposition: "read" };

describe("readRules()", () => {
  const good: readonly [what: string, text: string, rules: readonly Rule[]][] = [
    ["nothing", "", []],
    ["only comments", "# a\n// b\n/* c\n d */", []],
    ["a block", 'service "web" { policy = "write" }', [WEB]],
    ["a block over lines", 'service "web" {\n\tpolicy = "write"\r\n}\n', [WEB]],
    ["quoted names", '"service" "web" { "policy" = "write" }', [WEB]],
    ["a prefix of nothing", 'service_prefix "" { policy = "read" }', [ALL]],
    ["a whole resource", 'operator = "read"', [OPERATOR]],
    [
      "an empty whole resource, as Consul does",
      'operator = ""\nacl = ""\nmesh = ""\nkeyring = ""\npeering = ""',
      [],
    ],
    [
      "several, with comments between",
      '# x\nservice "web" { policy = "write" } // y\n/* z */ operator = "read"',
      [WEB, OPERATOR],
    ],
    [
      "several blocks for one name",
      'service "web" { policy = "write" }\nservice "web" { policy = "write" }',
      [WEB, WEB],
    ],
    [
      "a brace and hashes in a name",
      'service "a}#/*" { policy = "write" }',
      [{ ...WEB, name: "a}#/*" }],
    ],
    ["escapes in a name", 'service "w\\u0065b" { policy = "write" }', [WEB]],
    [
      "intentions, which grant nothing here",
      'service "web" { policy = "write" intentions = "deny" }',
      [WEB],
    ],
    ["an object with names for keys", 'service = { "web" = { policy = "write" } }', [WEB]],
    ["a block with names for keys", 'service { web { policy = "write" } }', [WEB]],
    ["JSON", '{"service":{"web":{"policy":"write"}},"operator":"read"}', [WEB, OPERATOR]],
    ["JSON over lines", '\n {\n "service": {\n "web": { "policy": "write" } } }\n', [WEB]],
    [
      "JSON with lists",
      '{"service":[{"web":{"policy":"write"}},{"web":{"policy":"write"}}]}',
      [WEB, WEB],
    ],
    ["JSON with a list for a name", '{"service":{"web":[{"policy":"write"}]}}', [WEB]],
    ["a name without quotes", 'service web { policy = "write" }', [WEB]],
    ["a comma between fields", 'service "web" { policy = "write", intentions = "read" }', [WEB]],
    [
      "node, agent, acl and mesh",
      'node "n" { policy = "deny" } node_prefix "x-" { policy = "read" } agent "a" { policy = "read" } agent_prefix "b" { policy = "write" } acl = "write" mesh = "deny"',
      [
        { resource: "node", match: "exact", name: "n", disposition: "deny" },
        { resource: "node", match: "prefix", name: "x-", disposition: "read" },
        { resource: "agent", match: "exact", name: "a", disposition: "read" },
        { resource: "agent", match: "prefix", name: "b", disposition: "write" },
        { resource: "acl", match: "whole", name: "", disposition: "write" },
        { resource: "mesh", match: "whole", name: "", disposition: "deny" },
      ],
    ],
    [
      "Consul's other resources, which grant nothing here",
      'key "a" { policy = "list" } key_prefix "" { policy = "write" } event "e" { policy = "read" } event_prefix "" { policy = "read" } session_prefix "" { policy = "read" } query "q" { policy = "deny" } query_prefix "" { policy = "read" } identity "i" { policy = "read" intentions = "read" } keyring = "write" peering = "read"',
      [],
    ],
  ];
  for (const [what, text, rules] of good)
    it(`readRules() takes ${what}`, () => {
      assert.deepEqual(readRules(text), rules);
    });

  const bad: readonly [what: string, text: string, expected: RegExp][] = [
    [
      "a level that is not known",
      'service "web" { policy = "writ" }',
      /^Failed to parse ACL rules: line 1, column 17: Invalid service policy: "writ"; did you mean write\?$/,
    ],
    [
      "a level in capitals",
      'operator = "READ"',
      /Invalid operator policy: "READ"; did you mean read\?/,
    ],
    [
      "list for anything but keys",
      'service "web" { policy = "list" }',
      /Invalid service policy: "list"; expected deny, read or write/,
    ],
    ["a level that is no text", "operator = true", /Invalid operator policy: not a string/],
    ["an empty level of a name", 'service "web" { policy = "" }', /Invalid service policy: ""/],
    [
      "intentions that are not known",
      'service "web" { policy = "read" intentions = "x" }',
      /Invalid service intentions policy: "x"/,
    ],
    [
      "intentions of a node",
      'node "n" { policy = "read" intentions = "read" }',
      /unknown field "intentions"; known are policy/,
    ],
    [
      "a resource that is not known",
      '\n\n  servce "web" { policy = "read" }',
      /line 3, column 3: unknown resource "servce"; did you mean service\?/,
    ],
    [
      "a prefix of what has none",
      'operator_prefix "" { policy = "read" }',
      /unknown resource "operator_prefix"/,
    ],
    [
      "Enterprise's namespaces",
      'namespace "x" { service "web" { policy = "read" } }',
      /"namespace" is a Consul Enterprise feature/,
    ],
    [
      "Enterprise's sentinel",
      'key "x" { policy = "write" sentinel { code = "" } }',
      /"sentinel" is a Consul Enterprise feature/,
    ],
    [
      "a field that is not known",
      'service "web" { polcy = "read" }',
      /unknown field "polcy"; did you mean policy\?.*service has no policy/,
    ],
    ["a block without a policy", 'service "web" { }', /line 1, column 1: service has no policy/],
    ["a resource without a name", 'service = "read"', /service needs a name/],
    ["a block without a name", 'service { policy = "read" }', /service needs a name/],
    ["two names", 'service "web" "api" { policy = "read" }', /service has one name, found 2/],
    [
      "a value for a name",
      'service "web" = "read"',
      /line 1, column 15: there must be one name before "="/,
    ],
    [
      "a name for what has none",
      'operator "x" { policy = "read" }',
      /operator has no names; write operator = "read"/,
    ],
    [
      "a value twice",
      'operator = "read"\noperator = "write"',
      /line 2, column 1: "operator" is set twice/,
    ],
    [
      "a policy twice",
      'service "web" { policy = "read" policy = "write" }',
      /line 1, column 33: "policy" is set twice/,
    ],
    [
      "a JSON key twice",
      '{"service":{"web":{"policy":"read"},"web":{"policy":"write"}}}',
      /line 1, column 37: "web" is set twice/,
    ],
    ["a string that does not end", 'service "web { policy = "read" }', /line 1/],
    [
      "a string over lines",
      'service "we\nb" { policy = "read" }',
      /line 1, column 9: the string is not closed on its line/,
    ],
    ["a comment that does not end", '/* a\n"', /line 1, column 1: the comment is not closed/],
    [
      "a block that does not end",
      'service "web" { policy = "read"',
      /found the end, expected a name/,
    ],
    [
      "a brace too many",
      'service "web" { policy = "read" } }',
      /line 1, column 35: found "}", expected a name/,
    ],
    [
      "text without quotes",
      "operator = read",
      /line 1, column 12: found "read", expected a value; strings are in double quotes/,
    ],
    [
      "interpolation",
      'service "$'.concat('{x}" { policy = "read" }'),
      /interpolation is not supported/,
    ],
    [
      "a heredoc that does not end",
      "operator = <<EOF\nread\n EO",
      /line 1, column 12: the heredoc is not closed/,
    ],
    ["an escape that is not known", 'service "\\x" { policy = "read" }', /has an unknown escape/],
    ["a control character", 'service "a\u0001" { policy = "read" }', /a control character/],
    ["a colon in HCL", 'operator: "read"', /found ":", expected "=" or "\{" after "operator"/],
    ["a comment in JSON", "{ # x\n}", /line 1, column 3: JSON has no comments/],
    ["an equals sign in JSON", '{"operator" = "read"}', /found "=", expected ":"/],
    ["a comma at the end of JSON", '{"operator":"read",}', /found "}", expected "string"/],
    ["more after JSON", '{"operator":"read"} x', /found "x", expected "end"/],
    ["deep nesting", "a = ".concat("[".repeat(100), "]".repeat(100)), /nesting is deeper than 8/],
    ["too much text", "#".repeat(MAX_LENGTH + 1), /the text is longer than 131072 characters/],
    ["a byte order mark", '\ufeffoperator = "read"', /line 1, column 1: unexpected/],
    [
      "several faults at once",
      'servce "a" { policy = "read" }\noperator = "x"',
      /line 1, column 1: .*; line 2, column 1: /,
    ],
  ];
  for (const [what, text, expected] of bad)
    it(`readRules() refuses ${what}`, () => {
      assert.throws(
        () => readRules(text),
        (error) => {
          assert.ok(error instanceof RequestError);
          assert.equal(error.code, "request_malformed");
          assert.match(error.message, expected);
          return true;
        },
      );
    });

  it("readRules() reports at most ten faults, however many there are", () => {
    assert.throws(
      () =>
        readRules(
          'x = "y"\n'.repeat(1).concat(...Array.from({ length: 500 }, (_, i) => `x${i} = "y"\n`)),
        ),
      (error) => error instanceof RequestError && error.message.length < 3000,
    );
  });

  it("readHcl() takes time in proportion to the text", () => {
    for (const mark of ['"', "/ ", "a ", "[", "/*"])
      requireLinear(
        (length) => assert.throws(() => readHcl(mark.repeat(length / mark.length)), FormatError),
        MAX_LENGTH,
      );
  });
});
