/**
 * The messages of the SPIFFE Workload API, encoded.
 * @module
 */
import type { Buffer } from "node:buffer";
import type { TrustBundle } from "../../client/svid.ts";
import { concat } from "../../core/bytes.ts";
import { encodeMessage } from "../proto.ts";
import type { Identity } from "../workload-state.ts";

/**
 * X509SVIDResponse: every identity, the default one first.
 *
 * The hint is the name of the service, also if there is one identity only: it stays the same when
 * others come and go, so that clients can choose by it (SPIFFE Workload API, section 5.2: unique
 * within a message).
 */
export function svidResponse(identities: readonly Identity[], bundle: TrustBundle): Buffer {
  const roots = concat(...bundle.roots);
  return encodeMessage("X509SVIDResponse", {
    svids: identities.map(({ service, svid }) => ({
      spiffeId: svid.spiffeId,
      x509Svid: concat(...svid.chain),
      x509SvidKey: svid.privateKey,
      bundle: roots,
      hint: service,
    })),
  });
}

/** X509BundlesResponse: the roots by the SPIFFE ID of the trust domain. */
export function bundlesResponse({ trustDomain, roots }: TrustBundle): Buffer {
  return encodeMessage("X509BundlesResponse", {
    bundles: { [`spiffe://${trustDomain}`]: concat(...roots) },
  });
}
