/**
 * Endpoints that exist only with access control, and how their changes get into the audit log.
 * @module
 */
import { type Json, writeJson } from "../consul/go-json.ts";
import type { AclAdmin } from "../core/acl/admin.ts";
import type { Acl, BeforeChange } from "../core/acl/ports.ts";
import type { Audit } from "../core/ports/audit.ts";
import { refuseEnterprise } from "./enterprise.ts";
import type { BodyReader } from "./request-body.ts";
import { compressibleBody, plainBody, TEXT } from "./responses.ts";
import type { AccessRule, Call, Endpoint, RouteResponse } from "./route.ts";

/** Consul's response if access control is off. */
const DISABLED: RouteResponse = {
  status: 401,
  body: compressibleBody(TEXT, "ACL support disabled"),
};
/** An eighth of Consul's limit for a request (512 KB), and enough for the rules of a policy. */
const MAX_BODY = 64 * 1024;

/** @param control null: every call is answered that access control is off. */
export function aclEndpoint(
  control: Acl | null,
  access: AccessRule,
  handle: (call: Call, control: Acl) => Promise<RouteResponse> | RouteResponse,
): Endpoint {
  return { access, handle: (call) => (control === null ? DISABLED : handle(call, control)) };
}

/**
 * Writes the audit record of a change that a call makes, before it is made. A caller without a
 * token, who logs in, does not use the reserve for a full disk.
 */
export function beforeChangeOf(
  { caller, action, authorized }: Call,
  audit: Audit | null,
): BeforeChange {
  const mayUseReserve = authorized !== null;
  return async (subject, detail) =>
    audit?.beforeChange(
      { caller, action, subject, outcome: "allowed", code: null, detail },
      { mayUseReserve },
    );
}

/** The answer to a call, in JSON. */
type AclHandler<T> = (call: Call, acl: T) => Promise<Json> | Json;

/** Makes the endpoints of Consul's ACL API, whose responses contain secrets. */
export class AclEndpoints {
  readonly #control: Acl | null;
  readonly #audit: Audit | null;
  readonly #bodies: BodyReader;

  constructor(control: Acl | null, audit: Audit | null, bodies: BodyReader) {
    this.#control = control;
    this.#audit = audit;
    this.#bodies = bodies;
  }

  endpoint(access: AccessRule, handle: AclHandler<Acl>): Endpoint {
    return aclEndpoint(this.#control, access, async (call, control) => {
      refuseEnterprise(call);
      const text = writeJson(await handle(call, control), call.query().pretty);
      return { secret: true, body: plainBody("application/json", text) };
    });
  }

  read(handle: AclHandler<AclAdmin>): Endpoint {
    return this.endpoint("acl:read", (call, control) => handle(call, control.admin));
  }

  /** @param access of who may make the change. @default "acl:write" */
  write(handle: AclHandler<AclAdmin>, access: AccessRule = "acl:write"): Endpoint {
    return this.endpoint(access, (call, control) =>
      handle(call, control.adminFor(this.beforeChange(call))),
    );
  }

  beforeChange(call: Call): BeforeChange {
    return beforeChangeOf(call, this.#audit);
  }

  /** @throws {RequestError} */
  body({ request }: Call): Promise<Json> {
    return this.#bodies.json(request, MAX_BODY);
  }

  /** A body that may be empty. @throws {RequestError} */
  optionalBody({ request }: Call): Promise<Json> {
    return this.#bodies.optionalJson(request, MAX_BODY);
  }
}
