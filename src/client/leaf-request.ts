/**
 * Obtains one leaf: with a token, without one, or by the key of the leaf before.
 * @module
 */
import type { Clock } from "../core/ports/clock.ts";
import type { CaApi, LeafRequest, LeafResponse } from "./ca-api.ts";
import type { Credentials } from "./credentials.ts";
import { type KeyAndRequest, makeKeyAndRequest } from "./csr.ts";
import { ClientError } from "./errors.ts";
import type { LeafIdentity } from "./leaf-check.ts";
import { renewalProof } from "./renewal-proof.ts";
import type { X509Svid } from "./svid.ts";

interface LeafRequestOptions {
  readonly identity: LeafIdentity;
  readonly api: Pick<CaApi, "sign" | "renew">;
  /** Null if the agent has neither a token nor a login. */
  readonly credentials: Credentials | null;
  readonly clock: Clock;
}

/** A leaf as the server answered it, and the key that was made for it. */
export interface ObtainedLeaf {
  readonly key: KeyAndRequest;
  readonly response: LeafResponse;
  /** Why the key of the leaf before was used in place of the credentials, or null. */
  readonly detour: string | null;
}

/** Consul's error of an unknown token (acl.ErrNotFound). */
const UNKNOWN_TOKEN = "ACL not found";

/**
 * Obtains a leaf with a new key.
 * @param held the leaf before, if it is valid; it proves the identity where credentials cannot be
 * had. A refusal is final: the leaf before does not go round it.
 * @throws {ClientError}
 */
export async function obtainLeaf(
  options: LeafRequestOptions,
  held: X509Svid | null,
  trustDomain: string,
  signal: AbortSignal,
): Promise<ObtainedLeaf> {
  const { identity, credentials } = options;
  const uri = held?.spiffeId ?? serviceId(identity, trustDomain);
  const { dnsNames, ipAddresses, service, ttlMs } = identity;
  const key = await makeKeyAndRequest({ uri, dnsNames, ipAddresses });
  // With a URI the service is known; servers before Service existed refuse the field.
  const request = { csr: key.csr, service: uri === null ? service : null, ttlMs, signal };
  const renew = async (detour: string | null): Promise<ObtainedLeaf> => {
    const proof = await renewalProof(held as X509Svid, key.der, trustDomain, options.clock.now());
    return { key, response: await options.api.renew(request, proof), detour };
  };
  if (credentials === null) {
    try {
      return { key, response: await options.api.sign(request, null), detour: null };
    } catch (error) {
      // Access control is on, and this agent has nothing but its leaf.
      if (held === null || !isRefusal(error)) throw error;
      return renew(null);
    }
  }
  let token: string;
  try {
    token = await credentials.token(signal);
  } catch (error) {
    if (held === null || !isUnavailable(error)) throw error;
    return renew(error.message);
  }
  return { key, response: await signWith(token, request, options, credentials), detour: null };
}

/** Signs, and once more with another token if the server does not know this one any more. */
async function signWith(
  token: string,
  request: LeafRequest,
  { api }: LeafRequestOptions,
  credentials: Credentials,
): Promise<LeafResponse> {
  try {
    return await api.sign(request, token);
  } catch (error) {
    if (!isRefusal(error) || !error.message.includes(UNKNOWN_TOKEN)) throw error;
    if (!(await credentials.forget(token))) throw error;
    return api.sign(request, await credentials.token(request.signal));
  }
}

/** The SPIFFE ID of a service in a datacenter that is known (Consul's agent/connect/uri_service.go). */
function serviceId({ service, datacenter }: LeafIdentity, trustDomain: string): string | null {
  return service === null || datacenter === null
    ? null
    : `spiffe://${trustDomain}/ns/default/dc/${datacenter}/svc/${service}`;
}

function isRefusal(error: unknown): error is ClientError {
  return error instanceof ClientError && error.code === "refused";
}

function isUnavailable(error: unknown): error is ClientError {
  return error instanceof ClientError && error.code === "credentials_unavailable";
}
