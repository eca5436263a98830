/**
 * Which addresses a server may be sent to by anyone who may name a URL: those of the public
 * internet, or of given ranges.
 * @module
 */

/**
 * IPv4 blocks that are not globally reachable (IANA's special-purpose registry, RFC 6890),
 * multicast and class E.
 */
const IPV4: readonly (readonly [base: string, bits: number])[] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
];

/** Where IPv4 lies among IPv6 addresses (RFC 4291 §2.5.5.2). */
const MAPPED = 0xffffn << 32n;

/** Whether a text is an address of the public internet; false for what is no address at all. */
export function isPublicAddress(address: string): boolean {
  const four = readIpv4(address);
  if (four !== null) return isPublicIpv4(four);
  const six = readIpv6(address);
  if (six === null) return false;
  const [first = 0, second = 0] = six;
  // 2000::/3 is all that is given out (RFC 4291 §2.4); in it: documentation, Teredo and ORCHID, and
  // 6to4 with an IPv4 inside.
  if (
    first >> 13 !== 1 ||
    (first === 0x2001 && (second < 0x200 || second === 0xdb8)) ||
    first >> 4 === 0x3ff
  )
    return false;
  return first !== 0x2002 || isPublicIpv4(((second << 16) | (six[2] ?? 0)) >>> 0);
}

/**
 * Whether a text is a loopback address (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3), also
 * IPv4 mapped into IPv6.
 */
export function isLoopbackAddress(address: string): boolean {
  const value = readAddress(address);
  return value === 1n || (value !== null && value >> 24n === ((MAPPED >> 24n) | 127n));
}

/** A block of addresses, IPv4 as ::ffff:0:0/96. */
export interface AddressRange {
  readonly base: bigint;
  /** Of 128. */
  readonly bits: number;
}

/** Reads `ADDRESS` or `ADDRESS/BITS`; null for anything else. */
export function readRange(text: string): AddressRange | null {
  const [address = "", length, ...more] = text.split("/");
  const base = readAddress(address);
  const width = readIpv4(address) === null ? 128 : 32;
  if (
    base === null ||
    more.length > 0 ||
    (length !== undefined && !/^(?:0|[1-9]\d{0,2})$/.test(length))
  )
    return null;
  const bits = length === undefined ? width : Number(length);
  return bits > width ? null : { base, bits: bits + 128 - width };
}

/** Whether an address is in a block; false for what is no address at all. */
export function isInRange(address: string, { base, bits }: AddressRange): boolean {
  const value = readAddress(address);
  return value !== null && (value ^ base) >> BigInt(128 - bits) === 0n;
}

function readAddress(text: string): bigint | null {
  const four = readIpv4(text);
  if (four !== null) return MAPPED | BigInt(four);
  return readIpv6(text)?.reduce((value, group) => (value << 16n) | BigInt(group), 0n) ?? null;
}

function isPublicIpv4(address: number): boolean {
  return !IPV4.some(([base, bits]) => ((readIpv4(base) ?? 0) ^ address) >>> (32 - bits) === 0);
}

/**
 * Four decimal numbers without leading zeros, as resolvers and URLs give them; null for anything
 * else.
 */
function readIpv4(text: string): number | null {
  const parts = text.split(".");
  if (
    parts.length !== 4 ||
    !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)
  )
    return null;
  return parts.reduce((value, part) => value * 256 + Number(part), 0);
}

/**
 * The eight groups of an IPv6 address without a zone; null for anything else. An IPv4 at the end
 * counts as two groups.
 */
function readIpv6(text: string): number[] | null {
  const halves = text.split("::");
  if (halves.length > 2 || !text.includes(":")) return null;
  const groups = halves.map((half) => (half === "" ? [] : half.split(":")).flatMap(readGroup));
  const [head = [], tail = []] = groups;
  const missing = 8 - head.length - tail.length;
  if (groups.flat().includes(-1) || (halves.length === 2 ? missing < 1 : missing !== 0))
    return null;
  return halves.length === 2 ? [...head, ...new Array<number>(missing).fill(0), ...tail] : head;
}

function readGroup(group: string): number[] {
  const four = readIpv4(group);
  if (four !== null) return [four >>> 16, four & 0xffff];
  return [/^[0-9A-Fa-f]{1,4}$/.test(group) ? Number.parseInt(group, 16) : -1];
}
