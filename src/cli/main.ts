/**
 * The `meshca` command.
 * @module
 */
import { parseArgs } from "node:util";
import { healthcheckCommand } from "./commands/healthcheck.ts";
import { serveCommand } from "./commands/serve.ts";
import { MAX_WORKERS, workersCommand } from "./commands/workers.ts";
import { EXIT } from "./output.ts";

const USAGE = `Usage: meshca serve [--workers N]
       meshca healthcheck

  serve         run the CA; settings come from MESHCA_* variables and the file that MESHCA_CONFIG names
                --workers N   N processes behind one port, 1 to ${MAX_WORKERS}
  healthcheck   ask the server with the same settings on this machine whether it answers; exits with 0 or 1

`;

/** Serves with these arguments. @returns the exit code, or null if they are invalid */
async function serve(args: readonly string[]): Promise<number | null> {
  let options: { workers?: string | undefined; worker?: string | undefined };
  try {
    options = parseArgs({
      args: [...args],
      options: { workers: { type: "string" }, worker: { type: "string" } },
    }).values;
  } catch {
    return null;
  }
  const number = (text: string) => (/^\d{1,2}$/.test(text) ? Number(text) : -1);
  // `--worker` is for processes that `workersCommand` starts.
  if (options.worker !== undefined) return serveCommand(number(options.worker));
  if (options.workers === undefined) return serveCommand();
  const count = number(options.workers);
  return count >= 1 && count <= MAX_WORKERS ? workersCommand(count) : null;
}

const [command, ...rest] = process.argv.slice(2);
const code =
  command === "serve"
    ? await serve(rest)
    : command === "healthcheck" && rest.length === 0
      ? await healthcheckCommand()
      : null;
if (code !== null) process.exitCode = code;
else {
  const asked = command === "help" || command === "--help" || command === "-h";
  (asked ? process.stdout : process.stderr).write(USAGE);
  process.exitCode = asked ? 0 : EXIT.usage;
}
