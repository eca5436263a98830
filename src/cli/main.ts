/**
 * The `meshca` command.
 * @module
 */
import { serveCommand } from "./commands/serve.ts";

const USAGE = `Usage: meshca serve

  serve   run the CA; settings come from MESHCA_* variables and the file that MESHCA_CONFIG names

`;

const [command, ...rest] = process.argv.slice(2);
if (command === "serve" && rest.length === 0) process.exitCode = await serveCommand();
else {
  const asked = command === "help" || command === "--help" || command === "-h";
  (asked ? process.stdout : process.stderr).write(USAGE);
  // sysexits.h: EX_USAGE.
  process.exitCode = asked ? 0 : 64;
}
