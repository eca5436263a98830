/**
 * The `meshca` command.
 * @module
 */
import { parseArgs } from "node:util";
import { nearest } from "../core/nearest.ts";
import { agentCommand } from "./commands/agent.ts";
import { healthcheckCommand } from "./commands/healthcheck.ts";
import { serveCommand } from "./commands/serve.ts";
import { MAX_WORKERS, workersCommand } from "./commands/workers.ts";
import { EXIT } from "./output.ts";

const USAGE = `Usage: meshca serve [--workers N]
       meshca agent [FLAG ...]
       meshca healthcheck [--agent ADDRESS] [--ready]

  serve         run the CA; settings come from MESHCA_* variables and the file that MESHCA_CONFIG names
                --workers N   N processes behind one port, 1 to ${MAX_WORKERS}
  agent         keep the certificate of a service valid and hand it to the service; see meshca agent --help
  healthcheck   ask the server with the same settings on this machine whether it answers; exits with 0 or 1
                --agent ADDRESS   ask an agent by its --listen: HOST:PORT or unix:PATH
                --ready           whether it is ready, and not only whether it answers

`;

const COMMANDS = ["serve", "agent", "healthcheck", "help"];

function unknownCommand(command: string): string {
  const near = nearest(command, COMMANDS);
  const advice = near === null ? "" : `; did you mean ${near}?`;
  return `${JSON.stringify(command)} is not a command of meshca${advice}\n\n`;
}

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

/** Checks with these arguments. @returns the exit code, or null if they are invalid */
async function healthcheck(args: readonly string[]): Promise<number | null> {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { agent: { type: "string" }, ready: { type: "boolean" } },
    });
    return healthcheckCommand(process.env, values);
  } catch {
    return null;
  }
}

/** Runs a command. @returns the exit code, or null if the arguments are invalid */
async function run(command: string | undefined, args: readonly string[]): Promise<number | null> {
  switch (command) {
    case "serve":
      return serve(args);
    case "agent":
      return agentCommand(args);
    case "healthcheck":
      return healthcheck(args);
    default:
      return null;
  }
}

const [command, ...rest] = process.argv.slice(2);
const code = await run(command, rest);
if (code !== null) process.exitCode = code;
else if (command === "help" || command === "--help" || command === "-h")
  process.stdout.write(USAGE);
else {
  const isUnknown = command !== undefined && !COMMANDS.includes(command);
  process.stderr.write(`${isUnknown ? unknownCommand(command) : ""}${USAGE}`);
  process.exitCode = EXIT.usage;
}
