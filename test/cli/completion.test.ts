/**
 * Completion in the shells themselves; one that is not installed is skipped by name.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { completionScript, SHELLS } from "../../src/cli/commands/completion.ts";
import { PROGRAM } from "../../src/cli/program.ts";

/** What each shell offers for a line, up to the cursor. */
const CASES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ["meshca conn", ["connect"]],
  ["meshca connect ", ["ca"]],
  ["meshca connect ca get", ["get-config"]],
  ["meshca connect ca set-config --conf", ["--config-file"]],
  ["meshca rotate --y", ["--yes"]],
  ["meshca rotate --yes --js", ["--json"]],
];

describe("meshca completion", () => {
  let folder: string;
  const scripts = new Map<string, string>();
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-completion-"));
    for (const shell of SHELLS) {
      const path = join(folder, `completion.${shell}`);
      writeFileSync(path, completionScript(shell, PROGRAM));
      scripts.set(shell, path);
    }
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const offers = (shell: string, line: string): string[] => {
    const words = line.split(" ");
    const path = scripts.get(shell) ?? "";
    const quoted = words.map((word) => `'${word}'`).join(" ");
    const [program = "", script = ""] = {
      bash: [
        "bash --norc",
        `source ${path}; COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _meshca; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ],
      // The functions of zsh that show what is offered print it.
      zsh: [
        "zsh -f",
        `compdef() { : }; source ${path}; _describe() { print -l -- "\${(@)words%%:*}" }; _arguments() { print -l -- "\${(@)\${(@)@%%\\[*}%=}" }; words=(${quoted}); CURRENT=${words.length}; _meshca`,
      ],
      fish: ["fish --no-config", `source ${path}; complete -C '${line}'`],
    }[shell] ?? ["", ""];
    const [command = "", ...flags] = program.split(" ");
    const { status, stdout, stderr } = spawnSync(command, [...flags, "-c", script], {
      encoding: "utf8",
      env: { PATH: process.env.PATH ?? "", HOME: folder },
    });
    assert.deepEqual([status, stderr], [0, ""], `${shell}: ${line}`);
    const last = words.at(-1) ?? "";
    return stdout
      .split("\n")
      .map((text) => text.split("\t")[0] ?? "")
      .filter((text) => text !== "" && text.startsWith(last));
  };

  for (const shell of SHELLS) {
    const isInstalled = spawnSync(shell, ["--version"]).status === 0;
    it(`completes commands and flags in ${shell}`, {
      skip: isInstalled ? false : `${shell} is not installed`,
    }, () => {
      for (const [line, offered] of CASES)
        assert.deepEqual(offers(shell, line), offered, `${shell}: ${line}`);
    });
  }

  it("offers no hidden flag and every command", () => {
    for (const shell of SHELLS) {
      const script = completionScript(shell, PROGRAM);
      assert.doesNotMatch(script, /worker\b(?!s)/);
      for (const { name } of PROGRAM.commands) assert.ok(script.includes(name), name);
    }
  });
});
