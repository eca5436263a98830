/**
 * The ports of the leaf counts: a record that all replicas of a CA share, and its stored form. No
 * commit and no deletion depends on it.
 *
 * - `load` returns the text that was saved last, or an empty one.
 * - `save` replaces exactly the text that `load` returned, atomically; else it changes nothing and
 *   returns false. If it throws, the text may be saved.
 * @module
 */
import type { LeafAnnouncement, LeafRecord } from "../leaf-record.ts";

export interface LeafCountStore {
  /** @throws {StoreError} */
  load(): Promise<string>;
  /** @throws {StoreError} */
  save(text: string, expected: string): Promise<boolean>;
}

/** What a stored text is to this replica. */
export type ReadLeafRecord =
  | {
      readonly kind: "record";
      readonly record: LeafRecord;
      /** Whether its MAC is under the current key-encryption key. */
      readonly isCurrent: boolean;
    }
  | { readonly kind: "empty" }
  /** Not authentic, of another cluster or datacenter, or malformed. */
  | { readonly kind: "unusable"; readonly reason: string }
  /** Of a later version. */
  | { readonly kind: "newer"; readonly reason: string }
  /** @property kek the id of its key-encryption key, which this replica does not have. */
  | { readonly kind: "unknown-key"; readonly kek: string };

/** Encodes under a MAC that is bound to a cluster and this datacenter. */
export interface LeafCountCodec {
  encode(record: LeafRecord, clusterId: string): Promise<string>;
  decode(text: string, clusterId: string): Promise<ReadLeafRecord>;
  encodeAnnouncement(announcement: LeafAnnouncement, clusterId: string): Promise<string>;
  /** @returns null for a text that cannot be used. */
  decodeAnnouncement(text: string, clusterId: string): Promise<LeafAnnouncement | null>;
}

export interface LeafCountPorts {
  readonly store: LeafCountStore;
  readonly codec: LeafCountCodec;
}
