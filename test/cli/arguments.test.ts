/**
 * Arguments in Go's form and in GNU's: values that begin with a dash, `-`, `--`, switches.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { normalise } from "../../src/cli/arguments.ts";
import type { Flag } from "../../src/cli/flags.ts";

const FLAGS: readonly Flag[] = [
  { name: "config-file", value: "FILE", help: "" },
  { name: "ttl", value: "DURATION", help: "" },
  { name: "force", value: null, help: "" },
];

describe("normalise()", () => {
  for (const [args, normal] of [
    [["-config-file", "a.json"], ["--config-file=a.json"]],
    [["-config-file=a.json"], ["--config-file=a.json"]],
    [["--config-file", "a.json"], ["--config-file=a.json"]],
    [["-config-file="], ["--config-file="]],
    [["-config-file", ""], ["--config-file="]],
    [["-config-file", "-"], ["--config-file=-"]],
    [["-ttl", "-5m"], ["--ttl=-5m"]],
    [["-ttl=a=b\nc"], ["--ttl=a=b\nc"]],
    [
      ["-ttl", "1h", "-ttl", "2h"],
      ["--ttl=1h", "--ttl=2h"],
    ],
    [["-force"], ["--force"]],
    [["-force=true"], ["--force"]],
    [["-force=1"], ["--force"]],
    [["-force=false"], []],
    [["-force", "--force=F"], []],
    [
      ["-force", "false"],
      ["--force", "false"],
    ],
    [
      ["-", "x", "-force"],
      ["-", "x", "--force"],
    ],
    [
      ["--", "-force", "-ttl"],
      ["--", "-force", "-ttl"],
    ],
    [
      ["-unknown", "-h"],
      ["-unknown", "-h"],
    ],
    [
      ["---ttl", "x"],
      ["---ttl", "x"],
    ],
  ] as const)
    it(`makes ${JSON.stringify(normal)} of ${JSON.stringify(args)}`, () => {
      assert.deepEqual(normalise(args, FLAGS), { args: normal, faults: [] });
    });

  for (const [args, fault] of [
    [["-ttl"], "--ttl needs a value"],
    [["-ttl", "-force"], '--ttl needs a value; one that begins with "-" is written --ttl=-force'],
    [
      ["-ttl", "--config-file=x"],
      '--ttl needs a value; one that begins with "-" is written --ttl=--config-file=x',
    ],
    [["-ttl", "--"], '--ttl needs a value; one that begins with "-" is written --ttl=--'],
    [["-force=maybe"], "--force takes no value but true or false"],
    [["-force="], "--force takes no value but true or false"],
  ] as const)
    it(`refuses ${JSON.stringify(args)}`, () => {
      assert.equal(normalise(args, FLAGS).faults[0], fault);
    });
});
