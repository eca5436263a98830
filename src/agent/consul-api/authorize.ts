/**
 * POST /v1/agent/connect/authorize: whether a client may connect to a service (Consul's
 * AgentConnectAuthorize in agent/agent_endpoint.go). There are no intentions: the default decides.
 * @module
 */

import { writeJson } from "../../consul/go-json.ts";
import * as go from "../../consul/go-struct.ts";
import { RequestError } from "../../core/errors.ts";
import { parseSpiffeId, type SpiffeId } from "../../core/spiffe/id.ts";
import type { BodyReader } from "../../http/request-body.ts";
import { secretOf } from "../../http/request-token.ts";
import { plainBody } from "../../http/responses.ts";
import type { Call, RouteResponse } from "../../http/route.ts";
import type { ConsulApiOptions } from "./options.ts";
import { AgentRefusal, RETRY_MS } from "./refusal.ts";

/** Several times the longest SPIFFE ID and name. */
const MAX_BODY = 16 * 1024;

const STRUCT = "ConnectAuthorizeRequest";
const Question = {
  Target: go.string(`${STRUCT}.Target`),
  ClientCertURI: go.string(`${STRUCT}.ClientCertURI`),
  // Consul reads it, and does not use it.
  ClientCertSerial: go.string(`${STRUCT}.ClientCertSerial`),
};

interface Decision {
  readonly authorized: boolean;
  readonly reason: string;
  /** The age of the answer about the caller's rights; null if a server was asked for this request. */
  readonly ageMs?: number | null;
}

/** Decides in Consul's order of checks. */
export async function authorize(
  call: Call,
  bodies: BodyReader,
  options: ConsulApiOptions,
): Promise<RouteResponse> {
  const body = await bodies.json(call.request, MAX_BODY);
  const fields = go.decodeStruct(Question, body ?? {}, `structs.${STRUCT}`);
  const target = fields.Target ?? "";
  if (target === "") throw malformed("Target service must be specified");
  const client = clientOf(fields.ClientCertURI ?? "");
  const right = { resource: "service", level: "write", name: target } as const;
  const ageMs = await options.rights.require(secretOf(call.request), right);
  return response(call, decide(client, options, ageMs));
}

type ServiceId = Extract<SpiffeId, { readonly kind: "service" }>;

/** @throws {RequestError} `request_malformed` with Consul's texts */
function clientOf(uri: string): ServiceId {
  let id: SpiffeId;
  try {
    id = parseSpiffeId(uri);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw malformed("ClientCertURI not a valid Connect identifier");
  }
  if (id.kind !== "service") throw malformed("ClientCertURI not a valid Service identifier");
  return id;
}

function decide(client: ServiceId, options: ConsulApiOptions, ageMs: number | null): Decision {
  const { set, defaultIntentionPolicy, defaultPolicy } = options;
  const ours = set.bundle.current?.trustDomain;
  if (ours === undefined)
    throw new AgentRefusal(
      503,
      "Cannot authorize: the trust domain is not known, since no CA server has answered yet",
      RETRY_MS,
    );
  const differs = (what: string, theirs: string, own: string) => ({
    authorized: false,
    // Consul's text for partitions.
    reason: `Mismatched ${what}: ${JSON.stringify(theirs)} != ${JSON.stringify(own)}`,
  });
  if (client.trustDomain !== ours) return differs("trust domains", client.trustDomain, ours);
  if (client.partition !== "default") return differs("partitions", client.partition, "default");
  return defaultIntentionPolicy === null
    ? {
        authorized: defaultPolicy() === "allow",
        reason: "Default behavior configured by ACLs",
        ageMs,
      }
    : {
        authorized: defaultIntentionPolicy === "allow",
        reason: "Default intention policy",
        ageMs,
      };
}

function response(call: Call, { authorized, reason, ageMs }: Decision): RouteResponse {
  const cache =
    ageMs === undefined
      ? {}
      : ageMs === null
        ? { "X-Cache": "MISS" }
        : { "X-Cache": "HIT", Age: String(Math.round(ageMs / 1000)) };
  const json = { Authorized: authorized, Reason: reason };
  return {
    headers: cache,
    body: plainBody("application/json", writeJson(json, call.query().pretty)),
  };
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
