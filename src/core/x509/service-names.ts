/**
 * Which DNS and IP names the leaf of a service may have, as an operator configures it: templates of
 * DNS names over the identity, and ranges of IP addresses.
 *
 * No name is given to two services. A value is one DNS label without dots, and `{service}` a label
 * of its own, so that one template gives each service another name. Two templates are refused
 * together if a name could be of both with two values of `{service}` (`canClash`); a `*` counts as
 * every label that it matches.
 * @module
 */
import type { Bytes } from "../bytes.ts";
import { FormatError } from "../errors.ts";

/** The values of the placeholders. A trust domain has several labels, every other value has one. */
export interface IdentityValues {
  readonly service: string;
  readonly namespace: string;
  readonly datacenter: string;
  readonly trust_domain: string;
}

type Placeholder = keyof IdentityValues;

const PLACEHOLDERS: readonly Placeholder[] = ["service", "namespace", "datacenter", "trust_domain"];

/** A label: its parts in order; text, or the name of a placeholder. */
type Label = readonly ({ readonly text: string } | { readonly value: Placeholder })[];

export interface DnsTemplate {
  /** As it was written. */
  readonly text: string;
  /** Whether it begins with `*.`, which is no part of `labels`. */
  readonly wildcard: boolean;
  readonly labels: readonly Label[];
}

/** A range of addresses. */
export interface IpRange {
  /** As it was written. */
  readonly text: string;
  /** 4 or 16 octets. */
  readonly base: Bytes;
  /** Length of the prefix in bits. */
  readonly bits: number;
}

/** The names of a service in Consul's DNS (docs: discovery/dns/dns-static-lookups), and the plain one. */
export const DEFAULT_DNS_TEMPLATES: readonly string[] = [
  "{service}",
  "{service}.service.consul",
  "{service}.service.{datacenter}.consul",
  "{service}.virtual.consul",
];

/** RFC 1035 §2.3.4, in the text form without the root's dot. */
const MAX_LABEL = 63;
const MAX_NAME = 253;
/** RFC 1123 §2.1, in lower case. */
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const LABEL_OF_ANY_LENGTH = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;
/** A last label that URLs take for a number of an IPv4 address (WHATWG URL, "ends in a number"). */
const NUMBER = /^(?:\d+|0x[0-9a-f]*)$/;

/** Whether a text is one DNS label in lower case. */
export function isDnsLabel(text: string): boolean {
  return LABEL.test(text);
}

/** Whether a text is a DNS name in lower case, or a wildcard before two labels at least. */
export function isDnsName(text: string): boolean {
  const wildcard = text.startsWith("*.");
  const labels = (wildcard ? text.slice(2) : text).split(".");
  return text.length <= MAX_NAME && labels.every(isDnsLabel) && (!wildcard || labels.length >= 2);
}

/**
 * Reads a template.
 * @throws {FormatError} with the predicate of a sentence whose subject is the template
 */
export function readDnsTemplate(text: string): DnsTemplate {
  if (text === "") throw new FormatError("is empty");
  if (text.length > 4 * MAX_NAME) throw new FormatError("is too long for a DNS name");
  if (text.endsWith("."))
    throw new FormatError("ends with a dot, which a DNS name in a certificate does not have");
  if (/[A-Z]/.test(text)) throw new FormatError("has an upper-case letter; write it in lower case");
  const wildcard = text.startsWith("*.");
  const labels = (wildcard ? text.slice(2) : text).split(".").map(readLabel);
  const has = (name: Placeholder) => (label: Label) =>
    label.some((part) => "value" in part && part.value === name);
  const named = labels.filter(has("service"));
  if (named.length !== 1 || named[0]?.length !== 1)
    throw new FormatError("must have {service} once, as a label of its own between dots");
  if (labels.slice(0, -1).some(has("trust_domain")) || !isWholeOrAbsent(labels.at(-1)))
    throw new FormatError(
      "has {trust_domain} elsewhere than at its end: it stands for several labels, and must be the last label",
    );
  if (wildcard && labels.length < 2)
    throw new FormatError('must have at least two labels after "*."');
  // Every value has one character at least.
  const shortest = labels.map((label) =>
    label.reduce((sum, part) => sum + ("text" in part ? part.text.length : 1), 0),
  );
  if (shortest.some((length) => length > MAX_LABEL))
    throw new FormatError(`has a label of more than ${MAX_LABEL} characters`);
  const length = shortest.reduce((sum, one) => sum + one + 1, wildcard ? 1 : -1);
  if (length > MAX_NAME) throw new FormatError(`has more than ${MAX_NAME} characters`);
  const last = labels.at(-1)?.[0];
  if (last !== undefined && "text" in last && labels.at(-1)?.length === 1 && NUMBER.test(last.text))
    throw new FormatError("ends with a number, as an IP address does");
  return { text, wildcard, labels };
}

/** Whether a last label is {trust_domain} and nothing else, or does not have it. */
function isWholeOrAbsent(label: Label | undefined): boolean {
  return (
    label === undefined ||
    label.length === 1 ||
    !label.some((part) => "value" in part && part.value === "trust_domain")
  );
}

function readLabel(text: string): Label {
  if (text === "") throw new FormatError("has an empty label");
  if (text.includes("*"))
    throw new FormatError('has a "*" elsewhere than as its first label, before a dot');
  // The texts between placeholders are at even places.
  const parts = text.split(/\{([^{}]*)\}/).map((part, i) => {
    if (i % 2 === 0) return { text: part };
    const value = PLACEHOLDERS.find((name) => name === part);
    if (value === undefined)
      throw new FormatError(
        `has the unknown placeholder {${part.slice(0, MAX_LABEL)}}; known are ${PLACEHOLDERS.map((name) => `{${name}}`).join(", ")}`,
      );
    return { value };
  });
  const label = parts.filter((part) => !("text" in part) || part.text !== "");
  // With a value the label must be a label too, whatever the value is.
  if (!LABEL_OF_ANY_LENGTH.test(label.map((part) => ("text" in part ? part.text : "x")).join("")))
    throw new FormatError(
      `has the label ${JSON.stringify(text.slice(0, MAX_LABEL))}: a label is letters, digits and hyphens, without a hyphen at either end`,
    );
  return label;
}

/**
 * The name that a template gives an identity; null if a value is not a DNS label in lower case, or if
 * what would result is not a DNS name.
 */
export function expandDnsTemplate(template: DnsTemplate, values: IdentityValues): string | null {
  const labels: string[] = [];
  for (const label of template.labels) {
    let text = "";
    for (const part of label) {
      const value = "text" in part ? part.text : values[part.value];
      const isWhole = "value" in part && part.value === "trust_domain";
      if ("value" in part && !(isWhole ? value.split(".").every(isDnsLabel) : isDnsLabel(value)))
        return null;
      text += value;
    }
    labels.push(...text.split("."));
  }
  if (!labels.every(isDnsLabel) || NUMBER.test(labels.at(-1) ?? "")) return null;
  const name = `${template.wildcard ? "*." : ""}${labels.join(".")}`;
  return name.length > MAX_NAME ? null : name;
}

/**
 * Whether two templates could give one name to two services. The other placeholders may have any
 * value, and another one in each template, so that the answer holds between datacenters too.
 * @param trustDomain of the mesh; null if it is not known yet: then false if it decides.
 */
export function canClash(a: DnsTemplate, b: DnsTemplate, trustDomain: string | null): boolean {
  const [one, other] = [patternOf(a, trustDomain), patternOf(b, trustDomain)];
  const [i, j] = [one.service, other.service];
  // At one place: equal names have equal services. No trust domain is before it.
  if (i === j || one.open !== other.open || one.labels.length !== other.labels.length) return false;
  for (const [at, x] of one.labels.entries()) {
    const y = other.labels[at];
    if (typeof x === "string" && typeof y === "string" && x !== y) return false;
  }
  // A service's label is that of the other template, if that is fixed.
  const [first, second] = [other.labels[i], one.labels[j]];
  return typeof first !== "string" || first !== second;
}

/** A template as labels: fixed ones as text, others null. */
interface Pattern {
  readonly labels: readonly (string | null)[];
  /** The place of `{service}` among the labels. */
  readonly service: number;
  /** Whether an unknown trust domain follows. */
  readonly open: boolean;
}

function patternOf({ wildcard, labels }: DnsTemplate, trustDomain: string | null): Pattern {
  const isValue = (label: Label, name: Placeholder) =>
    label.some((part) => "value" in part && part.value === name);
  const own = labels.filter((label) => !isValue(label, "trust_domain"));
  const fixed = own.map((label) => {
    const [part] = label;
    return label.length === 1 && part !== undefined && "text" in part ? part.text : null;
  });
  const service = own.findIndex((label) => isValue(label, "service"));
  const endsWithIt = own.length < labels.length;
  return {
    labels: [
      ...(wildcard ? [null] : []),
      ...fixed,
      ...(endsWithIt && trustDomain !== null ? trustDomain.split(".") : []),
    ],
    service: service + (wildcard ? 1 : 0),
    open: endsWithIt && trustDomain === null,
  };
}

/** The first two of a list of templates that could give one name to two services; null if none. */
export function clashAmong(
  templates: readonly DnsTemplate[],
  trustDomain: string | null,
): readonly [DnsTemplate, DnsTemplate] | null {
  for (const [i, template] of templates.entries())
    for (const other of templates.slice(0, i))
      if (canClash(template, other, trustDomain)) return [other, template];
  return null;
}

/** The text of such a fault. */
export function clashText([one, other]: readonly [DnsTemplate, DnsTemplate]): string {
  return `ServiceDNSNames: ${JSON.stringify(one.text)} and ${JSON.stringify(other.text)} could give two services the same name; put {service} at the same place in both, or give them different labels`;
}

/** Whether an address is in a range. An IPv4 address that is mapped into IPv6 is in no range. */
export function isInIpRange(address: Bytes, { base, bits }: IpRange): boolean {
  if (address.length !== base.length) return false;
  return base.every((octet, i) => {
    const mask = (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff;
    return (octet & mask) === ((address[i] as number) & mask);
  });
}

/** Whether an address is an IPv4 address that is mapped into IPv6 (RFC 4291 §2.5.5.2). */
export function isMappedIpv4(address: Bytes): boolean {
  const [prefix, marks] = [address.slice(0, 10), address.slice(10, 12)];
  return (
    address.length === 16 &&
    prefix.every((octet) => octet === 0) &&
    marks.every((octet) => octet === 0xff)
  );
}

/** Whether an address is loopback (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3) or unspecified. */
export function isLocalAddress(address: Bytes): boolean {
  if (address.length === 4) return address[0] === 127 || address.every((octet) => octet === 0);
  return address.slice(0, -1).every((octet) => octet === 0) && (address.at(-1) ?? 0) <= 1;
}
