/**
 * `meshca agent`: keeps certificates of workloads fresh until it is stopped by a signal, or gets
 * them once.
 * @module
 */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { Agent, type AgentSystem } from "../../agent/agent.ts";
import { getOnce } from "../../agent/once.ts";
import { notifierOf } from "../../agent/sd-notify.ts";
import { type AgentFlags, readAgentSettings } from "../../config/agent-settings.ts";
import type { AgentSettings } from "../../config/agent-types.ts";
import { processUsage, runtimeText, systemRandom } from "../../entry/platform.ts";
import { readRegularFile } from "../../entry/regular-file.ts";
import { runtimeOf } from "../../entry/runtime.ts";
import { processClock } from "../../entry/system.ts";
import { Logger } from "../../telemetry/logger.ts";
import { VERSION } from "../../version.ts";
import { AGENT_HELP, parseAgentFlags } from "../agent-flags.ts";
import { describe, EXIT, exitCode } from "../output.ts";
import { stopAsked } from "./serve.ts";

/** How long a process that closed everything may take to end, in milliseconds. */
const LINGER_MS = 100;

/** Runs the agent with these arguments. @returns the exit code */
export async function agentCommand(args: readonly string[]): Promise<number> {
  const { flags, once, help, faults } = parseAgentFlags(args);
  if (help) {
    process.stdout.write(AGENT_HELP);
    return 0;
  }
  if (faults.length > 0) {
    const lines = [...faults, "meshca agent --help shows all flags"];
    process.stderr.write(lines.map((line) => `${line}\n`).join(""));
    return EXIT.usage;
  }
  try {
    const isBun = runtimeOf(process.versions) === "bun";
    const settings = settingsOf(flags);
    const log = new Logger({
      level: settings.logLevel,
      clock: processClock,
      write: (line) => process.stdout.write(line),
      format: process.stdout.isTTY ? "text" : "json",
    });
    return once ? await runOnce(settings, log) : await run(settings, flags, log, isBun);
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`);
    return exitCode(error);
  }
}

function settingsOf(flags: AgentFlags): AgentSettings {
  return readAgentSettings(flags, process.env, { readFile: readRegularFile, resolve });
}

function systemOf(log: Logger, notifier: AgentSystem["notifier"]): AgentSystem {
  return {
    ...{ clock: processClock, random: systemRandom, log, notifier, version: VERSION },
    ...{ runtime: runtimeText(), usage: processUsage, nodeName: hostname() },
  };
}

/** Serves until a signal. */
async function run(
  settings: AgentSettings,
  flags: AgentFlags,
  log: Logger,
  isBun: boolean,
): Promise<number> {
  // First, so that a stop during the start is not lost.
  const stopped = stopAsked();
  process.on("SIGHUP", () => reload(settings, flags, log));
  const { pid, ppid, env } = process;
  const notifier = notifierOf(env, { pid, ppid, isBun }, { clock: processClock, log });
  const agent = await Agent.create(settings, systemOf(log, notifier));
  log.info("Starting the agent", { version: VERSION, servers: settings.servers });
  try {
    await agent.start();
    log.info("Stopping", { reason: await stopped });
  } finally {
    await agent.close();
  }
  log.info("Stopped");
  // An open connection may keep the process alive.
  setTimeout(() => process.exit(), LINGER_MS).unref();
  return 0;
}

/** The exit code of each outcome of `--once`. */
const ONCE_CODES = {
  ok: 0,
  refused: EXIT.permission,
  rejected: EXIT.config,
  late: EXIT.temporary,
  hook: EXIT.unavailable,
} as const;

async function runOnce(settings: AgentSettings, log: Logger): Promise<number> {
  const stopping = new AbortController();
  void stopAsked().then(() => stopping.abort());
  const { kind, reasons } = await getOnce(settings, systemOf(log, null), stopping.signal);
  const what =
    kind === "hook"
      ? "The certificates were written, and a command after it failed"
      : "Failed to get the certificates";
  if (kind !== "ok")
    process.stderr.write([`${what}:`, ...reasons.map((reason) => `  ${reason}`), ""].join("\n"));
  setTimeout(() => process.exit(), LINGER_MS).unref();
  return ONCE_CODES[kind];
}

/** The files of the token, the JWT and the CA are read when they are needed. */
function reload(before: AgentSettings, flags: AgentFlags, log: Logger): void {
  try {
    const after = settingsOf(flags);
    log.setLevel(after.logLevel);
    const changed = (Object.keys(after) as (keyof AgentSettings)[]).filter(
      (name) => name !== "logLevel" && JSON.stringify(after[name]) !== JSON.stringify(before[name]),
    );
    log.info(
      "Reloaded the log level after SIGHUP; the files of tokens and CAs are read when they are used",
      {
        logLevel: after.logLevel,
        ...(changed.length > 0 ? { needRestart: changed } : {}),
      },
    );
  } catch (error) {
    log.error("Failed to reload the settings after SIGHUP; keeping the previous settings", {
      reason: describe(error),
    });
  }
}
