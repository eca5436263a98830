/**
 * PUT /v1/connect/ca/renew: signs another leaf of the same identity for a caller that proves
 * possession of the key of a valid leaf.
 * @module
 */
import { base64, colonHex, sha256 } from "../../core/bytes.ts";
import { denied, requireOwnLeaf } from "../../core/ca/renewal-check.ts";
import type { Snapshot } from "../../core/ca/snapshot.ts";
import { FormatError, InvariantError, RequestError, readOrNull } from "../../core/errors.ts";
import { readPem } from "../../core/pem.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { ReadRenewalToken } from "../../core/ports/renewal-token.ts";
import { parseSpiffeId } from "../../core/spiffe/id.ts";
import type { CaState } from "../../core/state.ts";
import { type Certificate, readCertificate } from "../../core/x509/certificate.ts";
import { readLeafRequest } from "../leaf-request.ts";
import { bearerOf } from "../request-token.ts";
import { type Call, caRoute, endpoint, type Route } from "../route.ts";
import { leafResponse, requireNotDenylisted, type SignRouteOptions } from "./sign.ts";

interface RenewRouteOptions extends SignRouteOptions {
  readonly clock: Clock;
  readonly readRenewalToken: ReadRenewalToken;
}

/** A leaf whose key the caller has. */
interface Proven {
  readonly leaf: Certificate;
  readonly identity: string;
  /** The state that the leaf was checked with. */
  readonly under: CaState;
}

export function renewRoutes(options: RenewRouteOptions): Route[] {
  const { ca, control, bodies, maxBody, clock } = options;
  const renew = endpoint("public", async (call) => {
    ca.requireRoom("renewal");
    const { csr, ttlMs, service } = await readLeafRequest(call, bodies, maxBody);
    let proven: Proven | null = null;
    const renewed = await ca.sign(csr, {
      priority: "renewal",
      ttlMs,
      caller: call.caller,
      service,
      ownIdentity: () => parseSpiffeId(required(proven).identity),
      async authenticate(snapshot) {
        proven = await provenLeaf(call, csr, snapshot, options);
        return { leaf: proven.leaf, state: proven.under };
      },
      async permit({ uri, spki }) {
        const { leaf, identity, under } = required(proven);
        // The leaf's root may have been abandoned while the request was queued.
        const { state } = ca.require();
        if (state !== under) await requireOwnLeaf(leaf, state, clock.now());
        if (uri !== identity) throw denied("the request is for another identity than the leaf's");
        requireNotDenylisted(
          control?.denylistEntryOf({
            spiffeId: uri,
            // The replaced key may be the compromised one.
            keys: [spki, leaf.key.spki],
            subjectKeyId: leaf.subjectKeyId === null ? null : colonHex(leaf.subjectKeyId),
            serial: colonHex(leaf.serial),
          }) ?? null,
        );
      },
    });
    return leafResponse(call, renewed);
  });
  return [caRoute("/v1/connect/ca/renew", { PUT: renew })];
}

function required(proven: Proven | null): Proven {
  if (proven !== null) return proven;
  throw new InvariantError("A renewal was decided before its proof was verified");
}

/**
 * The leaf whose key the caller proves to have: by a JWT, or by a TLS client certificate. That the
 * leaf is ours is checked before its key is used, so that no key of an attacker's choice is.
 * @throws {DeniedError} `permission_denied`
 */
async function provenLeaf(
  call: Call,
  csr: string,
  { state }: Snapshot,
  { clock, readRenewalToken }: Pick<RenewRouteOptions, "clock" | "readRenewalToken">,
): Promise<Proven> {
  const now = clock.now();
  const jwt = bearerOf(call.header("authorization") ?? null);
  if (jwt === null) {
    const { peerCertificate } = call.environment;
    if (peerCertificate === undefined)
      throw denied(
        "the request has no proof of the leaf's key; send a JWT signed with that key as bearer token, or use the leaf as TLS client certificate",
      );
    const leaf = readPeer(peerCertificate);
    return { leaf, identity: await requireOwnLeaf(leaf, state, now), under: state };
  }
  const { leaf, verify } = readRenewalToken(jwt);
  const identity = await requireOwnLeaf(leaf, state, now);
  if ((await verify(`spiffe://${state.trustDomain}`, now)) !== hashOf(csr))
    throw denied("the proof is for another request");
  return { leaf, identity, under: state };
}

/** @throws {DeniedError} `permission_denied` */
function readPeer(der: Uint8Array): Certificate {
  try {
    return readCertificate(der);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw denied(`the client certificate cannot be parsed: ${error.message}`);
  }
}

/**
 * SHA-256 of a CSR's DER, in base64url without padding.
 * @throws {RequestError} `csr_malformed`
 */
function hashOf(csr: string): string {
  const [block] = readOrNull(() => readPem(csr)) ?? [];
  if (block === undefined)
    throw new RequestError("csr_malformed", "Cannot read CSR: it is not PEM");
  return base64(sha256(block.bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
