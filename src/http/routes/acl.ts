/**
 * Consul's ACL API: /v1/acl/bootstrap, tokens, policies, auth methods, binding rules, logins.
 * @module
 */

import { decodeFailed, type Json, readJson, writeJson } from "../../consul/go-json.ts";
import { goField, isObject, isString } from "../../consul/go-struct.ts";
import type { AccessControl } from "../../core/acl/access-control.ts";
import { ANONYMOUS } from "../../core/acl/authorizer.ts";
import type { BindingRule, Entry, Token } from "../../core/acl/types.ts";
import { DeniedError, RateLimitedError, RequestError } from "../../core/errors.ts";
import {
  decodeBody,
  decodeMethod,
  decodePolicy,
  decodeRule,
  decodeTexts,
  decodeToken,
  methodJson,
  onlyDefault,
  policyJson,
  ruleJson,
  tokenJson,
} from "../acl-wire.ts";
import type { Answer, AppOptions, Call, Handler, Method, Need, Route } from "../app.ts";
import { beforeChangeOf } from "../audited.ts";
import { type BodyReader, bodyForm } from "../request-body.ts";
import { sameSecret, secretOf } from "../request-token.ts";
import { body, plainBody } from "../shared-body.ts";

/** A policy's rules; Consul's own limit for a request (512 KB) is eight times that. */
const MAX_BODY = 64 * 1024;

const READ: Need = { resource: "acl", access: "read" };
const WRITE: Need = { resource: "acl", access: "write" };

/** Access control on behalf of one call. */
type Control = Pick<AccessControl, "administration" | "login" | "logout">;
type AclHandler = (call: Call, control: Control) => Promise<Json | Answer> | Json | Answer;

export function aclRoutes(options: AppOptions, bodies: BodyReader): Route[] {
  const { access, audit } = options;
  const json = async (call: Call): Promise<Json> => {
    bodyForm(call.header("content-type"));
    return readJson(await bodies.read(call.request, MAX_BODY));
  };
  /** A body that may be left out. */
  const optionalJson = async (call: Call): Promise<Json> => {
    bodyForm(call.header("content-type"));
    const sent = await bodies.read(call.request, MAX_BODY);
    return sent.trim() === "" ? {} : readJson(sent);
  };
  const route = (
    path: string,
    methods: Partial<Record<Method, readonly [Need, AclHandler]>>,
  ): Route => {
    const entries = Object.entries(methods) as [Method, readonly [Need, AclHandler]][];
    const handle =
      (handler: AclHandler): Handler =>
      async (call) => {
        // Consul's answer where access control is off.
        if (access === null)
          return { status: 401, body: body("text/plain; charset=utf-8", "ACL support disabled") };
        refuseEnterprise(call);
        const before = beforeChangeOf(call, audit);
        const answer = await handler(call, {
          administration:
            call.request.method === "GET"
              ? access.administration
              : access.administrationFor(before),
          login: (request) => access.login(request, before),
          logout: (secret) => access.logout(secret, before),
        });
        if (
          typeof answer === "object" &&
          answer !== null &&
          ("status" in answer || "headers" in answer)
        )
          return answer as Answer;
        return {
          secret: true,
          body: plainBody("application/json", writeJson(answer as Json, call.query().pretty)),
        };
      };
    return {
      path,
      kind: "consul",
      needs: Object.fromEntries(
        entries.map(([method, [need]]) => [method, access === null ? "public" : need]),
      ),
      methods: Object.fromEntries(
        entries.map(([method, [, handler]]) => [method, handle(handler)]),
      ),
    };
  };
  /**
   * Names the auth method, unless there is none of that name: then the caller has made the text up.
   */
  const recordRefusedLogin = (error: unknown, { caller, action }: Call, authMethod: string) => {
    if (access?.administration.authMethod(authMethod) == null) return;
    const outcome =
      error instanceof DeniedError ||
      error instanceof RequestError ||
      error instanceof RateLimitedError
        ? "refused"
        : "failed";
    audit?.refusal(error, (code) => ({
      caller,
      action,
      subject: `auth-method/${authMethod}`,
      outcome,
      code,
    }));
  };
  const policyName = (control: Control) => (id: string) =>
    control.administration.policy(id)?.value.name ?? null;
  const found = <T>(value: T | null, what: string): T => {
    if (value === null) throw new RequestError("not_found", what);
    return value;
  };
  const requireSame = (inBody: string | null, inPath: string, what: string) => {
    if (inBody !== null && inBody !== "" && inBody !== inPath)
      throw decodeFailed(`${what} in URL and payload do not match`);
  };

  return [
    route("/v1/acl/bootstrap", {
      PUT: [
        "public",
        async (call, control) => {
          const { BootstrapSecret: chosen } = decodeBody(
            { BootstrapSecret: goField("BootstrapSecret", "string", isString) },
            await optionalJson(call),
            "bootstrap",
          );
          const { token, secret: secretId } = await control.administration.bootstrap(
            options.bootstrapReset(),
            chosen || null,
            () => requireFirstCaller(call, options),
          );
          return { ID: secretId, ...(tokenJson(token, policyName(control), secretId) as object) };
        },
      ],
    }),
    route("/v1/acl/login", {
      POST: [
        "public",
        async (call, control) => {
          const fields = {
            AuthMethod: goField("AuthMethod", "string", isString),
            BearerToken: goField("BearerToken", "string", isString),
            Meta: goField("Meta", "map[string]string", isObject),
            Namespace: onlyDefault("Namespace", "Namespaces"),
          };
          const { AuthMethod, BearerToken, Meta } = decodeBody(
            fields,
            await json(call),
            "structs.ACLLoginParams",
          );
          const meta = decodeTexts(Meta, "Meta");
          const request = { authMethod: AuthMethod ?? "", bearerToken: BearerToken ?? "", meta };
          try {
            const { token, secret: secretId } = await control.login(request);
            return tokenJson(token, policyName(control), secretId);
          } catch (error) {
            recordRefusedLogin(error, call, request.authMethod);
            throw error;
          }
        },
      ],
    }),
    route("/v1/acl/logout", {
      POST: [
        "token",
        async (call, control) => {
          await control.logout(secretOf(call.request));
          return true;
        },
      ],
    }),
    route("/v1/acl/tokens", {
      GET: [
        READ,
        (_call, control) =>
          control.administration.tokens().map((entry) => tokenJson(entry, policyName(control))),
      ],
    }),
    route("/v1/acl/token/self", {
      GET: [
        "token",
        (call, control) => {
          const accessorId = call.authorized?.accessorId ?? ANONYMOUS.accessorId;
          if (call.authorized?.anonymous !== false)
            throw new DeniedError("token_unknown", "ACL not found");
          return tokenJson(
            readToken(control, accessorId),
            policyName(control),
            secretOf(call.request) ?? undefined,
          );
        },
      ],
    }),
    route("/v1/acl/token", {
      PUT: [
        WRITE,
        async (call, control) => {
          const { token, secret: secretId } = await control.administration.createToken(
            decodeToken(await json(call)),
          );
          return tokenJson(token, policyName(control), secretId);
        },
      ],
    }),
    route("/v1/acl/token/:id", {
      GET: [
        READ,
        (call, control) => tokenJson(readToken(control, call.param("id")), policyName(control)),
      ],
      PUT: [
        WRITE,
        async (call, control) => {
          const request = decodeToken(await json(call));
          requireSame(request.accessorId, call.param("id"), "Token AccessorID");
          return tokenJson(
            await control.administration.updateToken(call.param("id"), request),
            policyName(control),
          );
        },
      ],
      DELETE: [
        WRITE,
        async (call, control) => {
          await control.administration.deleteToken(call.param("id"));
          return true;
        },
      ],
    }),
    route("/v1/acl/token/:id/clone", {
      PUT: [
        WRITE,
        async (call, control) => {
          const { description } = decodeToken(await optionalJson(call));
          const { token, secret: secretId } = await control.administration.cloneToken(
            call.param("id"),
            description || null,
          );
          return tokenJson(token, policyName(control), secretId);
        },
      ],
    }),
    route("/v1/acl/policies", {
      GET: [
        READ,
        (_call, control) =>
          control.administration.policies().map((entry) => policyJson(entry, { rules: false })),
      ],
    }),
    route("/v1/acl/policy", {
      PUT: [
        WRITE,
        async (call, control) => {
          const { id, ...request } = decodePolicy(await json(call));
          if (id) throw decodeFailed("Cannot specify the ID when creating a new policy");
          return policyJson(await control.administration.createPolicy(request), { rules: true });
        },
      ],
    }),
    route("/v1/acl/policy/name/:name", {
      GET: [
        READ,
        (call, control) =>
          policyJson(
            found(
              control.administration.policyByName(call.param("name")),
              "Requested policy not found",
            ),
            { rules: true },
          ),
      ],
    }),
    route("/v1/acl/policy/:id", {
      GET: [
        READ,
        (call, control) =>
          policyJson(
            found(control.administration.policy(call.param("id")), "Requested policy not found"),
            { rules: true },
          ),
      ],
      PUT: [
        WRITE,
        async (call, control) => {
          const { id, ...request } = decodePolicy(await json(call));
          requireSame(id, call.param("id"), "Policy ID");
          return policyJson(await control.administration.updatePolicy(call.param("id"), request), {
            rules: true,
          });
        },
      ],
      DELETE: [
        WRITE,
        async (call, control) => {
          await control.administration.deletePolicy(call.param("id"));
          return true;
        },
      ],
    }),
    route("/v1/acl/auth-methods", {
      GET: [
        READ,
        (_call, control) =>
          control.administration.authMethods().map((entry) => methodJson(entry, { config: false })),
      ],
    }),
    route("/v1/acl/auth-method", {
      PUT: [
        WRITE,
        async (call, control) =>
          methodJson(
            await control.administration.createAuthMethod(decodeMethod(await json(call))),
            { config: true },
          ),
      ],
    }),
    route("/v1/acl/auth-method/:name", {
      GET: [
        READ,
        (call, control) =>
          methodJson(
            found(
              control.administration.authMethod(call.param("name")),
              "Requested auth method not found",
            ),
            { config: true },
          ),
      ],
      PUT: [
        WRITE,
        async (call, control) => {
          const method = decodeMethod(await json(call));
          requireSame(method.name, call.param("name"), "Auth Method Name");
          return methodJson(
            await control.administration.updateAuthMethod({ ...method, name: call.param("name") }),
            { config: true },
          );
        },
      ],
      DELETE: [
        WRITE,
        async (call, control) => {
          await control.administration.deleteAuthMethod(call.param("name"));
          return true;
        },
      ],
    }),
    route("/v1/acl/binding-rules", {
      GET: [
        READ,
        (call, control) => rulesOf(control, call.params().get("authmethod") || null).map(ruleJson),
      ],
    }),
    route("/v1/acl/binding-rule", {
      PUT: [
        WRITE,
        async (call, control) =>
          ruleJson(await control.administration.createBindingRule(decodeRule(await json(call)))),
      ],
    }),
    route("/v1/acl/binding-rule/:id", {
      GET: [
        READ,
        (call, control) =>
          ruleJson(
            found(
              control.administration.bindingRule(call.param("id")),
              "Requested binding rule not found",
            ),
          ),
      ],
      PUT: [
        WRITE,
        async (call, control) => {
          const rule = decodeRule(await json(call));
          requireSame(rule.id, call.param("id"), "Binding Rule ID");
          return ruleJson(
            await control.administration.updateBindingRule(
              call.param("id"),
              keepMethod(rule, control.administration.bindingRule(rule.id)),
            ),
          );
        },
      ],
      DELETE: [
        WRITE,
        async (call, control) => {
          await control.administration.deleteBindingRule(call.param("id"));
          return true;
        },
      ],
    }),
  ];
}

/**
 * The first caller must not take a new server over, and an address says nothing about who calls: a
 * proxy on this machine that nobody declared makes every client look local. The first token always
 * needs the secret that the server wrote into its data folder, as the token of the request.
 * @throws {DeniedError} `permission_denied`
 */
function requireFirstCaller({ request }: Call, { bootstrapSecret }: AppOptions): void {
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
 * Other namespaces and partitions, in Consul's order and words (agent/http_ce.go).
 * @throws {RequestError}
 */
function refuseEnterprise(call: Call): void {
  const refused = (where: string, what: string) =>
    new RequestError(
      "request_malformed",
      `Invalid ${where} - ${what} are a Consul Enterprise feature`,
    );
  for (const [header, parameter, what] of [
    ["X-Consul-Namespace", "ns", "Namespaces"],
    ["X-Consul-Partition", "partition", "Partitions"],
  ] as const) {
    if (call.header(header)) throw refused(`header: ${JSON.stringify(header)}`, what);
    if (call.params().get(parameter))
      throw refused(`query parameter: ${JSON.stringify(parameter)}`, what);
  }
}

/**
 * Consul says of a token that is not there what it says of one that is unknown.
 * @throws {DeniedError} `token_unknown`
 */
function readToken({ administration }: Control, accessorId: string): Entry<Token> {
  const entry = administration.token(accessorId);
  if (entry === null) throw new DeniedError("token_unknown", "ACL not found");
  return entry;
}

function rulesOf({ administration }: Control, authMethod: string | null): Entry<BindingRule>[] {
  return administration
    .bindingRules()
    .filter(({ value }) => authMethod === null || value.authMethod === authMethod);
}

/** A rule that is changed may leave its method out. */
function keepMethod(rule: BindingRule, before: Entry<BindingRule> | null): BindingRule {
  return rule.authMethod === "" && before !== null
    ? { ...rule, authMethod: before.value.authMethod }
    : rule;
}
