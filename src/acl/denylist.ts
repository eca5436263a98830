/**
 * The denylist: SPIFFE IDs, whole or with a trailing `*`, keys and serial numbers, each in canonical
 * form. A value that no leaf can have is refused, since an operator would rely on it.
 * @module
 */

import type { LeafSubject } from "../core/acl/admin.ts";
import type { DenylistEntry } from "../core/acl/types.ts";
import { hex, sha256, utf8 } from "../core/bytes.ts";
import {
  beginsAnId,
  formatSpiffeId,
  type LeafId,
  parseSpiffeId,
  requireDefaultScope,
  requireSegment,
  splitSpiffeUri,
} from "../core/spiffe/id.ts";
import { MAX_URI_LENGTH } from "../core/x509/csr.ts";
import { keyIdsOf } from "../core/x509/keys.ts";
import { malformed } from "./errors.ts";

/** The trust domain and datacenter of this CA. */
export interface DenylistScope {
  readonly trustDomain: string;
  readonly datacenter: string;
}

/**
 * Octet pairs, joined by colons or by nothing; a serial number has at most 20 (RFC 5280 §4.1.2.2),
 * a key identifier 20 or 32.
 */
const PAIRS = /^(?:[0-9a-f]{2}){1,64}$/;
const COLON_PAIRS = /^[0-9a-f]{2}(?::[0-9a-f]{2}){0,63}$/;
const MAX_SERIAL = 20;
/**
 * SHA-1 and SHA-256 cut to 160 bits (RFC 5280 §4.2.1.2, RFC 7093 §2), and SHA-256 as this CA and
 * Consul write it.
 */
const KEY_ID_LENGTHS = [20, 32];

/**
 * The canonical form of a value: without differences in the case of hexadecimal digits, scheme and
 * trust domain, in colons, leading zero octets of a serial number, and the default partition.
 * @throws {RequestError} `request_malformed`, `spiffe_id_malformed`, `profile_violation` for a value
 * that no leaf of this CA can have
 */
export function canonicalValue(
  kind: DenylistEntry["kind"],
  value: string,
  scope: DenylistScope,
): string {
  switch (kind) {
    case "serial":
      return canonicalSerial(value);
    case "key-id":
      return canonicalKeyId(value);
    case "spiffe-id":
      return canonicalId(value, scope);
  }
}

function canonicalSerial(value: string): string {
  const octets = octetsOf(value, "serial number");
  const first = octets.findIndex((octet) => octet !== "00");
  if (first < 0)
    throw malformed(
      "Cannot add serial number to the denylist: it is zero, which no certificate has",
    );
  const significant = octets.slice(first);
  if (significant.length > MAX_SERIAL)
    throw malformed(
      `Cannot add serial number to the denylist: it has more than ${MAX_SERIAL} octets`,
    );
  return significant.join(":");
}

function canonicalKeyId(value: string): string {
  const octets = octetsOf(value, "key identifier");
  if (!KEY_ID_LENGTHS.includes(octets.length))
    throw malformed(
      `Cannot add key to the denylist: a key identifier has 20 octets (SHA-1) or 32 (SHA-256), this one has ${octets.length}`,
    );
  return octets.join(":");
}

function octetsOf(value: string, what: string): string[] {
  const text = value.toLowerCase();
  if (COLON_PAIRS.test(text)) return text.split(":");
  if (PAIRS.test(text)) return text.match(/../g) ?? [];
  throw malformed(
    `Cannot add ${what} to the denylist: it must be octets of two hexadecimal digits each, such as 0a:1b or 0a1b`,
  );
}

function canonicalId(value: string, scope: DenylistScope): string {
  if (value.length > MAX_URI_LENGTH)
    throw malformed(
      `Cannot add SPIFFE ID to the denylist: it is longer than the ${MAX_URI_LENGTH} characters of a leaf's`,
    );
  const prefix = value.endsWith("/*") ? value.slice(0, -2) : null;
  if ((prefix ?? value).includes("*"))
    throw malformed(
      'Cannot add SPIFFE ID to the denylist: "*" may only stand at its end, for whole segments: .../svc/*',
    );
  return prefix === null ? canonicalWhole(value, scope) : canonicalPrefix(prefix, scope);
}

function canonicalWhole(value: string, scope: DenylistScope): string {
  const id = parseSpiffeId(withoutDefaultPartition(value));
  if (id.kind === "signing")
    throw malformed(
      "Cannot add SPIFFE ID to the denylist: it is the ID of the CA itself, which no leaf has; to deny every leaf of the trust domain end in /*",
    );
  requireOurs(id, scope);
  requireDefaultScope(id);
  return formatSpiffeId(id);
}

function canonicalPrefix(prefix: string, scope: DenylistScope): string {
  const { trustDomain, segments } = splitSpiffeUri(
    withoutDefaultPartition(`${prefix}/`).slice(0, -1),
  );
  const path = segments.map((segment) => requireSegment(segment, "segment"));
  if (!beginsAnId(path))
    throw malformed(
      `Cannot add SPIFFE ID to the denylist: no identity begins with ${JSON.stringify(`/${path.join("/")}/`)}`,
    );
  // Namespace and datacenter stand at the same place in every kind of ID that has them.
  const [kind, namespace = "default", , datacenter = scope.datacenter] = path;
  requireOurs({ trustDomain, datacenter }, scope);
  if (kind === "ns")
    requireDefaultScope({
      kind: "service",
      trustDomain,
      datacenter,
      partition: "default",
      namespace,
      service: "any",
    } satisfies LeafId);
  return ["spiffe:/", trustDomain, ...path, "*"].join("/");
}

/** Consul reads an ID that names the default partition as the one without it. */
function withoutDefaultPartition(uri: string): string {
  return uri.replace(/^([^/]*\/\/[^/]*)\/ap\/default\//i, "$1/");
}

function requireOurs({ trustDomain, datacenter }: DenylistScope, ours: DenylistScope): void {
  if (trustDomain !== ours.trustDomain)
    throw malformed(
      `Cannot add SPIFFE ID to the denylist: it is of the trust domain ${trustDomain}, and this CA signs for ${ours.trustDomain} only`,
    );
  if (datacenter !== ours.datacenter)
    throw malformed(
      `Cannot add SPIFFE ID to the denylist: it is of the datacenter ${datacenter}, and this CA signs for ${ours.datacenter} only`,
    );
}

/** The id of an entry, derived from its kind and value. */
export function denylistEntryId(kind: DenylistEntry["kind"], value: string): string {
  return hex(sha256(utf8(`${kind} ${value}`))).slice(0, 32);
}

export type DenylistIndex = (subject: LeafSubject) => readonly DenylistEntry[];

/**
 * Indexes entries for one look-up per segment of a SPIFFE ID. An entry applies until its record is
 * deleted, after several looks at the clock: a clock that is ahead for a moment ends none.
 */
export function indexDenylist(entries: Iterable<DenylistEntry>): DenylistIndex {
  // Old versions stored serial numbers with leading zero octets, which matched nothing.
  const index = new Map(
    [...entries].map((entry) => [`${entry.kind} ${significant(entry)}`, entry]),
  );
  const aboutKeys = [...index.values()].some(({ kind }) => kind === "key-id");
  return ({ spiffeId, keys, subjectKeyId, serial }) => {
    const wanted = [`spiffe-id ${spiffeId}`];
    for (
      let at = spiffeId.indexOf("/", "spiffe://".length);
      at >= 0;
      at = spiffeId.indexOf("/", at + 1)
    )
      wanted.push(`spiffe-id ${spiffeId.slice(0, at)}/*`);
    if (aboutKeys) {
      for (const spki of keys) for (const keyId of keyIdsOf(spki)) wanted.push(`key-id ${keyId}`);
      if (subjectKeyId !== null) wanted.push(`key-id ${subjectKeyId}`);
    }
    // The content of a DER INTEGER begins with a zero octet if its first bit is set (X.690 §8.3).
    if (serial !== null) wanted.push(`serial ${significant({ kind: "serial", value: serial })}`);
    return wanted.flatMap((name) => index.get(name) ?? []);
  };
}

function significant({ kind, value }: Pick<DenylistEntry, "kind" | "value">): string {
  if (kind !== "serial") return value;
  let start = 0;
  while (value.startsWith("00:", start)) start += 3;
  return value.slice(start);
}
