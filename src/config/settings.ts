/**
 * What meshca can be told: one schema over the environment, the configuration file and the defaults, in that order of
 * rank. Every fault is named at once.
 * @module
 */
import * as v from "valibot";
import { ConfigError, type Violation } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { type ConfigFile, readConfigFile } from "./file.ts";

const listen = v.pipe(
  v.string(),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    const match = /^(\[[0-9a-fA-F:]+\]|[^:[\]]+):(\d{1,5})$/.exec(value);
    const port = Number(match?.[2]);
    if (match !== null && port <= 65535) return { host: (match[1] as string).replace(/^\[|\]$/g, ""), port };
    addIssue({ message: "must be HOST:PORT, for example 127.0.0.1:8500, with port 0 for a free one" });
    return NEVER;
  }),
);

const storeUrl = v.pipe(
  v.string(),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    if (value === "memory:") return { kind: "memory" } as const;
    if (/^sqlite:./.test(value)) return { kind: "sqlite", path: value.slice("sqlite:".length) } as const;
    addIssue({ message: "must be sqlite:PATH or memory:" });
    return NEVER;
  }),
);

const LEVELS = { debug: "debug", info: "info", warn: "warning", warning: "warning", error: "error" } as const;

/** Consul's own rule for a datacenter's name. */
const datacenter = v.pipe(v.string(), v.toLowerCase(), v.regex(/^[a-z0-9_-]{1,64}$/, "must be letters, digits, - and _"));

const Schema = v.object({
  MESHCA_LISTEN: v.optional(listen, "127.0.0.1:8500"),
  MESHCA_DATA_DIR: v.optional(v.pipe(v.string(), v.nonEmpty("must name a folder")), ".meshca"),
  MESHCA_CONFIG: v.optional(v.pipe(v.string(), v.nonEmpty("must name a file"))),
  MESHCA_STORE: v.optional(storeUrl),
  MESHCA_KEK: v.optional(v.string()),
  MESHCA_DATACENTER: v.optional(datacenter, "dc1"),
  MESHCA_LOG_LEVEL: v.optional(
    v.pipe(
      v.string(),
      v.toLowerCase(),
      v.picklist(Object.keys(LEVELS) as (keyof typeof LEVELS)[], `must be one of ${Object.keys(LEVELS).join(", ")}`),
      v.transform((name) => LEVELS[name]),
    ),
    "info",
  ),
});

export interface Settings {
  readonly listen: { readonly host: string; readonly port: number };
  readonly dataDir: string;
  readonly store: { readonly kind: "memory" } | { readonly kind: "sqlite"; readonly path: string };
  /** Key-encryption keys as text, or null: make one. */
  readonly kek: string | null;
  readonly datacenter: string;
  readonly logLevel: (typeof LEVELS)[keyof typeof LEVELS];
  readonly connectEnabled: boolean;
  readonly bootstrap: ConfigFile["bootstrap"];
  /** Consul's agent keys in the file that mean nothing here. */
  readonly ignored: readonly string[];
}

/**
 * Reads the settings.
 * @param environment every variable; those that do not begin with MESHCA_ are not looked at.
 * @param readFile reads the configuration file as text.
 * @param configNames the provider configuration names that a file may write in snake_case.
 * @throws {ConfigError} with every fault
 */
export function readSettings(
  environment: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  configNames: readonly string[],
): Settings {
  const faults: Violation[] = [];
  const fault = (field: string, message: string) => faults.push({ code: "config_invalid", field, message: `${field}: ${message}` });
  const given = Object.fromEntries(
    Object.entries(environment).filter(([name, value]) => name.startsWith("MESHCA_") && value !== undefined),
  );
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(Schema.entries, name)) continue;
    const near = nearest(name, Object.keys(Schema.entries));
    fault(
      name,
      near === null ? `is not a setting; known are ${Object.keys(Schema.entries).join(", ")}` : `is not a setting; did you mean ${near}?`,
    );
  }

  let file: ConfigFile | null = null;
  const path = given.MESHCA_CONFIG;
  if (path !== undefined && path !== "") {
    try {
      file = readConfigFile(readFile(path), configNames);
    } catch (error) {
      if (error instanceof ConfigError && error.violations.length > 0) faults.push(...error.violations);
      else fault("MESHCA_CONFIG", error instanceof ConfigError ? error.message : `cannot read ${JSON.stringify(path)}`);
    }
  }

  const result = v.safeParse(Schema, { ...file?.settings, ...given });
  // A value may be a secret: only what was expected is said.
  for (const issue of result.issues ?? []) fault(v.getDotPath(issue) ?? "", issue.message);
  const host = result.success ? result.output.MESHCA_LISTEN.host : "localhost";
  if (!isLoopback(host))
    fault(
      "MESHCA_LISTEN",
      `cannot listen on ${JSON.stringify(host)}: without access control only loopback is served; use 127.0.0.1, ::1 or localhost`,
    );
  if (!result.success || faults.length > 0)
    throw new ConfigError(`Cannot start:\n${faults.map(({ message }) => `  ${message}`).join("\n")}`, faults);
  const settings = result.output;
  return {
    listen: settings.MESHCA_LISTEN,
    dataDir: settings.MESHCA_DATA_DIR,
    store: settings.MESHCA_STORE ?? { kind: "sqlite", path: `${settings.MESHCA_DATA_DIR}/meshca.db` },
    kek: settings.MESHCA_KEK ?? null,
    datacenter: settings.MESHCA_DATACENTER,
    logLevel: settings.MESHCA_LOG_LEVEL,
    connectEnabled: file?.connectEnabled ?? true,
    bootstrap: file?.bootstrap ?? null,
    ignored: file?.ignored ?? [],
  };
}

/** Whether a host to listen on is loopback. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
