/**
 * Consul's ACL routes that create, list, read, update and delete records of one type: policies, auth
 * methods and binding rules.
 * @module
 */
import { decodeFailed, type Json } from "../../consul/go-json.ts";
import type { AclAdmin, RecordAdmin } from "../../core/acl/admin.ts";
import type { AclPolicy, AuthMethod, BindingRule, Entry } from "../../core/acl/types.ts";
import { RequestError } from "../../core/errors.ts";
import type { AclEndpoints } from "../acl-endpoint.ts";
import {
  decodeMethod,
  decodePolicy,
  decodeRule,
  methodJson,
  policyJson,
  ruleJson,
} from "../acl-json.ts";
import { type Call, consulRoute, type Route } from "../route.ts";

/** A type of records, of which `T` is what a request has. */
interface RecordType<T> {
  /** The path of one record, below /v1/acl/; the list is at the plural. */
  readonly path: string;
  /** The name of the last segment of the path. */
  readonly key: "id" | "name";
  /** What Consul's error calls the key. */
  readonly keyName: string;
  readonly keyOf: (request: T) => string;
  readonly decode: (body: Json) => T;
  /** @param full null: in a list. */
  readonly encode: (entry: Entry<T>, full: boolean) => Json;
  readonly records: (admin: AclAdmin) => RecordAdmin<T, T>;
  /** Checks a request for a new record. @throws {RequestError} */
  readonly checkNew?: (request: T) => void;
  /** Whether a list has a record. */
  readonly isListed?: (record: T, call: Call) => boolean;
  /** A request to update a record, with what it may leave out. */
  readonly complete?: (request: T, stored: T | undefined) => T;
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

/** The routes of policies, auth methods and binding rules. */
export function recordRoutes(acl: AclEndpoints): Route[] {
  return [
    ...crudRoutes(POLICY, acl),
    consulRoute("/v1/acl/policy/name/:name", {
      GET: acl.read((call, { policies }) =>
        policyJson(found(policies.getByName(call.param("name")), "policy"), true),
      ),
    }),
    ...crudRoutes(AUTH_METHOD, acl),
    ...crudRoutes(BINDING_RULE, acl),
  ];
}

function crudRoutes<T>(type: RecordType<T>, acl: AclEndpoints): Route[] {
  const { path, key } = type;
  const plural = path.endsWith("y") ? `${path.slice(0, -1)}ies` : `${path}s`;
  return [
    consulRoute(`/v1/acl/${plural}`, {
      GET: acl.read((call, admin) => {
        const records = type.records(admin).list();
        const listed = records.filter(({ value }) => type.isListed?.(value, call) ?? true);
        return listed.map((entry) => type.encode(entry, false));
      }),
    }),
    consulRoute(`/v1/acl/${path}`, {
      PUT: acl.write(async (call, admin) => {
        const request = type.decode(await acl.body(call));
        type.checkNew?.(request);
        return type.encode(await type.records(admin).create(request), true);
      }),
    }),
    consulRoute(`/v1/acl/${path}/:${key}`, {
      GET: acl.read((call, admin) => {
        const entry = type.records(admin).get(call.param(key));
        return type.encode(found(entry, path.replace("-", " ")), true);
      }),
      PUT: acl.write(async (call, admin) => {
        const request = type.decode(await acl.body(call));
        const [id, records] = [call.param(key), type.records(admin)];
        requireSameKey(type.keyOf(request), id, type.keyName);
        const complete = type.complete?.(request, records.get(id)?.value) ?? request;
        return type.encode(await records.update(id, complete), true);
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
