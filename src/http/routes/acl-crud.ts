/**
 * Consul's ACL routes that create, list, read, update and delete records of one type: policies, auth
 * methods and binding rules.
 * @module
 */
import { decodeFailed, type Json } from "../../consul/go-json.ts";
import type { Administration } from "../../core/acl/admin.ts";
import type { AuthMethod, BindingRule, Entry, Policy } from "../../core/acl/types.ts";
import { RequestError } from "../../core/errors.ts";
import {
  decodeMethod,
  decodePolicy,
  decodeRule,
  methodJson,
  policyJson,
  ruleJson,
} from "../acl-wire.ts";
import type { AccessRule, Call, Route } from "../route.ts";

export const READ: AccessRule = { resource: "acl", access: "read" };
export const WRITE: AccessRule = { resource: "acl", access: "write" };

/** Answers a call in JSON, with the administration on behalf of the call. */
export type AclHandler = (call: Call, admin: Administration) => Promise<Json> | Json;

/** What crud routes need of the ACL routes. */
export interface CrudContext {
  route(
    path: string,
    methods: Partial<Record<"GET" | "PUT" | "DELETE", readonly [AccessRule, AclHandler]>>,
  ): Route;
  /** The body in JSON. @throws {RequestError} */
  body(call: Call): Promise<Json>;
}

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
  readonly list: (admin: Administration, call: Call) => readonly Entry<T>[];
  readonly read: (admin: Administration, key: string) => Entry<T> | null;
  readonly create: (admin: Administration, request: T) => Promise<Entry<T>>;
  readonly update: (admin: Administration, key: string, request: T) => Promise<Entry<T>>;
  readonly remove: (admin: Administration, key: string) => Promise<void>;
}

const POLICY: RecordType<Policy> = {
  path: "policy",
  key: "id",
  keyName: "Policy ID",
  keyOf: ({ id }) => id,
  decode: decodePolicy,
  encode: policyJson,
  list: (admin) => admin.policies(),
  read: (admin, id) => admin.policy(id),
  create(admin, { id, ...request }) {
    if (id !== "") throw decodeFailed("Cannot specify the ID when creating a new policy");
    return admin.createPolicy(request);
  },
  update: (admin, key, { id, ...request }) => admin.updatePolicy(key, request),
  remove: (admin, id) => admin.deletePolicy(id),
};

const AUTH_METHOD: RecordType<AuthMethod> = {
  path: "auth-method",
  key: "name",
  keyName: "Auth Method Name",
  keyOf: ({ name }) => name,
  decode: decodeMethod,
  encode: methodJson,
  list: (admin) => admin.authMethods(),
  read: (admin, name) => admin.authMethod(name),
  create: (admin, request) => admin.createAuthMethod(request),
  update: (admin, name, request) => admin.updateAuthMethod({ ...request, name }),
  remove: (admin, name) => admin.deleteAuthMethod(name),
};

const BINDING_RULE: RecordType<BindingRule> = {
  path: "binding-rule",
  key: "id",
  keyName: "Binding Rule ID",
  keyOf: ({ id }) => id,
  decode: decodeRule,
  encode: ruleJson,
  list(admin, call) {
    const authMethod = call.params().get("authmethod") || null;
    const rules = admin.bindingRules();
    return rules.filter(({ value }) => authMethod === null || value.authMethod === authMethod);
  },
  read: (admin, id) => admin.bindingRule(id),
  create: (admin, request) => admin.createBindingRule(request),
  update(admin, id, request) {
    // A rule keeps its auth method if the request has none.
    const authMethod = request.authMethod || (admin.bindingRule(id)?.value.authMethod ?? "");
    return admin.updateBindingRule(id, { ...request, authMethod });
  },
  remove: (admin, id) => admin.deleteBindingRule(id),
};

export function policyRoutes(context: CrudContext): Route[] {
  return [
    ...crudRoutes(POLICY, context),
    context.route("/v1/acl/policy/name/:name", {
      GET: [
        READ,
        (call, admin) => policyJson(found(admin.policyByName(call.param("name")), "policy"), true),
      ],
    }),
  ];
}

export const authMethodRoutes = (context: CrudContext): Route[] => crudRoutes(AUTH_METHOD, context);
export const bindingRuleRoutes = (context: CrudContext): Route[] =>
  crudRoutes(BINDING_RULE, context);

function crudRoutes<T>(type: RecordType<T>, { route, body }: CrudContext): Route[] {
  const { path, key } = type;
  const plural = path.endsWith("y") ? `${path.slice(0, -1)}ies` : `${path}s`;
  return [
    route(`/v1/acl/${plural}`, {
      GET: [
        READ,
        (call, admin) => type.list(admin, call).map((entry) => type.encode(entry, false)),
      ],
    }),
    route(`/v1/acl/${path}`, {
      PUT: [
        WRITE,
        async (call, admin) =>
          type.encode(await type.create(admin, type.decode(await body(call))), true),
      ],
    }),
    route(`/v1/acl/${path}/:${key}`, {
      GET: [
        READ,
        (call, admin) => {
          const entry = found(type.read(admin, call.param(key)), path.replace("-", " "));
          return type.encode(entry, true);
        },
      ],
      PUT: [
        WRITE,
        async (call, admin) => {
          const request = type.decode(await body(call));
          requireSameKey(type.keyOf(request), call.param(key), type.keyName);
          return type.encode(await type.update(admin, call.param(key), request), true);
        },
      ],
      DELETE: [
        WRITE,
        async (call, admin) => {
          await type.remove(admin, call.param(key));
          return true;
        },
      ],
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
