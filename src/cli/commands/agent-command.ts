/**
 * The command `meshca agent`.
 * @module
 */
import {
  AGENT_SOURCES,
  agentVariable,
  CONFIG_FLAG,
  CONFIG_VARIABLE,
} from "../../config/agent-sources.ts";
import type { Command } from "../command.ts";
import type { Flag } from "../flags.ts";

const flags: readonly Flag[] = [
  ...AGENT_SOURCES.flatMap(({ flag, key, value, help, many }): Flag[] =>
    flag === null
      ? []
      : [
          {
            ...{ name: flag, value, help, variables: [agentVariable(key)] },
            ...(many === true ? { many } : {}),
            ...(value === "FILE" || value === "PATH" ? { file: true } : {}),
          },
        ],
  ),
  {
    ...{ name: CONFIG_FLAG, value: "FILE", file: true, variables: [CONFIG_VARIABLE] },
    help: "configuration file, JSON or HCL: several identities, sockets and folders",
  },
  {
    ...{ name: "once", value: null },
    help: "get every certificate, write the folders, run their commands, and exit",
  },
];

export const agent: Command = {
  name: "agent",
  summary: "keep the certificate of a service valid, and hand it to the service",
  details:
    "On a socket, in a folder, by HTTP. The private key stays on this machine. Each flag is also a variable: --ca-file is MESHCA_AGENT_CA_FILE. A default is in parentheses.",
  flags,
  example: 'meshca agent --service web --dir /run/web/tls --on-change "systemctl reload nginx"',
  readsFlags: true,
  serves: true,
  async run({ raw }) {
    const { agentCommand } = await import("./agent.ts");
    return agentCommand(raw);
  },
};
