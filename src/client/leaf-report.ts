/**
 * What an identity's leaf is reported as: the reason of a problem, the last failure, counts, and the
 * lines of the log.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { ClientError, clientReason } from "./errors.ts";
import type { LeafIdentity } from "./leaf-check.ts";
import type { RootsSource } from "./roots-source.ts";
import type { ServerPool } from "./server-pool.ts";
import { MutableSource, type Source } from "./source.ts";
import type { X509Svid } from "./svid.ts";

interface LeafReportOptions {
  readonly identity: LeafIdentity;
  readonly pool: Pick<ServerPool, "clockProblem">;
  readonly roots: Pick<RootsSource, "current" | "problem">;
  readonly clock: Clock;
  readonly log: Log;
}

export class LeafReport {
  readonly #options: LeafReportOptions;
  readonly #failure = new MutableSource<ClientError>();
  #failures = 0;
  #problem: string | null = null;
  #detour: string | null = null;
  #counts = { issued: 0, failed: 0 };

  constructor(options: LeafReportOptions) {
    this.#options = options;
  }

  /** Why the last request failed; null after success, and of a failure that is not expected. */
  get failure(): Source<ClientError> {
    return this.#failure;
  }

  /** How many requests failed since the last success. */
  get failures(): number {
    return this.#failures;
  }

  /** How many leaves were issued, and how many requests failed. */
  get counts(): { readonly issued: number; readonly failed: number } {
    return this.#counts;
  }

  /** Why there is no leaf, or why the present one could not be renewed as it should; or null. */
  problem(svid: X509Svid | null): string | null {
    const { pool, roots } = this.#options;
    if (svid === null && roots.current === null)
      return `No leaf for ${this.#name}: ${roots.problem ?? "the roots were not received yet"}`;
    const early =
      svid !== null && svid.notBefore > this.#options.clock.now()
        ? `The leaf of ${this.#name} is not valid before ${svid.notBefore.toISOString()}: the clock of this machine was set back`
        : null;
    const own = this.#problem ?? early ?? this.#detour;
    const { clockProblem } = pool;
    return own === null || clockProblem === null ? own : `${own}; ${clockProblem}`;
  }

  /**
   * A new leaf was issued.
   * @param detour why it was renewed by its own key; null if it was not.
   */
  issued(svid: X509Svid, detour: string | null): void {
    const { log } = this.#options;
    const text = this.#failures > 0 ? "Received a leaf after failures" : "Received a leaf";
    log.info(text, this.#factsOf(svid));
    this.#failures = 0;
    this.#problem = null;
    this.#failure.set(null);
    this.#counts = { ...this.#counts, issued: this.#counts.issued + 1 };
    this.#noteDetour(detour);
  }

  /** A request failed. @param held the leaf in use, if there is one. */
  failed(error: unknown, held: X509Svid | null): void {
    const { identity, log } = this.#options;
    this.#failures++;
    this.#counts = { ...this.#counts, failed: this.#counts.failed + 1 };
    const reason = clientReason(error);
    const problem = `No new leaf for ${this.#name}: ${reason}`;
    if (problem !== this.#problem)
      log.warn(
        held === null
          ? "Failed to obtain a leaf; the service has no leaf, will retry"
          : "Failed to renew a leaf; the present one stays in use until it expires, will retry",
        { service: identity.service, reason, until: held?.notAfter.toISOString() ?? null },
      );
    this.#problem = problem;
    this.#failure.set(error instanceof ClientError ? error : null);
  }

  /** A leaf of the cache is used. */
  restored(svid: X509Svid): void {
    this.#options.log.info("Using the leaf in the cache", this.#factsOf(svid));
  }

  /** The leaf of the cache is not used. */
  notRestored(error: unknown): void {
    const known = error instanceof FormatError || error instanceof ClientError;
    this.#options.log.warn("Ignoring a leaf in the cache", {
      service: this.#options.identity.service,
      reason: known ? error.message : clientReason(error),
    });
  }

  /** The leaf verifies under no published root. */
  unverified({ serialNumber }: X509Svid): void {
    this.#options.log.warn(
      "A leaf verifies under no published root any more; requesting another one",
      { service: this.#options.identity.service, serial: serialNumber },
    );
  }

  /** The leaf expired. */
  expired(svid: X509Svid): void {
    this.#options.log.error("A leaf expired without a new one; it is no longer served", {
      service: this.#options.identity.service,
      serial: svid.serialNumber,
      reason: this.problem(svid),
    });
  }

  /** The leaf is not valid yet, by a clock that was set back. */
  early({ notBefore }: X509Svid): void {
    this.#options.log.warn("A leaf is not valid yet, since the clock was set back", {
      service: this.#options.identity.service,
      from: notBefore.toISOString(),
    });
  }

  get #name(): string {
    const { service } = this.#options.identity;
    return service === null ? "the token's service" : `service ${JSON.stringify(service)}`;
  }

  #factsOf({ serialNumber, notAfter }: X509Svid) {
    const { service } = this.#options.identity;
    return { service, serial: serialNumber, until: notAfter.toISOString() };
  }

  #noteDetour(reason: string | null): void {
    const detour =
      reason === null
        ? null
        : `The leaf of ${this.#name} was renewed by its own key, since there are no credentials now: ${reason}`;
    if (detour !== null && detour !== this.#detour)
      this.#options.log.warn(
        "A leaf was renewed by its own key, since there are no credentials now",
        { service: this.#options.identity.service, reason },
      );
    this.#detour = detour;
  }
}
