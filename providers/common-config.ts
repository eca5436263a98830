/**
 * The fields that the configurations of all providers share, with Consul's rules and texts
 * (agent/structs/connect_ca.go, CommonCAProviderConfig). As in Consul, names have any case, numbers
 * and booleans may be text, and a number as duration is in nanoseconds.
 * @module
 */
import * as v from "valibot";
import { formatDuration, parseDuration } from "../src/consul/duration.ts";
import { foldedName } from "../src/core/ca/config-fields.ts";
import { ConfigError, FormatError, type Violation } from "../src/core/errors.ts";
import { nearest } from "../src/core/nearest.ts";
import type { CommonConfig } from "../src/core/ports/provider.ts";
import type { ConfigMap } from "../src/core/state.ts";
import type { CaKeySpec } from "../src/core/x509/keys.ts";
import type { Faults } from "./faults.ts";
import { readDnsNames, readIpRanges } from "./service-names.ts";

const HOUR = 3_600_000;
/** The least RootAutoRotate: with a smaller one roots would follow each other faster than leaves end. */
const MIN_SHARE = 0.1;

/**
 * mapstructure's weak decoding of a JSON value, with its messages; null counts as absent.
 * @param decode gets the value, and a function that takes a fault and gives what it has to return.
 */
const decoder = <T>(decode: (value: unknown, fault: (message: string) => never) => T) =>
  v.rawTransform<unknown, T | undefined>(({ dataset: { value }, addIssue, NEVER }) => {
    const fault = (message: string) => {
      addIssue({ message });
      return NEVER;
    };
    return value === null ? undefined : decode(value, fault);
  });

const unconvertible = (type: string, value: unknown) =>
  `'{field}' expected type '${type}', got unconvertible type '${goType(value)}'`;

const syntaxError = (type: string, parser: string, value: string) =>
  `cannot parse '{field}' as ${type}: strconv.${parser}: parsing ${JSON.stringify(value)}: invalid syntax`;

const duration = decoder<number>((value, fault) => {
  try {
    if (typeof value === "string") return parseDuration(value);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return fault(`error decoding '{field}': ${error.message}`);
  }
  // Go's time.Duration is a number of nanoseconds.
  if (typeof value === "number") return value / 1e6;
  if (typeof value === "boolean") return value ? 1e-6 : 0;
  return fault(`${unconvertible("time.Duration", value)}, value: '${goValue(value)}'`);
});

const number = (goName: "int" | "float", parser: string) =>
  decoder<number>((value, fault) => {
    if (typeof value === "number") return goName === "int" ? Math.trunc(value) : value;
    if (typeof value === "boolean") return value ? 1 : 0;
    if (typeof value !== "string") {
      const type = goName === "int" ? "int" : "float32";
      return fault(`${unconvertible(type, value)}, value: '${goValue(value)}'`);
    }
    const text = value.trim();
    const isNumber =
      goName === "int" ? /^[+-]?\d+$/.test(text) : text !== "" && Number.isFinite(Number(text));
    return isNumber ? Number(text) : fault(syntaxError(goName, parser, value));
  });

export const text = decoder<string>((value, fault) => {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean") return value ? "1" : "0";
  // The value itself may be a secret.
  return fault(unconvertible("string", value));
});

export const bool = decoder<boolean>((value, fault) => {
  if (typeof value === "boolean") return value;
  if (typeof value === "number") return value !== 0;
  if (typeof value !== "string") return fault(unconvertible("bool", value));
  // strconv.ParseBool, and mapstructure's empty text.
  if (/^(?:1|t|T|TRUE|true|True)$/.test(value)) return true;
  if (/^(?:0|f|F|FALSE|false|False|)$/.test(value)) return false;
  return fault(syntaxError("bool", "ParseBool", value));
});

/** A list of texts. As in mapstructure, another value than a list counts as a list of that one. */
const texts = decoder<readonly string[]>((value, fault) => {
  const isEmptyMap =
    typeof value === "object" && !Array.isArray(value) && Object.keys(value ?? {}).length === 0;
  const list = isEmptyMap ? [] : Array.isArray(value) ? value : [value];
  const read: string[] = [];
  for (const [i, each] of list.entries()) {
    if (typeof each === "object" && each !== null)
      return fault(unconvertible("string", each).replace("{field}", `{field}[${i}]`));
    read.push(typeof each === "boolean" ? (each ? "1" : "0") : String(each ?? ""));
  }
  return read;
});

/** A field that may be absent, decoded by one of the above. */
export const field = <T>(decode: v.GenericSchema<unknown, T> | v.RawTransformAction<unknown, T>) =>
  v.optional(v.pipe(v.unknown(), decode as v.RawTransformAction<unknown, T>));

/** The fields of every provider, by Consul's CamelCase name. */
export const COMMON_FIELDS = {
  LeafCertTTL: field(duration),
  IntermediateCertTTL: field(duration),
  RootCertTTL: field(duration),
  RootAutoRotate: field(number("float", "ParseFloat")),
  PrivateKeyType: field(text),
  PrivateKeyBits: field(number("int", "ParseInt")),
  CSRMaxPerSecond: field(number("float", "ParseFloat")),
  CSRMaxConcurrent: field(number("int", "ParseInt")),
  ServiceDNSNames: field(texts),
  ServiceIPRanges: field(texts),
};

/**
 * Fields that Consul 1.16 puts into the configuration of every provider and ignores: an option
 * without effect that old guides name, and the cluster's id of the agent's file (agent/agent.go).
 * They are accepted, shown, and ignored.
 */
export const IGNORED_FIELDS = {
  RotationPeriod: v.optional(v.unknown()),
  ClusterID: v.optional(v.unknown()),
};

const Common = v.object(COMMON_FIELDS);

/**
 * The common fields with their defaults, held to Consul's rules.
 * @param faults gets what breaks them, in Consul's order and words.
 */
export function readCommon(
  fields: v.InferOutput<typeof Common>,
  faults: Faults,
): CommonConfig & { readonly keySpec: CaKeySpec } {
  const leafTtlMs = fields.LeafCertTTL ?? 72 * HOUR;
  const intermediateTtlMs = fields.IntermediateCertTTL ?? 8760 * HOUR;
  const rootTtlMs = fields.RootCertTTL ?? 87_600 * HOUR;
  const rootAutoRotate = fields.RootAutoRotate ?? 0;
  const type = fields.PrivateKeyType || "ec";
  const bits = fields.PrivateKeyBits || 256;
  faults.refuse(
    rootTtlMs < intermediateTtlMs,
    "RootCertTTL",
    `root cert TTL is set and is not greater than intermediate cert ttl. root cert ttl: ${formatDuration(rootTtlMs)}, intermediate cert ttl: ${formatDuration(intermediateTtlMs)}`,
  );
  faults.refuse(
    rootAutoRotate !== 0 && !(rootAutoRotate >= MIN_SHARE && rootAutoRotate < 1),
    "RootAutoRotate",
    `RootAutoRotate must be the share of the root's life after which it is rotated, from ${MIN_SHARE} to below 1 such as 0.8, or 0 for never`,
  );
  faults.refuse(
    leafTtlMs < HOUR,
    "LeafCertTTL",
    "leaf cert TTL must be greater or equal than 1h0m0s",
  );
  faults.refuse(
    leafTtlMs > 8760 * HOUR,
    "LeafCertTTL",
    "leaf cert TTL must be less than 8760h0m0s",
  );
  if (intermediateTtlMs < 3 * HOUR)
    faults.refuse(
      true,
      "IntermediateCertTTL",
      "Intermediate Cert TTL must be greater or equal than 3h",
    );
  else
    faults.refuse(
      intermediateTtlMs < 3 * leafTtlMs,
      "IntermediateCertTTL",
      `Intermediate Cert TTL must be greater or equal than 3 * LeafCertTTL (>=${formatDuration(3 * leafTtlMs)}).`,
    );
  // No WebCrypto has P-224.
  if (type === "ec")
    faults.refuse(
      ![256, 384, 521].includes(bits),
      "PrivateKeyBits",
      "EC key length must be one of (256, 384, 521) bits",
    );
  else if (type === "rsa")
    faults.refuse(
      ![2048, 4096].includes(bits),
      "PrivateKeyBits",
      "RSA key length must be 2048 or 4096 bits",
    );
  else faults.refuse(true, "PrivateKeyType", "private key type must be either 'ec' or 'rsa'");
  const perSecond = fields.CSRMaxPerSecond ?? 0;
  const concurrent = fields.CSRMaxConcurrent ?? 0;
  return {
    leafTtlMs,
    intermediateTtlMs,
    rootTtlMs,
    rootAutoRotate,
    csrMaxPerSecond: perSecond > 0 ? perSecond : null,
    csrMaxConcurrent: concurrent > 0 ? concurrent : null,
    serviceDnsNames: readDnsNames(fields.ServiceDNSNames, faults),
    serviceIpRanges: readIpRanges(fields.ServiceIPRanges ?? [], faults),
    keySpec: { type, bits } as CaKeySpec,
  };
}

/**
 * Finds each field by its name in any case, refuses unknown names, and decodes.
 * @throws {ConfigError} with every fault
 */
export function decodeConfig<T extends v.ObjectEntries>(
  schema: v.ObjectSchema<T, undefined>,
  config: ConfigMap,
): v.InferOutput<v.ObjectSchema<T, undefined>> {
  const names = Object.keys(schema.entries);
  const found: Record<string, unknown> = {};
  const unknown: Violation[] = [];
  for (const [key, value] of Object.entries(config)) {
    // Consul's agent passes fields that it does not know as the file has them: rotation_period.
    const isIgnored = (candidate: string) =>
      Object.hasOwn(IGNORED_FIELDS, candidate) && foldedName(candidate) === foldedName(key);
    const name = names.find(
      (candidate) => candidate.toLowerCase() === key.toLowerCase() || isIgnored(candidate),
    );
    // As in Go, the exact spelling wins over another case.
    if (name !== undefined)
      found[name] =
        Object.hasOwn(found, name) && Object.hasOwn(config, name) ? config[name] : value;
    else unknown.push({ field: key, message: unknownKey(key, names) });
  }
  if (unknown.length > 0)
    throw new ConfigError(unknown.map(({ message }) => message).join("; "), unknown);
  const result = v.safeParse(schema, found);
  if (result.success) return result.output;
  const faults = result.issues.map((issue): Violation => {
    const name = v.getDotPath(issue) ?? "";
    return { field: name, message: issue.message.replace("{field}", name) };
  });
  // mapstructure's form.
  const list = faults.map(({ message }) => `* ${message}`).join("\n");
  throw new ConfigError(
    `error decoding config: ${faults.length} error(s) decoding:\n\n${list}`,
    faults,
  );
}

/** How Go names the type of a decoded JSON value. */
function unknownKey(key: string, names: readonly string[]): string {
  if (foldedName(key) === foldedName("TrustDomain"))
    return `${JSON.stringify(key)} cannot be set in Config: the trust domain is fixed when the CA is created, by trust_domain in the configuration file`;
  const near = nearest(key.replaceAll("_", ""), names);
  const hint = near === null ? `known are ${names.join(", ")}` : `did you mean ${near}?`;
  return `unknown key ${JSON.stringify(key)} in Config, ${hint}`;
}

function goType(value: unknown): string {
  if (Array.isArray(value)) return "[]interface {}";
  if (typeof value === "object") return "map[string]interface {}";
  return typeof value === "string" ? "string" : typeof value === "number" ? "float64" : "bool";
}

/** How Go prints a decoded JSON value with %v. */
function goValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goValue).join(" ")}]`;
  if (typeof value !== "object" || value === null) return value === null ? "<nil>" : String(value);
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `map[${entries.map(([key, inner]) => `${key}:${goValue(inner)}`).join(" ")}]`;
}
