/**
 * The headers by which a server says, with its roots, which datacenter it takes for the primary one.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Primacy } from "../core/ports/primary.ts";

/** The name of the primary datacenter. */
const DATACENTER = "X-Meshca-Primary-Datacenter";
/** How often a datacenter of the mesh had been promoted when that one was. */
const PROMOTIONS = "X-Meshca-Promotions";

export function primacyHeaders({ datacenter, promotions }: Primacy): Record<string, string> {
  return { [DATACENTER]: datacenter, [PROMOTIONS]: String(promotions) };
}

/**
 * @param header returns the value of a header by its name in lower case, or null.
 * @returns null if neither header is there. @throws {FormatError} with the response as subject
 */
export function readPrimacy(header: (name: string) => string | null): Primacy | null {
  const datacenter = header(DATACENTER.toLowerCase());
  const promotions = header(PROMOTIONS.toLowerCase());
  if (datacenter === null && promotions === null) return null;
  // Consul's rule for names of datacenters; nine digits are more promotions than any mesh has.
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(datacenter ?? "") || !/^\d{1,9}$/.test(promotions ?? ""))
    throw new FormatError(
      `the response of the roots has a malformed ${DATACENTER} or ${PROMOTIONS}`,
    );
  return { datacenter: (datacenter ?? "").toLowerCase(), promotions: Number(promotions) };
}
