/**
 * The reference of commands in docs/cli.md, made from the tree of commands. Run with bun, this file
 * writes it.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, type Entry, isGroup } from "../../src/cli/command.ts";
import { flagsOf } from "../../src/cli/command-flags.ts";
import { CONNECTION_FLAGS } from "../../src/cli/connection/connection-flags.ts";
import type { Flag } from "../../src/cli/flags.ts";
import { PROGRAM } from "../../src/cli/program.ts";
import { ROOT } from "../fixtures/root.ts";
import { table } from "./markdown.ts";

const PAGE = join(ROOT, "docs/cli.md");
const [BEGIN, END] = ["<!-- commands -->", "<!-- /commands -->"];
/** Columns of prose. */
const WIDTH = 100;

/** The page as it is, and as it has to be. */
export function cliPage(): { readonly is: string; readonly must: string } {
  const is = readFileSync(PAGE, "utf8");
  const [before = "", rest = ""] = is.split(`${BEGIN}\n`);
  const after = rest.split(END)[1] ?? "";
  return { is, must: `${before}${BEGIN}\n\n${reference()}\n${END}${after}` };
}

/** Every command with the words that call it. */
export function commandsOf(
  entry: Entry = PROGRAM,
  words: readonly string[] = [],
): [string, Command][] {
  const path = [...words, entry.name];
  if (isGroup(entry)) return entry.commands.flatMap((child) => commandsOf(child, path));
  return entry.hidden === true ? [] : [[path.join(" "), entry]];
}

function reference(): string {
  const connection = section("Flags of the connection", [
    table(
      ["Flag", "Variables", "Meaning"],
      CONNECTION_FLAGS.map((flag) => [flagText(flag), variablesText(flag), flag.help]),
    ),
  ]);
  return [
    connection,
    ...commandsOf().map(([called, command]) => commandText(called, command)),
  ].join("\n");
}

function commandText(called: string, command: Command): string {
  const own = flagsOf(command).filter(
    (flag) =>
      flag.hidden !== true && !(command.connects === true && CONNECTION_FLAGS.includes(flag)),
  );
  const words = [called, command.arguments, "[flags]"].filter((word) => word !== undefined);
  const shared =
    command.connects === true
      ? " Has the [flags of the connection](#flags-of-the-connection)."
      : "";
  const summary = `${command.summary.charAt(0).toUpperCase()}${command.summary.slice(1)}.`;
  return section(`\`${called}\``, [
    wrap(`${summary}${command.details === undefined ? "" : ` ${command.details}`}${shared}`),
    `\`\`\`text\n${words.join(" ")}\n${command.example}\n\`\`\`\n`,
    ...(own.length === 0
      ? []
      : [
          table(
            ["Flag", "Variable", "Meaning"],
            own.map((flag) => [flagText(flag), variablesText(flag), flag.help]),
          ),
        ]),
  ]);
}

const section = (title: string, parts: readonly string[]): string =>
  `### ${title}\n\n${parts.join("\n")}`;

const flagText = ({ name, value, many }: Flag): string =>
  `\`--${name}${value === null ? "" : ` ${value}`}\`${many === true ? ", repeatable" : ""}`;

const variablesText = ({ variables = [] }: Flag): string =>
  variables.map((name) => `\`${name}\``).join(", ");

function wrap(text: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.replaceAll("*", "\\*").split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return `${[...lines, line].join("\n")}\n`;
}

if (import.meta.main) writeFileSync(PAGE, cliPage().must);
