/**
 * SPIFFE IDs as URIs: scheme, trust domain, path segments (SPIFFE-ID §2). What the paths mean is in
 * kinds.ts.
 * @module
 */
import { RequestError } from "../errors.ts";

/** SPIFFE-ID §2.3: at most 2048 octets in all, 255 of them trust domain. */
const MAX_LENGTH = 2048;
const MAX_TRUST_DOMAIN = 255;

/**
 * SPIFFE-ID §2.1 has lower case only; upper case is lowered, since hosts do not differ by case (RFC
 * 3986 §3.2.2).
 */
const HOST = /^[A-Za-z0-9._-]+$/;
/**
 * RFC 3986 §3.3: what the path of any URI may have. What is not of SPIFFE's is refused segment by
 * segment.
 */
const PATH = /^[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$/;
/** SPIFFE-ID §2.2: letters, digits, dots, dashes and underscores; no percent-encoding. */
const SEGMENT = /^[A-Za-z0-9._-]+$/;

export interface SpiffeUri {
  /** Lower case (SPIFFE-ID §2.1). */
  readonly trustDomain: string;
  /** Path segments as they stand. Empty for a trust domain's own ID. */
  readonly segments: readonly string[];
}

/**
 * Splits a SPIFFE ID. Its segments are still to be checked with `requireSegment`.
 * @throws {RequestError} `spiffe_id_malformed`
 */
export function splitSpiffeUri(uri: string): SpiffeUri {
  // Consul's texts (agent/connect/uri.go).
  if (!/^spiffe:/i.test(uri)) throw malformed("SPIFFE ID must have 'spiffe' scheme");
  const slash = uri.indexOf("/", "spiffe://".length);
  const [host, path] =
    slash < 0
      ? [uri.slice("spiffe://".length), ""]
      : [uri.slice("spiffe://".length, slash), uri.slice(slash)];
  if (
    uri.length > MAX_LENGTH ||
    !uri.startsWith("//", "spiffe:".length) ||
    !HOST.test(host) ||
    !PATH.test(path)
  )
    throw unexpected(uri);
  if (host.length > MAX_TRUST_DOMAIN)
    throw malformed(`SPIFFE ID has a trust domain of more than ${MAX_TRUST_DOMAIN} characters`);
  if (path.includes("%"))
    throw malformed(
      `SPIFFE ID must not be percent-encoded: ${uri}; a path segment has letters, digits, '.', '-' and '_'`,
    );
  return { trustDomain: host.toLowerCase(), segments: path === "" ? [] : path.slice(1).split("/") };
}

/** The error for a URI that is none of the known forms, with Consul's text. */
export function unexpected(uri: string): RequestError {
  return malformed(`SPIFFE ID is not in the expected format: ${uri.slice(0, MAX_LENGTH)}`);
}

/**
 * Checks one path segment by SPIFFE-ID §2.2.
 * @param what names the segment in the error: `service`, `datacenter`.
 * @returns the segment.
 * @throws {RequestError} `spiffe_id_malformed`
 */
export function requireSegment(segment: string, what: string): string {
  const fault = segmentFault(segment);
  if (fault !== null) throw malformed(`Invalid ${what}: ${JSON.stringify(segment)} ${fault}`);
  return segment;
}

/**
 * What keeps a name out of a SPIFFE ID's path, as the end of a sentence about the name; null if
 * nothing does.
 */
export function segmentFault(segment: string): string | null {
  if (segment === "") return "is empty, which a segment of a SPIFFE ID must not be";
  if (segment === "." || segment === "..")
    return "is a dot segment, which a SPIFFE ID must not have";
  if (SEGMENT.test(segment)) return null;
  return "has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed";
}

export function malformed(message: string): RequestError {
  return new RequestError("spiffe_id_malformed", message);
}
