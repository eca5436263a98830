/**
 * PUT and POST /v1/connect/ca/sign: signs a leaf for a CSR, and answers it with its chain.
 * @module
 */
import { type Json, rfc3339, writeJson } from "../../consul/go-json.ts";
import type { Authorization } from "../../core/acl/authorizer.ts";
import type { Acl } from "../../core/acl/ports.ts";
import type { DenylistEntry } from "../../core/acl/types.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { IssuedLeaf, Permit, RequestedLeaf } from "../../core/ca/signer.ts";
import { DeniedError, RequestError } from "../../core/errors.ts";
import { agentId, type InDatacenter, type LeafId, serviceId } from "../../core/spiffe/id.ts";
import { readLeafRequest } from "../leaf-request.ts";
import type { BodyReader } from "../request-body.ts";
import { secretOf } from "../request-token.ts";
import { plainBody } from "../responses.ts";
import { type Call, caRoute, endpoint, type Route, type RouteResponse } from "../route.ts";

export const PEM_CHAIN = "application/pem-certificate-chain";

export interface SignRouteOptions {
  readonly ca: Pick<CertificateAuthority, "require" | "requireRoom" | "sign">;
  readonly control: Acl | null;
  readonly bodies: BodyReader;
  readonly maxBody: number;
}

export function signRoutes({ ca, control, bodies, maxBody }: SignRouteOptions): Route[] {
  const sign = endpoint("identity", async (call) => {
    // Load is shed before the body is read, when it is cheapest.
    ca.requireRoom("issue");
    const { csr, ttlMs, service } = await readLeafRequest(call, bodies, maxBody);
    const permit = permitOf(call, control);
    const ownIdentity = (scope: InDatacenter) => identityOf(call.authorized, scope);
    const leaf = await ca.sign(csr, { caller: call.caller, ttlMs, service, ownIdentity, permit });
    return leafResponse(call, leaf);
  });
  return [caRoute("/v1/connect/ca/sign", { PUT: sign, POST: sign })];
}

/** How many identities of a token an error names. */
const MAX_NAMED = 10;

/**
 * The one identity of a token, for a CSR without a URI in a request that names no service.
 * @param caller null if access control is off.
 * @throws {RequestError} `csr_malformed` if the token has none or several
 */
function identityOf(caller: Authorization | null, scope: InDatacenter): LeafId {
  const identities = caller?.identities ?? [];
  const [identity] = identities;
  const remedy = 'name the service with ?service= or "Service" in JSON';
  if (identity === undefined) {
    const token = caller === null ? "" : ", use a token with one service identity or node identity";
    // Consul's text (agent/consul/leader_connect_ca.go), and what to do.
    throw new RequestError(
      "csr_malformed",
      `CSR SAN contains an invalid number of URIs: 0; ${remedy}${token}, or put the SPIFFE ID into the CSR as URI`,
    );
  }
  if (identities.length > 1) {
    const names = identities.map(({ kind, name }) => `${kind} ${JSON.stringify(name)}`);
    const more = names.length > MAX_NAMED ? ` and ${names.length - MAX_NAMED} more` : "";
    throw new RequestError(
      "csr_malformed",
      `Cannot sign leaf: the CSR has no URI, and the token has several identities: ${names.slice(0, MAX_NAMED).join(", ")}${more}; ${remedy}, or put the SPIFFE ID into the CSR as URI`,
    );
  }
  return identity.kind === "service"
    ? serviceId(scope, identity.name)
    : agentId(scope, identity.name);
}

/** A leaf in JSON, or in PEM if the Accept header names its media type. */
export function leafResponse(call: Call, leaf: IssuedLeaf): RouteResponse {
  const pem = call.header("accept")?.includes(PEM_CHAIN) === true;
  return {
    headers: {
      "X-Consul-Index": String(leaf.index),
      "Cache-Control": "no-store",
      ...(pem ? { "X-Meshca-Renew-After": rfc3339(leaf.renewAfter) } : {}),
    },
    body: pem
      ? plainBody(PEM_CHAIN, leaf.certificatePem)
      : plainBody("application/json", writeJson(leafJson(leaf), call.query().pretty)),
  };
}

/**
 * Whether the caller's token allows the identity that it requests (Consul's
 * agent/consul/leader_connect_ca.go), and the denylist does not refuse it. Asked twice: first by
 * the rights that the request was authorized with, after the queue by the token's rights then.
 */
function permitOf({ authorized, request }: Call, control: Acl | null): Permit | undefined {
  if (authorized === null || control === null) return undefined;
  const check = (caller: Authorization, { id, uri, spki }: RequestedLeaf) => {
    requireIdentity(caller, id);
    requireNotDenylisted(
      control.denylistEntryOf({
        spiffeId: uri,
        keys: [spki],
        subjectKeyId: null,
        serial: null,
      }),
    );
  };
  let asked = false;
  return (subject) => {
    if (!asked) {
      asked = true;
      return check(authorized, subject);
    }
    const caller = control.authorize(secretOf(request));
    return caller instanceof Promise
      ? caller.then((found) => check(found, subject))
      : check(caller, subject);
  };
}

const DENYLISTED = { "spiffe-id": "SPIFFE ID", "key-id": "key", serial: "leaf" } as const;

/** @throws {DeniedError} `denylisted` */
export function requireNotDenylisted(entry: DenylistEntry | null): void {
  if (entry !== null)
    throw new DeniedError(
      "denylisted",
      `Permission denied: this ${DENYLISTED[entry.kind]} is on the denylist`,
    );
}

/** @throws {DeniedError} `permission_denied` */
function requireIdentity(caller: Authorization, id: LeafId): void {
  switch (id.kind) {
    case "service":
      caller.require("service", "write", id.service);
      break;
    case "agent":
      caller.require("node", "write", id.node);
      break;
    case "mesh-gateway":
      caller.require("mesh", "write");
      break;
    case "server":
      caller.require("acl", "write");
      break;
  }
}

/** A leaf in Consul's JSON (IssuedCert in agent/structs/connect_ca.go), and when to renew it. */
function leafJson(leaf: IssuedLeaf): Json {
  return {
    SerialNumber: leaf.serialNumber,
    CertPEM: leaf.certificatePem,
    ...identityJson(leaf),
    ValidAfter: rfc3339(leaf.notBefore),
    ValidBefore: rfc3339(leaf.notAfter),
    CreateIndex: leaf.index,
    ModifyIndex: leaf.index,
    RenewAfter: rfc3339(leaf.renewAfter),
  };
}

function identityJson({ id, uri }: IssuedLeaf): { [key: string]: Json } {
  switch (id.kind) {
    case "service":
      return { Service: id.service, ServiceURI: uri };
    case "agent":
      return { Agent: id.node, AgentURI: uri };
    case "server":
      return { ServerURI: uri };
    case "mesh-gateway":
      return { Kind: "mesh-gateway", KindURI: uri };
  }
}
