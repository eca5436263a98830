/**
 * The interface of every kind of store for the composition root.
 * @module
 */

import type { BackupLog } from "../core/ports/backups.ts";
import type { LeafCountStore } from "../core/ports/leaf-counts.ts";
import type { Leases } from "../core/ports/lease.ts";
import type { LookStore } from "../core/ports/looks.ts";
import type { RecordStore } from "../core/ports/record-store.ts";
import type { Replicas } from "../core/ports/replicas.ts";
import type { Store } from "../core/ports/store.ts";
import type { ReadStoreFacts } from "../core/ports/store-facts.ts";
import type { Codec } from "./state-document.ts";

/** The ports of one replica. */
export interface Ports {
  readonly store: Store;
  readonly leases: Leases;
  readonly replicas: Replicas;
  readonly access: RecordStore;
  readonly looks: LookStore;
  readonly leaves: LeafCountStore;
  readonly backups: BackupLog;
  readonly facts: ReadStoreFacts;
}

export interface Backend {
  /** @param holder this replica as the holder of a lease, another one at each start. */
  open(codec: Codec, holder: string): Ports;
  close(): void;
}
