/**
 * The address of a server, and whether it is on this machine.
 * @module
 */
import { FormatError } from "../core/errors.ts";

/**
 * Whether a URL leads to this machine: `localhost`, 127.0.0.0/8 or ::1. The URL parser has brought
 * other spellings of these addresses (`127.1`, `0x7f.1`, `2130706433`) into this form. Names below
 * `.localhost` are left to a resolver and may lead elsewhere.
 */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/**
 * Reads the address of a server: an http or https URL, without user, query, fragment.
 * @param canVerify whether there is a CA file or a pin to verify the server with.
 * @throws {FormatError} with the predicate of a sentence whose subject is the address
 */
export function readServerAddress(text: string, canVerify: boolean): URL {
  if (!URL.canParse(text)) throw new FormatError("is not a URL, such as https://ca.example:8501");
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new FormatError("must begin with https:// or http://");
  if (url.username !== "" || url.password !== "")
    throw new FormatError("must not have a user or a password");
  if (url.search !== "" || url.hash !== "")
    throw new FormatError("must not have a query or a fragment");
  if (isLoopback(url)) return url;
  if (url.protocol === "http:")
    throw new FormatError(
      "is plain HTTP to another machine, on which tokens and roots can be read and replaced; use https",
    );
  if (!canVerify)
    throw new FormatError(
      "is another machine, which cannot be verified at the first contact; set the CA file or the pin (sha256:HEX of a root)",
    );
  return url;
}
