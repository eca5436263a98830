/**
 * What one stream of Envoy's SDS is subscribed to and has, by the rules of the xDS protocol ("ACK
 * and NACK", "How the client specifies what resources to return").
 * @module
 */
import type { Buffer } from "node:buffer";
import type { WorkloadState } from "../workload-state.ts";
import { type DiscoveryRequest, encodeResponse } from "./messages.ts";
import { contentOf, resolveSecrets, unknownNames, versionOf } from "./secrets.ts";

export class Subscription {
  readonly #state: WorkloadState;
  /** Undefined before the first request; null after one without names, which subscribes to all. */
  #names: readonly string[] | null | undefined;
  /** The content that the client was sent, by name. */
  readonly #sent = new Map<string, string>();
  #version = "";
  #nonces = 0;

  constructor(state: WorkloadState) {
    this.#state = state;
  }

  /** The version that was sent last. */
  get version(): string {
    return this.#version;
  }

  /**
   * Takes a request of the client; afterwards `next` has what it asks for.
   * @returns false if the request is to be ignored: it answers an earlier response than the last.
   */
  receive({ responseNonce, resourceNames }: DiscoveryRequest): boolean {
    const isFirst = this.#names === undefined;
    // On a new stream the nonce is of another one. Empty: the client sent the request before the
    // first response arrived.
    const isCurrent = responseNonce === "" || responseNonce === String(this.#nonces);
    if (!isFirst && !isCurrent) return false;
    const names = resourceNames.filter((name) => name !== "");
    // No names after some: the client gave up all of them.
    this.#names = names.length === 0 && (isFirst || this.#names === null) ? null : names;
    if (this.#names !== null)
      for (const name of [...this.#sent.keys()]) if (!names.includes(name)) this.#sent.delete(name);
    return true;
  }

  /** Why the subscription is refused, or null. Some names are known to be wrong only later. */
  get refusal(): string | null {
    const resolution = resolveSecrets(this.#state, this.#names ?? null);
    return resolution.unknown.length === 0 ? null : unknownNames(resolution);
  }

  /** The next response, with every secret of the subscription, or null if none is new. */
  next(): Buffer | null {
    if (this.#names === undefined) return null;
    const { secrets } = resolveSecrets(this.#state, this.#names);
    if (secrets.every((secret) => this.#sent.get(secret.name) === contentOf(secret))) return null;
    for (const secret of secrets) this.#sent.set(secret.name, contentOf(secret));
    this.#version = versionOf(secrets);
    const nonce = String(++this.#nonces);
    return encodeResponse({ version: this.#version, nonce, secrets });
  }
}
