/**
 * What meshca can be told: one schema over the environment, the configuration file and the defaults, in that order of
 * rank. Every fault is named at once.
 * @module
 */
import * as v from "valibot";
import { parseDuration } from "../core/duration.ts";
import { ConfigError, FormatError, type Violation } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { type ConfigFile, readConfigFile } from "./file.ts";
import { readStoreUrl, type StoreUrl } from "./store-url.ts";

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

const duration = (min: number, max: number, what: string) =>
  v.pipe(
    v.string(),
    v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
      try {
        const ms = parseDuration(value);
        if (ms >= min && ms <= max) return ms;
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
      addIssue({ message: `must be a duration ${what}` });
      return NEVER;
    }),
  );

const source = v.pipe(
  v.string(),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    const match = /^(sqlite|backup):(.+)$/.exec(value);
    if (match !== null) return { kind: match[1] as "sqlite" | "backup", path: match[2] as string };
    addIssue({ message: "must be sqlite:PATH or backup:PATH" });
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
  MESHCA_STORE: v.optional(v.string()),
  MESHCA_KEK: v.optional(v.string()),
  MESHCA_KEK_FILE: v.optional(v.pipe(v.string(), v.nonEmpty("must name a file"))),
  MESHCA_IMPORT: v.optional(source),
  // A day: nothing that is signed under a root that old could be told from a leaf of a replica that was cut off.
  MESHCA_MAX_STALENESS: v.optional(duration(1000, 86_400_000, "from 1s to 24h, for example 5m"), "5m"),
  MESHCA_MAX_CLOCK_SKEW: v.optional(duration(1000, 3_600_000, "from 1s to 1h, for example 30s"), "30s"),
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
  readonly store: StoreUrl;
  /** Key-encryption keys as text, or null: make one. */
  readonly kek: string | null;
  /** What an empty store is to begin with, or null: a new CA. */
  readonly source: { readonly kind: "sqlite" | "backup"; readonly path: string } | null;
  /** For how long leaves are signed while Redis does not answer. */
  readonly maxStalenessMs: number;
  /** How far the clock may be from Redis's. */
  readonly maxClockSkewMs: number;
  readonly datacenter: string;
  readonly logLevel: (typeof LEVELS)[keyof typeof LEVELS];
  readonly connectEnabled: boolean;
  readonly bootstrap: ConfigFile["bootstrap"];
  /** Consul's agent keys in the file that mean nothing here. */
  readonly ignored: readonly string[];
  /** The number of this process among the workers of one server, or null where it serves alone. */
  readonly worker: number | null;
}

/**
 * Reads the settings.
 * @param environment every variable; those that do not begin with MESHCA_ are not looked at.
 * @param readFile reads a file as text: the configuration, keys, certificates.
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

  const merged = { ...file?.settings, ...given };
  const result = v.safeParse(Schema, merged);
  // A value may be a secret: only what was expected is said.
  for (const issue of result.issues ?? []) fault(v.getDotPath(issue) ?? "", issue.message);
  const { store, kek } = readPlaces(merged, readFile, fault);
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
    store: store ?? { kind: "sqlite", path: `${settings.MESHCA_DATA_DIR}/meshca.db` },
    kek,
    source: settings.MESHCA_IMPORT ?? null,
    maxStalenessMs: settings.MESHCA_MAX_STALENESS,
    maxClockSkewMs: settings.MESHCA_MAX_CLOCK_SKEW,
    datacenter: settings.MESHCA_DATACENTER,
    logLevel: settings.MESHCA_LOG_LEVEL,
    connectEnabled: file?.connectEnabled ?? true,
    bootstrap: file?.bootstrap ?? null,
    ignored: file?.ignored ?? [],
    worker: null,
  };
}

/** What names files: the store, with its certificates, and the key-encryption keys. */
function readPlaces(
  settings: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  fault: (field: string, message: string) => void,
): { store: StoreUrl | null; kek: string | null } {
  const { MESHCA_STORE: url, MESHCA_KEK: keys, MESHCA_KEK_FILE: path } = settings;
  const read = url === undefined ? null : readStoreUrl(url, readFile);
  const faults: readonly string[] = Array.isArray(read) ? read : [];
  for (const message of faults) fault("MESHCA_STORE", message);
  const store = faults.length > 0 ? null : (read as StoreUrl | null);
  let kek = keys ?? null;
  if (path !== undefined && path !== "") {
    if (keys !== undefined) fault("MESHCA_KEK_FILE", "is given together with MESHCA_KEK; give one of them");
    try {
      kek = readFile(path);
    } catch {
      fault("MESHCA_KEK_FILE", `cannot read ${JSON.stringify(path)}`);
    }
  } else if (store?.kind === "redis" && keys === undefined)
    fault(
      "MESHCA_KEK",
      'must be given with Redis, the same to all replicas: whoever had a copy of Redis could sign if the key lay beside it. Make one with: echo "$(date +%Y):$(openssl rand -base64 32)"',
    );
  return { store, kek };
}

/** Whether a host to listen on is loopback. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
