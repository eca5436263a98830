/**
 * Runs a command of the tree: commander finds the command, checks its flags and arguments and writes
 * the help; this file gives a command what it works with, and turns errors into exit codes.
 * @module
 */
import { Command as Commander, CommanderError, type Help, Option } from "commander";
import { nearest } from "../core/nearest.ts";
import { normalise } from "./arguments.ts";
import { type Call, type Command, type Entry, type Group, isGroup } from "./command.ts";
import { flagsOf } from "./command-flags.ts";
import { type Files, readServerOptions } from "./connection/address.ts";
import { Connection } from "./connection/connection.ts";
import { type Flag, Flags } from "./flags.ts";
import { describeFailure, EXIT, exitCode } from "./output.ts";
import { outliveReader, type Terminal } from "./terminal.ts";

export interface FrameOptions {
  readonly program: Group;
  readonly version: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
  readonly files: Files;
}

const HELP_FLAG: Flag = { name: "help", value: null, help: "this text" };
const VERSION_FLAG: Flag = { name: "version", value: null, help: "print the version" };

/** A command found by its words, or the group where they end. */
interface Found {
  readonly entry: Entry;
  /** The words with which it is called, of the program first. */
  readonly path: readonly string[];
  /** What follows the words. */
  readonly rest: readonly string[];
}

function find(program: Group, args: readonly string[]): Found {
  let entry: Entry = program;
  const path = [program.name];
  let i = 0;
  while (isGroup(entry)) {
    const next: Entry | undefined = entry.commands.find(({ name }) => name === args[i]);
    if (next === undefined) break;
    path.push(next.name);
    entry = next;
    i++;
  }
  return { entry, path, rest: args.slice(i) };
}

/** Runs the command that the arguments name. @returns the exit code */
export async function runProgram(args: readonly string[], options: FrameOptions): Promise<number> {
  const { program, terminal } = options;
  const { entry, path, rest } = find(program, helpFirst(args));
  const called = path.join(" ");
  const flags = isGroup(entry)
    ? [HELP_FLAG, ...(entry === program ? [VERSION_FLAG] : [])]
    : [...flagsOf(entry), HELP_FLAG];
  const normal = normalise(rest, flags);
  const fail = (faults: readonly string[]) => usageError(terminal, called, entry, faults);
  if (normal.faults.length > 0) return fail(normal.faults);
  let code: number = EXIT.usage;
  const root = build(options, (command, flags, positional) => {
    code = 0;
    return runCommand(command, { ...options, flags, positional, raw: normal.args }).then((exit) => {
      code = exit;
    });
  });
  try {
    await root.parseAsync([...path.slice(1), ...normal.args], { from: "user" });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === "commander.helpDisplayed" || error.code === "commander.version") return 0;
    // A group without a command shows its help as an error.
    if (error.code === "commander.help") return EXIT.usage;
    return fail([faultText(error, { entry, path, rest: normal.args }, flags)]);
  }
}

/** `help a b` is `a b --help`, as in commander and git. */
function helpFirst(args: readonly string[]): readonly string[] {
  return args[0] === "help" ? [...args.slice(1), "--help"] : args;
}

function usageError(
  terminal: Terminal,
  called: string,
  entry: Entry,
  faults: readonly string[],
): number {
  for (const fault of faults) terminal.note(fault);
  terminal.note(`${called} --help shows ${isGroup(entry) ? "all commands" : "all flags"}`);
  return EXIT.usage;
}

/** What is wrong with the arguments, in our words. */
function faultText(
  error: CommanderError,
  { entry, path, rest }: Found,
  flags: readonly Flag[],
): string {
  const called = path.join(" ");
  // The first argument that commander did not take.
  const word = /'([^']*)'/s.exec(error.message)?.[1] ?? "";
  switch (error.code) {
    case "commander.unknownOption": {
      const known = flags.filter(({ hidden }) => hidden !== true).map(({ name }) => `--${name}`);
      const name = word.split("=")[0] ?? word;
      const near = nearest(name.replace(/^-?-/, "--"), known);
      return `${name} is not a flag of ${called}${near === null ? "" : `; did you mean ${near}?`}`;
    }
    case "commander.unknownCommand":
      return unknownCommand(word, entry, called);
    case "commander.excessArguments":
      if (isGroup(entry)) return unknownCommand(firstWord(rest), entry, called);
      return entry.arguments === undefined
        ? `${JSON.stringify(firstWord(rest))} does not belong to a flag of ${called}`
        : `${called} takes only ${entry.arguments}`;
    case "commander.missingArgument":
      return `${called} needs <${word}>`;
    default:
      return error.message.replace(/^error: /, "");
  }
}

const firstWord = (rest: readonly string[]): string =>
  rest.find((arg) => !arg.startsWith("-") || arg === "-") ?? "";

function unknownCommand(word: string, entry: Entry, called: string): string {
  const known = isGroup(entry)
    ? entry.commands.flatMap((one) => (isHidden(one) ? [] : [one.name]))
    : [];
  const near = nearest(word, known);
  return `${JSON.stringify(word)} is not a command of ${called}${near === null ? "" : `; did you mean ${near}?`}`;
}

const isHidden = (entry: Entry): boolean => !isGroup(entry) && entry.hidden === true;

/** Columns of a description below which a help text is not wrapped further. */
const MIN_WRAP = 20;
/** Columns that a description has at least next to its flag; else it is below. */
const MIN_BESIDE = 34;

/** A flag or a command of a help text; on a narrow terminal its description is on lines below. */
function formatHelpItem(term: string, termWidth: number, text: string, helper: Help): string {
  const width = helper.helpWidth ?? 80;
  if (text === "") return `  ${term}`;
  const isBeside = width - termWidth - 4 >= MIN_BESIDE;
  const indent = " ".repeat(isBeside ? termWidth + 4 : 6);
  const lines = helper
    .boxWrap(text, width - indent.length)
    .split("\n")
    .join(`\n${indent}`);
  return isBeside ? `  ${term.padEnd(termWidth + 2)}${lines}` : `  ${term}\n${indent}${lines}`;
}

type Runner = (command: Command, flags: Flags, positional: readonly string[]) => Promise<void>;

/** The tree as commander has it. */
function build({ program, version, terminal }: FrameOptions, run: Runner): Commander {
  const add = (entry: Entry): Commander => {
    const commander = new Commander(entry.name)
      .summary(entry.summary)
      .helpOption("-h, --help", "this text")
      .helpCommand(false)
      .exitOverride()
      .configureHelp({ minWidthToWrap: MIN_WRAP, formatItem: formatHelpItem })
      .configureOutput({
        writeOut: (text) => terminal.write(text),
        // Our own texts are written instead of commander's; the help of a group is not one of them.
        writeErr: (text) => {
          if (!text.startsWith("error:")) terminal.note(text.trimEnd());
        },
        getOutHelpWidth: () => terminal.width,
        getErrHelpWidth: () => terminal.width,
        outputError: () => undefined,
      });
    if (isGroup(entry)) {
      commander.description(sentence(entry.summary));
      for (const child of entry.commands)
        commander.addCommand(add(child), { hidden: isHidden(child) });
      return commander;
    }
    return addCommand(commander, entry, run);
  };
  return add(program).version(version, "-V, --version", "print the version");
}

function addCommand(commander: Commander, command: Command, run: Runner): Commander {
  commander.description(
    `${sentence(command.summary)}${command.details === undefined ? "" : `\n\n${command.details}`}`,
  );
  if (command.arguments !== undefined) commander.arguments(command.arguments);
  const flags = flagsOf(command);
  for (const flag of flags) commander.addOption(optionOf(flag));
  commander.optionsGroup?.("Options:");
  commander.addHelpText("after", `\nExample:\n  ${command.example}`);
  if (command.readsFlags === true) commander.allowUnknownOption().allowExcessArguments();
  return commander.action(async () => {
    const values = new Map<string, readonly string[]>();
    const given: Readonly<Record<string, unknown>> = commander.opts();
    for (const { name } of flags) {
      const value = given[optionKey(name)];
      if (Array.isArray(value)) values.set(name, value.map(String));
      else if (value === true) values.set(name, ["true"]);
    }
    await run(command, new Flags(flags, values), commander.args);
  });
}

function optionOf(flag: Flag): Option {
  const option = new Option(
    flag.value === null ? `--${flag.name}` : `--${flag.name} <${flag.value}>`,
    flag.help,
  );
  // commander takes --no-X for the negation of --X, which is on by default.
  option.negate = false;
  option.attributeName = () => optionKey(flag.name);
  if (flag.value !== null)
    option.argParser((value: string, before: unknown) => [
      ...(Array.isArray(before) ? before : []),
      value,
    ]);
  return option.hideHelp(flag.hidden === true);
}

/** Without commander's camel case, and never the name of a property of every object. */
const optionKey = (name: string): string => `flag-${name}`;

/** A summary as the first sentence of a help text. */
const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

interface Run extends FrameOptions {
  readonly flags: Flags;
  readonly positional: readonly string[];
  readonly raw: readonly string[];
}

function connect({ flags, environment, files, terminal }: Run, address: string | null): Connection {
  return new Connection(readServerOptions(flags, environment, files, address), (line) =>
    terminal.note(line),
  );
}

async function runCommand(command: Command, run: Run): Promise<number> {
  const { terminal, flags, environment } = run;
  const json = command.json === true && flags.on("json");
  const call: Call = {
    ...{ flags, args: run.positional, raw: run.raw, environment, terminal, json },
    program: run.program,
    connect: () => connect(run, null),
    connectTo: (address) => connect(run, address),
    print: (value, text) => {
      if (json) terminal.write(`${JSON.stringify(value, null, 2)}\n`);
      else terminal.show(text(value));
    },
    confirm: async (question) => {
      if (!flags.on("yes")) await terminal.confirm(question);
    },
  };
  if (command.serves === true) outliveReader();
  try {
    return await command.run(call);
  } catch (error) {
    terminal.note(describeFailure(error));
    return exitCode(error);
  }
}
