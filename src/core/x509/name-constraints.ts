/**
 * Reads name constraints (RFC 5280 §4.2.1.10) and matches names with them. If verifiers differ, the
 * strictest of OpenSSL, Go and Java counts.
 * @module
 */
import { type Bytes, equal } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import { checkRareName } from "./ca-extensions.ts";
import { contextConstructed, contextPrimitive, DerReader, TAG } from "./der.ts";
import { ipText } from "./leaf.ts";
import { comparableParts, emailsIn, relativeNames, type SubjectEmail } from "./names.ts";

/** Names in certificates below a CA. */
export interface NamesBelow {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly Bytes[];
  /** Names in DER; constraints do not apply to an empty one. */
  readonly subjects: readonly Bytes[];
}

export interface NameConstraints {
  readonly permitted: readonly Subtree[];
  readonly excluded: readonly Subtree[];
}

type Kind = "email" | "dns" | "directory" | "uri" | "ip" | "other";

/** A GeneralSubtree: its base; minimum and maximum are not allowed. */
interface Subtree {
  readonly kind: Kind;
  /** For email, dns and uri. */
  readonly text: string;
  /** For ip: address and mask; for directory: a Name. */
  readonly octets: Bytes;
}

const KINDS: ReadonlyMap<number, Kind> = new Map([
  [contextPrimitive(1), "email"],
  [contextPrimitive(2), "dns"],
  [contextConstructed(4), "directory"],
  [contextPrimitive(6), "uri"],
  [contextPrimitive(7), "ip"],
]);

/**
 * Reads the extension's value as strictly as Go does, which refuses a certificate whose constraints
 * it cannot read.
 * @throws {FormatError} with the predicate of a sentence whose subject is the constraints
 */
export function readNameConstraints(value: Bytes): NameConstraints {
  const fields = new DerReader(value).enterLast(TAG.sequence);
  const permitted = fields.optional(contextConstructed(0)) ? readSubtrees(fields.inside()) : [];
  const excluded = fields.optional(contextConstructed(1)) ? readSubtrees(fields.inside()) : [];
  fields.finish();
  if (permitted.length + excluded.length === 0) throw new FormatError("are empty");
  return { permitted, excluded };
}

function readSubtrees(list: DerReader): Subtree[] {
  const found: Subtree[] = [];
  while (!list.done) {
    const subtree = list.enter(TAG.sequence);
    subtree.next();
    const kind = KINDS.get(subtree.tag) ?? "other";
    const octets = subtree.content();
    if (kind === "other" || kind === "directory") requireForm(subtree);
    // RFC 5280 §4.2.1.10: minimum is 0, maximum is absent. OpenSSL refuses all that such a subtree
    // is compared with.
    const isMinimumZero =
      !subtree.optional(contextPrimitive(0)) ||
      (subtree.content().length === 1 && subtree.content()[0] === 0);
    if (!isMinimumZero || !subtree.done)
      throw new FormatError("have a minimum or maximum distance, which is not allowed");
    found.push({ kind, octets, text: textOf(kind, octets) });
  }
  return found;
}

/** @param subtree the reader, positioned after the base. */
function requireForm(subtree: DerReader): void {
  try {
    checkRareName(subtree);
  } catch (error) {
    if (error instanceof FormatError)
      throw new FormatError("have a malformed directory name or other name");
    throw error;
  }
}

function textOf(kind: Kind, octets: Bytes): string {
  if (kind === "ip") {
    requireMask(octets);
    return "";
  }
  if (kind === "directory" || kind === "other") return "";
  let text = "";
  for (const octet of octets) {
    if (octet >= 0x80) throw new FormatError("have a name that is not ASCII");
    text += String.fromCharCode(octet);
  }
  if (
    !(kind === "email" && text.includes("@") ? isMailbox(text) : isDomainOrHost(text)) ||
    (kind === "uri" && IPV4.test(text))
  )
    throw new FormatError(`have the malformed name ${JSON.stringify(text)}`);
  return text.toLowerCase();
}

/** Go refuses a constraint on URIs that is an IP address; for IPv6: with colons, without brackets. */
const IPV4 = /^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$|:.*:[0-9a-fA-F:.]*$/;

/** A local part as Go reads it (crypto/x509, parseRFC2821Mailbox), and a host. */
function isMailbox(text: string): boolean {
  const at = text.lastIndexOf("@");
  const [local, host] = [text.slice(0, at), text.slice(at + 1)];
  const isLocal =
    /^"[ -~]+"$/.test(local) ||
    local.split(".").every((atom) => /^[\w!#$%&'*+\-/=?^`{|}~]+$/.test(atom));
  return isLocal && host !== "" && isDomain(host);
}

/** An empty text matches every name; a leading period the names below a domain. */
function isDomainOrHost(text: string): boolean {
  return isDomain(text.startsWith(".") ? text.slice(1) : text) && text !== ".";
}

/** Labels of printable ASCII, none of them empty (Go, domainToReverseLabels). */
function isDomain(text: string): boolean {
  return (
    text === "" || text.split(".").every((label) => label.length > 0 && /^[!-~]*$/.test(label))
  );
}

function requireMask(octets: Bytes): void {
  if (octets.length !== 8 && octets.length !== 32)
    throw new FormatError("have an IP range that is not of 8 or 32 octets");
  const mask = octets.slice(octets.length / 2);
  const bits = Array.from(mask, (octet) => octet.toString(2).padStart(8, "0")).join("");
  if (!/^1*0*$/.test(bits)) throw new FormatError("have an IP range with a mask of separate parts");
}

/**
 * Which names the constraints forbid.
 * @returns for each, the predicate of a sentence whose subject is the constraints.
 */
export function forbiddenBy({ permitted, excluded }: NameConstraints, below: NamesBelow): string[] {
  const faults: string[] = [];
  const check = <T>(
    kind: Kind,
    names: readonly T[],
    isPermitted: Match<T>,
    isExcluded: Match<T>,
    text: (name: T) => string,
  ) => {
    const [within, without] = [permitted, excluded].map((list) =>
      list.filter((subtree) => subtree.kind === kind),
    ) as [Subtree[], Subtree[]];
    for (const name of names) {
      const isOutside = within.length > 0 && !within.some((subtree) => isPermitted(subtree, name));
      if (isOutside || without.some((subtree) => isExcluded(subtree, name)))
        faults.push(`${isOutside ? "do not permit" : "exclude"} ${text(name)}`);
    }
  };
  check("uri", below.uris, isUriWithin, isUriBelow, (uri) => `the URI ${uri}`);
  check("dns", below.dnsNames, isDnsWithin, isDnsWithin, (name) => `the DNS name ${name}`);
  check(
    "ip",
    below.ipAddresses,
    isIpWithin,
    isIpWithin,
    (address) => `the IP address ${ipText(address)}`,
  );
  const subjects = below.subjects.filter((subject) => relativeNames(subject).length > 0);
  check(
    "directory",
    subjects,
    isNameWithin,
    isNameWithin,
    () => "the subject of a CA certificate below",
  );
  const emails = below.subjects.flatMap(emailsIn);
  check(
    "email",
    emails,
    isEmailPermitted,
    isEmailExcluded,
    ({ text }) => `the e-mail address ${text} in a subject`,
  );
  return faults;
}

type Match<T> = (subtree: Subtree, name: T) => boolean;

/** RFC 5280 §4.2.1.10: a host matches only itself; with a leading period it matches subdomains. */
function isUriWithin({ text }: Subtree, uri: string): boolean {
  const host = hostOf(uri);
  if (host === null) return false;
  return text.startsWith(".") ? host.endsWith(text) && host.length > text.length : host === text;
}

/** As Go matches: a host matches its subdomains too, and an empty one matches everything. */
function isUriBelow(subtree: Subtree, uri: string): boolean {
  const host = hostOf(uri);
  return host === null || isDnsWithin(subtree, host);
}

/**
 * The host of a URI, without user and port.
 * @returns null if it has none or an IP address: OpenSSL and Go refuse it under any constraint on URIs.
 */
function hostOf(uri: string): string | null {
  const [, authority = ""] = /^[^/?#]*:\/\/([^/?#]*)/.exec(uri) ?? [];
  const host = authority.slice(authority.lastIndexOf("@") + 1).replace(/:\d*$/, "");
  return host === "" || IPV4.test(host) || host.startsWith("[") ? null : host.toLowerCase();
}

/** Case does not count in DNS names (RFC 5280 §7.2). */
function isDnsWithin({ text }: Subtree, spelled: string): boolean {
  const name = spelled.toLowerCase();
  if (text === "" || name === text) return true;
  return text.startsWith(".")
    ? name.endsWith(text) && name.length > text.length
    : name.endsWith(`.${text}`);
}

/** Whether a Name begins with the parts of another one (RFC 5280 §4.2.1.10, directoryName). */
function isNameWithin({ octets }: Subtree, name: Bytes): boolean {
  const parts = comparableParts(name);
  return comparableParts(octets).every((part, i) => part === parts[i]);
}

/** A mailbox, a host or, with a leading period, the hosts of a domain (RFC 5280 §4.2.1.10). */
function isEmailWithin({ text }: Subtree, email: SubjectEmail): boolean {
  const address = email.text.toLowerCase();
  const host = address.slice(address.lastIndexOf("@") + 1);
  if (text.includes("@")) return address === text;
  return text.startsWith(".") ? host.endsWith(text) : host === text;
}

/** OpenSSL refuses an address that it cannot compare, whatever the constraint on e-mail addresses. */
function isEmailPermitted(subtree: Subtree, email: SubjectEmail): boolean {
  return email.isComparable && isEmailWithin(subtree, email);
}

function isEmailExcluded(subtree: Subtree, email: SubjectEmail): boolean {
  return !email.isComparable || isEmailWithin(subtree, email);
}

function isIpWithin({ octets }: Subtree, address: Bytes): boolean {
  const length = octets.length / 2;
  if (length !== address.length) return false;
  const masked = (octet: number, i: number) => octet & (octets[length + i] as number);
  return equal(octets.slice(0, length).map(masked), address.map(masked));
}

/**
 * Whether there is a constraint on the kind of names that a tag of GeneralName stands for (RFC 5280
 * §4.2.1.6).
 */
export function constrainsTag({ permitted, excluded }: NameConstraints, tag: number): boolean {
  const kind = KINDS.get(tag) ?? "other";
  return [...permitted, ...excluded].some((subtree) => subtree.kind === kind);
}

/**
 * Whether Java cannot read a constraint (sun.security.x509, URIName and RFC822Name), so that it
 * refuses the certificate if the extension is critical.
 */
export function isUnreadableByJava({ permitted, excluded }: NameConstraints): boolean {
  const isHost = (text: string) =>
    (text.startsWith(".") ? text.slice(1) : text)
      .split(".")
      .every((label) => /^[a-z0-9][a-z0-9-]*$/.test(label));
  return [...permitted, ...excluded].some(
    ({ kind, text }) => (kind === "uri" && !isHost(text)) || (kind === "email" && text === ""),
  );
}

/** Whether Go does not handle a constraint, so that it refuses the extension if it is critical. */
export function hasUnusualKind({ permitted, excluded }: NameConstraints): boolean {
  return [...permitted, ...excluded].some(({ kind }) => kind === "directory" || kind === "other");
}

/**
 * Whether there is a constraint on URIs, or one that excludes directory names: rustls refuses all
 * leaves below it.
 */
export function constrainsUris({ permitted, excluded }: NameConstraints): boolean {
  return (
    [...permitted, ...excluded].some(({ kind }) => kind === "uri") ||
    excluded.some(({ kind }) => kind === "directory")
  );
}

/** Whether names of a kind that GnuTLS does not read are excluded: it refuses every leaf below. */
export function excludesUnusual({ excluded }: NameConstraints): boolean {
  return excluded.some(({ kind }) => kind === "uri" || kind === "directory" || kind === "other");
}
