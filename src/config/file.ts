/**
 * The configuration file, in the form of Consul's own agent: JSON with `datacenter`, `connect` and a few more. Keys of
 * Consul's agent that mean nothing here are listed and ignored; anything else is a mistake and refused.
 * @module
 */
import * as v from "valibot";
import { ConfigError, type Violation } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { CONSUL_AGENT_KEYS } from "./consul-agent-keys.ts";

export interface ConfigFile {
  /** Settings that the file gives, by the name of their environment variable. */
  readonly settings: Readonly<Record<string, string>>;
  readonly connectEnabled: boolean;
  /** What the first bootstrap uses; null where the file says nothing of it. */
  readonly bootstrap: {
    readonly provider: string;
    readonly config: Readonly<Record<string, unknown>>;
    readonly clusterId: string | null;
  } | null;
  readonly ignored: readonly string[];
}

/** valibot counts arrays as objects. */
const isObject = v.check<unknown, string>((value) => !Array.isArray(value), "must be an object");

const text = (what: string) => v.pipe(v.string(`must be ${what}`), v.nonEmpty(`must be ${what}`));

const Connect = v.strictObject({
  enabled: v.optional(v.boolean("must be true or false")),
  ca_provider: v.optional(text("the name of a provider")),
  ca_config: v.optional(v.pipe(v.unknown(), isObject, v.record(v.string(), v.unknown(), "must be an object"))),
});

const port = v.pipe(
  v.number("must be a port"),
  v.integer("must be a port"),
  v.minValue(0, "must be a port"),
  v.maxValue(65535, "must be a port"),
);

const File = v.looseObject({
  datacenter: v.optional(text("a name")),
  data_dir: v.optional(text("a folder")),
  log_level: v.optional(text("a level")),
  client_addr: v.optional(text("an address")),
  // Not Consul's: where the state is, in the form of MESHCA_STORE.
  store: v.optional(text("the URL of a store")),
  ports: v.optional(v.pipe(v.unknown(), isObject, v.looseObject({ http: v.optional(port) }, "must be an object"))),
  connect: v.optional(v.pipe(v.unknown(), isObject, Connect)),
});

/** A cluster ID is a UUID in form (consul-ca.md §2.1); its version and variant bits are not looked at (§3.3). */
const CLUSTER_ID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/**
 * Reads a configuration file.
 * @param configNames CamelCase names of provider configuration, which a file may write in snake_case.
 * @throws {ConfigError} with every fault
 */
export function readConfigFile(content: string, configNames: readonly string[]): ConfigFile {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch {
    throw new ConfigError("MESHCA_CONFIG: the file is not JSON");
  }
  const faults: Violation[] = [];
  const fault = (field: string, message: string) => faults.push({ code: "config_invalid", field, message: `${field}: ${message}` });
  const parsed = v.safeParse(v.pipe(v.unknown(), isObject, File), json);
  for (const issue of parsed.issues ?? []) {
    const path = v.getDotPath(issue) ?? "configuration file";
    const near = issue.type === "strict_object" ? nearest(path.split(".").at(-1) ?? "", Object.keys(Connect.entries)) : null;
    const unknown =
      near === null
        ? `is not a key of connect; known are ${Object.keys(Connect.entries).join(", ")}`
        : `is not a key of connect; did you mean ${near}?`;
    fault(path, issue.type === "strict_object" ? unknown : issue.message);
  }
  const known = [...Object.keys(File.entries), ...CONSUL_AGENT_KEYS];
  const ignored: string[] = [];
  for (const key of Object.keys(typeof json === "object" && json !== null ? json : {})) {
    if (Object.hasOwn(File.entries, key)) continue;
    const near = nearest(key, known);
    if (CONSUL_AGENT_KEYS.includes(key)) ignored.push(key);
    else
      fault(
        key,
        near === null
          ? "is not a key of Consul's agent configuration"
          : `is not a key of Consul's agent configuration; did you mean ${near}?`,
      );
  }
  const {
    connect,
    ports,
    client_addr: address,
    datacenter,
    data_dir: dataDir,
    log_level: logLevel,
    store,
  } = parsed.success ? parsed.output : {};
  const { cluster_id: clusterId = null, ...caConfig } = connect?.ca_config ?? {};
  if (clusterId !== null && (typeof clusterId !== "string" || !CLUSTER_ID.test(clusterId)))
    fault("connect.ca_config.cluster_id", "must be a UUID");
  if (faults.length > 0) throw new ConfigError(faults.map(({ message }) => message).join("; "), faults);

  const settings: Record<string, string> = {};
  if (datacenter !== undefined) settings.MESHCA_DATACENTER = datacenter;
  if (store !== undefined) settings.MESHCA_STORE = store;
  if (dataDir !== undefined) settings.MESHCA_DATA_DIR = dataDir;
  if (logLevel !== undefined)
    settings.MESHCA_LOG_LEVEL = logLevel === "trace" || logLevel === "TRACE" ? "debug" : logLevel.replace(/^err$/i, "error");
  if (address !== undefined || ports?.http !== undefined) settings.MESHCA_LISTEN = `${address ?? "127.0.0.1"}:${ports?.http ?? 8500}`;
  const says = connect?.ca_provider !== undefined || connect?.ca_config !== undefined;
  return {
    settings,
    connectEnabled: connect?.enabled ?? true,
    bootstrap: says
      ? {
          provider: connect?.ca_provider ?? "consul",
          config: Object.fromEntries(Object.entries(caConfig).map(([key, value]) => [camelCase(key, configNames), value])),
          clusterId: clusterId === null ? null : (clusterId as string).toLowerCase(),
        }
      : null,
    ignored,
  };
}

/** `leaf_cert_ttl` as LeafCertTTL; a name that is none stays, and the provider refuses it. */
function camelCase(key: string, names: readonly string[]): string {
  const plain = key.replaceAll("_", "").toLowerCase();
  return names.find((name) => name.toLowerCase() === plain) ?? key;
}
