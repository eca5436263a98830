/**
 * Runs `meshca` as a process, with pipes or on a terminal.
 * @module
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "../fixtures/root.ts";

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Environment = Readonly<Record<string, string>>;

const environmentOf = (environment: Environment) => {
  const { PATH = "", HOME = "" } = process.env;
  return { PATH, HOME, ...environment };
};

const MAIN = join(ROOT, "src/cli/main.ts");

/**
 * With pipes. @param input of its standard input @param command the runtime with its flags
 * @param cwd the folder in which it runs
 */
export function meshca(
  args: readonly string[],
  environment: Environment = {},
  input = "",
  command: readonly string[] = [process.execPath],
  cwd: string = ROOT,
): Promise<Ran> {
  const [program = "", ...flags] = command;
  const child = spawn(program, [...flags, MAIN, ...args], {
    cwd,
    env: environmentOf(environment),
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  // A command that reads no input may have ended.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
}

export interface OnTerminal {
  /** The folder in which it runs. @default that of the project */
  readonly cwd?: string;
  /** @default 80 */
  readonly columns?: number;
  /** What is typed once the screen has this text often enough, in turn. @default once */
  readonly type?: readonly (readonly [after: string, keys: string, times?: number])[];
}

/** On a terminal of its own, by script(1). @returns what the terminal shows, and the exit code */
export function meshcaOnTerminal(
  args: readonly string[],
  environment: Environment = {},
  { columns = 80, type = [], cwd = ROOT }: OnTerminal = {},
): Promise<{ readonly code: number | null; readonly screen: string }> {
  const quoted = [process.execPath, MAIN, ...args]
    .map((word) => `'${word.replaceAll("'", "'\\''")}'`)
    .join(" ");
  const child = spawn(
    "script",
    [
      "--quiet",
      "--return",
      "--command",
      `stty cols ${columns} rows 50; exec ${quoted}`,
      "/dev/null",
    ],
    { cwd, env: { TERM: "xterm", ...environmentOf(environment) } },
  );
  const pending = [...type];
  let screen = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    screen += chunk;
    const [next] = pending;
    if (next === undefined || screen.split(next[0]).length - 1 < (next[2] ?? 1)) return;
    pending.shift();
    child.stdin.write(next[1]);
  });
  return new Promise((resolve) =>
    child.once("close", (code) => resolve({ code, screen: screen.replaceAll("\r\n", "\n") })),
  );
}

/** Without the codes of colours. */
export const plain = (text: string): string =>
  text.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, "g"), "");
