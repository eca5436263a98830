/**
 * IP addresses and ranges of them: which text is one, and which addresses are loopback or public.
 * The one file that knows the package ipaddr.js.
 * @module
 */
import ipaddr from "ipaddr.js";

type Ip = ipaddr.IPv4 | ipaddr.IPv6;

/** The longest text of an address: six groups and an IPv4 of 15 characters (RFC 4291 §2.2). */
const MAX_LENGTH = 45;

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

/**
 * Whether a text is a loopback address (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3), IPv4-mapped IPv6
 * addresses included.
 */
export function isLoopbackAddress(text: string): boolean {
  const address = parseIp(text);
  if (address === null) return false;
  const isMapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress();
  return (isMapped ? address.toIPv4Address() : address).range() === "loopback";
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
  if (text.length > MAX_LENGTH || text.includes("%")) return null;
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  const start = text.lastIndexOf(":") + 1;
  const last = text.slice(start);
  if (start > 0 && ipaddr.IPv4.isValidFourPartDecimal(last)) {
    // As two groups: ipaddr.js takes `::127.0.0.1` for `::ffff:127.0.0.1`.
    const [a = 0, b = 0, c = 0, d = 0] = ipaddr.IPv4.parse(last).octets;
    const groups = [(a << 8) | b, (c << 8) | d].map((group) => group.toString(16));
    return parseIp(text.slice(0, start) + groups.join(":"));
  }
  return !last.includes(".") && ipaddr.IPv6.isValid(text) ? ipaddr.IPv6.parse(text) : null;
}

/** RFC 4291 §2.5.5.2. */
function mapped(address: Ip): ipaddr.IPv6 {
  return address instanceof ipaddr.IPv4 ? address.toIPv4MappedAddress() : address;
}

function isPublicIpv4(address: ipaddr.IPv4): boolean {
  return PUBLIC_IPV4.includes(address.range());
}
