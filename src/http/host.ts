/**
 * Refuses names that are not ours: a page of the web that rebinds its name to loopback still sends its own name.
 * @module
 */

/** The refusal for a Host header that is no loopback name, or null. */
export function hostRefusal(host: string | null): string | null {
  const name = (host ?? "").toLowerCase().replace(/:\d*$/, "").replace(/\.$/, "");
  if (name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name)) return null;
  return "Host is not a loopback name: use 127.0.0.1 or localhost";
}
