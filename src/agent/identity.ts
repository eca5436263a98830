/**
 * An identity of the configuration as a workload: its certificate, and why there is none.
 * @module
 */
import type { ClientError } from "../client/errors.ts";
import type { LeafSource } from "../client/leaf-source.ts";
import type { Source } from "../client/source.ts";
import type { X509Svid } from "../client/svid.ts";
import { parseSpiffeId } from "../core/spiffe/id.ts";
import type { Workload } from "./workload.ts";

export class Identity implements Workload {
  readonly svid: Source<X509Svid>;
  readonly #leaf: LeafSource;
  /** Of the last certificate; the identity of a token has no other name. */
  #nameOfToken = "";

  constructor(leaf: LeafSource) {
    this.#leaf = leaf;
    this.svid = leaf;
  }

  /** The configured service, or that of the certificate, "" before the first one. */
  get service(): string {
    const { service } = this.#leaf.identity;
    const id = this.svid.current?.spiffeId;
    if (service !== null || id === undefined) return service ?? this.#nameOfToken;
    const parsed = parseSpiffeId(id);
    this.#nameOfToken = parsed.kind === "service" ? parsed.service : id;
    return this.#nameOfToken;
  }

  get problem(): string | null {
    return this.#leaf.problem;
  }

  /** The last failure to get a certificate; null after a success. */
  get failure(): ClientError | null {
    return this.#leaf.failure.current;
  }

  /** Calls `listener` after each request. @param outcome `ok`, or the code of the failure */
  onOutcome(listener: (outcome: string) => void): void {
    let { failed } = this.#leaf.counts;
    this.#leaf.failure.subscribe(() => {
      const now = this.#leaf.counts.failed;
      // Of a failure that is not expected the code is not known.
      listener(this.failure?.code ?? (now > failed ? "unexpected" : "ok"));
      failed = now;
    });
  }

  start(): Promise<void> {
    return this.#leaf.start();
  }

  close(): Promise<void> {
    return this.#leaf.close();
  }
}
