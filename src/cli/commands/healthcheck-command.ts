/**
 * The command `meshca healthcheck`.
 * @module
 */
import type { Command } from "../command.ts";

export const healthcheck: Command = {
  name: "healthcheck",
  summary: "ask the server with the same settings on this machine whether it answers",
  details: "Exits with 0 or 1; the reason is on stderr. For the health check of a container.",
  flags: [
    {
      ...{ name: "agent", value: "ADDRESS" },
      help: "ask an agent by its --listen: HOST:PORT or unix:PATH",
    },
    {
      ...{ name: "ready", value: null },
      help: "whether it is ready, and not only whether it answers",
    },
  ],
  example: "meshca healthcheck --ready",
  async run({ flags, environment }) {
    const { healthcheckCommand } = await import("./healthcheck.ts");
    return healthcheckCommand(environment, {
      agent: flags.text("agent") ?? undefined,
      ready: flags.on("ready"),
    });
  },
};
