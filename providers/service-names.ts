/**
 * The fields that decide which names the leaves of services may have.
 * @module
 */
import { FormatError } from "../src/core/errors.ts";
import {
  clashAmong,
  clashText,
  DEFAULT_DNS_TEMPLATES,
  type DnsTemplate,
  type IpRange,
  isLocalAddress,
  isMappedIpv4,
  readDnsTemplate,
} from "../src/core/x509/service-names.ts";
import { ipOctets } from "../src/net/ip.ts";
import type { Faults } from "./faults.ts";

/** Each template is one name of a leaf, and a leaf has a largest size (core/ca/leaf-names.ts). */
const MAX_ENTRIES = 16;
/** The most characters of a value that a fault quotes. */
const MAX_QUOTE = 80;

const DEFAULTS: readonly DnsTemplate[] = DEFAULT_DNS_TEMPLATES.map(readDnsTemplate);

/** @param texts undefined: the names of Consul's DNS. @param faults gets every fault. */
export function readDnsNames(
  texts: readonly string[] | undefined,
  faults: Faults,
): readonly DnsTemplate[] {
  if (texts === undefined) return DEFAULTS;
  const refuse = (message: string) =>
    faults.refuse(true, "ServiceDNSNames", `ServiceDNSNames: ${message}`);
  if (!isListAllowed(texts, refuse)) return [];
  const templates = texts.flatMap((text) => {
    const template = readOr(() => readDnsTemplate(text), text, refuse);
    return template === null ? [] : [template];
  });
  const clash = clashAmong(templates, null);
  if (clash !== null) faults.refuse(true, "ServiceDNSNames", clashText(clash));
  return templates;
}

/** @param faults gets every fault. */
export function readIpRanges(texts: readonly string[], faults: Faults): readonly IpRange[] {
  const refuse = (message: string) =>
    faults.refuse(true, "ServiceIPRanges", `ServiceIPRanges: ${message}`);
  if (!isListAllowed(texts, refuse)) return [];
  return texts.flatMap((text) => {
    const range = readOr(() => readIpRange(text), text, refuse);
    return range === null ? [] : [range];
  });
}

function isListAllowed(texts: readonly string[], refuse: (message: string) => void): boolean {
  if (texts.length > MAX_ENTRIES)
    refuse(`has ${texts.length} entries, and at most ${MAX_ENTRIES} are allowed`);
  for (const text of new Set(texts))
    if (texts.filter((other) => other === text).length > 1)
      refuse(`${quote(text)} is there more than once`);
  return texts.length <= MAX_ENTRIES;
}

function readOr<T>(read: () => T, text: string, refuse: (message: string) => void): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    refuse(`${quote(text)} ${error.message}`);
    return null;
  }
}

/** @throws {FormatError} with the predicate of a sentence whose subject is the text */
function readIpRange(text: string): IpRange {
  const [, address = "", length] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text) ?? [];
  const base = ipOctets(address);
  if (base === null)
    throw new FormatError("must be a range of addresses as ADDRESS/BITS, for example 10.0.0.0/8");
  const [bits, width] = [Number(length), base.length * 8];
  if (bits > width) throw new FormatError(`has a prefix of more than ${width} bits`);
  const range = { text, base, bits };
  // The lowest address of the range is the one that has no bit behind the prefix.
  const lowest = base.map((octet, i) => octet & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))));
  if (lowest.some((octet, i) => octet !== base[i]))
    throw new FormatError("has bits of the address behind its prefix, which must be 0");
  const isLoopback =
    (base.length === 4 && base[0] === 127 && bits >= 8) ||
    (base.length === 16 && bits >= 127 && isLocalAddress(base));
  if (isLoopback) throw new FormatError("is loopback, of which no service gets an address");
  if (bits >= 96 && isMappedIpv4(base))
    throw new FormatError("is IPv4 mapped into IPv6; write the range as IPv4");
  return range;
}

function quote(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTE ? `${text.slice(0, MAX_QUOTE)}…` : text);
}
