/**
 * Reads the settings: the environment, the configuration file and the defaults, in this order of
 * precedence. Every fault is reported at once.
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { isLoopback } from "./addresses.ts";
import { CLIENT_VARIABLES } from "./client-variables.ts";
import { type DatacenterSettings, readDatacenters } from "./datacenters.ts";
import { Faults } from "./faults.ts";
import { type ConfigFile, readConfigFile } from "./file.ts";
import { cannotRead } from "./file-errors.ts";
import { readJsonFile } from "./file-syntax.ts";
import { limitsOf } from "./limits.ts";
import { namedFiles } from "./named-files.ts";
import { readNamed, readSecret, type SettingsSource } from "./named-text.ts";
import { managementToken, Schema, SETTING_NAMES } from "./settings-schema.ts";
import { readStoreUrl, type StoreUrl } from "./store-url.ts";
import { type TlsSettings, tlsSettings } from "./tls.ts";

type Given = Readonly<Record<string, string | undefined>>;
type ReadFile = (path: string) => string;

export type Settings = ReturnType<typeof assembleSettings>;

/** The settings that need more than their own variable. */
interface Derived extends DatacenterSettings {
  readonly tls: TlsSettings | null;
  readonly store: StoreUrl | null;
  readonly kek: string | null;
  /** The configuration of Transit, which is not validated yet. */
  readonly kekVault: Readonly<Record<string, unknown>> | null;
  readonly acl: "off" | "allow" | "deny";
  readonly managementToken: string | null;
}

function assembleSettings(
  output: v.InferOutput<typeof Schema>,
  derived: Derived,
  file: ConfigFile | null,
  given: Given,
) {
  const { store, ...others } = derived;
  return {
    ...others,
    store: store ?? ({ kind: "sqlite", path: `${output.MESHCA_DATA_DIR}/meshca.db` } as const),
    listen: output.MESHCA_LISTEN,
    advertised: output.MESHCA_ADVERTISE ?? null,
    /** Why plain HTTP is allowed beyond loopback; null if it is not. */
    plainHttp: output.MESHCA_PLAIN_HTTP ?? null,
    dataDir: output.MESHCA_DATA_DIR,
    vaultAllow: output.MESHCA_VAULT_ALLOW,
    secretDirs: output.MESHCA_SECRET_DIRS,
    /** Files that settings name, which no provider may read. */
    namedFiles: namedFiles(given, store, derived.kekVault),
    jwksHosts: output.MESHCA_JWKS_HOSTS,
    jwksPrivateHosts: output.MESHCA_JWKS_PRIVATE_HOSTS,
    source: output.MESHCA_IMPORT ?? null,
    maxStalenessMs: output.MESHCA_MAX_STALENESS,
    maxClockSkewMs: output.MESHCA_MAX_CLOCK_SKEW,
    maxChainLength: output.MESHCA_MAX_CHAIN_LENGTH,
    datacenter: output.MESHCA_DATACENTER,
    logLevel: output.MESHCA_LOG_LEVEL,
    connectEnabled: file?.connectEnabled ?? true,
    hosts: output.MESHCA_HOSTS ?? null,
    limits: limitsOf(output),
    audit: output.MESHCA_AUDIT,
    auditFailure: output.MESHCA_AUDIT_FAILURE,
    bootstrap: file?.bootstrap ?? null,
    /** Keys of Consul's agent in the file that have no meaning here. */
    ignored: file?.ignored ?? [],
    /** The number of this process among the workers of one server; null without workers. */
    worker: null as number | null,
  };
}

/**
 * Reads the settings.
 * @param environment all variables; only those that begin with MESHCA_ are read.
 * @param readFile reads a file as text: the configuration, keys, certificates.
 * @param configNames the provider configuration names that a file may write in snake_case.
 * @param publicCas whether the platform verifies servers by the public CAs, and by nothing else.
 * @throws {ConfigError} with every fault
 */
export function readSettings(
  environment: Given,
  readFile: ReadFile,
  configNames: readonly string[],
  publicCas = false,
): Settings {
  const faults = new Faults();
  const variables = givenSettings(environment);
  const unknown = unknownSettings(variables);
  for (const { name, near } of unknown)
    faults.add(
      name,
      near === null
        ? "is not a setting; docs/configuration.md lists all settings"
        : `is not a setting; did you mean ${near}?`,
    );
  const file = readFileSettings(variables.MESHCA_CONFIG, readFile, configNames, faults);
  const given = withStoreFile(
    {
      given: { ...preferEnvironment(file?.settings ?? {}, variables), ...variables },
      ...{ readFile, faults },
    },
    variables,
  );
  const source = { given, readFile, faults };
  const result = v.safeParse(Schema, given);
  // A value may be a secret: messages name only what was expected.
  for (const issue of result.issues ?? []) faults.add(v.getDotPath(issue) ?? "", issue.message);
  // If another setting is at fault, a setting that seems missing or useless may follow from it.
  const isWhole = unknown.length === 0 && file !== undefined && result.success;
  const output = result.success ? result.output : null;
  const host = output?.MESHCA_LISTEN.host ?? "localhost";
  const acl = output?.MESHCA_ACL ?? (isLoopback(host) ? "off" : "deny");
  const kekVault = readKekVault(source);
  const store = readStore(source, output);
  const kek = readKek(source);
  if (
    isWhole &&
    store?.kind === "redis" &&
    given.MESHCA_KEK === undefined &&
    !given.MESHCA_KEK_FILE
  )
    faults.add(
      "MESHCA_KEK",
      'is required with Redis, the same for all replicas, and must not be stored in Redis: anyone with a copy of Redis and the key could sign. Make one with: echo "$(date +%Y):$(openssl rand -base64 32)"',
    );
  let tls: TlsSettings | null = null;
  if (isWhole && output !== null) {
    const { connectEnabled = true, https = false } = file ?? {};
    const advertised = output.MESHCA_ADVERTISE?.host ?? null;
    tls = tlsSettings(output, { host, advertised, connectEnabled, https }, faults);
    const plainHttp = output.MESHCA_PLAIN_HTTP ?? null;
    const serving = { host, tls: tls !== null, plainHttp, accessControl: acl !== "off" };
    const refusal = listenRefusal(serving);
    if (refusal !== null) faults.add("MESHCA_LISTEN", refusal);
  }
  const token = readSecret("MESHCA_INITIAL_MANAGEMENT_TOKEN", managementToken, source);
  if (isWhole && token !== null && acl === "off")
    faults.add(
      "MESHCA_INITIAL_MANAGEMENT_TOKEN",
      "has no effect without access control; set MESHCA_ACL to deny",
    );
  // The key of the file is called as the file has it.
  const listName =
    variables.MESHCA_DATACENTERS === undefined ? "datacenters" : "MESHCA_DATACENTERS";
  const datacenters =
    isWhole && output !== null ? readDatacenters(output, { ...source, publicCas, listName }) : null;
  if (output === null || datacenters === null || faults.any) throw faults.error("Cannot start");
  const derived = { ...datacenters, tls, store, kek, kekVault, acl, managementToken: token };
  return assembleSettings(output, derived, file ?? null, given);
}

/**
 * The variables that begin with MESHCA_, without those of the agent, of the commands that it starts,
 * and of the command line.
 * An empty one counts as not given.
 */
function givenSettings(environment: Given): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]): [string, string][] =>
      name.startsWith("MESHCA_") &&
      !/^MESHCA_(?:AGENT|HOOK)_/.test(name) &&
      !CLIENT_VARIABLES.includes(name) &&
      value !== undefined &&
      value !== ""
        ? [[name, value]]
        : [],
    ),
  );
}

/** Settings that exclude each other. One in the environment replaces the other in the file. */
const ALTERNATIVES: readonly (readonly [given: string, replaced: string])[] = [
  ["MESHCA_TLS", "MESHCA_TLS_CERT_FILE"],
  ["MESHCA_TLS", "MESHCA_TLS_KEY_FILE"],
  ["MESHCA_TLS_CERT_FILE", "MESHCA_TLS"],
  ["MESHCA_PRIMARY_CA_FILE", "MESHCA_PRIMARY_CA_PIN"],
  ["MESHCA_PRIMARY_CA_PIN", "MESHCA_PRIMARY_CA_FILE"],
  ["MESHCA_REPLICATION_TOKEN_FILE", "MESHCA_REPLICATION_TOKEN"],
];

/** The settings of the file without those that an alternative in the environment replaces. */
function preferEnvironment(
  file: Readonly<Record<string, string>>,
  environment: Given,
): Readonly<Record<string, string>> {
  const replaced = ALTERNATIVES.filter(([name]) => environment[name] !== undefined).map(
    ([, name]) => name,
  );
  return Object.fromEntries(Object.entries(file).filter(([name]) => !replaced.includes(name)));
}

/** The names that are not settings, each with the setting of the most similar name. */
export function unknownSettings(
  given: Readonly<Record<string, string>>,
): { readonly name: string; readonly near: string | null }[] {
  return Object.keys(given)
    .filter((name) => !SETTING_NAMES.includes(name))
    .map((name) => ({ name, near: nearest(name, SETTING_NAMES) }));
}

/** The configuration file; null if there is none, undefined if it has faults. */
function readFileSettings(
  path: string | undefined,
  readFile: ReadFile,
  configNames: readonly string[],
  faults: Faults,
): ConfigFile | null | undefined {
  if (path === undefined) return null;
  try {
    return readConfigFile(readFile(path), configNames, path.endsWith(".hcl") ? "hcl" : "json");
  } catch (error) {
    if (error instanceof ConfigError && error.violations.length > 0)
      faults.violations.push(...error.violations);
    else
      faults.add(
        "MESHCA_CONFIG",
        error instanceof ConfigError
          ? `${JSON.stringify(path)}: ${error.message}`
          : cannotRead(path, error),
      );
    return undefined;
  }
}

/** The settings with the content of the file that MESHCA_STORE_FILE names as MESHCA_STORE. */
function withStoreFile(
  source: SettingsSource & { readonly given: Record<string, string> },
  variables: Given,
): Record<string, string> {
  const { given, faults } = source;
  if (given.MESHCA_STORE_FILE === undefined) return given;
  if (variables.MESHCA_STORE !== undefined)
    faults.add("MESHCA_STORE_FILE", "is given together with MESHCA_STORE; give one of them");
  const { MESHCA_STORE: _replaced, ...others } = given;
  const text = readNamed("MESHCA_STORE_FILE", source);
  return text === null ? others : { ...others, MESHCA_STORE: text.trim() };
}

function readStore(
  { given, readFile, faults }: SettingsSource,
  output: v.InferOutput<typeof Schema> | null,
): StoreUrl | null {
  if (given.MESHCA_STORE === undefined) return null;
  const hasDatacenters = output?.MESHCA_PRIMARY_DATACENTER !== undefined;
  const datacenter = hasDatacenters ? output.MESHCA_DATACENTER : null;
  const read = readStoreUrl(given.MESHCA_STORE, readFile, datacenter);
  if ("kind" in read) return read;
  const setting = given.MESHCA_STORE_FILE === undefined ? "MESHCA_STORE" : "MESHCA_STORE_FILE";
  for (const reason of read) faults.add(setting, reason);
  return null;
}

function readKek(source: SettingsSource): string | null {
  const { given, faults } = source;
  if (given.MESHCA_KEK !== undefined && given.MESHCA_KEK_FILE)
    faults.add("MESHCA_KEK_FILE", "is given together with MESHCA_KEK; give one of them");
  return readNamed("MESHCA_KEK_FILE", source) ?? given.MESHCA_KEK ?? null;
}

function readKekVault(source: SettingsSource): Derived["kekVault"] {
  const text = readNamed("MESHCA_KEK_VAULT", source);
  if (text === null) return null;
  let reason = "the file must be a JSON object";
  try {
    const json = readJsonFile(text);
    if (typeof json === "object" && json !== null && !Array.isArray(json))
      return json as Record<string, unknown>;
  } catch (error) {
    if (error instanceof ConfigError) reason = error.message;
  }
  source.faults.add("MESHCA_KEK_VAULT", reason);
  return null;
}

/** Why an address must not be listened on, or null. It is the only place that decides this. */
export function listenRefusal(serving: {
  readonly host: string;
  readonly tls: boolean;
  readonly plainHttp: "behind-proxy" | null;
  readonly accessControl: boolean;
}): string | null {
  const { host, tls, plainHttp, accessControl } = serving;
  if (isLoopback(host)) return null;
  if (!accessControl)
    return `cannot listen on ${JSON.stringify(host)}: without access control only loopback is served; use 127.0.0.1, ::1 or localhost`;
  if (!tls && plainHttp === null)
    return `cannot serve plain HTTP on ${JSON.stringify(host)}: set MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or MESHCA_TLS=self; or set MESHCA_PLAIN_HTTP=behind-proxy if a proxy terminates TLS`;
  return null;
}
