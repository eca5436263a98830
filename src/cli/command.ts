/**
 * What a command is: its place in the tree, its flags, and what it is given when it runs. Adding a
 * command is a file that exports one, and a line in program.ts.
 * @module
 */
import type { Connection } from "./connection/connection.ts";
import type { Environment, Flag, Flags } from "./flags.ts";
import type { Terminal } from "./terminal.ts";

export interface Command {
  readonly name: string;
  /** One line of the help of its group: a verb first, no period. */
  readonly summary: string;
  /** Paragraphs of its own help. */
  readonly details?: string;
  /** Arguments in the form of the help: `<file>`, `[name]`, `<file...>`. */
  readonly arguments?: string;
  readonly flags?: readonly Flag[];
  /** One line that can be typed. */
  readonly example: string;
  /** Calls the server: has the flags of the connection. */
  readonly connects?: true;
  /** Prints a value: has `--json`. */
  readonly json?: true;
  /** Asks before it changes something that cannot be undone: has `--yes`. */
  readonly confirms?: true;
  /** For the completion of shells: its arguments are paths of files. */
  readonly files?: true;
  /** For the completion of shells: the words that its argument can be. */
  readonly choices?: readonly string[];
  /** Not in the help. */
  readonly hidden?: true;
  /** Reads its flags itself, from `call.raw`, in the form `--name=value`. */
  readonly readsFlags?: true;
  /** Runs until a signal, and writes a log. */
  readonly serves?: true;
  /** @returns the exit code @throws {Failure} @throws {CaError} @throws {ClientError} */
  run(call: Call): Promise<number>;
}

export interface Group {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly Entry[];
}

export type Entry = Command | Group;

export const isGroup = (entry: Entry): entry is Group => "commands" in entry;

/** One run of a command. */
export interface Call {
  readonly flags: Flags;
  /** The arguments that are not flags. */
  readonly args: readonly string[];
  /** Everything after the command's name, flags in the form `--name=value`. */
  readonly raw: readonly string[];
  readonly environment: Environment;
  readonly terminal: Terminal;
  /** The whole tree, for the completion. */
  readonly program: Group;
  /** Whether `--json` is given. */
  readonly json: boolean;
  /** The server that flags and environment name. @throws {Failure} if they contradict each other */
  connect(): Connection;
  /** A server at another address than that of flags and environment, as they verify it. */
  connectTo(address: string): Connection;
  /** Writes the value as JSON with `--json`, else the text that is made of it. */
  print<T>(value: T, text: (value: T) => string): void;
  /**
   * Asks, unless `--yes` is given. @throws {Failure} if the answer is not yes, or if nobody can be
   * asked
   */
  confirm(question: string): Promise<void>;
}

/** The entry that these words lead to from a group; null if there is none. */
export function findEntry(program: Group, words: readonly string[]): Entry | null {
  let entry: Entry = program;
  for (const word of words) {
    const next: Entry | undefined = isGroup(entry)
      ? entry.commands.find(({ name }) => name === word)
      : undefined;
    if (next === undefined) return null;
    entry = next;
  }
  return entry;
}
