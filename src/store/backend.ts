/**
 * What every kind of store gives to the composition root.
 * @module
 */
import type { AccessStore } from "../core/access-store.ts";
import type { Leases } from "../core/lease.ts";
import type { LookStore } from "../core/looks.ts";
import type { Replicas } from "../core/replicas.ts";
import type { Store } from "../core/store.ts";
import type { Codec } from "./codec.ts";

/** What one replica gets. */
export interface Ports {
  readonly store: Store;
  readonly leases: Leases;
  readonly replicas: Replicas;
  readonly access: AccessStore;
  readonly looks: LookStore;
}

export interface Backend {
  /** @param holder what this replica goes by as the holder of a lease: its own for each start. */
  open(codec: Codec, holder: string): Ports;
  close(): void;
}
