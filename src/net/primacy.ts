/**
 * The headers by which a server reports, with its roots, which datacenter is the primary one.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Primacy } from "../core/ports/primary.ts";

/** The name of the primary datacenter. */
const DATACENTER = "X-Meshca-Primary-Datacenter";
/** How often a datacenter of the mesh had been promoted when that one was. */
const PROMOTIONS = "X-Meshca-Promotions";

/** LeafCertTTL of that one, in seconds. */
const LEAF_TTL = "X-Meshca-Leaf-Cert-TTL";

export function primacyHeaders({
  datacenter,
  promotions,
  leafTtlMs,
}: Primacy): Record<string, string> {
  return {
    [DATACENTER]: datacenter,
    [PROMOTIONS]: String(promotions),
    ...(leafTtlMs === null ? {} : { [LEAF_TTL]: String(Math.floor(leafTtlMs / 1000)) }),
  };
}

/**
 * @param header returns the value of a header by its name in lower case, or null.
 * @returns null if none of them is there. @throws {FormatError} with the response as subject
 */
export function readPrimacy(header: (name: string) => string | null): Primacy | null {
  const [datacenter, promotions, leafTtl] = [DATACENTER, PROMOTIONS, LEAF_TTL].map((name) =>
    header(name.toLowerCase()),
  );
  if (datacenter == null && promotions == null) return null;
  // Consul's rule for names of datacenters; 15 digits are exact as a number, and 12 of seconds too.
  if (
    !/^[A-Za-z0-9_-]{1,64}$/.test(datacenter ?? "") ||
    !/^\d{1,15}$/.test(promotions ?? "") ||
    (leafTtl != null && !/^\d{1,12}$/.test(leafTtl))
  )
    throw new FormatError(
      `the response of the roots has a malformed ${DATACENTER}, ${PROMOTIONS} or ${LEAF_TTL}`,
    );
  return {
    datacenter: (datacenter ?? "").toLowerCase(),
    promotions: Number(promotions),
    leafTtlMs: leafTtl == null ? null : Number(leafTtl) * 1000,
  };
}
