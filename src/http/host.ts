/**
 * Refuses names that are not ours: a page of the web that rebinds its name to an address of ours still sends its own name.
 * @module
 */

export interface Hosts {
  /** Names and addresses that are served, without ports. Null: any, where not only loopback is served. */
  readonly names: readonly string[] | null;
  /** Whether nothing but loopback is served. Its names are served then. */
  readonly loopbackOnly: boolean;
}

/** The refusal for a Host header, or null. */
export function hostRefusal(host: string | null, { names, loopbackOnly }: Hosts): string | null {
  if (names === null && !loopbackOnly) return null;
  const name = (host ?? "").toLowerCase().replace(/:\d*$/, "").replace(/\.$/, "");
  if (loopbackOnly && (name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name)))
    return null;
  if (names === null) return "Host is not a loopback name: use 127.0.0.1 or localhost, or add the name to MESHCA_HOSTS";
  return names.includes(name) ? null : "Host is not one of the names that are served here: add it to MESHCA_HOSTS";
}
