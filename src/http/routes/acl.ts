/**
 * Consul's ACL API: bootstrap, logins, tokens; policies, roles, auth methods, binding rules and
 * templated policies are in acl-crud.ts.
 * @module
 */
import * as go from "../../consul/go-struct.ts";
import type { AclAdmin } from "../../core/acl/admin.ts";
import type { Entry, Token } from "../../core/acl/types.ts";
import { DeniedError, RateLimitedError, RequestError } from "../../core/errors.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { AclEndpoints } from "../acl-endpoint.ts";
import { decodeTexts, decodeToken, onlyDefault, tokenJson } from "../acl-json.ts";
import { expandedTokenJson } from "../expanded-token.ts";
import type { AclOptions } from "../options.ts";
import type { BodyReader } from "../request-body.ts";
import { sameSecret, secretOf } from "../request-token.ts";
import { type Call, consulRoute, type Route } from "../route.ts";
import { recordRoutes, requireSameKey } from "./acl-crud.ts";

const Bootstrap = { BootstrapSecret: go.string("BootstrapSecret") };
const Login = {
  AuthMethod: go.string("AuthMethod"),
  BearerToken: go.string("BearerToken"),
  Meta: go.map("Meta", "map[string]string"),
  Namespace: onlyDefault("Namespace", "Namespaces"),
};

interface AclRouteOptions {
  readonly acl: Pick<AclOptions, "bootstrapReset" | "bootstrapSecret" | "control">;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
}

export function aclRoutes({ acl: options, audit, bodies }: AclRouteOptions): Route[] {
  const acl = new AclEndpoints(options.control, audit, bodies);
  return [
    consulRoute("/v1/acl/bootstrap", {
      PUT: acl.write(async (call, admin) => {
        const body = go.decodeStruct(Bootstrap, await acl.optionalBody(call), "bootstrap");
        const { token, secret } = await admin.tokens.bootstrap(
          options.bootstrapReset(),
          body.BootstrapSecret || null,
          () => requireBootstrapSecret(call, options),
        );
        return { ID: secret, ...tokenJson(token, admin, secret) };
      }, "public"),
    }),
    consulRoute("/v1/acl/login", {
      POST: acl.endpoint("public", async (call, control) => {
        const body = go.decodeStruct(Login, await acl.body(call), "structs.ACLLoginParams");
        const authMethod = body.AuthMethod ?? "";
        const request = {
          authMethod,
          bearerToken: body.BearerToken ?? "",
          meta: decodeTexts(body.Meta, "Meta"),
        };
        try {
          const { token, secret } = await control.login(request, acl.beforeChange(call));
          return tokenJson(token, control.admin, secret);
        } catch (error) {
          // The name of an unknown auth method is any text that the caller chose.
          if (control.admin.authMethods.get(authMethod) !== null)
            recordRefusedLogin(error, call, authMethod, audit);
          throw error;
        }
      }),
    }),
    consulRoute("/v1/acl/logout", {
      POST: acl.endpoint("token", async (call, control) => {
        await control.logout(secretOf(call.request), acl.beforeChange(call));
        return true;
      }),
    }),
    ...tokenRoutes(acl),
    ...recordRoutes(acl),
  ];
}

function tokenRoutes(acl: AclEndpoints): Route[] {
  return [
    consulRoute("/v1/acl/tokens", {
      GET: acl.read((call, admin) =>
        admin.tokens
          .list()
          .filter((entry) => isListed(entry, call))
          .map((entry) => tokenJson(entry, admin)),
      ),
    }),
    consulRoute("/v1/acl/token/self", {
      GET: acl.endpoint("token", ({ authorized, request }, { admin }) => {
        if (authorized === null || authorized.anonymous) throw tokenUnknown();
        const entry = readToken(admin, authorized.accessorId);
        return tokenJson(entry, admin, secretOf(request) ?? undefined);
      }),
    }),
    consulRoute("/v1/acl/token", {
      PUT: acl.write(async (call, admin) => {
        const { token, secret } = await admin.tokens.create(decodeToken(await acl.body(call)));
        return tokenJson(token, admin, secret);
      }),
    }),
    consulRoute("/v1/acl/token/:id", {
      GET: acl.endpoint("acl:read", (call, { admin, defaultPolicy }) => {
        const entry = readToken(admin, call.param("id"));
        return call.params().has("expanded")
          ? expandedTokenJson(entry, admin, defaultPolicy)
          : tokenJson(entry, admin);
      }),
      PUT: acl.write(async (call, admin) => {
        const request = decodeToken(await acl.body(call));
        requireSameKey(request.accessorId, call.param("id"), "Token AccessorID");
        const entry = await admin.tokens.update(call.param("id"), request);
        return tokenJson(entry, admin);
      }),
      DELETE: acl.write(async (call, admin) => {
        await admin.tokens.delete(call.param("id"));
        return true;
      }),
    }),
    consulRoute("/v1/acl/token/:id/clone", {
      PUT: acl.write(async (call, admin) => {
        const { description } = decodeToken(await acl.optionalBody(call));
        const { token, secret } = await admin.tokens.clone(call.param("id"), description || null);
        return tokenJson(token, admin, secret);
      }),
    }),
  ];
}

/** Whether a list has a token, by Consul's filters: `policy` and `role` are ids. */
function isListed({ value }: Entry<Token>, call: Call): boolean {
  const params = call.params();
  const matches = (name: string, links: readonly (string | null)[]) =>
    (params.get(name) ?? "") === "" || links.includes(params.get(name) ?? "");
  return (
    matches("policy", value.policies) &&
    matches("role", value.roles ?? []) &&
    matches("authmethod", [value.authMethod]) &&
    matches(
      "servicename",
      value.serviceIdentities.map(({ serviceName }) => serviceName),
    )
  );
}

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
function requireBootstrapSecret(
  { request }: Call,
  { bootstrapSecret }: Pick<AclOptions, "bootstrapSecret">,
): void {
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
