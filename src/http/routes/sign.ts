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
import { DeniedError } from "../../core/errors.ts";
import type { LeafId } from "../../core/spiffe/id.ts";
import { readLeafRequest } from "../leaf-request.ts";
import type { BodyReader } from "../request-body.ts";
import { secretOf } from "../request-token.ts";
import { plainBody } from "../responses.ts";
import { type Call, caRoute, endpoint, type Route, type RouteResponse } from "../route.ts";

const PEM_CHAIN = "application/pem-certificate-chain";

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
    const { csr } = await readLeafRequest(call, bodies, maxBody);
    const permit = permitOf(call, control);
    return leafResponse(call, await ca.sign(csr, { caller: call.caller, permit }));
  });
  return [caRoute("/v1/connect/ca/sign", { PUT: sign, POST: sign })];
}

/** A leaf in JSON, or in PEM if the Accept header names its media type. */
export function leafResponse(call: Call, leaf: IssuedLeaf): RouteResponse {
  const pem = call.header("accept")?.includes(PEM_CHAIN) === true;
  return {
    headers: { "X-Consul-Index": String(leaf.index), "Cache-Control": "no-store" },
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

/** A leaf in Consul's JSON (IssuedCert in agent/structs/connect_ca.go). */
function leafJson(leaf: IssuedLeaf): Json {
  return {
    SerialNumber: leaf.serialNumber,
    CertPEM: leaf.certificatePem,
    ...identityJson(leaf),
    ValidAfter: rfc3339(leaf.notBefore),
    ValidBefore: rfc3339(leaf.notAfter),
    CreateIndex: leaf.index,
    ModifyIndex: leaf.index,
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
