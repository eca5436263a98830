/**
 * The configuration file, in the form of Consul's own agent: JSON or HCL with `datacenter`,
 * `connect` and a few more. Keys of Consul's agent that mean nothing here are listed and ignored;
 * anything else is a mistake and refused.
 * @module
 */
import * as v from "valibot";
import { CONSUL_AGENT_KEYS } from "../consul/agent-keys.ts";
import { sameFields, sameFieldText } from "../core/ca/config-names.ts";
import { ConfigError, type Violation } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { readHclFile } from "./hcl-file.ts";
import { readJsonFile, withoutListsOfOne } from "./json-file.ts";
import { CONSUL_LIMITS, LIMIT_KEYS, limitVariable, REQUEST_LIMIT_KEYS } from "./limits.ts";

export interface ConfigFile {
  /** Settings that the file gives, by the name of their environment variable. */
  readonly settings: Readonly<Record<string, string>>;
  readonly connectEnabled: boolean;
  /** Whether `ports.https` says that TLS is to be served. */
  readonly https: boolean;
  /** What the first bootstrap uses; null where the file says nothing of it. */
  readonly bootstrap: {
    readonly provider: string;
    readonly config: Readonly<Record<string, unknown>>;
    readonly clusterId: string | null;
  } | null;
  readonly ignored: readonly string[];
}

type Fault = (field: string, message: string) => void;

/** valibot counts arrays as objects. */
const isObject = v.check<unknown, string>((value) => !Array.isArray(value), "must be an object");

const text = (what: string) => v.pipe(v.string(`must be ${what}`), v.nonEmpty(`must be ${what}`));

const Connect = v.strictObject({
  enabled: v.optional(v.boolean("must be true or false")),
  ca_provider: v.optional(text("the name of a provider")),
  ca_config: v.optional(
    v.pipe(v.unknown(), isObject, v.record(v.string(), v.unknown(), "must be an object")),
  ),
});

const Acl = v.strictObject({
  enabled: v.optional(v.boolean("must be true or false")),
  default_policy: v.optional(v.picklist(["allow", "deny"], "must be allow or deny")),
  down_policy: v.optional(v.string("must be a policy")),
  enable_token_persistence: v.optional(v.boolean("must be true or false")),
  enable_token_replication: v.optional(v.boolean("must be true or false")),
  enable_key_list_policy: v.optional(v.boolean("must be true or false")),
  policy_ttl: v.optional(v.string("must be a duration")),
  role_ttl: v.optional(v.string("must be a duration")),
  token_ttl: v.optional(v.string("must be a duration")),
  tokens: v.optional(
    v.pipe(
      v.unknown(),
      isObject,
      v.looseObject(
        { initial_management: v.optional(v.string("must be a token")) },
        "must be an object",
      ),
    ),
  ),
});

const port = v.pipe(
  v.number("must be a port"),
  v.integer("must be a port"),
  // Consul's form of "not at all".
  v.minValue(-1, "must be a port"),
  v.maxValue(65535, "must be a port"),
);

/**
 * The keys of Consul's `tls` stanzas that mean something here; the others are about its own RPC.
 */
const Stanza = v.looseObject(
  {
    ca_file: v.optional(text("a file")),
    cert_file: v.optional(text("a file")),
    key_file: v.optional(text("a file")),
    tls_min_version: v.optional(v.string("must be a version of TLS")),
    verify_incoming: v.optional(v.boolean("must be true or false")),
  },
  "must be an object",
);
const stanza = v.optional(v.pipe(v.unknown(), isObject, Stanza));
const Tls = v.looseObject({ defaults: stanza, https: stanza }, 'must be an object or "self"');

const File = v.looseObject({
  datacenter: v.optional(text("a name")),
  data_dir: v.optional(text("a folder")),
  log_level: v.optional(text("a level")),
  client_addr: v.optional(text("an address")),
  // Not Consul's: where the state is, in the form of MESHCA_STORE.
  store: v.optional(text("the URL of a store")),
  ports: v.optional(
    v.pipe(
      v.unknown(),
      isObject,
      v.looseObject({ http: v.optional(port), https: v.optional(port) }, "must be an object"),
    ),
  ),
  // "self" is not Consul's: a certificate of our own CA.
  tls: v.optional(
    v.lazy((value) => (value === "self" ? v.literal("self") : v.pipe(v.unknown(), isObject, Tls))),
  ),
  connect: v.optional(v.pipe(v.unknown(), isObject, Connect)),
  acl: v.optional(v.pipe(v.unknown(), isObject, Acl)),
  limits: v.optional(
    v.pipe(v.unknown(), isObject, v.record(v.string(), v.unknown(), "must be an object")),
  ),
});

/**
 * A cluster ID is a UUID in form (consul-ca.md §2.1); its version and variant bits are not looked
 * at (§3.3).
 */
const CLUSTER_ID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/**
 * Reads a configuration file.
 * @param configNames CamelCase names of provider configuration, which a file may write in
 * snake_case.
 * @param form HCL's faults are told with their places.
 * @throws {ConfigError} with every fault
 */
export function readConfigFile(
  content: string,
  configNames: readonly string[],
  form: "json" | "hcl" = "json",
): ConfigFile {
  const read =
    form === "hcl"
      ? readHclFile(content)
      : { json: parseJson(content), places: new Map<string, string>() };
  const { places } = read;
  const json = withoutBlockLists(read.json);
  const faults: Violation[] = [];
  const fault = (field: string, message: string) => {
    const place = places.get(field);
    const where = place === undefined ? field : `${field} (${place})`;
    faults.push({ code: "config_invalid", field, message: `${where}: ${message}` });
  };
  const parsed = v.safeParse(v.pipe(v.unknown(), isObject, File), json);
  for (const issue of parsed.issues ?? []) {
    const path = v.getDotPath(issue) ?? "configuration file";
    const [section, keys] = path.startsWith("acl.")
      ? ["acl", Object.keys(Acl.entries)]
      : ["connect", Object.keys(Connect.entries)];
    const near =
      issue.type === "strict_object" ? nearest(path.split(".").at(-1) ?? "", keys) : null;
    const unknown =
      near === null
        ? `is not a key of ${section}; known are ${keys.join(", ")}`
        : `is not a key of ${section}; did you mean ${near}?`;
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
    limits,
    ports,
    client_addr: address,
    datacenter,
    data_dir: dataDir,
    log_level: logLevel,
    store,
    acl,
    tls,
  } = parsed.success ? parsed.output : {};
  const { cluster_id: clusterId = null, ...caConfig } = connect?.ca_config ?? {};
  if (clusterId !== null && (typeof clusterId !== "string" || !CLUSTER_ID.test(clusterId)))
    fault("connect.ca_config.cluster_id", "must be a UUID");
  for (const pair of sameFields(connect?.ca_config ?? {}, "connect.ca_config"))
    fault(pair[1], sameFieldText(pair));
  const limitSettings = readLimits(limits ?? {}, ignored, fault);
  const listened = listenedOn(ports ?? {}, fault);
  // As with Consul, whose agents use the certificate for more: HTTPS is served where it has a port.
  const served = tls === "self" || listened.https;
  const tlsGiven =
    tls === "self" ? { MESHCA_TLS: "self" } : served && tls !== undefined ? tlsOf(tls, fault) : {};
  if (faults.length > 0)
    throw new ConfigError(faults.map(({ message }) => message).join("; "), faults);

  const settings: Record<string, string> = { ...limitSettings };
  if (datacenter !== undefined) settings.MESHCA_DATACENTER = datacenter;
  if (store !== undefined) settings.MESHCA_STORE = store;
  if (acl?.enabled === true) settings.MESHCA_ACL = acl.default_policy ?? "allow";
  if (acl?.enabled === false) settings.MESHCA_ACL = "off";
  if (acl?.tokens?.initial_management !== undefined)
    settings.MESHCA_INITIAL_MANAGEMENT_TOKEN = acl.tokens.initial_management;
  if (dataDir !== undefined) settings.MESHCA_DATA_DIR = dataDir;
  if (logLevel !== undefined)
    settings.MESHCA_LOG_LEVEL =
      logLevel === "trace" || logLevel === "TRACE" ? "debug" : logLevel.replace(/^err$/i, "error");
  if (address !== undefined || listened.port !== null)
    settings.MESHCA_LISTEN = `${address ?? "127.0.0.1"}:${listened.port ?? 8500}`;
  Object.assign(settings, tlsGiven);
  if (tls !== undefined && !served) ignored.push("tls");
  const says = connect?.ca_provider !== undefined || connect?.ca_config !== undefined;
  return {
    settings,
    connectEnabled: connect?.enabled ?? true,
    https: listened.https,
    bootstrap: says
      ? {
          provider: connect?.ca_provider ?? "consul",
          config: Object.fromEntries(
            Object.entries(caConfig).map(([key, value]) => [camelCase(key, configNames), value]),
          ),
          clusterId: clusterId === null ? null : (clusterId as string).toLowerCase(),
        }
      : null,
    ignored,
  };
}

/**
 * The keys that are read, with blocks that are lists of one object. None of them takes a list; what
 * is ignored stays as it is.
 */
function withoutBlockLists(json: unknown): unknown {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => [
      key,
      Object.hasOwn(File.entries, key) ? withoutListsOfOne(value) : value,
    ]),
  );
}

/** @throws {ConfigError} */
function parseJson(content: string): unknown {
  try {
    return readJsonFile(content);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError("the file is not JSON; a file in HCL has a name that ends in .hcl");
  }
}

/** The limits by the names of their environment variables, which hold their values to the rules. */
function readLimits(
  limits: Readonly<Record<string, unknown>>,
  ignored: string[],
  fault: Fault,
): Record<string, string> {
  const found: Record<string, string> = {};
  const read = (
    path: string,
    object: Readonly<Record<string, unknown>>,
    known: readonly string[],
    foreign: readonly string[],
  ) => {
    for (const [key, value] of Object.entries(object)) {
      const near = nearest(key, known);
      if (path === "limits" && key === "request_limits") {
        if (typeof value !== "object" || value === null || Array.isArray(value))
          fault(`${path}.${key}`, "must be an object");
        else read(`${path}.${key}`, value as Record<string, unknown>, REQUEST_LIMIT_KEYS, []);
      } else if (foreign.includes(key)) ignored.push(`${path}.${key}`);
      else if (!known.includes(key))
        fault(
          `${path}.${key}`,
          near === null
            ? `is not a limit; known are ${known.join(", ")}`
            : `is not a limit; did you mean ${near}?`,
        );
      else if (typeof value !== "string" && typeof value !== "number")
        fault(`${path}.${key}`, "must be a number or text");
      else found[limitVariable(key)] = String(value);
    }
  };
  read("limits", limits, [...LIMIT_KEYS, "request_limits"], CONSUL_LIMITS);
  return found;
}

/** Which port is served. There is one, with TLS or without. */
function listenedOn(
  ports: { http?: number | undefined; https?: number | undefined },
  fault: Fault,
): { port: number | null; https: boolean } {
  const { http, https = -1 } = ports;
  if (https >= 0 && http !== undefined && http >= 0)
    fault("ports.http", "is not served beside ports.https: set it to -1");
  if (https < 0 && http === -1)
    fault("ports.http", "cannot be -1 without ports.https: nothing would be served");
  return https >= 0 ? { port: https, https: true } : { port: http ?? null, https: false };
}

/** Consul's `tls` as settings: what is said for HTTPS counts before what is said for all. */
function tlsOf(
  { defaults, https }: v.InferOutput<typeof Tls>,
  fault: Fault,
): Record<string, string> {
  const of = { ...defaults, ...https };
  const settings: Record<string, string> = {};
  if (of.cert_file !== undefined) settings.MESHCA_TLS_CERT_FILE = of.cert_file;
  if (of.key_file !== undefined) settings.MESHCA_TLS_KEY_FILE = of.key_file;
  if (of.ca_file !== undefined) settings.MESHCA_TLS_CLIENT_CA_FILE = of.ca_file;
  if (of.verify_incoming === true) settings.MESHCA_TLS_CLIENT_CERT = "required";
  if (of.tls_min_version !== undefined && of.tls_min_version !== "TLSAUTO") {
    const version = /^TLSv1_([23])$/.exec(of.tls_min_version)?.[1];
    if (version === undefined)
      fault("tls.https.tls_min_version", "must be TLSv1_2 or TLSv1_3: nothing older is served");
    else settings.MESHCA_TLS_MIN_VERSION = `1.${version}`;
  }
  return settings;
}

/** `leaf_cert_ttl` as LeafCertTTL; a name that is none stays, and the provider refuses it. */
function camelCase(key: string, names: readonly string[]): string {
  const plain = key.replaceAll("_", "").toLowerCase();
  return names.find((name) => name.toLowerCase() === plain) ?? key;
}
