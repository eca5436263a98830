/**
 * Refuses names that are not ours: a page of the web that rebinds its name to an address of ours
 * still sends its own name.
 * @module
 */
import { isLoopbackAddress } from "../net/ip.ts";

export interface Hosts {
  /**
   * Names and addresses that are served, without ports. Null: any, where not only loopback is
   * served.
   */
  readonly names: readonly string[] | null;
  /** Whether nothing but loopback is served. Its names are served then. */
  readonly loopbackOnly: boolean;
}

/**
 * The refusal for a Host header, or null.
 * @param host null if there is none, which only HTTP/1.0 lets a client do: what makes requests for
 * a page never does.
 */
export function hostRefusal(host: string | null, { names, loopbackOnly }: Hosts): string | null {
  if (host === null || (names === null && !loopbackOnly)) return null;
  const name = host.toLowerCase().replace(/:\d*$/, "").replace(/\.$/, "");
  const isLoopbackName =
    name === "localhost" ||
    name.endsWith(".localhost") ||
    name === "[::1]" ||
    isLoopbackAddress(name);
  if (loopbackOnly && isLoopbackName) return null;
  if (names === null)
    return "Host is not a loopback name: use 127.0.0.1 or localhost, or add the name to MESHCA_HOSTS";
  return names.includes(name)
    ? null
    : "Host is not one of the names that are served here: add it to MESHCA_HOSTS";
}
