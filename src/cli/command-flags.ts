/**
 * All flags of a command: its own, and those that many commands have.
 * @module
 */
import type { Command } from "./command.ts";
import { CONNECTION_FLAGS } from "./connection/connection-flags.ts";
import type { Flag } from "./flags.ts";

const JSON_FLAG: Flag = { name: "json", value: null, help: "print JSON" };
const YES_FLAG: Flag = { name: "yes", value: null, help: "do it without a question" };

/** All flags of a command, its own first, then the shared ones. */
export function flagsOf(command: Command): readonly Flag[] {
  return [
    ...(command.flags ?? []),
    ...(command.json === true ? [JSON_FLAG] : []),
    ...(command.confirms === true ? [YES_FLAG] : []),
    ...(command.connects === true ? CONNECTION_FLAGS : []),
  ];
}
