/**
 * The present state of a set of workloads, as the streams of its clients need it: changes of one
 * moment are one change.
 * @module
 */
import type { TrustBundle, X509Svid } from "../client/svid.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Workload, WorkloadSet } from "./workload.ts";

/** An identity that has an SVID now. */
export interface Identity {
  /** Unique within a set. */
  readonly service: string;
  readonly svid: X509Svid;
}

export class WorkloadState {
  readonly #set: WorkloadSet;
  readonly #clock: Pick<Clock, "now">;
  /** Workloads by SPIFFE ID, which is known from the first SVID on and survives it. */
  readonly #bySpiffeId = new Map<string, Workload>();
  readonly #listeners = new Set<() => void>();
  readonly #unsubscribe: readonly (() => void)[];
  #changes = 0;
  #scheduled = false;
  #closed = false;

  /** @throws {TypeError} if two workloads have the same service: their hints would be equal. */
  constructor(set: WorkloadSet, clock: Pick<Clock, "now">) {
    const services = new Set(set.workloads.map(({ service }) => service));
    if (services.size < set.workloads.length)
      throw new TypeError("A set of workloads has a service twice");
    this.#set = set;
    this.#clock = clock;
    const changed = () => this.#changed();
    this.#unsubscribe = [
      ...set.workloads.map(({ svid }) => svid.subscribe(changed)),
      set.bundle.subscribe(changed),
    ];
    this.#learnSpiffeIds();
  }

  /** Whether no identity is configured at all. */
  get isEmpty(): boolean {
    return this.#set.workloads.length === 0;
  }

  /** The identities with a valid SVID, the default one first. */
  get identities(): Identity[] {
    return this.#set.workloads.flatMap((workload) => {
      const svid = this.#valid(workload);
      return svid === null ? [] : [{ service: workload.service, svid }];
    });
  }

  get bundle(): TrustBundle | null {
    return this.#set.bundle.current;
  }

  /** The SPIFFE IDs that are known: of every workload that ever had an SVID. */
  get spiffeIds(): readonly string[] {
    return [...this.#bySpiffeId.keys()];
  }

  /**
   * Whether a workload has a SPIFFE ID, or may have: before the first SVID of a workload, its ID may
   * be any of the trust domain.
   */
  hasSpiffeId(spiffeId: string): boolean {
    return this.#bySpiffeId.has(spiffeId) || this.#bySpiffeId.size < this.#set.workloads.length;
  }

  /** The valid SVID of a workload, or null. */
  svidOf(spiffeId: string): X509Svid | null {
    return this.#valid(this.#bySpiffeId.get(spiffeId));
  }

  /** The valid SVID of the default identity, or null. */
  get defaultSvid(): X509Svid | null {
    return this.#valid(this.#set.workloads[0]);
  }

  /** Changes with every change, and when an SVID expires. */
  get revision(): string {
    return `${this.#changes} ${this.identities.length}`;
  }

  /** Why there is nothing to serve: one sentence for a client. */
  get reason(): string {
    if (this.bundle === null) return "The roots of the CA are not known yet";
    const { workloads } = this.#set;
    const workload = workloads.find((each) => this.#valid(each) === null) ?? workloads[0];
    if (workload === undefined) return "No identity is configured for this endpoint";
    const hadOne = [...this.#bySpiffeId.values()].includes(workload);
    const what = hadOne
      ? "has no valid certificate: the last one expired"
      : "has no certificate yet";
    const why = workload.problem === null ? "" : ` (${workload.problem})`;
    const { service } = workload;
    const name = service === "" ? "The token's service" : `The service ${JSON.stringify(service)}`;
    return `${name} ${what}${why}`;
  }

  /** Calls `listener` once after all changes of one turn of the event loop, until it is removed. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  close(): void {
    this.#closed = true;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#listeners.clear();
  }

  #changed(): void {
    this.#changes++;
    this.#learnSpiffeIds();
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed) for (const listener of [...this.#listeners]) listener();
    });
  }

  #learnSpiffeIds(): void {
    for (const workload of this.#set.workloads) {
      const spiffeId = workload.svid.current?.spiffeId;
      if (spiffeId !== undefined) this.#bySpiffeId.set(spiffeId, workload);
    }
  }

  /** The SVID of a workload, unless it expired and its source does not know yet. */
  #valid(workload: Workload | undefined): X509Svid | null {
    const svid = workload?.svid.current ?? null;
    return svid === null || svid.notAfter <= this.#clock.now() ? null : svid;
  }
}
