/**
 * PUT and POST /v1/connect/ca/sign: a request in, a leaf with its chain out.
 * @module
 */

import { writeJson } from "../../consul/go-json.ts";
import type { AccessControl } from "../../core/acl/access-control.ts";
import type { Caller } from "../../core/acl/authorizer.ts";
import type { Denial } from "../../core/acl/types.ts";
import type { IssuedLeaf, Permit, RequestedLeaf } from "../../core/ca/signer.ts";
import { DeniedError } from "../../core/errors.ts";
import type { LeafId } from "../../core/spiffe/id.ts";
import type { Answer, AppOptions, Call, Handler, Route } from "../app.ts";
import { readCsrBody } from "../csr-body.ts";
import { requireDatacenter } from "../datacenter.ts";
import type { BodyReader } from "../request-body.ts";
import { secretOf } from "../request-token.ts";
import { plainBody } from "../shared-body.ts";
import { leafJson } from "../wire.ts";

const PEM_CHAIN = "application/pem-certificate-chain";

export function signRoutes(
  { manager, datacenter, access, limits }: AppOptions,
  bodies: BodyReader,
): Route[] {
  const sign: Handler = async (call) => {
    requireDatacenter(call.query().params, datacenter);
    // A request is shed before anything of it is read: the cheaper that is, the more is left for
    // the others.
    manager.requireRoom("issue");
    const csr = await readCsrBody(call.request, bodies, limits.maxBodySign);
    return leafAnswer(
      call,
      await manager.sign(csr, { caller: call.caller, permit: permitOf(call, access) }),
    );
  };
  return [
    {
      path: "/v1/connect/ca/sign",
      kind: "consul",
      needs: { PUT: "identity", POST: "identity" },
      methods: { PUT: sign, POST: sign },
    },
  ];
}

/** A leaf in JSON, or in PEM where that is asked for. */
export function leafAnswer(call: Call, leaf: IssuedLeaf): Answer {
  const bare = call.header("accept")?.includes(PEM_CHAIN) === true;
  return {
    headers: { "X-Consul-Index": String(leaf.index), "Cache-Control": "no-store" },
    body: bare
      ? plainBody(PEM_CHAIN, leaf.certificatePem)
      : plainBody("application/json", writeJson(leafJson(leaf), call.query().pretty)),
  };
}

/**
 * Whether a caller may have the identity that it asks for (Consul's
 * agent/consul/leader_connect_ca.go), and it is not on the denylist. The first time by the rights
 * that the request came with, then by those that its token has at that time.
 */
function permitOf({ authorized, request }: Call, access: AccessControl | null): Permit | undefined {
  if (authorized === null || access === null) return undefined;
  const check = (caller: Caller, { id, uri, spki }: RequestedLeaf) => {
    requireIdentity(caller, id);
    requireNotDenied(
      access.administration.denialOf({
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
    const caller = access.authorize(secretOf(request));
    return caller instanceof Promise
      ? caller.then((found) => check(found, subject))
      : check(caller, subject);
  };
}

/** @throws {DeniedError} `denylisted` */
export function requireNotDenied(denial: Denial | null): void {
  if (denial !== null)
    throw new DeniedError(
      "denylisted",
      `Permission denied: this ${DENIED[denial.kind]} is on the deny list`,
    );
}
const DENIED = { "spiffe-id": "SPIFFE ID", "key-id": "key", serial: "leaf" } as const;

/** @throws {DeniedError} */
function requireIdentity(caller: Caller, id: LeafId): void {
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
