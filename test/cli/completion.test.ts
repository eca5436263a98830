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
  ["meshca completion f", ["fish"]],
  ["meshca conflict resolve sn", ["snapshot"]],
];

/** What the Tab key makes of a line in the shells that are typed into: Go's form, values, files. */
const TYPED: readonly (readonly [line: string, after: string])[] = [
  ["meshca conn", "meshca connect "],
  ["meshca connect ca set-config --conf", "meshca connect ca set-config --config-file"],
  ["meshca connect ca set-config -conf", "meshca connect ca set-config -config-file"],
  ["meshca rotate --yes --js", "meshca rotate --yes --json "],
  ["meshca verify x --like gn", "meshca verify x --like gnutls "],
  ["meshca tls ca create -key-type r", "meshca tls ca create -key-type rsa "],
  [
    "meshca connect ca set-config -config-file a",
    "meshca connect ca set-config -config-file a\\ file.json ",
  ],
  ["meshca inspect a", "meshca inspect a\\ file.json "],
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

  for (const shell of ["bash", "fish"]) {
    const isInstalled = spawnSync(shell, ["--version"]).status === 0;
    it(`completes commands and flags in ${shell}`, {
      skip: isInstalled ? false : `${shell} is not installed`,
    }, () => {
      for (const [line, offered] of CASES)
        assert.deepEqual(offers(shell, line), offered, `${shell}: ${line}`);
    });
  }

  for (const shell of ["zsh", "bash"] as const)
    it(`completes what is typed into ${shell}`, {
      skip: ["zsh", shell].every((one) => spawnSync(one, ["--version"]).status === 0)
        ? false
        : `zsh and ${shell} are not both installed`,
    }, () => {
      writeFileSync(join(folder, "a file.json"), "");
      const start = {
        zsh: `zsh -f -i`,
        bash: `bash --norc --noprofile -i`,
      }[shell];
      const ready = shell === "zsh" ? "autoload -Uz compinit; compinit -u -D; " : "";
      for (const [line, after] of TYPED) {
        // zsh has terminals of its own; what is typed after the Tab shows that it was handled.
        const script = `zmodload zsh/zpty
zpty -e shell '${start}'
zpty -w shell '${ready}source ${scripts.get(shell)}; cd ${folder}; PS1="NE""XT>"'
zpty -r shell output '*NEXT>*'
zpty -w -n shell $'${line}\t<END>'
zpty -r shell output '*<END>*'
print -r -- "$output"
zpty -d shell`;
        const { stdout } = spawnSync("zsh", ["-f", "-c", script], {
          encoding: "utf8",
          env: { PATH: process.env.PATH ?? "", HOME: folder, TERM: "dumb", COLUMNS: "200" },
        });
        const typed = stdout
          .replaceAll("\u0007", "")
          .replaceAll("\r", "")
          .split("\n")
          .find((text) => text.includes("<END>"));
        assert.ok(typed?.includes(after), `${shell}: ${JSON.stringify(typed)} of ${line}`);
      }
    });

  it("offers no hidden flag and every command", () => {
    for (const shell of SHELLS) {
      const script = completionScript(shell, PROGRAM);
      assert.doesNotMatch(script, /worker\b(?!s)/);
      for (const { name } of PROGRAM.commands) assert.ok(script.includes(name), name);
    }
  });
});
