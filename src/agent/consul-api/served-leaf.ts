/**
 * A leaf as Consul's agents answer it: with an index that grows with every new one.
 * @module
 */
import type { Source } from "../../client/source.ts";
import type { X509Svid } from "../../client/svid.ts";
import { type Json, rfc3339 } from "../../consul/go-json.ts";
import { certificatePem } from "../../core/pem.ts";
import type { Clock } from "../../core/ports/clock.ts";
import { consulKeyPem } from "./sec1.ts";

export interface NumberedLeaf {
  readonly svid: X509Svid;
  /** Of blocking queries. */
  readonly index: number;
  /** In milliseconds since 1970. */
  readonly receivedAt: number;
}

/**
 * Numbers the leaves of a source. Consul's indexes are those of its Raft log, in which each signature
 * is an entry; the state of the CA here does not change when a leaf is signed, and a client that
 * blocks on an index would miss a leaf with the same one. The index is the instant in milliseconds at
 * which the leaf was received, so that it also grows over a restart of the agent.
 */
export class ServedLeaf implements Source<NumberedLeaf> {
  readonly #source: Source<X509Svid>;
  readonly #clock: Clock;
  readonly #unsubscribe: () => void;
  #last: NumberedLeaf | null = null;

  constructor(source: Source<X509Svid>, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
    this.#number();
    this.#unsubscribe = source.subscribe(() => this.#number());
  }

  get current(): NumberedLeaf | null {
    this.#number();
    // Null once the leaf expired without a new one.
    return this.#source.current === null ? null : this.#last;
  }

  /** Whether there was a leaf before. */
  get hadOne(): boolean {
    return this.#last !== null;
  }

  subscribe(listener: () => void): () => void {
    return this.#source.subscribe(listener);
  }

  close(): void {
    this.#unsubscribe();
  }

  #number(): void {
    const svid = this.#source.current;
    if (svid === null || svid === this.#last?.svid) return;
    const now = this.#clock.now().getTime();
    const index = Math.max(now, (this.#last?.index ?? 0) + 1);
    this.#last = { svid, index, receivedAt: now };
  }
}

/** A leaf in Consul's JSON (IssuedCert in agent/structs/connect_ca.go). @throws {FormatError} */
export function leafJson(service: string, { svid, index }: NumberedLeaf): Json {
  return {
    SerialNumber: svid.serialNumber,
    CertPEM: svid.chain.map(certificatePem).join(""),
    PrivateKeyPEM: consulKeyPem(svid.privateKey),
    Service: service,
    ServiceURI: svid.spiffeId,
    ValidAfter: rfc3339(svid.notBefore),
    ValidBefore: rfc3339(svid.notAfter),
    CreateIndex: index,
    ModifyIndex: index,
  };
}
