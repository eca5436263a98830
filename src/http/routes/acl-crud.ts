/**
 * Consul's ACL routes that create, list, read, update and delete records of one type: policies, auth
 * methods and binding rules.
 * @module
 */
import { decodeFailed, type Json } from "../../consul/go-json.ts";
import type { AclAdmin, RecordAdmin } from "../../core/acl/admin.ts";
import type { AclPolicy, AuthMethod, BindingRule, Entry } from "../../core/acl/types.ts";
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
export type AclHandler = (call: Call, admin: AclAdmin) => Promise<Json> | Json;

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

export function policyRoutes(context: CrudContext): Route[] {
  return [
    ...crudRoutes(POLICY, context),
    context.route("/v1/acl/policy/name/:name", {
      GET: [
        READ,
        (call, admin) =>
          policyJson(found(admin.policies.getByName(call.param("name")), "policy"), true),
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
        (call, admin) =>
          type
            .records(admin)
            .list()
            .filter(({ value }) => type.isListed?.(value, call) ?? true)
            .map((entry) => type.encode(entry, false)),
      ],
    }),
    route(`/v1/acl/${path}`, {
      PUT: [
        WRITE,
        async (call, admin) => {
          const request = type.decode(await body(call));
          type.checkNew?.(request);
          return type.encode(await type.records(admin).create(request), true);
        },
      ],
    }),
    route(`/v1/acl/${path}/:${key}`, {
      GET: [
        READ,
        (call, admin) => {
          const entry = found(type.records(admin).get(call.param(key)), path.replace("-", " "));
          return type.encode(entry, true);
        },
      ],
      PUT: [
        WRITE,
        async (call, admin) => {
          const request = type.decode(await body(call));
          const [id, records] = [call.param(key), type.records(admin)];
          requireSameKey(type.keyOf(request), id, type.keyName);
          const complete = type.complete?.(request, records.get(id)?.value) ?? request;
          return type.encode(await records.update(id, complete), true);
        },
      ],
      DELETE: [
        WRITE,
        async (call, admin) => {
          await type.records(admin).delete(call.param(key));
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
