/**
 * IP addresses and ranges of them: which text is one, and which addresses are loopback or public.
 * The one file that knows the package ipaddr.js.
 * @module
 */
import ipaddr from "ipaddr.js";

type Ip = ipaddr.IPv4 | ipaddr.IPv6;

/** The longest text of an address: six groups and an IPv4 of 15 characters (RFC 4291 §2.2). */
const MAX_LENGTH = 45;

/** As `isValidFourPartDecimal`, which creates an error for each name that a Host header has. */
const FOUR_PART_DECIMAL = /^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/;

/** RFC 1122 §3.2.1.3, RFC 4291 §2.5.3, and the first mapped into IPv6. */
const LOOPBACK_IPV4 = ipaddr.IPv4.parseCIDR("127.0.0.0/8");
const LOOPBACK_IPV6 = ["::1/128", "::ffff:7f00:0/104"].map((range) => ipaddr.IPv6.parseCIDR(range));

/** RFC 3927, RFC 4291 §2.5.6. */
const LINK_LOCAL_IPV4 = ipaddr.IPv4.parseCIDR("169.254.0.0/16");
const LINK_LOCAL_IPV6 = ipaddr.IPv6.parseCIDR("fe80::/10");

/** IANA's special-purpose ranges of IPv4 that are globally reachable nevertheless (RFC 6890). */
const PUBLIC_IPV4: readonly string[] = ["unicast", "as112", "amt"];

/** All that is assigned so far (RFC 4291 §2.4). */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR("2000::/3");
/**
 * In GLOBAL_UNICAST: IETF protocol assignments such as Teredo and ORCHID (RFC 2928), and
 * documentation (RFC 3849, RFC 9637, whose /20 is the one range in use of 3ff0::/12).
 */
const SPECIAL_IPV6 = ["2001::/23", "2001:db8::/32", "3ff0::/12"].map((range) =>
  ipaddr.IPv6.parseCIDR(range),
);
const SIX_TO_FOUR = ipaddr.IPv6.parseCIDR("2002::/16");

/** Whether a text is an IPv4 or IPv6 address, without brackets, zone or port. */
export function isIpAddress(text: string): boolean {
  return parseIp(text) !== null;
}

/** The 4 or 16 octets of an address; null for any other text. */
export function ipOctets(text: string): Uint8Array<ArrayBuffer> | null {
  const address = parseIp(text);
  return address === null ? null : Uint8Array.from(address.toByteArray());
}

/** The text of an address for people: of IPv6 the short form (RFC 5952). @param octets 4 or 16 */
export function shortIp(octets: Uint8Array): string {
  return ipaddr.fromByteArray([...octets]).toString();
}

/**
 * The first 64 bits of an IPv6 address, which one host has to itself (RFC 4291 §2.5.1), as four groups
 * in hexadecimal; null for any other text.
 */
export function ipv6Network(text: string): string | null {
  const address = parseIp(text);
  if (!(address instanceof ipaddr.IPv6)) return null;
  return [0, 1, 2, 3].map((i) => (address.parts[i] ?? 0).toString(16)).join(":");
}

/**
 * Whether a text is an address of the public internet. An IPv4-mapped IPv6 address is not, nor is
 * a text that is no address.
 */
export function isPublicAddress(text: string): boolean {
  const address = parseIp(text);
  if (address === null) return false;
  if (address instanceof ipaddr.IPv4) return isPublicIpv4(address);
  if (!address.match(GLOBAL_UNICAST) || SPECIAL_IPV6.some((range) => address.match(range)))
    return false;
  // RFC 3056 §2: the IPv4 address follows the prefix.
  const embedded = () => new ipaddr.IPv4(address.toByteArray().slice(2, 6));
  return !address.match(SIX_TO_FOUR) || isPublicIpv4(embedded());
}

/** Whether a text is a loopback address, IPv4-mapped IPv6 addresses included. */
export function isLoopbackAddress(text: string): boolean {
  const address = parseIp(text);
  return address instanceof ipaddr.IPv4
    ? address.match(LOOPBACK_IPV4)
    : address !== null && LOOPBACK_IPV6.some((range) => address.match(range));
}

/** Whether a text is an address that is valid on one link only. */
export function isLinkLocalAddress(text: string): boolean {
  const address = parseIp(text);
  return address instanceof ipaddr.IPv4
    ? address.match(LINK_LOCAL_IPV4)
    : address?.match(LINK_LOCAL_IPV6) === true;
}

/** Whether a text is `0.0.0.0`, `::`, or the first of them mapped into IPv6. */
export function isUnspecifiedAddress(text: string): boolean {
  const address = parseIp(text);
  return address !== null && ["::", "::ffff:0:0"].includes(mapped(address).toString());
}

/** A range of addresses, IPv4 as ::ffff:0:0/96. */
export interface AddressRange {
  readonly base: ipaddr.IPv6;
  /** Length of the prefix, of 128. */
  readonly bits: number;
}

/** Reads `ADDRESS` or `ADDRESS/BITS`; null for anything else. */
export function readRange(text: string): AddressRange | null {
  const [, address = "", length] = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
  const base = parseIp(address);
  if (base === null) return null;
  const width = base instanceof ipaddr.IPv4 ? 32 : 128;
  const bits = length === undefined ? width : Number(length);
  return bits > width ? null : { base: mapped(base), bits: bits + 128 - width };
}

/** Whether an address is in a range; false for a text that is no address. */
export function isInRange(address: string, { base, bits }: AddressRange): boolean {
  const read = parseIp(address);
  return read !== null && mapped(read).match(base, bits);
}

/**
 * Reads an address. IPv4, on its own or at the end of IPv6, is four decimal numbers without leading
 * zeros: the other forms of inet_aton(3), such as `127.1`, `0x7f.1` and `2130706433`, which
 * ipaddr.js takes by default, mean different addresses to different programs. A zone (RFC 4007 §11)
 * is refused, since it has a meaning on one machine only.
 */
function parseIp(text: string): Ip | null {
  if (text.length > MAX_LENGTH) return null;
  const start = text.lastIndexOf(":") + 1;
  const last = text.slice(start);
  if (!last.includes(".")) return start === 0 ? null : parseIpv6(text);
  const ipv4 = parseIpv4(last);
  if (ipv4 === null || start === 0) return ipv4;
  // As two groups: ipaddr.js takes `::127.0.0.1` for `::ffff:127.0.0.1`.
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.octets;
  const groups = [(a << 8) | b, (c << 8) | d].map((group) => group.toString(16));
  return parseIpv6(text.slice(0, start) + groups.join(":"));
}

function parseIpv4(text: string): ipaddr.IPv4 | null {
  return FOUR_PART_DECIMAL.test(text) ? valid(() => ipaddr.IPv4.parse(text)) : null;
}

function parseIpv6(text: string): ipaddr.IPv6 | null {
  return text.includes("%") ? null : valid(() => ipaddr.IPv6.parse(text));
}

/** Null instead of an error. ipaddr.js's `isValid` parses as well: an address would be read twice. */
function valid<T>(parse: () => T): T | null {
  try {
    return parse();
  } catch {
    return null;
  }
}

/** RFC 4291 §2.5.5.2. */
function mapped(address: Ip): ipaddr.IPv6 {
  return address instanceof ipaddr.IPv4 ? address.toIPv4MappedAddress() : address;
}

function isPublicIpv4(address: ipaddr.IPv4): boolean {
  return PUBLIC_IPV4.includes(address.range());
}
