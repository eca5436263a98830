/**
 * The set document: one MAC over all ACL records. It detects records that were removed and older ones
 * that were put back, as a record's own MAC detects one that was forged or changed.
 *
 * It covers the index and tip of its write, the writes before that, and a digest of all records: the
 * sum, modulo 2^256, of an HMAC of each, which a write updates by the records that it changes
 * (MSet-Add-Hash: Clarke, Devadas, van Dijk, Gassend and Suh, "Incremental Multiset Hash Functions",
 * ASIACRYPT 2003). The digest is not stored: differences of sums reveal the HMACs of records, from
 * which another set with the same sum could be computed. A reader of all records computes it.
 * @module
 */
import * as v from "valibot";
import { utf8 } from "../core/bytes.ts";
import type { Mark, RecordName, StoredRecord } from "../core/ports/record-store.ts";
import type { AclKey } from "./acl-key.ts";

const MODULUS = 1n << 256n;
/** More writes than there are between two reads of a replica; as many as the CA document names. */
export const MAX_ANCESTORS = 64;

export const nameOf = ({ kind, id }: RecordName): string => `${kind}/${id}`;

/** What a record adds to the digest. */
export function elementOf(record: StoredRecord, key: AclKey): Promise<bigint> {
  const { kind, id, version, key: unique, document, createIndex, modifyIndex } = record;
  return key.element(
    utf8(
      JSON.stringify([
        "meshca access element",
        kind,
        id,
        version,
        unique,
        createIndex,
        modifyIndex,
        document,
      ]),
    ),
  );
}

/** A digest after records were removed and added. */
export function changedDigest(
  digest: bigint,
  removed: readonly bigint[],
  added: readonly bigint[],
): bigint {
  let next = digest;
  for (const element of removed) next -= element;
  for (const element of added) next += element;
  return ((next % MODULUS) + MODULUS) % MODULUS;
}

/** The content of a set document. */
export interface RecordSet extends Mark {
  /** The writes before it, the latest first, at most MAX_ANCESTORS. */
  readonly ancestors: readonly Mark[];
}

/**
 * The stop mark of a replica that has seen a write which the store lost, or a set that it does not
 * trust: no replica changes the ACL while there is one.
 */
export interface StopMark extends Mark {
  readonly reason: string;
  /** The replica that set it. */
  readonly by: string;
  readonly at: Date;
}

const index = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const mark = v.strictObject({ index, tip: v.string() });
const common = { schema: v.literal(1), index, tip: v.string(), mac: v.string() };
const SetDocument = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({ ...common, ancestors: v.array(mark) }),
);
const StopDocument = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({ ...common, reason: v.string(), by: v.string(), at: v.number() }),
);

const setInput = ({ index, tip, ancestors }: RecordSet, digest: bigint) =>
  utf8(
    JSON.stringify([
      "meshca access set",
      1,
      index,
      tip,
      ancestors.map((one) => [one.index, one.tip]),
      digest.toString(16),
    ]),
  );
const stopInput = (index: number, tip: string, reason: string, by: string, at: number) =>
  utf8(JSON.stringify(["meshca access stop", 1, index, tip, reason, by, at]));

/** The set document of a set with that digest. */
export async function encodeSet(set: RecordSet, digest: bigint, key: AclKey): Promise<string> {
  const { index, tip } = set;
  const ancestors = set.ancestors.map((one) => ({ index: one.index, tip: one.tip }));
  const mac = await key.mac(setInput(set, digest));
  return JSON.stringify({ schema: 1, index, tip, ancestors, mac } satisfies v.InferOutput<
    typeof SetDocument
  >);
}

/** Reads a set document; null if it is malformed. `authentic`: whether its MAC fits the digest. */
export async function decodeSet(
  document: string,
  digest: bigint,
  key: AclKey,
): Promise<{ readonly set: RecordSet; readonly authentic: boolean } | null> {
  const read = v.safeParse(SetDocument, document);
  if (!read.success) return null;
  const { mac, schema: _, ...set } = read.output;
  return { set, authentic: await key.verifyMac(setInput(set, digest), mac) };
}

export async function encodeStop(
  { index, tip, reason, by, at }: StopMark,
  key: AclKey,
): Promise<string> {
  const time = at.getTime();
  const mac = await key.mac(stopInput(index, tip, reason, by, time));
  return JSON.stringify({
    schema: 1,
    index,
    tip,
    reason,
    by,
    at: time,
    mac,
  } satisfies v.InferOutput<typeof StopDocument>);
}

/** Reads a stop mark; null if it is malformed or its MAC is invalid. */
export async function decodeStop(document: string, key: AclKey): Promise<StopMark | null> {
  const read = v.safeParse(StopDocument, document);
  if (!read.success) return null;
  const { index, tip, reason, by, at, mac } = read.output;
  return (await key.verifyMac(stopInput(index, tip, reason, by, at), mac))
    ? { index, tip, reason, by, at: new Date(at) }
    : null;
}

/**
 * Why a set does not follow a write that was seen, or null. A set whose ancestors do not go back that
 * far is taken to follow it.
 */
export function setRegression(set: RecordSet, seen: Mark | null): string | null {
  if (seen === null || (set.index === seen.index && set.tip === seen.tip)) return null;
  if (set.index < seen.index)
    return `the stored ACL is at index ${set.index}, but index ${seen.index} was seen`;
  if (set.index === seen.index)
    return `the stored set has another write at index ${set.index} than the one that was seen`;
  const then = set.ancestors.filter(({ index }) => index === seen.index);
  if (then.length === 0) {
    const oldest = Math.min(...set.ancestors.map(({ index }) => index));
    return oldest < seen.index
      ? `the write at index ${seen.index} that was seen is not an ancestor of the stored set at index ${set.index}`
      : null;
  }
  return then.some(({ tip }) => tip === seen.tip)
    ? null
    : `the stored set at index ${set.index} has another ancestor at index ${seen.index} than the write that was seen`;
}

/** The ancestors of a write that follows all of these, the latest first, without repetition. */
export function ancestorsOf(...marks: readonly Mark[]): Mark[] {
  const unique = new Map(
    marks
      .filter(({ index }) => index > 0)
      .map(({ index, tip }) => [`${index} ${tip}`, { index, tip }]),
  );
  return [...unique.values()].toSorted((a, b) => b.index - a.index).slice(0, MAX_ANCESTORS);
}
