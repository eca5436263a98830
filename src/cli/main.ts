/**
 * The `meshca` command.
 * @module
 */
import { VERSION } from "../version.ts";
import { FILES } from "./files.ts";
import { runProgram } from "./frame.ts";
import { PROGRAM } from "./program.ts";
import { endWithReader, Terminal } from "./terminal.ts";

endWithReader();

process.exitCode = await runProgram(process.argv.slice(2), {
  program: PROGRAM,
  version: VERSION,
  environment: process.env,
  terminal: new Terminal(process, process.env),
  files: FILES,
});
