/**
 * The flags of `meshca agent`: values, repetition, unknown ones with the near one, help.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AGENT_HELP, parseAgentFlags } from "../../src/cli/agent-flags.ts";
import { AGENT_SOURCES } from "../../src/config/agent-sources.ts";

describe("parseAgentFlags()", () => {
  it("reads values after a blank or =, repeated flags, and switches", () => {
    const args = [
      ...["--server", "http://127.0.0.1:1", "--server=http://127.0.0.1:2", "--service", "web"],
      ...["--dns-name", "a", "--dns-name", "b", "--on-change", "nginx -s reload", "--once", "-h"],
      "--config=-file",
    ];
    assert.deepEqual(parseAgentFlags(args), {
      flags: {
        server: ["http://127.0.0.1:1", "http://127.0.0.1:2"],
        service: ["web"],
        "dns-name": ["a", "b"],
        "on-change": ["nginx -s reload"],
        config: ["-file"],
      },
      ...{ once: true, help: true, faults: [] },
    });
  });

  for (const [args, fault] of [
    [["--sockt", "/s"], "--sockt is not a flag of meshca agent; did you mean --socket?"],
    [["--zzzzzzzzzzzzzzzzzz"], "--zzzzzzzzzzzzzzzzzz is not a flag of meshca agent"],
    [["-x"], "-x is not a flag of meshca agent"],
    [["--token", "secret"], "--token is not a flag of meshca agent"],
    [["web"], '"web" does not belong to a flag of meshca agent'],
    [["--", "web"], '"web" does not belong to a flag of meshca agent'],
    [["--socket"], "--socket needs a value"],
    [
      ["--socket", "--dir", "--once"],
      '--socket needs a value; one that begins with "-" is written --socket=--dir',
    ],
    [["--socket="], "--socket has an empty value"],
    [["--socket", ""], "--socket has an empty value"],
    [["--socket", "/a", "--socket", "/b"], "--socket is given twice"],
    [["--once=yes"], "--once takes no value"],
    [["--no-once"], "--no-once is not a flag of meshca agent"],
    [["--constructor", "x"], "--constructor is not a flag of meshca agent"],
  ] as const)
    it(`refuses ${args.join(" ")}`, () => {
      const { faults } = parseAgentFlags(args);
      assert.equal(faults[0], fault);
      assert.doesNotMatch(faults.join(), /secret/);
    });
});

describe("the help of meshca agent", () => {
  it("has each flag, and an example whose flags exist", () => {
    for (const { flag } of AGENT_SOURCES)
      if (flag !== null) assert.match(AGENT_HELP, new RegExp(`^  --${flag} `, "m"));
    const [, example = ""] = AGENT_HELP.split("Example:");
    const args = example
      .replaceAll(/\\\n/g, " ")
      .trim()
      .match(/"[^"]*"|\S+/g)
      ?.slice(2)
      .map((word) => word.replaceAll('"', ""));
    assert.deepEqual(parseAgentFlags(args ?? []).faults, []);
    for (const line of AGENT_HELP.split("\n")) assert.ok(line.length <= 110, line);
  });
});
