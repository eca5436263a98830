/**
 * The command `meshca status`: the state of a server and its CA on one screen.
 * @module
 */
import { type Call, type Command, findEntry } from "../command.ts";
import type { Connection } from "../connection/connection.ts";
import { describeFailure, EXIT, Failure, usage } from "../output.ts";
import { readStatus } from "./status/facts.ts";
import { statusText } from "./status/text.ts";

/** Seconds between two looks. */
const INTERVAL = 2;

export const status: Command = {
  name: "status",
  summary: "show roots, replicas, store, expiries, and what is wrong",
  details:
    "Exits with 0 if nothing is wrong, else with 1. What is wrong is shown with the command that mends it. Without operator:read a part is hidden.",
  flags: [
    {
      ...{ name: "watch", value: null },
      help: "show it again until Ctrl-C; with --json a line each",
    },
    {
      ...{ name: "interval", value: "SECONDS" },
      help: `between two looks of --watch (${INTERVAL})`,
    },
  ],
  example: "meshca status --watch",
  ...{ connects: true, json: true },
  run(call) {
    const connection = call.connect();
    return call.flags.on("watch") ? watch(call, connection) : once(call, connection);
  },
};

async function once(call: Call, connection: Connection): Promise<number> {
  const now = new Date();
  const found = await readStatus(connection, now, hasCommand(call));
  call.print(found, (value) => statusText(value, now, call.terminal));
  return found.problems.length === 0 ? 0 : 1;
}

async function watch(call: Call, connection: Connection): Promise<number> {
  const { flags, terminal, json } = call;
  const text = flags.text("interval");
  const seconds = text === null ? INTERVAL : Number(text);
  if (!(seconds >= 0.1 && seconds <= 3600))
    throw usage("--interval must be a number of seconds from 0.1 to 3600");
  const stopped = new Promise<"stopped">((resolve) => {
    process.once("SIGINT", () => resolve("stopped"));
    process.once("SIGTERM", () => resolve("stopped"));
  });
  while (true) {
    const now = new Date();
    const look = readStatus(connection, now, hasCommand(call)).then(
      (found) => (json ? JSON.stringify(found) : statusText(found, now, terminal).trimEnd()),
      (error: unknown) => {
        // A server that is away may come back; a wrong flag stays wrong.
        if (!(error instanceof Failure) || error.exit === EXIT.usage) throw error;
        const reason = describeFailure(error);
        return json ? JSON.stringify({ server: connection.name, error: reason }) : reason;
      },
    );
    const shown = await Promise.race([look, stopped]);
    if (shown === "stopped") return 0;
    if (!json) terminal.clear();
    terminal.show(`${shown}\n`);
    const waited = await Promise.race([pause(seconds * 1000), stopped]);
    if (waited === "stopped") return 0;
  }
}

const pause = (ms: number) =>
  new Promise<"over">((resolve) => setTimeout(() => resolve("over"), ms));

const hasCommand = (call: Call) => (command: string) =>
  findEntry(call.program, command.split(" ")) !== null;
