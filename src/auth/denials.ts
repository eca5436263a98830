/**
 * What nothing is signed for: SPIFFE IDs, whole or up to a trailing `*`, keys and serial numbers, each in one form.
 * @module
 */
import type { Denial } from "../core/access.ts";
import type { LeafSubject } from "../core/administration.ts";
import { hex, utf8 } from "../core/bytes.ts";
import { RequestError } from "../core/errors.ts";
import { decodeSegment, encodeSegment, splitSpiffeUri } from "../core/spiffe/id.ts";
import { formatSpiffeId, parseSpiffeId } from "../core/spiffe/kinds.ts";
import { sha256 } from "../core/x509/digest.ts";

/** Octet pairs joined by colons, as the CA writes serial numbers and key identifiers: 20 octets (RFC 5280 §4.1.2.2), 32 for SHA-256. */
const COLON_HEX = /^[0-9a-f]{2}(?::[0-9a-f]{2}){0,31}$/;

/**
 * The one form of what is denied.
 * @throws {RequestError} `request_malformed`, `spiffe_id_malformed`
 */
export function canonicalDenial(kind: Denial["kind"], value: string): string {
  if (kind !== "spiffe-id") {
    const lower = value.toLowerCase();
    const text = lower.includes(":") ? lower : lower.replace(/(..)(?=.)/g, "$1:");
    if (COLON_HEX.test(text)) return text;
    throw new RequestError("request_malformed", `Cannot deny ${kind}: it is not hexadecimal octets`);
  }
  const prefix = value.endsWith("/*") ? value.slice(0, -2) : null;
  // A name that has one is written with %2A.
  if ((prefix ?? value).includes("*"))
    throw new RequestError("request_malformed", "Cannot deny SPIFFE ID: * stands for whole segments at the end alone");
  if (prefix === null) return formatSpiffeId(parseSpiffeId(value));
  const { trustDomain, segments } = splitSpiffeUri(prefix);
  const path = segments.map((segment) => encodeSegment(decodeSegment(segment, "segment")));
  const inDefault = path[0] === "ap" && path[1] === "default" && path.length > 1;
  return ["spiffe:/", trustDomain, ...(inDefault ? path.slice(2) : path), "*"].join("/");
}

/** The id of a denial: the same for the same thing. */
export function denialId(kind: Denial["kind"], value: string): string {
  return hex(sha256(utf8(`${kind} ${value}`))).slice(0, 32);
}

export type DenialIndex = (subject: LeafSubject, now: Date) => Denial | null;

/** Makes denials ready to be asked: one look-up for each segment of an ID, however many there are. */
export function indexDenials(denials: Iterable<Denial>): DenialIndex {
  const index = new Map([...denials].map((denial) => [`${denial.kind} ${denial.value}`, denial]));
  return ({ spiffeId, keyId, serial }, now) => {
    const wanted = [`spiffe-id ${spiffeId}`];
    for (let at = spiffeId.indexOf("/", "spiffe://".length); at >= 0; at = spiffeId.indexOf("/", at + 1))
      wanted.push(`spiffe-id ${spiffeId.slice(0, at)}/*`);
    if (keyId !== null) wanted.push(`key-id ${keyId}`);
    if (serial !== null) wanted.push(`serial ${serial}`);
    for (const name of wanted) {
      const denial = index.get(name);
      if (denial !== undefined && denial.expirationTime > now) return denial;
    }
    return null;
  };
}
