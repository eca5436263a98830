/**
 * PUT and POST /v1/connect/ca/sign-intermediate: certifies the key of another datacenter's CA. GET
 * /v1/connect/ca/intermediates: which of these certificates are not expired. Neither is in Consul,
 * whose servers do this by RPC (`ConnectCA.SignIntermediate`).
 * @module
 */
import { type Json, rfc3339 } from "../../consul/go-json.ts";
import type { Authorization } from "../../core/acl/authorizer.ts";
import type { Acl } from "../../core/acl/ports.ts";
import { type Bytes, colonHex } from "../../core/bytes.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import { DeniedError, RequestError } from "../../core/errors.ts";
import type { IssuedIntermediate } from "../../core/state.ts";
import { signingUri } from "../../core/x509/authority.ts";
import { pemOf } from "../../core/x509/certificate.ts";
import { readLeafRequest } from "../leaf-request.ts";
import type { BodyReader } from "../request-body.ts";
import { secretOf } from "../request-token.ts";
import { json, plainBody } from "../responses.ts";
import { type Call, caRoute, endpoint, type Route } from "../route.ts";
import { PEM_CHAIN, requireNotDenylisted } from "./sign.ts";

interface IntermediateRouteOptions {
  readonly ca: Pick<CertificateAuthority, "require" | "signIntermediate">;
  readonly control: Acl | null;
  readonly bodies: BodyReader;
  readonly maxBody: number;
}

export function intermediateRoutes(options: IntermediateRouteOptions): Route[] {
  const { ca } = options;
  const sign = endpoint("intermediate:write", (call) => signIntermediate(call, options));
  return [
    caRoute("/v1/connect/ca/sign-intermediate", { PUT: sign, POST: sign }),
    caRoute("/v1/connect/ca/intermediates", {
      GET: endpoint("operator:read", (call) =>
        json(call, ca.require().state.intermediates.map(intermediateJson)),
      ),
    }),
  ];
}

async function signIntermediate(
  call: Call,
  { ca, control, bodies, maxBody }: IntermediateRouteOptions,
) {
  requireOwnToken(call.authorized);
  const { csr, service, ttlMs } = await readLeafRequest(call, bodies, maxBody);
  if (service !== null || ttlMs !== null)
    throw new RequestError(
      "request_malformed",
      "Cannot sign intermediate: its lifetime and name are decided by the CA; send the CSR only",
    );
  const permit = async (spki: Bytes) => {
    if (control === null) return;
    // The rights may have been revoked while another change ran.
    const caller = await control.authorize(secretOf(call.request));
    requireOwnToken(caller);
    caller.require("intermediate", "write");
    const spiffeId = signingUri(ca.require().state);
    const subject = { spiffeId, keys: [spki], subjectKeyId: null, serial: null };
    requireNotDenylisted(control.denylistEntryOf(subject));
  };
  const path = await ca.signIntermediate({ csr, caller: call.caller, permit });
  const pem = path.map(pemOf).join("");
  const headers = { "Cache-Control": "no-store" };
  if (call.header("accept")?.includes(PEM_CHAIN) === true)
    return { headers, body: plainBody(PEM_CHAIN, pem) };
  const [certificate] = path;
  return json(
    call,
    {
      SerialNumber: certificate === undefined ? "" : colonHex(certificate.serial),
      CertPEM: pem,
      RootID: ca.require().active.id,
      ...(certificate === undefined
        ? {}
        : {
            ValidAfter: rfc3339(certificate.notBefore),
            ValidBefore: rfc3339(certificate.notAfter),
          }),
    },
    { headers },
  );
}

/**
 * Not even a policy of the anonymous token, or a default policy that allows everything, lets a caller
 * without a token have a CA of its own.
 * @throws {DeniedError} `permission_denied`
 */
function requireOwnToken(authorized: Authorization | null): void {
  if (authorized?.anonymous === true)
    throw new DeniedError(
      "permission_denied",
      "Permission denied: an intermediate is signed for a token with the right intermediate:write only, never for the anonymous token",
    );
}

function intermediateJson(issued: IssuedIntermediate): Json {
  return {
    SerialNumber: issued.serial,
    KeyID: issued.keyId,
    RootID: issued.rootId,
    ValidAfter: rfc3339(issued.notBefore),
    ValidBefore: rfc3339(issued.notAfter),
    AccessorID: issued.accessor,
    Address: issued.address,
  };
}
