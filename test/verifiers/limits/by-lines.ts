/**
 * Processes that are asked by a line and answer by one, one at a time.
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export class ByLines {
  /** The port that it listens on, on 127.0.0.1. */
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, port: number) {
    this.#child = child;
    this.#lines = lines;
    this.port = port;
  }

  /** @throws {Error} if it ends before it listens */
  static async start(
    [program, ...args]: readonly [string, ...string[]],
    env: Readonly<Record<string, string>> = {},
  ): Promise<ByLines> {
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, ...env },
    });
    if (child.stdout === null) throw new TypeError("A peer has no pipes");
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first: string = (await lines.next()).value ?? "";
    const port = /^port (\d+)$/.exec(first)?.[1];
    if (port === undefined) throw new Error(`${program} did not start: ${first}`);
    return new ByLines(child, lines, Number(port));
  }

  /**
   * Sends a line.
   * @returns the answer without its first word, or null for `ok`. @throws {Error} if the process ends
   */
  async ask(line: string): Promise<string | null> {
    this.#child.stdin?.write(`${line}\n`);
    const answer = await this.#lines.next();
    if (answer.done === true) throw new Error(`A peer ended at: ${line}`);
    const text = answer.value.slice(answer.value.indexOf(" ") + 1);
    return text === "ok" ? null : text;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}
