/**
 * The flags of `meshca agent`, and its help.
 * @module
 */
import { parseArgs } from "node:util";
import type { AgentFlags } from "../config/agent-settings.ts";
import { AGENT_SOURCES, CONFIG_FLAG } from "../config/agent-sources.ts";
import { nearest } from "../core/nearest.ts";

interface ParsedFlags {
  readonly flags: AgentFlags;
  readonly once: boolean;
  readonly help: boolean;
  /** What is wrong with the arguments, each a sentence. */
  readonly faults: readonly string[];
}

/** Flags with a value, and whether they may be repeated. */
const WITH_VALUE = new Map<string, boolean>([
  [CONFIG_FLAG, false],
  ...AGENT_SOURCES.flatMap(({ flag, many }): [string, boolean][] =>
    flag === null ? [] : [[flag, many === true]],
  ),
]);
const SWITCHES = ["once", "help"];

/** Reads the arguments after `meshca agent`. */
export function parseAgentFlags(args: readonly string[]): ParsedFlags {
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: {
      help: { type: "boolean", short: "h" },
      once: { type: "boolean" },
      ...Object.fromEntries([...WITH_VALUE.keys()].map((name) => [name, { type: "string" }])),
    },
  });
  const flags: Record<string, string[]> = {};
  const switches = new Set<string>();
  const faults: string[] = [];
  for (const [i, token] of tokens.entries()) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      const before = tokens[i - 1];
      // The value of an unknown flag may be a secret.
      if (before?.kind === "option" && !isKnown(before.name)) continue;
      faults.push(`${JSON.stringify(token.value)} does not belong to a flag of meshca agent`);
      continue;
    }
    const { name, rawName, value } = token;
    if (SWITCHES.includes(name)) {
      if (value === undefined) switches.add(name);
      else faults.push(`${rawName} takes no value`);
    } else if (!WITH_VALUE.has(name)) faults.push(unknownFlag(rawName));
    else if (value === undefined || (token.inlineValue !== true && value.startsWith("-")))
      faults.push(
        value === undefined
          ? `${rawName} needs a value`
          : `${rawName} needs a value; one that begins with "-" is written ${rawName}=${value}`,
      );
    else if (value === "") faults.push(`${rawName} has an empty value`);
    else if (flags[name] !== undefined && WITH_VALUE.get(name) === false)
      faults.push(`${rawName} is given twice`);
    else flags[name] = [...(flags[name] ?? []), value];
  }
  return { flags, once: switches.has("once"), help: switches.has("help"), faults };
}

const isKnown = (name: string): boolean => WITH_VALUE.has(name) || SWITCHES.includes(name);

function unknownFlag(rawName: string): string {
  const known = [...WITH_VALUE.keys(), ...SWITCHES].map((name) => `--${name}`);
  const near = nearest(rawName, known);
  return `${rawName} is not a flag of meshca agent${near === null ? "" : `; did you mean ${near}?`}`;
}

/** The columns of a flag with its value in the help. */
const WIDTH = 34;

const line = (flag: string, text: string) => `  ${flag.padEnd(WIDTH)} ${text}\n`;

export const AGENT_HELP = `Usage: meshca agent [FLAG ...]

Keeps the certificate of a service valid, and hands it to the service: on a socket, in a folder, by
HTTP. The private key stays on this machine.

${AGENT_SOURCES.filter(({ flag }) => flag !== null)
  .map(({ flag, value, help }) => line(`--${flag} ${value}`, help))
  .join(
    "",
  )}${line("--config FILE", "configuration file, JSON or HCL: several identities, sockets and folders")}${line("--once", "get every certificate, write the folders, run their commands, and exit")}${line("-h, --help", "this text")}
Each flag is also a variable: --ca-file is MESHCA_AGENT_CA_FILE, and docs/workloads.md has all.
A default is in parentheses.

Example:
  meshca agent --service web --dns-name web.service.consul --socket /run/web/agent.sock \\
    --dir /run/web/tls --on-change "systemctl reload nginx" --listen 127.0.0.1:8502
`;
