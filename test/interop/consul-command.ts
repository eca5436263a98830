/**
 * Runs Consul's own command line, for comparisons with ours.
 * @module
 */
import { execFile } from "node:child_process";
import type { Ran } from "../cli/run.ts";
import type { ProgramCommand } from "./clients.ts";

/** @param consul the program that clients.ts builds @param more its environment, except PATH */
export function runConsul(
  [program, ...first]: ProgramCommand,
  args: readonly string[],
  more: Readonly<Record<string, string>>,
): Promise<Ran> {
  return new Promise((resolve) =>
    execFile(
      program,
      [...first, ...args],
      { env: { PATH: process.env.PATH ?? "", ...more } },
      (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    ),
  );
}
