/**
 * The tree of commands. A new command is a file in commands/ and a line here.
 * @module
 */
import type { Group } from "./command.ts";
import { agent } from "./commands/agent-command.ts";
import { healthcheck } from "./commands/healthcheck-command.ts";
import { serve } from "./commands/serve-command.ts";

export const PROGRAM: Group = {
  name: "meshca",
  summary: "the certificate authority of a service mesh, and the commands of its operator",
  commands: [serve, agent, healthcheck],
};
