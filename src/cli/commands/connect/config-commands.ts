/**
 * The commands `meshca connect ca get-config` and `set-config`.
 * @module
 */
import type { Command } from "../../command.ts";
import { FILES } from "../../files.ts";
import { usage } from "../../output.ts";
import { configText, fetchConfig, putConfig, readConfigText } from "./ca-config.ts";

export const getConfig: Command = {
  name: "get-config",
  summary: "show the configuration of the CA",
  details: "The text is Consul's. Secrets are left out.",
  example: "meshca connect ca get-config > ca.json",
  ...{ connects: true, json: true },
  async run(call) {
    const config = await fetchConfig(call.connect());
    // Consul's text is JSON already.
    call.terminal.write(configText(config));
    return 0;
  },
};

export const FORCE_FLAG = {
  name: "force-without-cross-signing",
  value: null,
  help: "change the root even if the present one cannot cross-sign the new one; clients that have not fetched the new root refuse new leaves",
} as const;

export const setConfig: Command = {
  name: "set-config",
  summary: "change the configuration of the CA",
  details:
    "Rotates if the key or the root changes. With a ModifyIndex in the file the change is refused if the configuration has been changed since.",
  flags: [
    {
      ...{ name: "config-file", value: "FILE", file: true },
      help: 'configuration in JSON, as get-config prints it; "-" reads the standard input',
    },
    FORCE_FLAG,
  ],
  example: "meshca connect ca set-config -config-file ca.json",
  ...{ connects: true, json: true },
  async run(call) {
    const { flags, terminal } = call;
    const path = flags.text("config-file") ?? "";
    const connection = call.connect();
    if (path === "") throw usage("The -config-file flag is required");
    const input = path === "-" ? await terminal.readInput() : null;
    const config = readConfigText(path, (name) => input ?? FILES.readText(name));
    const { abandoned } = await terminal.progress(
      "Waiting for the server to change the configuration",
      putConfig(connection, config, flags.on(FORCE_FLAG.name)),
    );
    call.print({ updated: true, abandonedRoots: abandoned }, () => "Configuration updated!\n");
    if (abandoned.length > 0)
      terminal.note(
        `Warning: these roots were abandoned, and clients that trust only them refuse new leaves: ${abandoned.join(", ")}`,
      );
    return 0;
  },
};
