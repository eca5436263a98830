/**
 * Which datacenter is the primary one, as reported by the other datacenters in the configuration.
 * @module
 */
import { readRootsListing } from "../client/roots-listing.ts";
import type { PeerDatacenters, PrimacyClaim } from "../core/ports/primary.ts";
import { FORWARDED_HEADER, type OtherDatacenters } from "../http/forwarding.ts";
import { readPrimacy } from "../net/primacy.ts";

/** For each server, in milliseconds. A datacenter that does not answer delays a change by so much. */
const TIMEOUT_MS = 3000;

/** @param datacenter the name of this one. */
export function peersOf(others: OtherDatacenters, datacenter: string): PeerDatacenters {
  return {
    get names() {
      return others.names;
    },
    async claims() {
      const answers = await Promise.allSettled(
        others.names.map((name) => claimOf(others, name, datacenter)),
      );
      return answers.flatMap((answer) =>
        answer.status === "fulfilled" && answer.value !== null ? [answer.value] : [],
      );
    },
  };
}

async function claimOf(
  others: OtherDatacenters,
  by: string,
  datacenter: string,
): Promise<PrimacyClaim | null> {
  const response = await others.send(by, {
    method: "GET",
    path: `/v1/connect/ca/roots?dc=${encodeURIComponent(by)}`,
    headers: { [FORWARDED_HEADER]: datacenter },
    body: null,
    timeoutMs: TIMEOUT_MS,
    signal: AbortSignal.timeout(2 * TIMEOUT_MS),
  });
  if (response.status !== 200) return null;
  const primacy = readPrimacy((name) => response.header(name));
  const { trustDomain } = readRootsListing(response.body);
  return primacy === null ? null : { by, trustDomain, ...primacy };
}
