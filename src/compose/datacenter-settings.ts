/**
 * The settings of other datacenters that are in use; SIGHUP replaces them.
 * @module
 */
import { MutableSource } from "../client/source.ts";
import type { DatacenterSettings } from "../config/datacenters.ts";
import type { DatacenterRole } from "../store/state-document.ts";

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

type Own = DatacenterSettings & {
  readonly datacenter: string;
};

/** The datacenter that stored keys are bound to; null in a deployment of one. */
export function boundDatacenter({
  primaryDatacenter,
  datacenters,
  datacenter,
}: Own): string | null {
  return primaryDatacenter === null && datacenters.size === 0 ? null : datacenter;
}

/** The datacenter whose states are read; another one's are refused, also in a deployment of one. */
export function datacenterRole({ primary, datacenter }: Own): DatacenterRole {
  return { name: datacenter, isSecondary: primary !== null };
}
