/**
 * Where a command reads and writes: colour, width and prompts on a terminal only.
 * @module
 */
import { createInterface } from "node:readline";
import { styleText } from "node:util";
import type { Environment } from "./flags.ts";
import { EXIT, Failure } from "./output.ts";

/** A stream that is written to: of process, or of a test. */
interface Output {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export interface Streams {
  readonly stdin: NodeJS.ReadStream | (NodeJS.ReadableStream & { readonly isTTY?: boolean });
  readonly stdout: Output;
  readonly stderr: Output;
}

export type Style = "bold" | "dim" | "red" | "yellow" | "green";

/** The width of text that is not on a terminal. */
const WIDTH = 80;
const ESCAPE = "\u001b";
/**
 * What a terminal would act on or hide: control characters but tabs and line breaks, and the marks of
 * Unicode that change the order of text (Unicode 16 section 23.2). A text of a server or a file may
 * have them. The codes that `style` writes are left.
 */
const UNSAFE = new RegExp(
  `${ESCAPE}\\[(?:1|2|22|3[1-3]|39)m|(?![\\t\\n])[\\p{Cc}\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]`,
  "gu",
);
/** After how long progress is shown, in milliseconds. */
const PROGRESS_MS = 1000;

export class Terminal {
  readonly #streams: Streams;
  readonly #environment: Environment;

  constructor(streams: Streams, environment: Environment) {
    this.#streams = streams;
    this.#environment = environment;
  }

  /** Whether the output is on a terminal. */
  get isTerminal(): boolean {
    return this.#streams.stdout.isTTY === true;
  }

  /** Whether the output is coloured: on a terminal, unless NO_COLOR is set (no-color.org). */
  get isColoured(): boolean {
    const { NO_COLOR = "", TERM = "" } = this.#environment;
    return this.isTerminal && NO_COLOR === "" && TERM !== "dumb";
  }

  /** Columns of the output. */
  get width(): number {
    const { columns } = this.#streams.stdout;
    return this.isTerminal && columns !== undefined && columns > 0 ? columns : WIDTH;
  }

  /** The text in a style if the output is coloured. */
  style(style: Style, text: string): string {
    return this.isColoured ? styleText(style, text, { validateStream: false }) : text;
  }

  /** Writes data to the output, as it is if it goes to a file or a pipe. */
  write(data: string): void {
    this.#streams.stdout.write(this.isTerminal ? printable(data) : data);
  }

  /** Writes a text for a person, with its line breaks, to the output. */
  show(text: string): void {
    this.#streams.stdout.write(printable(text));
  }

  /** Writes a line for a person, which is not part of the output, to stderr. */
  note(line: string): void {
    this.#streams.stderr.write(`${printable(line)}\n`);
  }

  /** Clears the screen, if there is one. */
  clear(): void {
    if (this.isTerminal) this.#streams.stdout.write("\u001b[H\u001b[2J\u001b[3J");
  }

  /** The standard input up to its end, in UTF-8. */
  async readInput(): Promise<string> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.#streams.stdin)
      chunks.push(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk);
    return new TextDecoder().decode(Buffer.concat(chunks));
  }

  /**
   * Runs something and shows on the terminal of stderr what goes on if it takes longer than a second.
   * @param what a participle phrase: `Waiting for the new root`
   */
  async progress<T>(what: string, work: Promise<T>): Promise<T> {
    const { stderr } = this.#streams;
    if (stderr.isTTY !== true) return work;
    let shown = false;
    const started = performance.now();
    const timer = setInterval(() => {
      shown = true;
      const seconds = Math.round((performance.now() - started) / 1000);
      stderr.write(`\r\u001b[K${what}... ${seconds} s`);
    }, PROGRESS_MS);
    try {
      return await work;
    } finally {
      clearInterval(timer);
      if (shown) stderr.write("\r\u001b[K");
    }
  }

  /**
   * Asks a question that has to be answered with `y` or `yes`.
   * @throws {Failure} if it is answered otherwise, Ctrl-C is pressed, or there is no terminal
   */
  async confirm(question: string): Promise<void> {
    const answer = await this.ask(`${question} [y/N] `, "give --yes to do it without a question");
    if (!/^\s*y(?:es)?\s*$/i.test(answer)) throw new Failure(1, "Nothing was changed");
  }

  /**
   * Asks for a line.
   * @param instead what to do where there is no terminal: `give --yes ...`
   * @returns the line, empty at the end of the input
   * @throws {Failure} if Ctrl-C is pressed, or there is no terminal
   */
  ask(question: string, instead: string): Promise<string> {
    const { stdin, stderr } = this.#streams;
    if (stdin.isTTY !== true || stderr.isTTY !== true)
      return Promise.reject(
        new Failure(EXIT.usage, `Cannot ask without a terminal, nothing was changed; ${instead}`),
      );
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const prompt = createInterface({ input: stdin, output: process.stderr, terminal: true });
    prompt.on("SIGINT", () => {
      process.stderr.write("\n");
      reject(new Failure(EXIT.interrupted, "Interrupted; nothing was changed"));
      prompt.close();
    });
    prompt.on("close", () => resolve(""));
    prompt.question(printable(question), (line) => {
      resolve(line);
      prompt.close();
    });
    return promise;
  }
}

/** A text with what a terminal would act on written as escapes: `\\u001b`. */
export const printable = (text: string): string =>
  text.replaceAll(UNSAFE, (found) => (found.length > 1 ? found : escapeOf(found)));

const escapeOf = (character: string): string =>
  `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

type StreamError = Error & { readonly code?: string };

const endProcess = (error: StreamError): void => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
};

const goOn = (error: StreamError): void => {
  if (error.code !== "EPIPE") throw error;
};

/** From now on a reader that closes the pipe of the output ends this process quietly. */
export function endWithReader(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", endProcess);
}

/**
 * From now on this process goes on if the reader of its output closes the pipe, for a server whose
 * log collector is restarted: the lines are lost.
 */
export function outliveReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.off("error", endProcess);
    stream.on("error", goOn);
  }
}
