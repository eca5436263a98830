/**
 * What this replica serves and has seen: takes what is stored, as far as it follows what was seen
 * before, and stops all changes where it does not.
 * @module
 */

import { NotReadyError, reasonOf, StoreError } from "../errors.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { LastSeenStore } from "../ports/last-seen.ts";
import type { Log } from "../ports/log.ts";
import type { ProviderTypes } from "../ports/provider.ts";
import type { Replica } from "../ports/replicas.ts";
import type { Sealer } from "../ports/sealer.ts";
import type { Store } from "../ports/store.ts";
import type { CaState } from "../state.ts";
import { withKeptIssuers } from "./leaf-issuers.ts";
import type { Standing } from "./replica-health.ts";
import { createMemory, type FollowerMemory } from "./replica-memory.ts";
import { regression } from "./rollback-detection.ts";
import { loadSnapshot, type Snapshot, snapshotOf } from "./snapshot.ts";

export interface FollowerOptions {
  readonly store: Store;
  readonly standing: Standing;
  readonly recollection: LastSeenStore | null;
  /**
   * How old the kept instant of the last confirmation may be, in milliseconds; null if it is kept
   * with the state only.
   */
  readonly confirmationMs: number | null;
  readonly self: Pick<Replica, "address">;
  readonly providers: ProviderTypes;
  readonly sealer: Sealer;
  readonly random: Random;
  readonly clock: Clock;
  readonly log: Log;
  /** @default one that has seen nothing */
  readonly memory?: FollowerMemory | undefined;
}

export interface Follower {
  /** The last snapshot, or null before there is a state. */
  readonly current: Snapshot | null;
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  /** Why nothing may be changed until an operator decides, or null. */
  readonly stopped: string | null;
  /** @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot;
  /**
   * Takes what this replica saw before it was restarted, and when the store confirmed it.
   * @throws {StoreError}
   * @throws {SealError}
   */
  recollect(): Promise<void>;
  /** Reads the store and takes what is newer. @throws {StoreError} @throws {SealError} */
  refresh(): Promise<void>;
  /** Makes a snapshot the current one, unless a newer one is. */
  adopt(next: Snapshot): Promise<void>;
  /** Tells the listeners of a snapshot that somebody else put into the memory. */
  tell(): void;
  /** Stops all changes, here and everywhere. @throws {StoreError} */
  stop(reason: string): Promise<void>;
  /**
   * Keeps beside the store what was seen last, under the present key-encryption key; it never
   * rejects.
   */
  keep(): Promise<void>;
  sawTerm(term: number): void;
  /** The conflict is over; the highest term that anybody saw is known now. */
  resolved(term: number): void;
  /** Calls `listener` with every new snapshot until the returned function is called. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void;
}

export function createFollower(options: FollowerOptions): Follower {
  const { store, standing, providers, sealer, random, clock, log, self } = options;
  const memory = options.memory ?? createMemory().follower;
  const listeners = new Set<(snapshot: Snapshot) => void>();
  /** The snapshot that the listeners know. */
  let told = memory.current;
  /** Settles when what was seen last is kept; it never rejects. */
  let keeping: Promise<void> = Promise.resolve();
  /** The confirmation that was kept last, in milliseconds since 1970. */
  let keptConfirmation: number | null = null;

  const require = (): Snapshot => {
    // Consul's text (consul-ca.md §1.2).
    if (memory.current === null)
      throw new NotReadyError("ca_uninitialized", "CA has not finished initializing", {
        retryAfterMs: 1000,
      });
    return memory.current;
  };

  const tell = (): void => {
    if (memory.current === null || memory.current === told) return;
    told = memory.current;
    for (const listener of [...listeners]) listener(told);
  };

  /**
   * Makes a snapshot the current one, unless something newer is by now: a read, or the answer to a
   * commit, may come late.
   */
  const adopt = async (next: Snapshot): Promise<void> => {
    const previous = memory.current;
    if (previous !== null && next.state.index < previous.state.index) {
      if (next.provider !== previous.provider) void next.provider?.close();
      return;
    }
    memory.current = next;
    if (previous?.provider !== next.provider) void previous?.provider?.close();
    tell();
    await keep();
  };

  /**
   * Keeps what was seen last, one after the other: two writes at once could leave the older one.
   */
  const keep = (): Promise<void> => {
    keeping = keeping.then(async () => {
      if (memory.current === null) return;
      const { confirmedAt } = standing;
      keptConfirmation = confirmedAt?.getTime() ?? null;
      await options.recollection
        ?.save({ state: memory.current.state, term: memory.term, confirmedAt })
        .catch((error: unknown) =>
          log.warn("Cannot keep beside the store what was seen last", { reason: reasonOf(error) }),
        );
    });
    return keeping;
  };

  /**
   * Keeps from time to time when the store confirmed what is served: a restart while it is away
   * counts from then.
   */
  const keepConfirmation = (): void => {
    const { confirmedAt } = standing;
    if (options.confirmationMs === null || options.recollection === null || confirmedAt === null)
      return;
    const age =
      keptConfirmation === null
        ? Number.POSITIVE_INFINITY
        : confirmedAt.getTime() - keptConfirmation;
    if (age < 0 || age >= options.confirmationMs) void keep();
  };

  const refresh = async (): Promise<void> => {
    // When this throws, what was read last stays in use: it was right, and its keys are still
    // valid.
    const [asked, seen] = [
      clock.now(),
      { state: memory.current?.state ?? null, term: memory.term },
    ];
    const stored = await store.read().catch((error: unknown) => {
      // An answer that cannot be trusted is not the silence that the staleness would be put down
      // to.
      standing.doubt(isSilence(error) ? null : reasonOf(error));
      standing.failed(error);
      throw error;
    });
    const { state } = stored;
    if (seen.state !== null && state !== null && state.clusterId !== seen.state.clusterId) {
      const error = new StoreError(
        "cluster_mismatch",
        `The store holds the state of another cluster, ${state.clusterId}; this replica serves ${seen.state.clusterId}, and nothing was changed`,
      );
      standing.doubt(error.message);
      throw error;
    }
    memory.found = state?.commitId ?? null;
    const lost = regression(seen, stored);
    // Before there is a state no term has fenced anything: a store that was emptied begins anew.
    memory.term = memory.current === null ? stored.term : Math.max(memory.term, stored.term);
    if (lost !== null) {
      standing.confirm(asked);
      return stop(lost);
    }
    if (stored.stopped === null) memory.stopped = null;
    else memory.stopped ??= "another replica has seen what the store lost";
    try {
      if (state !== null) await take(state);
    } catch (error) {
      // Otherwise what was seen before would count as what is stored.
      standing.doubt(reasonOf(error));
      throw error;
    }
    standing.confirm(asked);
    keepConfirmation();
  };

  /** Stops all changes, here and everywhere. Signing goes on under what was seen. */
  const stop = async (reason: string): Promise<void> => {
    const snapshot = require();
    if (memory.stopped === null)
      log.error("The store lost writes: changes are stopped until an operator decides", { reason });
    memory.stopped = reason;
    // Also where the mark has this state already: the term that was seen here may be higher.
    await store.stop({
      state: snapshot.state,
      term: memory.term,
      reason,
      by: self.address,
      found: memory.found,
    });
  };

  /** Takes a state that was read into use, if it is news or its key could not be opened before. */
  const take = async (state: CaState): Promise<void> => {
    const known = state.commitId === memory.current?.state.commitId;
    if (known && memory.current?.fault === null) return;
    const complete = withKeptIssuers(state, providers);
    const next =
      reopened(complete) ??
      (await loadSnapshot(complete, providers, { sealer, random }, clock.now()));
    if (next.fault !== null && known) return;
    if (next.fault !== null)
      log.error("Cannot open the signing key", {
        root: next.active.id,
        reason: reasonOf(next.fault),
      });
    await adopt(next);
  };

  /**
   * A state under whose root and configuration this replica signs already: its key is not opened a
   * second time.
   */
  const reopened = (state: CaState): Snapshot | null => {
    if (memory.current === null || memory.current.provider === null) return null;
    const what = ({ config, roots, provider }: CaState) =>
      JSON.stringify([
        config.provider,
        config.config,
        roots.find(({ status }) => status === "active")?.id,
        provider.active,
      ]);
    return what(memory.current.state) === what(state)
      ? snapshotOf(state, memory.current.config, memory.current.provider)
      : null;
  };

  return {
    get current() {
      return memory.current;
    },
    get term() {
      return memory.term;
    },
    get stopped() {
      return memory.stopped;
    },
    require,
    async recollect() {
      const seen = (await options.recollection?.load()) ?? null;
      if (seen === null) return;
      memory.term = seen.term;
      if (seen.confirmedAt !== null) standing.confirm(seen.confirmedAt);
      memory.current = await loadSnapshot(
        withKeptIssuers(seen.state, providers),
        providers,
        { sealer, random },
        clock.now(),
      );
    },
    refresh,
    adopt,
    tell,
    stop,
    keep,
    sawTerm(seen) {
      memory.term = Math.max(memory.term, seen);
    },
    resolved(seen) {
      memory.term = Math.max(memory.term, seen);
      memory.stopped = null;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Whether an error only says that the store gave no answer that could be used. */
export function isSilence(error: unknown): boolean {
  return (
    error instanceof StoreError &&
    ["store_unavailable", "store_refused", "store_busy"].includes(error.code)
  );
}
