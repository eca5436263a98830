/**
 * docs/cli.md has every command, flag, variable and exit code, and nothing else; each command has an
 * example that its flags allow.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { normalise } from "../../src/cli/arguments.ts";
import { flagsOf } from "../../src/cli/command-flags.ts";
import { DOCTOR_EXITS } from "../../src/cli/commands/doctor.ts";
import { CONNECTION_FLAGS } from "../../src/cli/connection/connection-flags.ts";
import { EXIT } from "../../src/cli/output.ts";
import { CLIENT_VARIABLES } from "../../src/config/client-variables.ts";
import { cliPage, commandsOf } from "./cli-page.ts";
import { codeIn, readText, rowsOf, sectionOf } from "./markdown.ts";

describe("docs/cli.md", () => {
  it("has the reference of the commands as they are: bun test/docs/cli-page.ts writes it", () => {
    const { is, must } = cliPage();
    assert.equal(is, must);
  });

  it("has every exit code and no other", () => {
    const codes = rowsOf(sectionOf(readText("docs/cli.md"), "Exit codes")).map(([code]) =>
      Number(code),
    );
    assert.deepEqual(
      codes,
      [...new Set([...Object.values(DOCTOR_EXITS), ...Object.values(EXIT)])].toSorted(
        (a, b) => a - b,
      ),
    );
  });

  it("has every variable of the connection and no other", () => {
    const own = rowsOf(sectionOf(readText("docs/cli.md"), "Connection")).flatMap(([first = ""]) =>
      codeIn(first),
    );
    const ofFlags = CONNECTION_FLAGS.flatMap(({ variables = [] }) => variables);
    assert.deepEqual(new Set([...own, ...ofFlags]), new Set(CLIENT_VARIABLES));
    assert.equal(own.length + ofFlags.length, CLIENT_VARIABLES.length);
  });
});

describe("every command", () => {
  for (const [called, command] of commandsOf()) {
    it(`${called} has a summary and an example with flags that it has`, () => {
      assert.match(command.summary, /^[a-z].*[^.]$/);
      // A command that has a short form has one example.
      const after = new RegExp(`\\bmeshca (?:[a-z -]+ )?${command.name}\\b(.*)$`).exec(
        command.example,
      );
      assert.ok(after !== null, command.example);
      const words = after[1]?.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
      const { args, faults } = normalise(words, flagsOf(command));
      assert.deepEqual(faults, []);
      for (const arg of args) {
        const [, name] = /^--?([a-z][^=]*)/.exec(arg) ?? [];
        if (name !== undefined)
          assert.ok(
            flagsOf(command).some((flag) => flag.name === name),
            arg,
          );
      }
    });

    it(`${called} declares each flag once`, () => {
      const names = flagsOf(command).map(({ name }) => name);
      assert.equal(new Set(names).size, names.length, names.join(" "));
      for (const name of names) assert.match(name, /^[a-z][a-z0-9-]*$/);
    });
  }
});
