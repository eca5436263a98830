/**
 * Access control in Consul's JSON, both ways (api/acl.go, agent/structs/acl.go).
 * @module
 */
import * as v from "valibot";
import { formatDuration, parseDuration } from "../consul/duration.ts";
import { decodeFailed, goKind, type Json, writeJson } from "../consul/go-json.ts";
import {
  decodeStruct,
  goField,
  isBoolean,
  isObject,
  isString,
  isU64,
} from "../consul/go-struct.ts";
import type { NewTokenRequest, PolicyRequest } from "../core/acl/admin.ts";
import type { AuthMethod, BindingRule, Denial, Entry, Policy, Token } from "../core/acl/types.ts";
import { base64, sha256, utf8 } from "../core/bytes.ts";
import { FormatError, type RequestError } from "../core/errors.ts";

/** What Consul shows in place of a secret. */
const REDACTED = "<hidden>";

const isList = (value: Json): value is readonly Json[] => Array.isArray(value);
const text = (name: string) => goField(name, "string", isString);
const flag = (name: string) => goField(name, "bool", isBoolean);
const list = (name: string) => goField(name, "[]struct", isList);
const object = (name: string) => goField(name, "map[string]interface {}", isObject);
const any = v.unknown();
/**
 * What Go's client sends along because its structs have it, and what means nothing in a request.
 */
const ECHOED = {
  Hash: any,
  CreateTime: any,
  CreateIndex: goField("CreateIndex", "uint64", isU64),
  ModifyIndex: goField("ModifyIndex", "uint64", isU64),
};
/**
 * Consul Enterprise's: only the one namespace and partition that there are, since rights do not
 * tell others apart.
 */
export const onlyDefault = (name: string, what: "Namespaces" | "Partitions") =>
  goField(name, "string", isString, (value) =>
    value === "" || value === "default"
      ? null
      : `Invalid ${name} ${JSON.stringify(value)} - ${what} are a Consul Enterprise feature`,
  );
const ENTERPRISE = {
  Namespace: onlyDefault("Namespace", "Namespaces"),
  Partition: onlyDefault("Partition", "Partitions"),
};

const TokenBody = {
  AccessorID: text("AccessorID"),
  SecretID: text("SecretID"),
  Description: text("Description"),
  Policies: list("Policies"),
  Roles: list("Roles"),
  TemplatedPolicies: list("TemplatedPolicies"),
  ServiceIdentities: list("ServiceIdentities"),
  NodeIdentities: list("NodeIdentities"),
  Local: flag("Local"),
  AuthMethod: text("AuthMethod"),
  AuthMethodNamespace: onlyDefault("AuthMethodNamespace", "Namespaces"),
  ExpirationTTL: any,
  ExpirationTime: text("ExpirationTime"),
  ...ECHOED,
  ...ENTERPRISE,
};
const Link = { ID: text("ID"), Name: text("Name") };
const ServiceIdentityBody = { ServiceName: text("ServiceName"), Datacenters: list("Datacenters") };
const NodeIdentityBody = { NodeName: text("NodeName"), Datacenter: text("Datacenter") };
const PolicyBody = {
  ID: text("ID"),
  Name: text("Name"),
  Description: text("Description"),
  Rules: text("Rules"),
  Datacenters: list("Datacenters"),
  ...ECHOED,
  ...ENTERPRISE,
};
const MethodBody = {
  ID: text("ID"),
  Name: text("Name"),
  Type: text("Type"),
  DisplayName: text("DisplayName"),
  Description: text("Description"),
  MaxTokenTTL: any,
  TokenLocality: text("TokenLocality"),
  Config: object("Config"),
  NamespaceRules: goField("NamespaceRules", "[]struct", isList, (rules) =>
    rules.length === 0
      ? null
      : "Invalid NamespaceRules - Namespaces are a Consul Enterprise feature",
  ),
  ...ECHOED,
  ...ENTERPRISE,
};
const RuleBody = {
  ID: text("ID"),
  Description: text("Description"),
  AuthMethod: text("AuthMethod"),
  BindType: text("BindType"),
  BindName: text("BindName"),
  BindVars: any,
  Selector: text("Selector"),
  ...ECHOED,
  ...ENTERPRISE,
};

type Fields<T extends Readonly<Record<string, v.GenericSchema>>> = {
  readonly [K in keyof T]: v.InferOutput<T[K]>;
};

/** Decodes a body as Go does. @throws {RequestError} `request_malformed` */
export function decodeBody<T extends Readonly<Record<string, v.GenericSchema>>>(
  fields: T,
  body: Json,
  goName: string,
): Fields<T> {
  return decodeStruct(fields, body, goName) as unknown as Fields<T>;
}

/** Decodes Go's map[string]string. @throws {RequestError} `request_malformed` */
export function decodeTexts(
  value: { readonly [key: string]: Json } | null,
  name: string,
): Record<string, string> {
  const entries = Object.entries(value ?? {}).map(([key, item]) => {
    // encoding/json leaves a string as it is where null stands.
    if (item === null) return [key, ""] as const;
    if (typeof item !== "string")
      throw decodeFailed(
        `json: cannot unmarshal ${goKind(item)} into Go struct field .${name} of type string`,
      );
    return [key, item] as const;
  });
  return Object.fromEntries(entries);
}

const strings = (value: readonly Json[] | null, name: string): string[] =>
  (value ?? []).map((item) => {
    if (typeof item !== "string")
      throw decodeFailed(`json: cannot unmarshal into Go struct field .${name} of type string`);
    return item;
  });

/** A duration as Go's client writes it: nanoseconds, or text. */
function durationMs(value: unknown, name: string): number | undefined {
  if (value === null || value === undefined || value === 0 || value === "") return undefined;
  if (typeof value === "number" || typeof value === "bigint") {
    // Go's time.Duration is an int64 of nanoseconds.
    if (BigInt.asIntN(64, wholeOf(value, name)) !== wholeOf(value, name))
      throw notDuration(value, name);
    return Number(value) / 1_000_000;
  }
  try {
    if (typeof value === "string") return parseDuration(value);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
  throw decodeFailed(`${name} must be a duration`);
}

function wholeOf(value: number | bigint, name: string): bigint {
  if (typeof value === "number" && !Number.isInteger(value)) throw notDuration(value, name);
  return BigInt(value);
}

/** encoding/json's words for a number that is no int64. */
function notDuration(value: number | bigint, name: string): RequestError {
  return decodeFailed(
    `json: cannot unmarshal number ${value} into Go struct field .${name} of type time.Duration`,
  );
}

/** Every repetition has another first character than what follows it. */
const RFC3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;

/**
 * Date goes on to the next month behind the last day of one, and to the next day at 24:00; RFC 3339
 * section 5.7 has neither.
 */
function isOnCalendar(value: string): boolean {
  const day = value.slice(0, "2006-01-02".length);
  const hour = value.slice(day.length + 1, day.length + 3);
  return hour !== "24" && new Date(`${day}T00:00:00Z`).toISOString().startsWith(day);
}

function instant(value: string | null, name: string): Date | undefined {
  if (value === null) return undefined;
  const time = new Date(value);
  if (!RFC3339.test(value) || Number.isNaN(time.getTime()) || !isOnCalendar(value))
    throw decodeFailed(`parsing time ${JSON.stringify(value)} as RFC 3339: ${name}`);
  return time;
}

/**
 * A token as it is asked for. What is left out is empty, for a new one and for one that is changed.
 */
export function decodeToken(body: Json): NewTokenRequest {
  const fields = decodeBody(TokenBody, body, "structs.ACLToken");
  for (const name of ["Roles", "TemplatedPolicies"] as const)
    if ((fields[name] ?? []).length > 0)
      throw decodeFailed(
        `${name} are not supported; use Policies, ServiceIdentities or NodeIdentities`,
      );
  return {
    accessorId: fields.AccessorID || null,
    secret: fields.SecretID || null,
    description: fields.Description ?? "",
    policies: (fields.Policies ?? []).map((link) => {
      const { ID, Name } = decodeBody(Link, link, "structs.ACLTokenPolicyLink");
      return { id: ID ?? "", name: Name ?? "" };
    }),
    serviceIdentities: (fields.ServiceIdentities ?? []).map((identity) => {
      const { ServiceName, Datacenters } = decodeBody(
        ServiceIdentityBody,
        identity,
        "structs.ACLServiceIdentity",
      );
      return { serviceName: ServiceName ?? "", datacenters: strings(Datacenters, "Datacenters") };
    }),
    nodeIdentities: (fields.NodeIdentities ?? []).map((identity) => {
      const { NodeName, Datacenter } = decodeBody(
        NodeIdentityBody,
        identity,
        "structs.ACLNodeIdentity",
      );
      return { nodeName: NodeName ?? "", datacenter: Datacenter ?? "" };
    }),
    local: fields.Local ?? false,
    expirationTtlMs: durationMs(fields.ExpirationTTL, "ExpirationTTL") ?? null,
    expirationTime: instant(fields.ExpirationTime, "ExpirationTime") ?? null,
  };
}

export function decodePolicy(body: Json): PolicyRequest & { readonly id: string | null } {
  const fields = decodeBody(PolicyBody, body, "structs.ACLPolicy");
  return {
    id: fields.ID,
    name: fields.Name ?? "",
    description: fields.Description ?? "",
    rules: fields.Rules ?? "",
    datacenters: strings(fields.Datacenters, "Datacenters"),
  };
}

export function decodeMethod(body: Json): AuthMethod {
  const fields = decodeBody(MethodBody, body, "structs.ACLAuthMethod");
  const type = fields.Type ?? "";
  if (type !== "jwt" && type !== "kubernetes")
    throw decodeFailed(`Invalid Auth Method: Type should be one of [jwt kubernetes]`);
  return {
    name: fields.Name ?? "",
    type,
    displayName: fields.DisplayName ?? "",
    description: fields.Description ?? "",
    maxTokenTtlMs: durationMs(fields.MaxTokenTTL, "MaxTokenTTL") ?? 0,
    config: fields.Config ?? {},
  };
}

export function decodeRule(body: Json): BindingRule {
  const fields = decodeBody(RuleBody, body, "structs.ACLBindingRule");
  const bindType = fields.BindType ?? "";
  if (bindType !== "service" && bindType !== "node")
    throw decodeFailed("Invalid Binding Rule: BindType must be service or node");
  return {
    id: fields.ID ?? "",
    description: fields.Description ?? "",
    authMethod: fields.AuthMethod ?? "",
    bindType,
    bindName: fields.BindName ?? "",
    selector: fields.Selector ?? "",
  };
}

const stamp = ({ createIndex, modifyIndex }: Entry<unknown>) => ({
  CreateIndex: createIndex,
  ModifyIndex: modifyIndex,
});
const hash = (content: Json) => base64(sha256(utf8(writeJson(content, false))));

/**
 * @param nameOf the name of a policy by its id.
 * @param secretId shown where the token is made, and never again.
 */
export function tokenJson(
  entry: Entry<Token>,
  nameOf: (id: string) => string | null,
  secretId: string = REDACTED,
): Json {
  const { value } = entry;
  const content = {
    Description: value.description,
    ...(value.policies.length === 0
      ? {}
      : { Policies: value.policies.map((id) => ({ ID: id, Name: nameOf(id) ?? "" })) }),
    ...(value.serviceIdentities.length === 0
      ? {}
      : {
          ServiceIdentities: value.serviceIdentities.map(({ serviceName, datacenters }) => ({
            ServiceName: serviceName,
            ...(datacenters.length === 0 ? {} : { Datacenters: datacenters }),
          })),
        }),
    ...(value.nodeIdentities.length === 0
      ? {}
      : {
          NodeIdentities: value.nodeIdentities.map(({ nodeName, datacenter }) => ({
            NodeName: nodeName,
            Datacenter: datacenter,
          })),
        }),
    Local: value.local,
    ...(value.authMethod === null ? {} : { AuthMethod: value.authMethod }),
    ...(value.expirationTime === null
      ? {}
      : { ExpirationTime: value.expirationTime.toISOString() }),
  };
  return {
    ...stamp(entry),
    AccessorID: value.accessorId,
    SecretID: secretId,
    ...content,
    CreateTime: value.createTime.toISOString(),
    Hash: hash(content),
  };
}

export function policyJson(
  entry: Entry<Policy>,
  { rules: withRules }: { readonly rules: boolean },
): Json {
  const { id, name, description, rules, datacenters } = entry.value;
  const content = {
    Name: name,
    Description: description,
    Rules: rules,
    ...(datacenters.length === 0 ? {} : { Datacenters: datacenters }),
  };
  const { Rules, ...stub } = content;
  return { ID: id, ...(withRules ? content : stub), Hash: hash(content), ...stamp(entry) };
}

export function methodJson(
  entry: Entry<AuthMethod>,
  { config: withConfig }: { readonly config: boolean },
): Json {
  const { name, type, displayName, description, maxTokenTtlMs, config } = entry.value;
  return {
    Name: name,
    Type: type,
    ...(displayName === "" ? {} : { DisplayName: displayName }),
    Description: description,
    ...(maxTokenTtlMs === 0 ? {} : { MaxTokenTTL: formatDuration(maxTokenTtlMs) }),
    // Issuers, audiences and public keys: there is no secret in it.
    ...(withConfig ? { Config: config as { readonly [key: string]: Json } } : {}),
    ...stamp(entry),
  };
}

export function ruleJson(entry: Entry<BindingRule>): Json {
  const { id, description, authMethod, bindType, bindName, selector } = entry.value;
  return {
    ID: id,
    Description: description,
    AuthMethod: authMethod,
    Selector: selector,
    BindType: bindType,
    BindName: bindName,
    ...stamp(entry),
  };
}

const DENIAL_FIELDS = {
  "spiffe-id": "SPIFFEID",
  "key-id": "KeyID",
  serial: "SerialNumber",
} as const;
const DenialBody = {
  SPIFFEID: text("SPIFFEID"),
  KeyID: text("KeyID"),
  SerialNumber: text("SerialNumber"),
  Reason: text("Reason"),
};

export function decodeDenial(body: Json): {
  readonly kind: Denial["kind"];
  readonly value: string;
  readonly reason: string;
} {
  const fields = decodeBody(DenialBody, body, "denial");
  const given = (Object.keys(DENIAL_FIELDS) as Denial["kind"][]).filter(
    (kind) => fields[DENIAL_FIELDS[kind]] !== null,
  );
  const [kind] = given;
  if (kind === undefined || given.length > 1)
    throw decodeFailed(
      "the body must have one of SPIFFEID, KeyID and SerialNumber, and may have Reason",
    );
  return { kind, value: fields[DENIAL_FIELDS[kind]] ?? "", reason: fields.Reason ?? "" };
}

export function denialJson(entry: Entry<Denial>): Json {
  const { id, kind, value, reason, createTime, expirationTime } = entry.value;
  return {
    ID: id,
    [DENIAL_FIELDS[kind]]: value,
    Reason: reason,
    CreateTime: createTime.toISOString(),
    ExpirationTime: expirationTime.toISOString(),
    ...stamp(entry),
  };
}
