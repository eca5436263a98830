/**
 * The hook of a folder from the agent's settings.
 * @module
 */
import type { HookSettings } from "../config/agent-types.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Hook } from "./hook.ts";
import { HookCommand } from "./hook-command.ts";
import { HookSignal } from "./hook-signal.ts";

/** @throws {ConfigError} if the command cannot be one */
export function hookOf(settings: HookSettings, clock: Clock): Hook {
  return settings.kind === "command"
    ? new HookCommand({ words: settings.command, limitMs: settings.timeoutMs, clock })
    : new HookSignal(settings.pidFile, settings.signal);
}
