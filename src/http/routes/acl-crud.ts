/**
 * Consul's ACL routes that create, list, read, update and delete records of one type: policies,
 * roles, auth methods and binding rules; and those of templated policies.
 * @module
 */
import { decodeFailed, type Json } from "../../consul/go-json.ts";
import type { AclAdmin, RecordAdmin } from "../../core/acl/admin.ts";
import type { AclPolicy, AclRole, AuthMethod, BindingRule, Entry } from "../../core/acl/types.ts";
import { RequestError } from "../../core/errors.ts";
import type { AclEndpoints } from "../acl-endpoint.ts";
import {
  decodeMethod,
  decodePolicy,
  decodeRole,
  decodeRule,
  decodeVariables,
  methodJson,
  policyJson,
  roleJson,
  ruleJson,
  templateJson,
} from "../acl-json.ts";
import { type Call, consulRoute, type Route } from "../route.ts";

/** A type of records `T`, of which `R` is what a request has. */
interface RecordType<T, R = T> {
  /** The path of one record, below /v1/acl/; the list is at the plural. */
  readonly path: string;
  /** The name of the last segment of the path. */
  readonly key: "id" | "name";
  /** What Consul's error calls the key. */
  readonly keyName: string;
  readonly keyOf: (request: R) => string;
  readonly decode: (body: Json) => R;
  /** @param full false: in a list. */
  readonly encode: (entry: Entry<T>, full: boolean, admin: AclAdmin) => Json;
  readonly records: (admin: AclAdmin) => RecordAdmin<T, R>;
  /** Checks a request for a new record. @throws {RequestError} */
  readonly checkNew?: (request: R) => void;
  /** Whether a list has a record. */
  readonly isListed?: (record: T, call: Call) => boolean;
  /** A request to update a record, with what it may leave out. */
  readonly complete?: (request: R, stored: T | undefined) => R;
}

const POLICY: RecordType<AclPolicy> = {
  path: "policy",
  key: "id",
  keyName: "Policy ID",
  keyOf: ({ id }) => id,
  decode: decodePolicy,
  encode: policyJson,
  records: ({ policies }) => policies,
  checkNew({ id }) {
    if (id !== "") throw decodeFailed("Cannot specify the ID when creating a new policy");
  },
};

const ROLE: RecordType<AclRole, ReturnType<typeof decodeRole>> = {
  path: "role",
  key: "id",
  keyName: "Role ID",
  keyOf: ({ id }) => id,
  decode: decodeRole,
  encode: (entry, _full, admin) => roleJson(entry, admin),
  records: ({ roles }) => roles,
  checkNew({ id }) {
    if (id !== "") throw decodeFailed("Cannot specify the ID when creating a new role");
  },
  isListed({ policies }, call) {
    const policy = call.params().get("policy") ?? "";
    return policy === "" || policies.includes(policy);
  },
};

const AUTH_METHOD: RecordType<AuthMethod> = {
  path: "auth-method",
  key: "name",
  keyName: "Auth Method Name",
  keyOf: ({ name }) => name,
  decode: decodeMethod,
  encode: methodJson,
  records: ({ authMethods }) => authMethods,
};

const BINDING_RULE: RecordType<BindingRule> = {
  path: "binding-rule",
  key: "id",
  keyName: "Binding Rule ID",
  keyOf: ({ id }) => id,
  decode: decodeRule,
  encode: ruleJson,
  records: ({ bindingRules }) => bindingRules,
  isListed(rule, call) {
    const authMethod = call.params().get("authmethod") || rule.authMethod;
    return rule.authMethod === authMethod;
  },
  // A rule keeps its auth method if the request has none.
  complete: (request, stored) => ({
    ...request,
    authMethod: request.authMethod || (stored?.authMethod ?? ""),
  }),
};

/** The routes of policies, roles, auth methods, binding rules and templated policies. */
export function recordRoutes(acl: AclEndpoints): Route[] {
  return [
    ...crudRoutes(POLICY, acl),
    consulRoute("/v1/acl/policy/name/:name", {
      GET: acl.read((call, { policies }) =>
        policyJson(found(policies.getByName(call.param("name")), "policy"), true),
      ),
    }),
    ...crudRoutes(ROLE, acl),
    consulRoute("/v1/acl/role/name/:name", {
      GET: acl.read((call, admin) =>
        roleJson(found(admin.roles.getByName(call.param("name")), "role"), admin),
      ),
    }),
    ...crudRoutes(AUTH_METHOD, acl),
    ...crudRoutes(BINDING_RULE, acl),
    ...templateRoutes(acl),
  ];
}

/** The routes of Consul's builtin templated policies, whose names are `builtin/NAME`. */
function templateRoutes(acl: AclEndpoints): Route[] {
  const nameOf = (call: Call) => `${call.param("group")}/${call.param("name")}`;
  return [
    consulRoute("/v1/acl/templated-policies", {
      GET: acl.read((_call, { templates }) =>
        Object.fromEntries(templates.list().map((each) => [each.name, templateJson(each)])),
      ),
    }),
    consulRoute("/v1/acl/templated-policy/name/:group/:name", {
      GET: acl.read((call, { templates }) => templateJson(templates.get(nameOf(call)))),
    }),
    consulRoute("/v1/acl/templated-policy/preview/:group/:name", {
      POST: acl.endpoint("acl:read", async (call, { admin }) => {
        const name = decodeVariables(await acl.optionalBody(call));
        const value = admin.templates.preview({
          templateName: nameOf(call),
          name,
          datacenters: [],
        });
        return policyJson({ value, createIndex: 0, modifyIndex: 0 }, true);
      }),
    }),
  ];
}

function crudRoutes<T, R>(type: RecordType<T, R>, acl: AclEndpoints): Route[] {
  const { path, key } = type;
  const plural = path.endsWith("y") ? `${path.slice(0, -1)}ies` : `${path}s`;
  return [
    consulRoute(`/v1/acl/${plural}`, {
      GET: acl.read((call, admin) => {
        const records = type.records(admin).list();
        const listed = records.filter(({ value }) => type.isListed?.(value, call) ?? true);
        return listed.map((entry) => type.encode(entry, false, admin));
      }),
    }),
    consulRoute(`/v1/acl/${path}`, {
      PUT: acl.write(async (call, admin) => {
        const request = type.decode(await acl.body(call));
        type.checkNew?.(request);
        return type.encode(await type.records(admin).create(request), true, admin);
      }),
    }),
    consulRoute(`/v1/acl/${path}/:${key}`, {
      GET: acl.read((call, admin) => {
        const entry = type.records(admin).get(call.param(key));
        return type.encode(found(entry, path.replace("-", " ")), true, admin);
      }),
      PUT: acl.write(async (call, admin) => {
        const request = type.decode(await acl.body(call));
        const [id, records] = [call.param(key), type.records(admin)];
        requireSameKey(type.keyOf(request), id, type.keyName);
        const complete = type.complete?.(request, records.get(id)?.value) ?? request;
        return type.encode(await records.update(id, complete), true, admin);
      }),
      DELETE: acl.write(async (call, admin) => {
        await type.records(admin).delete(call.param(key));
        return true;
      }),
    }),
  ];
}

/** @throws {RequestError} `not_found` with Consul's text */
function found<T>(entry: Entry<T> | null, what: string): Entry<T> {
  if (entry === null) throw new RequestError("not_found", `Requested ${what} not found`);
  return entry;
}

/** @throws {RequestError} `request_malformed` with Consul's text */
export function requireSameKey(inBody: string | null, inPath: string, keyName: string): void {
  if (inBody !== null && inBody !== "" && inBody !== inPath)
    throw decodeFailed(`${keyName} in URL and payload do not match`);
}
