/**
 * The leaf counts in their stored form: JSON with a schema number and a MAC over the cluster, the
 * datacenter and the body as the octets it is stored as.
 * @module
 */
import * as v from "valibot";
import { type Bytes, utf8 } from "../core/bytes.ts";
import { SealError } from "../core/errors.ts";
import type { LeafAnnouncement, LeafRecord } from "../core/leaf-record.ts";
import type { LeafCountCodec, LeafCountStore, ReadLeafRecord } from "../core/ports/leaf-counts.ts";
import type { Sealer } from "../core/ports/sealer.ts";

const SCHEMA = 1;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const rows = v.array(
  v.strictObject({ root: v.string(), issuer: v.string(), hours: v.array(v.tuple([count, count])) }),
);

const Record1 = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    since: count,
    writers: v.record(
      v.string(),
      v.strictObject({ writes: count, at: count, isOpen: v.boolean() }),
    ),
    rows,
  }),
);

const Announcement1 = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({ replica: v.string(), write: count, rows }),
);

const Outer = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({ schema: v.literal(SCHEMA), body: v.string(), mac: v.string() }),
);

/** A text of a schema above the one known here. */
const Newer = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ schema: v.pipe(v.number(), v.gtValue(SCHEMA)) }),
);

type Kind = "record" | "announcement";

interface SealedCountsOptions {
  readonly sealer: Pick<Sealer, "mac" | "verifyMac" | "keks">;
  /** The one that all texts are bound to; null in a deployment of one. */
  readonly datacenter: string | null;
  /**
   * Whether texts that are bound to none are read, which this datacenter wrote before there were
   * several. A secondary never was the only one.
   */
  readonly readsUnbound: boolean;
}

export class SealedLeafCounts implements LeafCountCodec {
  readonly #options: SealedCountsOptions;

  constructor(options: SealedCountsOptions) {
    this.#options = options;
  }

  encode(record: LeafRecord, clusterId: string): Promise<string> {
    return this.#seal("record", clusterId, JSON.stringify(record));
  }

  async decode(text: string, clusterId: string): Promise<ReadLeafRecord> {
    if (text === "") return { kind: "empty" };
    const newer = v.safeParse(Newer, text);
    if (newer.success)
      return {
        kind: "newer",
        reason: `they have schema ${newer.output.schema}, this version of meshca knows up to ${SCHEMA}`,
      };
    const outer = v.safeParse(Outer, text);
    if (!outer.success) return unusable("their text is malformed");
    const { body, mac } = outer.output;
    const kek = mac.split(":")[0] ?? "";
    try {
      if (!(await this.#isAuthentic("record", clusterId, body, mac)))
        return unusable("their MAC is invalid, or of another cluster or datacenter");
    } catch (error) {
      if (error instanceof SealError && error.code === "kek_unknown")
        return { kind: "unknown-key", kek };
      throw error;
    }
    const read = v.safeParse(Record1, body);
    return read.success
      ? { kind: "record", record: read.output, isCurrent: kek === this.#options.sealer.keks[0] }
      : unusable("their body is malformed");
  }

  encodeAnnouncement(announcement: LeafAnnouncement, clusterId: string): Promise<string> {
    return this.#seal("announcement", clusterId, JSON.stringify(announcement));
  }

  async decodeAnnouncement(text: string, clusterId: string): Promise<LeafAnnouncement | null> {
    const outer = v.safeParse(Outer, text);
    if (!outer.success) return null;
    const { body, mac } = outer.output;
    try {
      if (!(await this.#isAuthentic("announcement", clusterId, body, mac))) return null;
    } catch (error) {
      if (error instanceof SealError) return null;
      throw error;
    }
    const read = v.safeParse(Announcement1, body);
    return read.success ? read.output : null;
  }

  async #seal(kind: Kind, clusterId: string, body: string): Promise<string> {
    const { sealer, datacenter } = this.#options;
    const mac = await sealer.mac(macInput(kind, clusterId, datacenter, body));
    return JSON.stringify({ schema: SCHEMA, body, mac } satisfies v.InferOutput<typeof Outer>);
  }

  /** @throws {SealError} */
  async #isAuthentic(kind: Kind, clusterId: string, body: string, mac: string): Promise<boolean> {
    const { sealer, datacenter, readsUnbound } = this.#options;
    if (await sealer.verifyMac(macInput(kind, clusterId, datacenter, body), mac)) return true;
    if (datacenter === null || !readsUnbound) return false;
    return sealer.verifyMac(macInput(kind, clusterId, null, body), mac);
  }
}

function macInput(kind: Kind, clusterId: string, datacenter: string | null, body: string): Bytes {
  return utf8(JSON.stringify(["meshca leaf counts", SCHEMA, kind, clusterId, datacenter, body]));
}

function unusable(reason: string): ReadLeafRecord {
  return { kind: "unusable", reason };
}

/** Counts that end with the process. */
export class MemoryLeafCounts implements LeafCountStore {
  #text = "";

  async load(): Promise<string> {
    return this.#text;
  }

  async save(text: string, expected: string): Promise<boolean> {
    if (this.#text !== expected) return false;
    this.#text = text;
    return true;
  }
}
