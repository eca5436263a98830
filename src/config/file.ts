/**
 * The configuration file, in the form of Consul's own agent: JSON or HCL with `datacenter`,
 * `connect` and a few more. Keys of Consul's agent that have no meaning here are listed and ignored;
 * every other key is refused.
 * @module
 */
import * as v from "valibot";
import { CONSUL_AGENT_KEYS } from "../consul/agent-keys.ts";
import { sameFields, sameFieldText } from "../core/ca/config-fields.ts";
import { ConfigError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { trustDomainFault } from "../core/spiffe/trust-domain.ts";
import { Faults } from "./faults.ts";
import { Acl, Connect, File, type FileKeys, type Ports } from "./file-schema.ts";
import { readSyntax, withoutListsOfOne } from "./file-syntax.ts";
import { CONSUL_LIMITS, LIMIT_KEYS, limitVariable, REQUEST_LIMIT_KEYS } from "./limits.ts";

export interface ConfigFile {
  /** The settings in the file, by their environment variables. */
  readonly settings: Readonly<Record<string, string>>;
  readonly connectEnabled: boolean;
  /** Whether `ports.https` requests TLS. */
  readonly https: boolean;
  /** The CA configuration of the first start; null if the file has none. */
  readonly bootstrap: {
    readonly provider: string;
    readonly config: Readonly<Record<string, unknown>>;
    readonly clusterId: string | null;
    /** Null: that of the cluster ID. */
    readonly trustDomain: string | null;
  } | null;
  readonly ignored: readonly string[];
}

type AddFault = (field: string, reason: string) => void;

/** A cluster ID is a UUID in form; its version and variant bits do not matter, as in Consul. */
const CLUSTER_ID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/**
 * Reads a configuration file.
 * @param configNames CamelCase names of provider configuration, which a file may write in
 * snake_case.
 * @throws {ConfigError} with every fault; of HCL with their places
 */
export function readConfigFile(
  content: string,
  configNames: readonly string[],
  form: "json" | "hcl" = "json",
): ConfigFile {
  const { json: syntax, places } = readSyntax(content, form);
  const json = withoutBlockLists(syntax);
  const faults = new Faults();
  const fault: AddFault = (field, reason) => faults.add(field, reason, places.get(field));
  const ignored: string[] = [];
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError("the configuration must be an object at its top level");
  const parsed = v.safeParse(File, json);
  for (const issue of parsed.issues ?? []) {
    const path = v.getDotPath(issue) ?? "";
    fault(path, issue.type === "strict_object" ? unknownKey(path) : issue.message);
  }
  ignored.push(...ignoredKeys(json, fault));
  const keys: FileKeys = parsed.success ? parsed.output : {};
  const bootstrap = readBootstrap(keys.connect, configNames, fault);
  const limits = readLimits(keys.limits ?? {}, ignored, fault);
  const listened = readPorts(keys.ports ?? {}, fault);
  // As Consul, whose agents also use the certificate elsewhere: HTTPS is served if it has a port.
  const isTlsServed = keys.tls === "self" || listened.https;
  const tls = isTlsServed ? readTls(keys.tls, fault) : {};
  if (keys.tls !== undefined && !isTlsServed) ignored.push("tls");
  if (faults.any) throw new ConfigError(faults.messages.join("; "), faults.violations);
  return {
    settings: { ...limits, ...readPlainKeys(keys, listened.port), ...tls },
    connectEnabled: keys.connect?.enabled ?? true,
    https: listened.https,
    bootstrap,
    ignored,
  };
}

function unknownKey(path: string): string {
  const [section, keys] = path.startsWith("acl.")
    ? ["acl", Object.keys(Acl.entries)]
    : ["connect", Object.keys(Connect.entries)];
  return `is not a key of ${section}; ${suggestion(path.split(".").at(-1) ?? "", keys)}`;
}

function suggestion(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === null ? `known are ${known.join(", ")}` : `did you mean ${near}?`;
}

/** The keys that only Consul's agent has; every other unknown key is a fault. */
function ignoredKeys(json: unknown, fault: AddFault): string[] {
  const known = [...Object.keys(File.entries), ...CONSUL_AGENT_KEYS];
  const others = Object.keys(typeof json === "object" && json !== null ? json : {}).filter(
    (key) => !Object.hasOwn(File.entries, key),
  );
  for (const key of others) {
    if (CONSUL_AGENT_KEYS.includes(key)) continue;
    const near = nearest(key, known);
    const meant = near === null ? "" : `; did you mean ${near}?`;
    fault(key, `is not a key of Consul's agent configuration${meant}`);
  }
  return others.filter((key) => CONSUL_AGENT_KEYS.includes(key));
}

/** Replaces blocks that are lists of one object in the keys that are read; none of them is a list. */
function withoutBlockLists(json: unknown): unknown {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => [
      key,
      Object.hasOwn(File.entries, key) ? withoutListsOfOne(value) : value,
    ]),
  );
}

function readBootstrap(
  connect: FileKeys["connect"],
  configNames: readonly string[],
  fault: AddFault,
): ConfigFile["bootstrap"] {
  const { ca_provider: provider, ca_config: given } = connect ?? {};
  const { cluster_id: clusterId = null, trust_domain: trustDomain = null, ...config } = given ?? {};
  const isClusterId = typeof clusterId === "string" && CLUSTER_ID.test(clusterId);
  if (clusterId !== null && !isClusterId) fault("connect.ca_config.cluster_id", "must be a UUID");
  const domainFault =
    typeof trustDomain === "string"
      ? trustDomainFault(trustDomain)
      : "must be the name of a trust domain, such as mesh.example.com";
  if (trustDomain !== null && domainFault !== null)
    fault("connect.ca_config.trust_domain", domainFault);
  for (const pair of sameFields(given ?? {}, "connect.ca_config"))
    fault(pair[1], sameFieldText(pair));
  if (provider === undefined && given === undefined) return null;
  return {
    provider: provider ?? "consul",
    config: Object.fromEntries(
      Object.entries(config).map(([key, value]) => [camelCase(key, configNames), value]),
    ),
    clusterId: isClusterId ? clusterId.toLowerCase() : null,
    trustDomain: typeof trustDomain === "string" ? trustDomain : null,
  };
}

/** The limits by their environment variables, whose schemas check the values. */
function readLimits(
  limits: Readonly<Record<string, unknown>>,
  ignored: string[],
  fault: AddFault,
): Record<string, string> {
  const found: Record<string, string> = {};
  const read = (path: string, given: object, known: readonly string[]) => {
    for (const [key, value] of Object.entries(given)) {
      const field = `${path}.${key}`;
      if (field === "limits.request_limits") {
        if (typeof value !== "object" || value === null || Array.isArray(value))
          fault(field, "must be an object");
        else read(field, value, REQUEST_LIMIT_KEYS);
      } else if (path === "limits" && CONSUL_LIMITS.includes(key)) ignored.push(field);
      else if (!known.includes(key)) fault(field, `is not a limit; ${suggestion(key, known)}`);
      else if (typeof value !== "string" && typeof value !== "number")
        fault(field, "must be a number or text");
      else found[limitVariable(key)] = String(value);
    }
  };
  read("limits", limits, [...LIMIT_KEYS, "request_limits"]);
  return found;
}

/** The one port that is served, with TLS or without. */
function readPorts(
  { http, https = -1 }: v.InferOutput<typeof Ports>,
  fault: AddFault,
): { port: number | null; https: boolean } {
  if (https >= 0 && http !== undefined && http >= 0)
    fault("ports.http", "cannot be served together with ports.https: set it to -1");
  if (https < 0 && http === -1)
    fault("ports.http", "cannot be -1 without ports.https: nothing would be served");
  return https >= 0 ? { port: https, https: true } : { port: http ?? null, https: false };
}

/** Consul's `tls` as settings; keys of `https` override those of `defaults`. */
function readTls(tls: FileKeys["tls"], fault: AddFault): Record<string, string> {
  if (tls === "self") return { MESHCA_TLS: "self" };
  const keys = { ...tls?.defaults, ...tls?.https };
  const version = /^TLSv1_([23])$/.exec(keys.tls_min_version ?? "")?.[1];
  const isDefault = keys.tls_min_version === undefined || keys.tls_min_version === "TLSAUTO";
  if (version === undefined && !isDefault)
    fault(
      "tls.https.tls_min_version",
      "must be TLSv1_2 or TLSv1_3: older versions are not supported",
    );
  return defined({
    MESHCA_TLS_CERT_FILE: keys.cert_file,
    MESHCA_TLS_KEY_FILE: keys.key_file,
    MESHCA_TLS_CLIENT_CA_FILE: keys.ca_file,
    MESHCA_TLS_CLIENT_CERT: keys.verify_incoming === true ? "required" : undefined,
    MESHCA_TLS_MIN_VERSION: version === undefined ? undefined : `1.${version}`,
  });
}

function readPlainKeys(keys: FileKeys, port: number | null): Record<string, string> {
  const { acl, client_addr: address, log_level: level, primary_servers: servers } = keys;
  const { datacenters } = keys;
  const isAclSet = acl?.enabled !== undefined;
  const isListenSet = address !== undefined || port !== null;
  return defined({
    MESHCA_DATACENTER: keys.datacenter,
    MESHCA_PRIMARY_DATACENTER: keys.primary_datacenter,
    MESHCA_PRIMARY_SERVERS: servers === undefined ? undefined : [servers].flat().join(),
    MESHCA_PRIMARY_CA_FILE: keys.primary_ca_file,
    MESHCA_PRIMARY_CA_PIN: keys.primary_ca_pin,
    MESHCA_REPLICATION_TOKEN: acl?.tokens?.replication,
    MESHCA_DATACENTERS: datacenters === undefined ? undefined : JSON.stringify(datacenters),
    MESHCA_STORE: keys.store,
    MESHCA_ACL: isAclSet ? (acl.enabled ? (acl.default_policy ?? "allow") : "off") : undefined,
    MESHCA_INITIAL_MANAGEMENT_TOKEN: acl?.tokens?.initial_management,
    MESHCA_DATA_DIR: keys.data_dir,
    MESHCA_LOG_LEVEL: level?.replace(/^(trace|TRACE)$/, "debug").replace(/^err$/i, "error"),
    MESHCA_LISTEN: isListenSet ? `${address ?? "127.0.0.1"}:${port ?? 8500}` : undefined,
  });
}

function defined(settings: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(settings).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]],
    ),
  );
}

/** `leaf_cert_ttl` as LeafCertTTL. An unknown name stays, and the provider refuses it. */
function camelCase(key: string, names: readonly string[]): string {
  const plain = key.replaceAll("_", "").toLowerCase();
  return names.find((name) => name.toLowerCase() === plain) ?? key;
}
