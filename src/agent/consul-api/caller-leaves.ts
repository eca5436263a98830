/**
 * Leaves of services that the agent's configuration does not have: signed with the token of their
 * caller, kept fresh while it reads them, and given to no caller with another token.
 * @module
 */
import type { Source } from "../../client/source.ts";
import { concat, hex, sha256, utf8 } from "../../core/bytes.ts";
import { RateLimitedError } from "../../core/errors.ts";
import type { Clock, Random } from "../../core/ports/clock.ts";
import type { LeafIdentity, OpenLeaf, OpenLeafOf } from "./options.ts";
import { type AgentRefusal, refusalOf } from "./refusal.ts";
import { ServedLeaf } from "./served-leaf.ts";

/**
 * How long a leaf that nobody reads is kept fresh, in milliseconds. Clients block on an index for ten
 * minutes at most and then ask again; Consul's agents keep a leaf for three days, which with short
 * lives is hundreds of signatures that nobody uses.
 */
const IDLE_MS = 3_600_000;
/** How often idle leaves are looked for, in milliseconds. */
const SWEEP_MS = 60_000;
/** Leaves kept at a time. Each takes a key pair, and a signature of the servers in its life. */
const MAX_LEAVES = 1024;

interface Kept {
  readonly source: OpenLeaf;
  readonly served: ServedLeaf;
  /** Requests that read it now. */
  readers: number;
  readAt: number;
}

interface CallerLeavesOptions {
  readonly open: OpenLeafOf;
  readonly clock: Clock;
  readonly random: Random;
}

/** A leaf while a request reads it. */
export interface Reading {
  readonly served: ServedLeaf;
  /** What a change of the leaf or of its failure is a change of. */
  readonly changes: readonly Pick<Source<unknown>, "subscribe">[];
  /** Why there is no leaf, or why it could not be renewed; null if all is well. */
  failure(): AgentRefusal | null;
  /** Ends the reading. */
  end(): void;
}

/** Statuses of a refusal after which the same request can be sent again at once. */
const FINAL: readonly number[] = [400, 403, 409, 413, 415];

export class CallerLeaves {
  readonly #options: CallerLeavesOptions;
  /** Digests are under a key of this process: no token is kept in a key of the map. */
  readonly #key: Uint8Array;
  readonly #kept = new Map<string, Kept>();
  readonly #closing = new AbortController();
  #sweeping = false;

  constructor(options: CallerLeavesOptions) {
    this.#options = options;
    this.#key = options.random.bytes(32);
  }

  /** The leaves that are kept. */
  get count(): number {
    return this.#kept.size;
  }

  /**
   * The leaf of an identity for a caller, which `end` must be called for.
   * @param token null: the request has none.
   * @throws {RateLimitedError} `watchers_exceeded` if too many are read at a time
   */
  read(identity: LeafIdentity, token: string | null): Reading {
    const { service, datacenter } = identity;
    const text = JSON.stringify([service, datacenter?.toLowerCase() ?? null, token]);
    const key = hex(sha256(concat(this.#key, utf8(text))));
    const kept = this.#kept.get(key) ?? this.#open(key, identity, token);
    kept.readers++;
    kept.readAt = this.#now();
    const { served, source } = kept;
    const failure = () => {
      const { current } = source.failure;
      return current === null
        ? null
        : refusalOf(current, `a leaf of service ${JSON.stringify(service)}`);
    };
    return {
      served,
      changes: [served, source.failure],
      failure,
      end: () => {
        kept.readers--;
        kept.readAt = this.#now();
        // A leaf that was refused is not asked for again until somebody does.
        const isRefused = served.current === null && FINAL.includes(failure()?.status ?? 0);
        if (isRefused && this.#kept.get(key) === kept) this.#drop(key, kept);
      },
    };
  }

  /** Closes all leaves. */
  close(): void {
    this.#closing.abort();
    for (const [key, kept] of this.#kept) this.#drop(key, kept);
  }

  #now(): number {
    return this.#options.clock.now().getTime();
  }

  #open(key: string, identity: LeafIdentity, token: string | null): Kept {
    if (this.#kept.size >= MAX_LEAVES) this.#makeRoom();
    const source = this.#options.open(identity, token);
    const served = new ServedLeaf(source, this.#options.clock);
    const kept = { source, served, readers: 0, readAt: this.#now() };
    this.#kept.set(key, kept);
    if (!this.#sweeping) void this.#sweep();
    return kept;
  }

  /** Drops the leaf that was read longest ago. @throws {RateLimitedError} if all are being read */
  #makeRoom(): void {
    let oldest: [string, Kept] | null = null;
    for (const entry of this.#kept)
      if (entry[1].readers === 0 && (oldest === null || entry[1].readAt < oldest[1].readAt))
        oldest = entry;
    if (oldest === null)
      throw new RateLimitedError(
        1000,
        "watchers_exceeded",
        `Cannot keep another leaf: ${MAX_LEAVES} leaves of services that are not in the agent's configuration are being read`,
      );
    this.#drop(...oldest);
  }

  #drop(key: string, { source, served }: Kept): void {
    this.#kept.delete(key);
    served.close();
    source.close();
  }

  async #sweep(): Promise<void> {
    this.#sweeping = true;
    const { signal } = this.#closing;
    while (this.#kept.size > 0 && !signal.aborted) {
      await this.#options.clock.sleep(SWEEP_MS, signal);
      const now = this.#now();
      for (const [key, kept] of this.#kept) {
        // After the clock was set back the time counts anew.
        if (kept.readAt > now) kept.readAt = now;
        if (kept.readers === 0 && now - kept.readAt >= IDLE_MS) this.#drop(key, kept);
      }
    }
    this.#sweeping = false;
  }
}
