/**
 * SPIFFE IDs as URIs: scheme, trust domain, path segments. What the paths mean is in kinds.ts.
 * @module
 */
import { RequestError } from "../errors.ts";

/** SPIFFE-ID §2.3: at most 2048 octets in all, 255 of them trust domain. */
const MAX_LENGTH = 2048;
const MAX_TRUST_DOMAIN = 255;

const HOST = /^[A-Za-z0-9._-]+$/;
/** RFC 3986 §3.3: what a path may have. */
const PATH = /^[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$/;

/** RFC 3986 §2.3: what stands for itself. Almost every name is of these. */
const PLAIN = /^[A-Za-z0-9._~-]+$/;

export interface SpiffeUri {
  /** Lower case (SPIFFE-ID §2.1). */
  readonly trustDomain: string;
  /** Path segments as they stand, percent-encoded. Empty for a trust domain's own ID. */
  readonly segments: readonly string[];
}

/**
 * Splits a SPIFFE ID.
 * @throws {RequestError} `spiffe_id_malformed`
 */
export function splitSpiffeUri(uri: string): SpiffeUri {
  // Consul's texts (consul-ca.md §3.6).
  if (!/^spiffe:/i.test(uri)) throw malformed("SPIFFE ID must have 'spiffe' scheme");
  const slash = uri.indexOf("/", "spiffe://".length);
  const [host, path] = slash < 0 ? [uri.slice("spiffe://".length), ""] : [uri.slice("spiffe://".length, slash), uri.slice(slash)];
  if (uri.length > MAX_LENGTH || !uri.startsWith("//", "spiffe:".length) || !HOST.test(host) || !PATH.test(path)) throw unexpected(uri);
  if (host.length > MAX_TRUST_DOMAIN) throw malformed(`SPIFFE ID has a trust domain of more than ${MAX_TRUST_DOMAIN} characters`);
  return { trustDomain: host.toLowerCase(), segments: path === "" ? [] : path.slice(1).split("/") };
}

/** The error for a URI that is none of the known forms, with Consul's text. */
export function unexpected(uri: string): RequestError {
  return malformed(`SPIFFE ID is not in the expected format: ${uri.slice(0, MAX_LENGTH)}`);
}

/**
 * Decodes one path segment.
 * @param what names the segment in the error: `service`, `datacenter`.
 * @throws {RequestError} `spiffe_id_malformed` on a bad escape, an empty segment, a slash, a dot segment or a control character.
 */
export function decodeSegment(segment: string, what: string): string {
  if (PLAIN.test(segment) && segment !== "." && segment !== "..") return segment;
  const bad = /%(?![0-9A-Fa-f]{2})/.exec(segment);
  if (bad !== null) throw malformed(`Invalid ${what}: invalid URL escape ${JSON.stringify(segment.slice(bad.index, bad.index + 3))}`);
  let value: string;
  try {
    value = decodeURIComponent(segment);
  } catch {
    throw malformed(`Invalid ${what}: escapes are not UTF-8`);
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (value === "" || value === "." || value === ".." || /[\u0000-\u001f\u007f/]/.test(value))
    throw malformed(`Invalid ${what}: ${JSON.stringify(value)} is empty, a dot segment, or has a slash or control character`);
  return value;
}

/** Encodes one path segment: all but what RFC 3986 §3.3 allows there is percent-encoded. */
export function encodeSegment(value: string): string {
  if (PLAIN.test(value)) return value;
  return encodeURIComponent(value).replace(/%(24|26|2B|2C|3A|3B|3D|40)/g, (encoded) => decodeURIComponent(encoded));
}

function malformed(message: string): RequestError {
  return new RequestError("spiffe_id_malformed", message);
}
