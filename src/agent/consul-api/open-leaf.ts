/**
 * Leaves of services that the agent's configuration does not have, from the servers.
 * @module
 */
import type { Credentials } from "../../client/credentials.ts";
import { LeafSource, type LeafSourceOptions } from "../../client/leaf-source.ts";
import type { OpenLeafOf } from "./options.ts";

/** What all leaves share. */
type Shared = Omit<LeafSourceOptions, "identity" | "credentials" | "cache">;

/**
 * Opens leaves that are signed with their caller's token, and with nothing else of the agent: neither
 * its token, nor its login, nor its cache.
 */
export function leafOpener(shared: Shared): OpenLeafOf {
  return ({ service, datacenter }, token) => {
    const source = new LeafSource({
      ...shared,
      identity: { service, datacenter, dnsNames: [], ipAddresses: [], ttlMs: null },
      credentials: token === null ? null : ofCaller(token),
      cache: null,
    });
    void source.start();
    return source;
  };
}

function ofCaller(token: string): Credentials {
  return {
    token: async () => token,
    forget: async () => false,
    close: async () => undefined,
  };
}
