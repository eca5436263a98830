/**
 * Reads the agent's settings: flags, the environment, the configuration file and the defaults, in
 * this order of precedence. Every fault is reported at once.
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { checkAgent } from "./agent-checks.ts";
import { AgentSchema, keysNextTo } from "./agent-schema.ts";
import {
  AGENT_SETTING_NAMES,
  AGENT_SOURCES,
  type AgentSource,
  agentVariable,
  CONFIG_FLAG,
  CONFIG_VARIABLE,
} from "./agent-sources.ts";
import type { AgentSettings } from "./agent-types.ts";
import { Faults } from "./faults.ts";
import { cannotRead } from "./file-errors.ts";
import { readSyntax } from "./file-syntax.ts";
import { listOf } from "./values.ts";

/** Flags by their name without dashes: each with every value that it was given. */
export type AgentFlags = Readonly<Record<string, readonly string[]>>;

/** What the settings need from the system. */
interface AgentSettingsSystem {
  /** The text of a file. @throws {Error} */
  readFile(path: string): string;
  /** The absolute form of a path. */
  resolve(path: string): string;
}

/** What was given, in the form of the file, and how each part of it is called in a fault. */
interface Given {
  readonly raw: Record<string, unknown>;
  /** Names of flags and variables by the path of what they gave. */
  readonly names: Map<string, string>;
  /** Places in the file by path. */
  readonly places: ReadonlyMap<string, string>;
}

/**
 * Reads the settings of the agent.
 * @param environment all variables; only those that begin with MESHCA_AGENT_ are read.
 * @throws {ConfigError} with every fault
 */
export function readAgentSettings(
  flags: AgentFlags,
  environment: Readonly<Record<string, string | undefined>>,
  system: AgentSettingsSystem,
): AgentSettings {
  const faults = new Faults();
  const variables = variablesOf(environment, faults);
  const path = flags[CONFIG_FLAG]?.[0] ?? variables[CONFIG_VARIABLE];
  const file = path === undefined ? null : readFile(path, system, faults);
  const given: Given = {
    raw: { ...file?.json },
    names: new Map(),
    places: file?.places ?? new Map(),
  };
  const token = addGiven(given, flags, variables, faults);
  const result = v.safeParse(AgentSchema, given.raw);
  for (const issue of result.issues ?? []) addIssue(given, issue, faults);
  // What is missing may be in a file that has faults.
  if (!result.success || faults.any) throw faults.error("Cannot start the agent");
  const report = (at: string, reason: string) => addFault(given, at, reason, faults);
  const settings = checkAgent(result.output, { token, resolve: system.resolve }, report);
  checkCaFile(settings.caFile, system, report);
  if (faults.any) throw faults.error("Cannot start the agent");
  return { ...settings, token };
}

/** The agent's variables; an empty one counts as not given. */
function variablesOf(
  environment: Readonly<Record<string, string | undefined>>,
  faults: Faults,
): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith("MESHCA_AGENT_") || value === undefined || value === "") continue;
    found[name] = value;
    if (AGENT_SETTING_NAMES.includes(name)) continue;
    const near = nearest(name, AGENT_SETTING_NAMES);
    const advice = near === null ? "docs/workloads.md lists all settings" : `did you mean ${near}?`;
    faults.add(name, `is not a setting of the agent; ${advice}`);
  }
  return found;
}

/** The content of the configuration file; null if it has faults. */
function readFile(
  path: string,
  system: AgentSettingsSystem,
  faults: Faults,
): { json: object; places: ReadonlyMap<string, string> } | null {
  try {
    const form = path.endsWith(".hcl") ? "hcl" : "json";
    const { json, places } = readSyntax(system.readFile(path), form);
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return { json, places };
    faults.add(JSON.stringify(path), "the configuration must be an object at its top level");
  } catch (error) {
    if (error instanceof ConfigError) faults.add(JSON.stringify(path), error.message);
    else faults.add("The configuration file", cannotRead(path, error));
  }
  return null;
}

/** Puts what flags and variables gave into the form of the file. @returns the token, or null */
function addGiven(
  given: Given,
  flags: AgentFlags,
  variables: Readonly<Record<string, string>>,
  faults: Faults,
): string | null {
  const ofIdentity: Record<string, unknown> = {};
  let token: string | null = null;
  let firstOfIdentity: string | null = null;
  for (const source of AGENT_SOURCES) {
    const found = givenBy(source, flags, variables);
    if (found === null) continue;
    const { name, value } = found;
    if (source.key === "token") token = String(value);
    else if (source.identity === true) {
      firstOfIdentity ??= name;
      ofIdentity[source.key] = value;
      given.names.set(PATHS[source.key] ?? source.key, name);
    } else {
      given.names.set(source.key, name);
      setAt(given.raw, source.key.split("."), value);
    }
  }
  if (token !== null && given.raw.token_file !== undefined)
    faults.add(agentVariable("token"), "is given together with a token file; give one of them");
  const service = PATHS.service ?? "";
  if (firstOfIdentity !== null && !given.names.has(service)) given.names.set(service, "--service");
  if (firstOfIdentity !== null) addIdentity(given, firstOfIdentity, ofIdentity, faults);
  return token;
}

/** The value of a setting and the flag or variable that gave it; null if neither did. */
function givenBy(
  { key, flag, many }: AgentSource,
  flags: AgentFlags,
  variables: Readonly<Record<string, string>>,
): { name: string; value: string | readonly string[] } | null {
  const ofFlag = flag === null ? undefined : flags[flag];
  if (ofFlag !== undefined)
    return { name: `--${flag}`, value: many === true ? ofFlag : (ofFlag[0] ?? "") };
  const name = agentVariable(key);
  const ofVariable = variables[name];
  if (ofVariable === undefined) return null;
  return { name, value: many === true ? listOf(ofVariable) : ofVariable };
}

/** Where the one identity's settings are in the form of the file. */
const PATHS: Readonly<Record<string, string>> = {
  service: "identities.0.service",
  dns_names: "identities.0.dns_names",
  ip_addresses: "identities.0.ip_addresses",
  ttl: "identities.0.ttl",
  socket: "sockets.0.path",
  dir: "folders.0.path",
  on_change: "folders.0.on_change.command",
};

/** The one identity that flags and variables describe. */
function addIdentity(
  { raw }: Given,
  first: string,
  { socket, dir, on_change: onChange, ...identity }: Readonly<Record<string, unknown>>,
  faults: Faults,
): void {
  const inFile = ["identities", "sockets", "folders"].find((key) => raw[key] !== undefined);
  if (inFile !== undefined)
    faults.add(
      first,
      `describes the one identity of an agent without ${inFile} in its configuration file, and this file has them: add the identity to the file`,
    );
  raw.identities = [identity];
  if (socket !== undefined) raw.sockets = [{ path: socket }];
  if (dir !== undefined)
    raw.folders = [
      {
        path: dir,
        ...(onChange === undefined
          ? {}
          : { on_change: { command: String(onChange).split(/\s+/).filter(Boolean) } }),
      },
    ];
  else if (onChange !== undefined)
    faults.add(
      "--on-change",
      "has no effect without --dir: give the folder whose change it is for",
    );
}

/** Sets a member at a path; a value in its way that is not an object is replaced. */
function setAt(target: Record<string, unknown>, [key = "", ...rest]: string[], value: unknown) {
  if (rest.length === 0) target[key] = value;
  else {
    const inner = target[key];
    const copy = typeof inner === "object" && inner !== null ? { ...inner } : {};
    target[key] = copy;
    setAt(copy as Record<string, unknown>, rest, value);
  }
}

/** Reports an issue of the schema; a value may be a secret and is in no message. */
function addIssue(given: Given, issue: v.BaseIssue<unknown>, faults: Faults): void {
  const at = v.getDotPath(issue) ?? "";
  addFault(given, at, issue.type === "strict_object" ? keyFault(at, issue) : issue.message, faults);
}

/** A key that is missing or unknown. */
function keyFault(at: string, issue: v.BaseIssue<unknown>): string {
  if (issue.expected !== "never") return "is required";
  const known = keysNextTo(at);
  const near = nearest(at.split(".").at(-1) ?? "", known);
  const advice = near === null ? `known are ${known.join(", ")}` : `did you mean ${near}?`;
  return `is not a key of the agent's configuration; ${advice}`;
}

function addFault({ names, places }: Given, at: string, reason: string, faults: Faults): void {
  // A flag gives a whole list, of which an item is at fault.
  const name = [at, at.replace(/\.\d+$/, "")].map((path) => names.get(path)).find(Boolean);
  if (name !== undefined) faults.add(name, reason);
  else faults.add(at === "" ? "configuration" : at, reason, placeOf(at, places));
}

/** The place of a key, or of the nearest block around it. */
function placeOf(at: string, places: ReadonlyMap<string, string>): string | undefined {
  for (let path = at; path !== ""; path = path.split(".").slice(0, -1).join(".")) {
    const place = places.get(path);
    if (place !== undefined) return place;
  }
  return undefined;
}

/** Without it no server can be verified, so that a mistake is worth a refusal of the start. */
function checkCaFile(
  path: string | null,
  system: AgentSettingsSystem,
  report: (at: string, reason: string) => void,
): void {
  if (path === null) return;
  try {
    if (!system.readFile(path).includes("-----BEGIN CERTIFICATE-----"))
      report("ca_file", `${JSON.stringify(path)} has no certificate in PEM`);
  } catch (error) {
    report("ca_file", cannotRead(path, error));
  }
}
