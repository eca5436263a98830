/**
 * What meshca can be told: one schema over the environment, the configuration file and the
 * defaults, in that order of rank. Every fault is named at once.
 * @module
 */
import * as v from "valibot";
import { ConfigError, type Violation } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { type AddressRange, isIpAddress, isLoopbackAddress, readRange } from "../net/ip.ts";
import { type Advertised, advertise } from "./advertise.ts";
import { cannotRead } from "./cannot-read.ts";
import { duration } from "./duration.ts";
import { type ConfigFile, readConfigFile } from "./file.ts";
import { readJsonFile } from "./json-file.ts";
import { LIMIT_ENTRIES, type LimitSettings, limitsOf } from "./limits.ts";
import { type NamedFile, namedFiles } from "./named-files.ts";
import { readStoreUrl, type StoreUrl } from "./store-url.ts";
import { preferEnvironment, TLS_ENTRIES, type TlsSettings, tlsSettings } from "./tls.ts";

const listen = v.pipe(
  v.string(),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    const match = /^(\[[0-9a-fA-F:]+\]|[^:[\]]+):(\d{1,5})$/.exec(value);
    const port = Number(match?.[2]);
    if (match !== null && port <= 65535)
      return { host: (match[1] as string).replace(/^\[|\]$/g, ""), port };
    addIssue({
      message: "must be HOST:PORT, for example 127.0.0.1:8500, with port 0 for a free one",
    });
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

/**
 * As long as Consul's UUIDs at least, so that nobody guesses it; 128 is what a token may have at
 * most.
 */
const managementToken = v.pipe(
  v.string(),
  v.regex(/^[\x21-\x7e]{16,128}$/, "must be 16 to 128 printable characters without blanks"),
);

const hostList = v.pipe(
  v.string(),
  v.transform((text) => text.split(/[\s,]+/).filter((host) => host !== "")),
  v.array(
    v.pipe(
      v.string(),
      v.toLowerCase(),
      v.check(isHostEntry, "must be HOST or HOST:PORT, separated by commas, with IPv6 in brackets"),
      v.transform(inUrlForm),
    ),
  ),
);

/** A name or an address, an IPv6 one in brackets, with or without a port. */
function isHostEntry(entry: string): boolean {
  const match = /^(?:\[([0-9a-f:.]+)\]|[a-z0-9.-]+)(?::\d{1,5})?$/.exec(entry);
  if (match === null) return false;
  const [, six] = match;
  return six === undefined || (six.includes(":") && isIpAddress(six));
}

/** IPv6 addresses in the one spelling that URLs have them in (WHATWG URL, host serializing). */
function inUrlForm(entry: string): string {
  const end = entry.indexOf("]") + 1;
  return end === 0 ? entry : new URL(`http://${entry.slice(0, end)}`).hostname + entry.slice(end);
}

/** `127.0.0.1:8200` or `[::1]:8200` in the form of a URL, or null for anything else. */
function addressWithPort(entry: string): string | null {
  const [, address, port] = /^([\d.]+|\[[0-9a-f:.]+\]):(\d{1,5})$/i.exec(entry) ?? [];
  if (address === undefined || port === undefined || !isIpAddress(address.replace(/^\[|\]$/g, "")))
    return null;
  const { hostname } = new URL(`http://${address}`);
  return `${hostname}:${port}`;
}

/** Hosts, and ranges of addresses. */
const vaultAllow = v.pipe(
  v.string(),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    const entries = value.split(/[\s,]+/).filter((entry) => entry !== "");
    const ranges: AddressRange[] = [];
    const hosts: string[] = [];
    for (const entry of entries) {
      const range = readRange(entry);
      if (range !== null) ranges.push(range);
      else if (
        /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?(:\d{1,5})?$/i.test(entry) &&
        !/^[\d.:]+$/.test(entry)
      )
        hosts.push(entry.toLowerCase());
      else if (addressWithPort(entry) !== null) hosts.push(addressWithPort(entry) as string);
      else {
        addIssue({
          message:
            "must be HOST, HOST:PORT, ADDRESS, ADDRESS:PORT or ADDRESS/BITS, separated by commas",
        });
        return NEVER;
      }
    }
    return { hosts, ranges };
  }),
);

/** Where Kubernetes puts the token of a pod's service account. */
const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** Folders whose files a provider's configuration may name. */
const secretDirs = v.pipe(
  v.string(),
  v.transform((text) =>
    text
      .split(",")
      .map((folder) => folder.trim())
      .filter((folder) => folder !== ""),
  ),
  v.everyItem(
    (folder) =>
      /^\/+[^/]/.test(folder) && !folder.split("/").some((part) => part === "." || part === ".."),
    "must be folders from the root on (/etc/meshca/secrets), without . and .., separated by commas",
  ),
  v.everyItem(
    (folder) => !/^\/+(proc|sys|dev)(\/|$)/.test(folder),
    "must not have folders of the kernel: no file below /proc, /sys and /dev is read",
  ),
);

const LEVELS = {
  debug: "debug",
  info: "info",
  warn: "warning",
  warning: "warning",
  error: "error",
} as const;

/** Names and addresses as a Host header has them, without ports. */
const hosts = v.pipe(
  v.string(),
  v.toLowerCase(),
  v.transform((list) => list.split(",").map((name) => name.trim())),
  v.everyItem(
    (name) => /^([a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?|\[[0-9a-f:.]+\])$/.test(name),
    "must be names or addresses, separated by commas, without ports, and IPv6 in brackets",
  ),
);

const audit = v.pipe(
  v.string(),
  v.nonEmpty("must be off, stdout or the path of a file"),
  v.transform((value) =>
    value === "off"
      ? null
      : value === "stdout"
        ? ({ kind: "stdout" } as const)
        : ({ kind: "file", path: value } as const),
  ),
);

const AUDIT_FAILURES = ["stop-changes", "stop-all", "go-on"] as const;

/** Consul's own rule for a datacenter's name. */
const datacenter = v.pipe(
  v.string(),
  v.toLowerCase(),
  v.regex(/^[a-z0-9_-]{1,64}$/, "must be letters, digits, - and _"),
);

/**
 * A leaf with an issuer and one cross-signed certificate at least; at most what is read of a proof
 * of renewal.
 */
const chainLength = v.pipe(
  v.string(),
  v.regex(/^\d{1,2}$/, "must be a whole number from 3 to 32"),
  v.transform(Number),
  v.minValue(3, "must be a whole number from 3 to 32"),
  v.maxValue(32, "must be a whole number from 3 to 32"),
);

const Schema = v.object({
  MESHCA_LISTEN: v.optional(listen, "127.0.0.1:8500"),
  MESHCA_ADVERTISE: v.optional(advertise),
  ...TLS_ENTRIES,
  MESHCA_DATA_DIR: v.optional(v.pipe(v.string(), v.nonEmpty("must name a folder")), ".meshca"),
  MESHCA_CONFIG: v.optional(v.pipe(v.string(), v.nonEmpty("must name a file"))),
  MESHCA_STORE: v.optional(v.string()),
  MESHCA_KEK: v.optional(v.string()),
  MESHCA_KEK_FILE: v.optional(v.pipe(v.string(), v.nonEmpty("must name a file"))),
  MESHCA_KEK_VAULT: v.optional(v.pipe(v.string(), v.nonEmpty("must name a file"))),
  MESHCA_VAULT_ALLOW: v.optional(vaultAllow, ""),
  MESHCA_SECRET_DIRS: v.optional(secretDirs, SERVICE_ACCOUNT),
  MESHCA_ACL: v.optional(v.picklist(["off", "allow", "deny"], "must be off, allow or deny")),
  MESHCA_INITIAL_MANAGEMENT_TOKEN: v.optional(managementToken),
  MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE: v.optional(
    v.pipe(v.string(), v.nonEmpty("must name a file")),
  ),
  MESHCA_JWKS_HOSTS: v.optional(hostList, ""),
  MESHCA_JWKS_PRIVATE_HOSTS: v.optional(hostList, ""),
  MESHCA_IMPORT: v.optional(source),
  // A day: nothing that is signed under a root that old could be told from a leaf of a replica that
  // was cut off.
  MESHCA_MAX_STALENESS: v.optional(
    duration(1000, 86_400_000, "from 1s to 24h, for example 5m"),
    "5m",
  ),
  MESHCA_MAX_CLOCK_SKEW: v.optional(
    duration(1000, 3_600_000, "from 1s to 1h, for example 30s"),
    "30s",
  ),
  MESHCA_MAX_CHAIN_LENGTH: v.optional(chainLength, "7"),
  MESHCA_DATACENTER: v.optional(datacenter, "dc1"),
  MESHCA_LOG_LEVEL: v.optional(
    v.pipe(
      v.string(),
      v.toLowerCase(),
      v.picklist(
        Object.keys(LEVELS) as (keyof typeof LEVELS)[],
        `must be one of ${Object.keys(LEVELS).join(", ")}`,
      ),
      v.transform((name) => LEVELS[name]),
    ),
    "info",
  ),
  MESHCA_HOSTS: v.optional(hosts),
  MESHCA_AUDIT: v.optional(audit, "off"),
  MESHCA_AUDIT_FAILURE: v.optional(
    v.picklist(AUDIT_FAILURES, `must be one of ${AUDIT_FAILURES.join(", ")}`),
    "stop-changes",
  ),
  ...LIMIT_ENTRIES,
});

/** The names of all variables. */
export const SETTING_NAMES: readonly string[] = Object.keys(Schema.entries);

export interface Settings {
  readonly listen: { readonly host: string; readonly port: number };
  /** What this replica calls itself, or null: the address that it listens on. */
  readonly advertised: Advertised | null;
  /** Null: plain HTTP. */
  readonly tls: TlsSettings | null;
  /** Why plain HTTP may be served beyond loopback, or null where it may not. */
  readonly plainHttp: "behind-proxy" | null;
  readonly dataDir: string;
  readonly store: StoreUrl;
  /** Key-encryption keys as text, or null: make one. */
  readonly kek: string | null;
  /** How Vault is reached that wraps key-encryption keys, as the file has it, or null. */
  readonly kekVault: Readonly<Record<string, unknown>> | null;
  /** Which servers may be asked as Vault. */
  readonly vaultAllow: {
    readonly hosts: readonly string[];
    readonly ranges: readonly AddressRange[];
  };
  /** Folders whose files a provider's configuration may name. */
  readonly secretDirs: readonly string[];
  /** Files that settings name, which no provider may read. */
  readonly namedFiles: readonly NamedFile[];
  /** What applies where no rule does; off where nobody has to say who they are. */
  readonly acl: "off" | "allow" | "deny";
  /** The secret of a management token that is always there, or null. */
  readonly managementToken: string | null;
  /** Hosts that auth methods may fetch keys from, and those among them within the own network. */
  readonly jwksHosts: readonly string[];
  readonly jwksPrivateHosts: readonly string[];
  /** What an empty store is to begin with, or null: a new CA. */
  readonly source: { readonly kind: "sqlite" | "backup"; readonly path: string } | null;
  /** For how long leaves are signed while Redis does not answer. */
  readonly maxStalenessMs: number;
  /** How far the clock may be from Redis's. */
  readonly maxClockSkewMs: number;
  /** How many certificates a leaf may be sent with, itself counted and the root not. */
  readonly maxChainLength: number;
  readonly datacenter: string;
  readonly logLevel: (typeof LEVELS)[keyof typeof LEVELS];
  readonly connectEnabled: boolean;
  /**
   * The names that a Host header may have. Null: any, but loopback names alone where only loopback
   * is served.
   */
  readonly hosts: readonly string[] | null;
  readonly limits: LimitSettings;
  /** Where decisions are recorded, or null: nowhere. */
  readonly audit:
    | { readonly kind: "stdout" }
    | { readonly kind: "file"; readonly path: string }
    | null;
  /** What ends where they cannot be recorded. */
  readonly auditFailure: (typeof AUDIT_FAILURES)[number];
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
  const fault = (field: string, message: string) =>
    faults.push({ code: "config_invalid", field, message: `${field}: ${message}` });
  const given = givenSettings(environment);
  const unknown = unknownSettings(given);
  for (const { name, near } of unknown)
    fault(
      name,
      near === null
        ? "is not a setting; docs/configuration.md lists all settings"
        : `is not a setting; did you mean ${near}?`,
    );

  const file = readFileSettings(given.MESHCA_CONFIG, readFile, configNames, faults);
  const merged = { ...preferEnvironment(file?.settings ?? {}, given), ...given };
  const result = v.safeParse(Schema, merged);
  // What seems to be missing, or to be given in vain, may be a consequence of another fault.
  const isWhole = unknown.length === 0 && file !== undefined && result.success;
  // A value may be a secret: only what was expected is said.
  for (const issue of result.issues ?? []) fault(v.getDotPath(issue) ?? "", issue.message);
  const kekVault = readKekVault(merged, readFile, fault);
  const { store, kek } = readPlaces(merged, readFile, fault, isWhole);
  const connectEnabled = file?.connectEnabled ?? true;
  const host = result.success ? result.output.MESHCA_LISTEN.host : "localhost";
  const acl =
    (result.success ? result.output.MESHCA_ACL : undefined) ?? (isLoopback(host) ? "off" : "deny");
  let tls: TlsSettings | null = null;
  if (isWhole) {
    tls = tlsSettings(result.output, { host, connectEnabled, https: file?.https ?? false }, fault);
    const plainHttp = result.output.MESHCA_PLAIN_HTTP ?? null;
    const refusal = requireServable({
      host,
      tls: tls !== null,
      plainHttp,
      accessControl: acl !== "off",
    });
    if (refusal !== null) fault("MESHCA_LISTEN", refusal);
  }
  const managementToken = readManagementToken(merged, readFile, fault);
  if (isWhole && managementToken !== null && acl === "off")
    fault(
      "MESHCA_INITIAL_MANAGEMENT_TOKEN",
      "has no meaning without access control; set MESHCA_ACL to deny",
    );
  if (!result.success || faults.length > 0)
    throw new ConfigError(
      `Cannot start:\n${faults.map(({ message }) => `  ${message}`).join("\n")}`,
      faults,
    );
  const settings = result.output;
  return {
    listen: settings.MESHCA_LISTEN,
    advertised: settings.MESHCA_ADVERTISE ?? null,
    tls,
    plainHttp: settings.MESHCA_PLAIN_HTTP ?? null,
    dataDir: settings.MESHCA_DATA_DIR,
    store: store ?? { kind: "sqlite", path: `${settings.MESHCA_DATA_DIR}/meshca.db` },
    kek,
    kekVault,
    vaultAllow: settings.MESHCA_VAULT_ALLOW,
    secretDirs: settings.MESHCA_SECRET_DIRS,
    namedFiles: namedFiles(merged, store, kekVault),
    acl,
    managementToken,
    jwksHosts: settings.MESHCA_JWKS_HOSTS,
    jwksPrivateHosts: settings.MESHCA_JWKS_PRIVATE_HOSTS,
    source: settings.MESHCA_IMPORT ?? null,
    maxStalenessMs: settings.MESHCA_MAX_STALENESS,
    maxClockSkewMs: settings.MESHCA_MAX_CLOCK_SKEW,
    maxChainLength: settings.MESHCA_MAX_CHAIN_LENGTH,
    datacenter: settings.MESHCA_DATACENTER,
    logLevel: settings.MESHCA_LOG_LEVEL,
    connectEnabled,
    hosts: settings.MESHCA_HOSTS ?? null,
    limits: limitsOf(settings),
    audit: settings.MESHCA_AUDIT,
    auditFailure: settings.MESHCA_AUDIT_FAILURE,
    bootstrap: file?.bootstrap ?? null,
    ignored: file?.ignored ?? [],
    worker: null,
  };
}

/** The variables that are settings, or look so. An empty one counts as not given. */
export function givenSettings(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]): [string, string][] =>
      name.startsWith("MESHCA_") && value !== undefined && value !== "" ? [[name, value]] : [],
    ),
  );
}

/**
 * Names that are no settings, each with the one that was probably meant.
 * @param more settings of a runtime of its own
 */
export function unknownSettings(
  given: Readonly<Record<string, string>>,
  more: readonly string[] = [],
): { readonly name: string; readonly near: string | null }[] {
  const known = [...SETTING_NAMES, ...more];
  return Object.keys(given)
    .filter((name) => !known.includes(name))
    .map((name) => ({ name, near: nearest(name, known) }));
}

/** What the configuration file says; null without one, undefined if it cannot be used. */
function readFileSettings(
  path: string | undefined,
  readFile: (path: string) => string,
  configNames: readonly string[],
  faults: Violation[],
): ConfigFile | null | undefined {
  if (path === undefined) return null;
  try {
    return readConfigFile(readFile(path), configNames, path.endsWith(".hcl") ? "hcl" : "json");
  } catch (error) {
    if (error instanceof ConfigError && error.violations.length > 0)
      faults.push(...error.violations);
    else
      faults.push({
        code: "config_invalid",
        field: "MESHCA_CONFIG",
        message: `MESHCA_CONFIG: ${error instanceof ConfigError ? error.message : cannotRead(path, error)}`,
      });
    return undefined;
  }
}

/** The management token from the environment or a file. */
function readManagementToken(
  settings: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  fault: (field: string, message: string) => void,
): string | null {
  const { MESHCA_INITIAL_MANAGEMENT_TOKEN: text, MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE: path } =
    settings;
  if (path === undefined || path === "") return text ?? null;
  if (text !== undefined)
    fault(
      "MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE",
      "is given together with MESHCA_INITIAL_MANAGEMENT_TOKEN; give one of them",
    );
  try {
    const read = v.safeParse(managementToken, readFile(path).trim());
    if (read.success) return read.output;
    fault("MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE", read.issues[0].message);
  } catch (error) {
    fault("MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE", cannotRead(path, error));
  }
  return null;
}

/** The configuration of Transit, as far as it is an object. */
function readKekVault(
  { MESHCA_KEK_VAULT: path }: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  fault: (field: string, message: string) => void,
): Readonly<Record<string, unknown>> | null {
  if (path === undefined || path === "") return null;
  try {
    const json = readJsonFile(readFile(path));
    if (typeof json === "object" && json !== null && !Array.isArray(json))
      return json as Record<string, unknown>;
  } catch (error) {
    if (error instanceof ConfigError) {
      fault("MESHCA_KEK_VAULT", error.message);
      return null;
    }
    if (!(error instanceof SyntaxError)) {
      fault("MESHCA_KEK_VAULT", cannotRead(path, error));
      return null;
    }
  }
  fault("MESHCA_KEK_VAULT", "the file must be a JSON object");
  return null;
}

/** What names files: the store, with its certificates, and the key-encryption keys. */
function readPlaces(
  settings: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  fault: (field: string, message: string) => void,
  isWhole: boolean,
): { store: StoreUrl | null; kek: string | null } {
  const { MESHCA_STORE: url, MESHCA_KEK: keys, MESHCA_KEK_FILE: path } = settings;
  const read = url === undefined ? null : readStoreUrl(url, readFile);
  const faults: readonly string[] = Array.isArray(read) ? read : [];
  for (const message of faults) fault("MESHCA_STORE", message);
  const store = faults.length > 0 ? null : (read as StoreUrl | null);
  let kek = keys ?? null;
  if (path !== undefined && path !== "") {
    if (keys !== undefined)
      fault("MESHCA_KEK_FILE", "is given together with MESHCA_KEK; give one of them");
    try {
      kek = readFile(path);
    } catch (error) {
      fault("MESHCA_KEK_FILE", cannotRead(path, error));
    }
  } else if (isWhole && store?.kind === "redis" && keys === undefined)
    fault(
      "MESHCA_KEK",
      'must be given with Redis, the same to all replicas: anyone who had a copy of Redis could sign if the key lay beside it. Make one with: echo "$(date +%Y):$(openssl rand -base64 32)"',
    );
  return { store, kek };
}

/**
 * What must hold before anything is served on an address: the one place that decides.
 * @returns why it must not be, or null.
 */
export function requireServable(serving: {
  readonly host: string;
  readonly tls: boolean;
  readonly plainHttp: Settings["plainHttp"];
  readonly accessControl: boolean;
}): string | null {
  const { host, tls, plainHttp, accessControl } = serving;
  if (isLoopback(host)) return null;
  if (!accessControl)
    return `cannot listen on ${JSON.stringify(host)}: without access control only loopback is served; use 127.0.0.1, ::1 or localhost`;
  if (!tls && plainHttp === null)
    return `cannot serve plain HTTP on ${JSON.stringify(host)}: set MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or MESHCA_TLS=self; or MESHCA_PLAIN_HTTP=behind-proxy where a proxy in front ends TLS`;
  return null;
}

/** Whether a host to listen on is loopback. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (!host.includes(":") && isLoopbackAddress(host));
}
