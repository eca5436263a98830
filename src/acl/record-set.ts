/**
 * The set document: one MAC over all records of access control. A record's own MAC keeps it from
 * being made or changed by others; this one keeps records from being removed, and older ones from
 * being put back.
 *
 * It covers the index and the tip of the write that it is about, the writes before that, and a
 * digest of all records: the sum, modulo 2^256, of an HMAC of each, which a write changes by what
 * it changes (MSet-Add-Hash: Clarke, Devadas, van Dijk, Gassend and Suh, "Incremental Multiset Hash
 * Functions", ASIACRYPT 2003). The digest itself is never stored: the sums would tell the HMAC of
 * each record, from which another set with the same sum could be looked for. Anyone who has read
 * all records has it.
 * @module
 */
import * as v from "valibot";
import { utf8 } from "../core/bytes.ts";
import type { Mark, RecordName, StoredRecord } from "../core/ports/record-store.ts";
import type { AclKey } from "./acl-key.ts";

const MODULUS = 1n << 256n;
/**
 * As many as the CA document names: more writes than are made between two looks of a replica that
 * follows.
 */
export const MAX_ANCESTORS = 64;

export const nameOf = ({ kind, id }: RecordName): string => `${kind}/${id}`;

/** What a record adds to the digest: all that is stored of it. */
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

/** A digest after a change. */
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

/** What a set document says, besides what its MAC covers. */
export interface RecordSet extends Mark {
  /** Writes that it came from, the latest first, at most MAX_ANCESTORS. */
  readonly ancestors: readonly Mark[];
}

/**
 * That a replica has seen a write which the store lost, or a set that it cannot trust: nobody
 * changes anything then.
 */
export interface StopMark extends Mark {
  /** In words, for an operator. */
  readonly reason: string;
  /** The replica that noticed. */
  readonly by: string;
  readonly at: Date;
}

const index = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const mark = v.strictObject({ index, tip: v.string() });
const SetDocument = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    schema: v.literal(1),
    index,
    tip: v.string(),
    ancestors: v.array(mark),
    mac: v.string(),
  }),
);
const StopDocument = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    schema: v.literal(1),
    index,
    tip: v.string(),
    reason: v.string(),
    by: v.string(),
    at: v.number(),
    mac: v.string(),
  }),
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

/** The document of a set with that digest. */
export async function encodeSet(set: RecordSet, digest: bigint, key: AclKey): Promise<string> {
  const { index, tip } = set;
  const ancestors = set.ancestors.map((one) => ({ index: one.index, tip: one.tip }));
  const mac = await key.mac(setInput(set, digest));
  return JSON.stringify({ schema: 1, index, tip, ancestors, mac } satisfies v.InferOutput<
    typeof SetDocument
  >);
}

/**
 * What a set document says; null if it is malformed. `authentic`: whether it is about a set with
 * that digest.
 */
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

/** What a stop mark says; null if it is not ours. */
export async function decodeStop(document: string, key: AclKey): Promise<StopMark | null> {
  const read = v.safeParse(StopDocument, document);
  if (!read.success) return null;
  const { index, tip, reason, by, at, mac } = read.output;
  return (await key.verifyMac(stopInput(index, tip, reason, by, at), mac))
    ? { index, tip, reason, by, at: new Date(at) }
    : null;
}

/**
 * In what a set does not follow a write that was seen, in words, or null. One that names too few
 * ancestors to tell does.
 */
export function setRegression(set: RecordSet, seen: Mark | null): string | null {
  if (seen === null || (set.index === seen.index && set.tip === seen.tip)) return null;
  if (set.index < seen.index) return `it is at index ${set.index}, index ${seen.index} was seen`;
  if (set.index === seen.index)
    return `it has another write under index ${set.index} than the one that was seen`;
  const then = set.ancestors.filter(({ index }) => index === seen.index);
  if (then.length === 0) {
    const oldest = Math.min(...set.ancestors.map(({ index }) => index));
    return oldest < seen.index
      ? `index ${seen.index} that was seen is not among the writes that index ${set.index} came from`
      : null;
  }
  return then.some(({ tip }) => tip === seen.tip)
    ? null
    : `it has another write under index ${seen.index} than the one that was seen, and index ${set.index} came from that`;
}

/** The ancestors of a write that follows all of these, the latest first, each once. */
export function ancestorsOf(...marks: readonly Mark[]): Mark[] {
  const unique = new Map(
    marks
      .filter(({ index }) => index > 0)
      .map(({ index, tip }) => [`${index} ${tip}`, { index, tip }]),
  );
  return [...unique.values()].toSorted((a, b) => b.index - a.index).slice(0, MAX_ANCESTORS);
}
