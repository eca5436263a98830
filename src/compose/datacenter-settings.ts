/**
 * The settings of other datacenters that are in use; SIGHUP replaces them.
 * @module
 */
import { MutableSource } from "../client/source.ts";
import type { DatacenterSettings } from "../config/datacenters.ts";

export class LiveDatacenterSettings {
  readonly #source = new MutableSource<DatacenterSettings>();
  #current: DatacenterSettings;

  constructor({ primary, primaryDatacenter, datacenters }: DatacenterSettings) {
    this.#current = { primary, primaryDatacenter, datacenters };
  }

  get current(): DatacenterSettings {
    return this.#current;
  }

  replace({ primary, primaryDatacenter, datacenters }: DatacenterSettings): void {
    this.#current = { primary, primaryDatacenter, datacenters };
    this.#source.set(this.#current);
  }

  /** Calls `listener` after every replacement until the returned function is called. */
  subscribe(listener: () => void): () => void {
    return this.#source.subscribe(listener);
  }
}
