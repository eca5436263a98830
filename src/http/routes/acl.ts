/**
 * Consul's ACL API: bootstrap, logins, tokens; policies, auth methods and binding rules are in
 * acl-crud.ts.
 * @module
 */
import { type Json, writeJson } from "../../consul/go-json.ts";
import { decodeStruct, goField, isObject, isString } from "../../consul/go-struct.ts";
import type { AclAdmin } from "../../core/acl/admin.ts";
import type { Acl } from "../../core/acl/ports.ts";
import type { Entry, Token } from "../../core/acl/types.ts";
import { DeniedError, RateLimitedError, RequestError } from "../../core/errors.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { aclEndpoint, beforeChangeOf } from "../acl-endpoint.ts";
import { decodeTexts, decodeToken, onlyDefault, tokenJson } from "../acl-wire.ts";
import type { BodyReader } from "../request-body.ts";
import { sameSecret, secretOf } from "../request-token.ts";
import { plainBody } from "../responses.ts";
import type { AccessRule, Call, Endpoint, Method, Route } from "../route.ts";
import type { AclSecrets } from "./acl-conflict.ts";
import {
  type AclHandler,
  authMethodRoutes,
  bindingRuleRoutes,
  policyRoutes,
  READ,
  requireSameKey,
  WRITE,
} from "./acl-crud.ts";

/** An eighth of Consul's limit for a request (512 KB), and enough for the rules of a policy. */
const MAX_BODY = 64 * 1024;

const Bootstrap = { BootstrapSecret: goField("BootstrapSecret", "string", isString) };
const Login = {
  AuthMethod: goField("AuthMethod", "string", isString),
  BearerToken: goField("BearerToken", "string", isString),
  Meta: goField("Meta", "map[string]string", isObject),
  Namespace: onlyDefault("Namespace", "Namespaces"),
};

export interface AclRouteOptions extends AclSecrets {
  readonly control: Acl | null;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
  /** The index that an operator wrote down to allow another bootstrap, or null. */
  readonly bootstrapReset: () => number | null;
}

export function aclRoutes(options: AclRouteOptions): Route[] {
  const { control, audit, bodies } = options;
  const endpoint = (
    access: AccessRule,
    handle: (call: Call, acl: Acl) => Promise<Json> | Json,
  ): Endpoint =>
    aclEndpoint(control, access, async (call, acl) => {
      refuseEnterprise(call);
      const text = writeJson(await handle(call, acl), call.query().pretty);
      return { secret: true, body: plainBody("application/json", text) };
    });
  const route = (
    path: string,
    methods: Partial<Record<Method, readonly [AccessRule, AclHandler]>>,
  ): Route => ({
    path,
    kind: "consul",
    methods: Object.fromEntries(
      Object.entries(methods).map(([method, [access, handle]]) => [
        method,
        endpoint(access, (call, acl) =>
          handle(call, method === "GET" ? acl.admin : acl.adminFor(beforeChangeOf(call, audit))),
        ),
      ]),
    ),
  });
  const body = (call: Call) => bodies.json(call.request, MAX_BODY);
  const optionalBody = (call: Call) => bodies.optionalJson(call.request, MAX_BODY);
  const crud = { route, body };

  return [
    route("/v1/acl/bootstrap", {
      PUT: [
        "public",
        async (call, admin) => {
          const { BootstrapSecret: chosen } = decodeStruct(
            Bootstrap,
            await optionalBody(call),
            "bootstrap",
          );
          const { token, secret } = await admin.tokens.bootstrap(
            options.bootstrapReset(),
            chosen || null,
            () => requireBootstrapSecret(call, options),
          );
          return { ID: secret, ...tokenJson(token, policyName(admin), secret) };
        },
      ],
    }),
    {
      path: "/v1/acl/login",
      kind: "consul",
      methods: {
        POST: endpoint("public", async (call, acl) => {
          const { AuthMethod, BearerToken, Meta } = decodeStruct(
            Login,
            await body(call),
            "structs.ACLLoginParams",
          );
          const authMethod = AuthMethod ?? "";
          const request = {
            authMethod,
            bearerToken: BearerToken ?? "",
            meta: decodeTexts(Meta, "Meta"),
          };
          try {
            const { token, secret } = await acl.login(request, beforeChangeOf(call, audit));
            return tokenJson(token, policyName(acl.admin), secret);
          } catch (error) {
            // An unknown auth method is any text that the caller chose.
            if (acl.admin.authMethods.get(authMethod) !== null)
              recordRefusedLogin(error, call, authMethod, audit);
            throw error;
          }
        }),
      },
    },
    {
      path: "/v1/acl/logout",
      kind: "consul",
      methods: {
        POST: endpoint("token", async (call, acl) => {
          await acl.logout(secretOf(call.request), beforeChangeOf(call, audit));
          return true;
        }),
      },
    },
    ...tokenRoutes(route, body, optionalBody),
    ...policyRoutes(crud),
    ...authMethodRoutes(crud),
    ...bindingRuleRoutes(crud),
  ];
}

function tokenRoutes(
  route: (
    path: string,
    methods: Partial<Record<Method, readonly [AccessRule, AclHandler]>>,
  ) => Route,
  body: (call: Call) => Promise<Json>,
  optionalBody: (call: Call) => Promise<Json>,
): Route[] {
  return [
    route("/v1/acl/tokens", {
      GET: [
        READ,
        (_call, admin) => admin.tokens.list().map((entry) => tokenJson(entry, policyName(admin))),
      ],
    }),
    route("/v1/acl/token/self", {
      GET: [
        "token",
        ({ authorized, request }, admin) => {
          if (authorized === null || authorized.anonymous) throw tokenUnknown();
          const entry = readToken(admin, authorized.accessorId);
          return tokenJson(entry, policyName(admin), secretOf(request) ?? undefined);
        },
      ],
    }),
    route("/v1/acl/token", {
      PUT: [
        WRITE,
        async (call, admin) => {
          const { token, secret } = await admin.tokens.create(decodeToken(await body(call)));
          return tokenJson(token, policyName(admin), secret);
        },
      ],
    }),
    route("/v1/acl/token/:id", {
      GET: [
        READ,
        (call, admin) => tokenJson(readToken(admin, call.param("id")), policyName(admin)),
      ],
      PUT: [
        WRITE,
        async (call, admin) => {
          const request = decodeToken(await body(call));
          requireSameKey(request.accessorId, call.param("id"), "Token AccessorID");
          const entry = await admin.tokens.update(call.param("id"), request);
          return tokenJson(entry, policyName(admin));
        },
      ],
      DELETE: [
        WRITE,
        async (call, admin) => {
          await admin.tokens.delete(call.param("id"));
          return true;
        },
      ],
    }),
    route("/v1/acl/token/:id/clone", {
      PUT: [
        WRITE,
        async (call, admin) => {
          const { description } = decodeToken(await optionalBody(call));
          const { token, secret } = await admin.tokens.clone(call.param("id"), description || null);
          return tokenJson(token, policyName(admin), secret);
        },
      ],
    }),
  ];
}

/** The name of a policy by its id, or null. */
const policyName = (admin: AclAdmin) => (id: string) => admin.policies.get(id)?.value.name ?? null;

/** Consul's error for a missing token too. */
const tokenUnknown = () => new DeniedError("token_unknown", "ACL not found");

/** @throws {DeniedError} `token_unknown` */
function readToken(admin: AclAdmin, accessorId: string): Entry<Token> {
  const entry = admin.tokens.get(accessorId);
  if (entry === null) throw tokenUnknown();
  return entry;
}

/** Writes the audit record of a refused login with its auth method. */
function recordRefusedLogin(
  error: unknown,
  { caller, action }: Call,
  authMethod: string,
  audit: Audit | null,
): void {
  const refused =
    error instanceof DeniedError ||
    error instanceof RequestError ||
    error instanceof RateLimitedError;
  audit?.refusal(error, (code) => ({
    caller,
    action,
    subject: `auth-method/${authMethod}`,
    outcome: refused ? "refused" : "failed",
    code,
  }));
}

/**
 * Requires the secret of the data folder as the request's token, so that no stranger takes a new
 * server over. The address is no proof: behind an undeclared local proxy every client looks local.
 * @throws {DeniedError} `permission_denied`
 */
function requireBootstrapSecret({ request }: Call, { bootstrapSecret }: AclSecrets): void {
  const expected = bootstrapSecret();
  if (expected === null)
    throw new DeniedError(
      "permission_denied",
      "Permission denied: ACL bootstrap needs a secret in a data folder, which this server does not have; set MESHCA_INITIAL_MANAGEMENT_TOKEN instead",
    );
  const given = secretOf(request);
  if (given !== null && sameSecret(given, expected.secret)) return;
  throw new DeniedError(
    "permission_denied",
    `Permission denied: ACL bootstrap needs the secret in ${expected.file} as its token: CONSUL_HTTP_TOKEN=$(cat ${expected.file}) consul acl bootstrap, or the header X-Consul-Token`,
  );
}

/**
 * Refuses other namespaces and partitions with Consul's texts, in its order (agent/http_ce.go).
 * @throws {RequestError} `request_malformed`
 */
function refuseEnterprise(call: Call): void {
  const refused = (part: string, name: string, what: string) =>
    new RequestError(
      "request_malformed",
      `Invalid ${part}: ${JSON.stringify(name)} - ${what} are a Consul Enterprise feature`,
    );
  for (const [header, parameter, what] of [
    ["X-Consul-Namespace", "ns", "Namespaces"],
    ["X-Consul-Partition", "partition", "Partitions"],
  ] as const) {
    if (call.header(header)) throw refused("header", header, what);
    if (call.params().get(parameter)) throw refused("query parameter", parameter, what);
  }
}
