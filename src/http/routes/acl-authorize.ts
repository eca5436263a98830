/**
 * POST /v1/internal/acl/authorize: what the caller's token allows (Consul's ACLAuthorize in
 * agent/acl_endpoint.go), asked by an agent that serves a caller from its cache.
 * @module
 */
import { decodeFailed, goKind, type Json } from "../../consul/go-json.ts";
import * as go from "../../consul/go-struct.ts";
import type { AccessLevel, Authorization, Resource } from "../../core/acl/authorizer.ts";
import type { Acl } from "../../core/acl/ports.ts";
import { RequestError } from "../../core/errors.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { AclEndpoints } from "../acl-endpoint.ts";
import type { BodyReader } from "../request-body.ts";
import { consulRoute, type Route } from "../route.ts";

/** Questions of one request (Consul's maxACLRequests in agent/acl_endpoint.go). */
const MAX_QUESTIONS = 64;
/** Resources whose rules have names, and those whose rules have none. */
const NAMED: readonly string[] = ["service", "node", "agent"] satisfies Resource[];
const WHOLE: readonly string[] = ["acl", "operator", "mesh", "intermediate"] satisfies Resource[];
const LEVELS: readonly string[] = ["read", "write"] satisfies AccessLevel[];

const Question = {
  Resource: go.string("Resource"),
  Segment: go.string("Segment"),
  Access: go.string("Access"),
};

interface AclAuthorizeRouteOptions {
  readonly control: Acl | null;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
}

export function aclAuthorizeRoutes({ control, audit, bodies }: AclAuthorizeRouteOptions): Route[] {
  const acl = new AclEndpoints(control, audit, bodies);
  return [
    consulRoute("/v1/internal/acl/authorize", {
      POST: acl.endpoint("token", async (call) => {
        const questions = readQuestions(await acl.body(call));
        const { authorized } = call;
        // With access control on the pipeline authorized the caller.
        return authorized === null ? [] : questions.map((question) => answer(question, authorized));
      }),
    }),
  ];
}

/** @throws {RequestError} `request_malformed` with Consul's texts */
function readQuestions(body: Json): readonly Json[] {
  if (body === null) return [];
  if (!Array.isArray(body))
    throw decodeFailed(
      `json: cannot unmarshal ${goKind(body)} into Go value of type []structs.ACLAuthorizationRequest`,
    );
  if (body.length > MAX_QUESTIONS)
    throw refused(`Refusing to process more than ${MAX_QUESTIONS} authorizations at once`);
  return body as readonly Json[];
}

/** The question in Consul's form, with `Allow`. @throws {RequestError} `request_malformed` */
function answer(question: Json, authorized: Authorization): Json {
  const fields = go.decodeStruct(Question, question, "structs.ACLAuthorizationRequest");
  const resource = fields.Resource ?? "";
  const access = fields.Access ?? "";
  const segment = fields.Segment ?? "";
  // Consul compares the access level in lower case (acl/authorizer.go, Enforce).
  const level = access.toLowerCase();
  const isNamed = NAMED.includes(resource);
  if (!isNamed && !WHOLE.includes(resource))
    throw refused(`Invalid ACL resource requested: ${JSON.stringify(resource.slice(0, 64))}`);
  if (!LEVELS.includes(level))
    throw refused(
      `Invalid access level for ${resource} resource: ${JSON.stringify(access.slice(0, 64))}`,
    );
  const allow = authorized.allows(
    resource as Resource,
    level as AccessLevel,
    isNamed ? segment : "",
  );
  return {
    Resource: resource,
    ...(segment === "" ? {} : { Segment: segment }),
    Access: access,
    Allow: allow,
  };
}

function refused(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
