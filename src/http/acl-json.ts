/**
 * Access control in Consul's JSON (api/acl.go, agent/structs/acl.go): one struct for each type, which
 * decodes requests and encodes responses.
 * @module
 */
import * as v from "valibot";
import { formatDuration, parseDuration } from "../consul/duration.ts";
import { decodeFailed, goKind, type Json, writeJson } from "../consul/go-json.ts";
import * as go from "../consul/go-struct.ts";
import type {
  AclAdmin,
  Link,
  NewTokenRequest,
  PolicyTemplate,
  RoleRequest,
} from "../core/acl/admin.ts";
import type {
  AclPolicy,
  AclRole,
  AuthMethod,
  BindingRule,
  DenylistEntry,
  Entry,
  NodeIdentity,
  ServiceIdentity,
  TemplatedPolicy,
  Token,
} from "../core/acl/types.ts";
import { base64, sha256, utf8 } from "../core/bytes.ts";
import { type RequestError, readOrNull } from "../core/errors.ts";

/** Namespaces and partitions are Consul Enterprise's; here there is only the default one. */
export const onlyDefault = (name: string, what: "Namespaces" | "Partitions") =>
  v.pipe(
    go.string(name),
    v.check(
      (value) => value === "" || value === "default",
      ({ input }) =>
        `Invalid ${name} ${JSON.stringify(input)} - ${what} are a Consul Enterprise feature`,
    ),
  );

/** Fields that Go's client sends since its structs have them, and that requests do not need. */
const COMMON = {
  Hash: go.any(),
  CreateTime: go.any(),
  CreateIndex: go.uint64("CreateIndex"),
  ModifyIndex: go.uint64("ModifyIndex"),
  Namespace: onlyDefault("Namespace", "Namespaces"),
  Partition: onlyDefault("Partition", "Partitions"),
};
/** Decodes Go's map[string]string. @throws {RequestError} `request_malformed` */
export function decodeTexts(value: go.JsonObject | null, name: string): Record<string, string> {
  const entries = Object.entries(value ?? {}).map(([key, item]) => {
    // encoding/json decodes null to the empty string.
    if (item === null) return [key, ""] as const;
    if (typeof item !== "string")
      throw decodeFailed(
        `json: cannot unmarshal ${goKind(item)} into Go struct field .${name} of type string`,
      );
    return [key, item] as const;
  });
  return Object.fromEntries(entries);
}

/** A duration as Go's client writes it, nanoseconds or text, in milliseconds; null if missing. */
function durationMs(value: Json, name: string): number | null {
  if (value === null || value === 0 || value === "") return null;
  if (typeof value === "number" || typeof value === "bigint") {
    // Go's time.Duration is an int64 of nanoseconds.
    if (typeof value === "number" && !Number.isInteger(value)) throw notDuration(value, name);
    if (BigInt.asIntN(64, BigInt(value)) !== BigInt(value)) throw notDuration(value, name);
    return Number(value) / 1_000_000;
  }
  const ms = typeof value === "string" ? readOrNull(() => parseDuration(value)) : null;
  if (ms === null) throw decodeFailed(`${name} must be a duration`);
  return ms;
}

/** encoding/json's error for a number that is no int64. */
function notDuration(value: number | bigint, name: string): RequestError {
  return decodeFailed(
    `json: cannot unmarshal number ${value} into Go struct field .${name} of type time.Duration`,
  );
}

/** Each repetition begins with another character than what follows it, so matching is linear. */
const RFC3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;

/** Whether day and hour exist (RFC 3339 section 5.7): Date accepts February 30 and 24:00. */
function isOnCalendar(value: string): boolean {
  const day = value.slice(0, "2006-01-02".length);
  const hour = value.slice(day.length + 1, day.length + 3);
  return hour !== "24" && new Date(`${day}T00:00:00Z`).toISOString().startsWith(day);
}

function instant(value: string | null, name: string): Date | null {
  if (value === null) return null;
  const time = new Date(value);
  if (!RFC3339.test(value) || Number.isNaN(time.getTime()) || !isOnCalendar(value))
    throw decodeFailed(`parsing time ${JSON.stringify(value)} as RFC 3339: ${name}`);
  return time;
}

const link = (goName: string) =>
  new go.Struct<Link>(goName, { id: go.text("ID"), name: go.text("Name") });
const serviceIdentity = new go.Struct<ServiceIdentity>("structs.ACLServiceIdentity", {
  serviceName: go.text("ServiceName"),
  datacenters: go.texts("Datacenters"),
});
const nodeIdentity = new go.Struct<NodeIdentity>("structs.ACLNodeIdentity", {
  nodeName: go.text("NodeName"),
  datacenter: go.text("Datacenter"),
});

const Variables = { Name: go.string("Name") };

/** The variable `name` in an object of variables; empty if it is missing. @throws {RequestError} */
function readVariable(value: Json): string {
  if (value === null) return "";
  return go.decodeStruct(Variables, value, "structs.ACLTemplatedPolicyVariables").Name ?? "";
}
/** A variable in an object of its own; omitted if it is empty. */
const variables = (name: string) =>
  go.field<string, go.JsonObject>(name, go.map, readVariable, (value) =>
    value === "" ? undefined : { Name: value },
  );

const templatedPolicy = new go.Struct<TemplatedPolicy>(
  "structs.ACLTemplatedPolicy",
  {
    templateName: go.text("TemplateName"),
    name: variables("TemplateVariables"),
    datacenters: go.texts("Datacenters"),
  },
  { TemplateID: go.string("TemplateID") },
);

const identities = {
  serviceIdentities: go.structs("ServiceIdentities", serviceIdentity),
  nodeIdentities: go.structs("NodeIdentities", nodeIdentity),
  templatedPolicies: go.structs("TemplatedPolicies", templatedPolicy),
};

interface TokenBody extends Required<NewTokenRequest> {
  readonly authMethod: string | null;
}

const token = new go.Struct<TokenBody>(
  "structs.ACLToken",
  {
    accessorId: go.textOrNull("AccessorID"),
    secret: go.textOrNull("SecretID"),
    description: go.text("Description"),
    policies: go.structs("Policies", link("structs.ACLTokenPolicyLink")),
    roles: go.structs("Roles", link("structs.ACLTokenRoleLink")),
    ...identities,
    local: go.field("Local", go.bool, (value) => value ?? false, go.same),
    // Only a login sets it.
    authMethod: go.field<string | null, string>("AuthMethod", go.string, () => null, go.omitEmpty),
    expirationTtlMs: go.field<number | null, Json>(
      "ExpirationTTL",
      go.any,
      (value) => durationMs(value, "ExpirationTTL"),
      () => undefined,
    ),
    expirationTime: go.field<Date | null, string>(
      "ExpirationTime",
      go.string,
      (value) => instant(value, "ExpirationTime"),
      (value) => value?.toISOString(),
    ),
  },
  {
    AuthMethodNamespace: onlyDefault("AuthMethodNamespace", "Namespaces"),
    ...COMMON,
  },
);

const policy = new go.Struct<AclPolicy>(
  "structs.ACLPolicy",
  {
    id: go.text("ID"),
    name: go.text("Name"),
    description: go.text("Description"),
    rules: go.text("Rules"),
    datacenters: go.texts("Datacenters"),
  },
  COMMON,
);

interface RoleBody extends Required<RoleRequest> {
  readonly id: string;
}

const role = new go.Struct<RoleBody>(
  "structs.ACLRole",
  {
    id: go.text("ID"),
    name: go.text("Name"),
    description: go.text("Description"),
    policies: go.structs("Policies", link("structs.ACLRolePolicyLink")),
    ...identities,
  },
  COMMON,
);

const authMethod = new go.Struct<Omit<AuthMethod, "id">>(
  "structs.ACLAuthMethod",
  {
    name: go.text("Name"),
    type: go.oneOf(
      "Type",
      ["jwt", "kubernetes"],
      "Invalid Auth Method: Type should be one of [jwt kubernetes]",
    ),
    displayName: go.optionalText("DisplayName"),
    description: go.text("Description"),
    maxTokenTtlMs: go.field<number, Json>(
      "MaxTokenTTL",
      go.any,
      (value) => durationMs(value, "MaxTokenTTL") ?? 0,
      (value) => (value === 0 ? undefined : formatDuration(value)),
    ),
    config: go.field<AuthMethod["config"], go.JsonObject>(
      "Config",
      go.map,
      (value) => value ?? {},
      // It came in as JSON. Issuers, audiences and public keys are not secret.
      (value) => value as go.JsonObject,
    ),
  },
  {
    ID: go.string("ID"),
    TokenLocality: go.string("TokenLocality"),
    NamespaceRules: v.pipe(
      go.list("NamespaceRules"),
      v.check(
        (rules) => rules.length === 0,
        "Invalid NamespaceRules - Namespaces are a Consul Enterprise feature",
      ),
    ),
    ...COMMON,
  },
);

const bindingRule = new go.Struct<BindingRule>(
  "structs.ACLBindingRule",
  {
    id: go.text("ID"),
    description: go.text("Description"),
    authMethod: go.text("AuthMethod"),
    selector: go.text("Selector"),
    bindType: go.oneOf(
      "BindType",
      ["service", "node", "role", "policy", "templated-policy"],
      "Invalid Binding Rule: BindType must be service, node, role, policy or templated-policy",
    ),
    bindName: go.text("BindName"),
    bindVariable: go.field<string | undefined, go.JsonObject>(
      "BindVars",
      go.map,
      (value) => readVariable(value) || undefined,
      (value) => (value === undefined ? undefined : { Name: value }),
    ),
  },
  COMMON,
);

export const decodeToken = (body: Json): NewTokenRequest => token.decode(body);
export const decodeRole = (body: Json): RoleBody => role.decode(body);
/** The body of a preview: the variables of a templated policy. @throws {RequestError} */
export const decodeVariables = (body: Json): string => readVariable(body);
export const decodePolicy = (body: Json): AclPolicy => policy.decode(body);
export const decodeMethod = (body: Json): AuthMethod => authMethod.decode(body);
export const decodeRule = (body: Json): BindingRule => bindingRule.decode(body);

type Indexes = Pick<Entry<unknown>, "createIndex" | "modifyIndex">;
const indexes = ({ createIndex, modifyIndex }: Indexes) => ({
  CreateIndex: createIndex,
  ModifyIndex: modifyIndex,
});
const hash = (content: Json) => base64(sha256(utf8(writeJson(content, false))));

/** What finds the names of linked policies and roles. */
type Names = Pick<AclAdmin, "policies" | "roles">;

/** Links to policies: of a deleted one without a name, which shows that it grants nothing. */
function policyLinks(ids: readonly string[], { policies }: Names): Link[] {
  return ids.map((id) => ({ id, name: policies.get(id)?.value.name ?? "" }));
}

/** @param secret shown only when the token is made, and to its holder. */
export function tokenJson(entry: Entry<Token>, names: Names, secret = "<hidden>"): go.JsonObject {
  const { value } = entry;
  const policies = policyLinks(value.policies, names);
  // Consul: links to deleted roles are left out.
  const roles = (value.roles ?? []).flatMap((id) => {
    const linked = names.roles.get(id);
    return linked === null ? [] : [{ id, name: linked.value.name }];
  });
  const { AccessorID, SecretID, ...content } = token.encode({
    ...value,
    secret,
    policies,
    expirationTtlMs: null,
    roles,
    templatedPolicies: value.templatedPolicies ?? [],
  });
  return {
    ...indexes(entry),
    AccessorID: value.accessorId,
    SecretID: secret,
    ...content,
    CreateTime: value.createTime.toISOString(),
    Hash: hash(content),
  };
}

export function roleJson(entry: Entry<AclRole>, names: Names): Json {
  const { value } = entry;
  const { ID, ...content } = role.encode({
    ...value,
    policies: policyLinks(value.policies, names).filter(({ name }) => name !== ""),
    templatedPolicies: value.templatedPolicies ?? [],
  });
  return { ID: value.id, ...content, Hash: hash(content), ...indexes(entry) };
}

/** One of Consul's builtin templated policies. */
export function templateJson({ name, description, schema, template }: PolicyTemplate): Json {
  return { TemplateName: name, Schema: schema, Template: template, Description: description };
}

/** @param full with the rules, which lists leave out. */
export function policyJson(entry: Pick<Entry<AclPolicy>, "value"> & Indexes, full: boolean): Json {
  const { ID, ...content } = policy.encode(entry.value);
  const { Rules, ...stub } = content;
  return {
    ID: entry.value.id,
    ...(full ? content : stub),
    Hash: hash(content),
    ...indexes(entry),
  };
}

/** @param full with the configuration, which lists leave out. */
export function methodJson(entry: Entry<AuthMethod>, full: boolean): Json {
  const { Config, ...stub } = authMethod.encode(entry.value);
  return { ...stub, ...(full ? { Config: Config ?? {} } : {}), ...indexes(entry) };
}

export function ruleJson(entry: Entry<BindingRule>): Json {
  return { ...bindingRule.encode(entry.value), ...indexes(entry) };
}

const DENYLIST_FIELDS = {
  "spiffe-id": "SPIFFEID",
  "key-id": "KeyID",
  serial: "SerialNumber",
} as const;
const DenylistBody = {
  SPIFFEID: go.string("SPIFFEID"),
  KeyID: go.string("KeyID"),
  SerialNumber: go.string("SerialNumber"),
  Reason: go.string("Reason"),
};

/** @throws {RequestError} `request_malformed` */
export function decodeDenylistEntry(body: Json): Pick<DenylistEntry, "kind" | "value" | "reason"> {
  const fields = go.decodeStruct(DenylistBody, body, "denylist entry");
  const given = (Object.keys(DENYLIST_FIELDS) as DenylistEntry["kind"][]).filter(
    (kind) => fields[DENYLIST_FIELDS[kind]] !== null,
  );
  const [kind] = given;
  if (kind === undefined || given.length > 1)
    throw decodeFailed(
      "the body must have one of SPIFFEID, KeyID and SerialNumber, and may have Reason",
    );
  return { kind, value: fields[DENYLIST_FIELDS[kind]] ?? "", reason: fields.Reason ?? "" };
}

/** @param warning what the entry does not do. @default null: nothing to warn of */
export function denylistEntryJson(
  entry: Entry<DenylistEntry>,
  warning: string | null = null,
): Json {
  const { id, kind, value, reason, createTime, expirationTime } = entry.value;
  return {
    ID: id,
    [DENYLIST_FIELDS[kind]]: value,
    Reason: reason,
    CreateTime: createTime.toISOString(),
    ExpirationTime: expirationTime.toISOString(),
    ...(warning === null ? {} : { Warning: warning }),
    ...indexes(entry),
  };
}
