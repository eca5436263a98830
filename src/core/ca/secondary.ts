/**
 * The changes of a secondary datacenter: joins the primary one, follows its roots, renews the
 * intermediate, and changes the settings of the provider.
 * @module
 */
import type { DeletionTime } from "../deletion-time.ts";
import { faultCodeOf, ProviderError } from "../errors.ts";
import { type Caller, NOBODY } from "../ports/audit.ts";
import type { Clock } from "../ports/clock.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { CaState } from "../state.ts";
import type { Change, ChangeRunner, PlannedChange } from "./change.ts";
import { issuerChainOf } from "./cross-chain.ts";
import { type Followed, isSuperseded } from "./followed-roots.ts";
import type { Follower, PrimaryStatus } from "./follower.ts";
import type { Maintenance } from "./maintenance.ts";
import { type ConfigurationRequest, requireIndex } from "./plan-change.ts";
import {
  planFollow,
  planFollowerConfiguration,
  planFollowerPrune,
  planJoin,
} from "./plan-follow.ts";
import type { BootstrapConfig, RotationRequest } from "./plan-root.ts";
import { nextFollowerStep, type Step } from "./schedule.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

interface SecondaryOptions {
  readonly follower: Follower;
  readonly changes: ChangeRunner;
  readonly maintenance: Maintenance;
  readonly policy: Policy;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly bootstrap: BootstrapConfig;
}

export class Secondary {
  readonly #options: SecondaryOptions;

  constructor(options: SecondaryOptions) {
    this.#options = options;
  }

  /** @param state the one in use, or null. @param leads whether this replica does. */
  statusOf(state: CaState | null, leads: boolean): PrimaryStatus {
    return this.#options.follower.statusOf(state, leads);
  }

  /** Waits until the primary's roots may have changed. @returns whether they have; null: not known. */
  watch(signal: AbortSignal): Promise<boolean | null> {
    return this.#options.follower.watch(signal);
  }

  /** Changes the settings of the provider. @returns whether anything changed. */
  configure(request: ConfigurationRequest, caller: Caller): Promise<boolean> {
    return this.#options.changes.run("RECONFIGURING", caller, async (change) => {
      const followed = await this.#read();
      const planned = await planFollowerConfiguration(change.require(), request, followed, change);
      if (planned === null) change.recordUnchanged("configure");
      else await this.#commit(change, planned);
      return planned !== null;
    });
  }

  /** Has a new intermediate certified. @returns the snapshot with it. */
  rotate({ modifyIndex }: RotationRequest, caller: Caller): Promise<Snapshot> {
    return this.#options.changes.run("RECONFIGURING", caller, async (change) => {
      requireIndex(change.require().state, modifyIndex);
      return this.#renew(change);
    });
  }

  /** Has a new intermediate certified in place of one that was lost. */
  async replaceIssuer(): Promise<void> {
    await this.#options.changes.run("RENEWING", NOBODY, (change) => this.#renew(change));
  }

  /**
   * Looks at the primary's roots, unless that was a moment ago. It never rejects.
   * @returns whether this datacenter follows it: a primary one does once the other was promoted.
   */
  async look(state: CaState | null): Promise<boolean> {
    const { follower } = this.#options;
    const isPrimary = state !== null && state.primary === null;
    // The settings say since that this datacenter is the primary one: no other takes its place.
    if (isPrimary && !follower.primary.isConfigured) return false;
    await follower.look(false, state?.primary ?? null);
    const { followed } = follower;
    return !isPrimary || (followed !== null && isSuperseded(state, followed));
  }

  /**
   * Does the step that is due, if it is one of a secondary datacenter.
   * @returns the step that is due, and whether it was dealt with here.
   */
  async tick(
    state: CaState | null,
    time: DeletionTime,
    collectAt: Date | null,
  ): Promise<{ readonly step: Step; readonly handled: boolean }> {
    const { follower, policy, clock } = this.#options;
    const { followed } = follower;
    const due = nextFollowerStep(state, followed, { policy, time, collectAt });
    if (due.kind === "wait") follower.step.fault = null;
    // Without the primary's roots no other step of these is due.
    if (followed === null) return { step: due, handled: false };
    const work = this.#workOf(due, followed);
    if (work === null) return { step: due, handled: false };
    const isDone = await this.#options.maintenance.attempt(follower.step, work.failure, () =>
      work.run().catch((error: unknown) => {
        this.#options.metrics.primaryFailed("follow", faultCodeOf(error));
        throw error;
      }),
    );
    const until = new Date(clock.now().getTime() + policy.leaderRetryMs);
    return { step: isDone ? due : { kind: "wait", until }, handled: true };
  }

  #workOf(
    { kind }: Step,
    followed: Followed,
  ): { readonly failure: string; readonly run: () => Promise<unknown> } | null {
    switch (kind) {
      case "join":
        return {
          failure: "Failed to join the primary datacenter; will retry",
          run: () => this.#join(followed),
        };
      case "follow":
      case "renew":
        return {
          failure:
            "Failed to follow the primary datacenter; leaves are signed under the present roots, will retry",
          run: () =>
            this.#apply((change) =>
              planFollow(change.require(), followed, change, kind === "renew"),
            ),
        };
      case "prune":
        return {
          failure: "Failed to remove roots that no leaf needs; will retry",
          run: () =>
            this.#apply((change) => planFollowerPrune(change.require(), followed.listing, change)),
        };
      default:
        return null;
    }
  }

  #apply(plan: (change: Change) => ReturnType<typeof planFollow>): Promise<void> {
    return this.#options.changes.run("RENEWING", NOBODY, async (change) => {
      const planned = await plan(change);
      if (planned !== null) await this.#commit(change, planned);
    });
  }

  /** Commits a change of the state that there is, and counts a new intermediate. */
  async #commit(change: Change, planned: PlannedChange): Promise<Snapshot> {
    const issuerOf = ({ active }: Snapshot) => issuerChainOf(active)[0]?.id;
    const before = issuerOf(change.require());
    const snapshot = await change.commit(planned);
    if (issuerOf(snapshot) !== before) this.#options.metrics.intermediateRenewed();
    return snapshot;
  }

  /** Takes over the primary's roots for the first time, unless another replica did. */
  #join(followed: Followed): Promise<void> {
    return this.#options.changes.run("INITIALIZING", NOBODY, async (change) => {
      if (change.snapshot !== null) return;
      const { clusterId: _, trustDomain: __, ...config } = this.#options.bootstrap;
      await change.commit(await planJoin(followed, config, change));
    });
  }

  async #renew(change: Change): Promise<Snapshot> {
    const snapshot = change.require();
    const planned = await planFollow(snapshot, await this.#read(), change, true);
    return planned === null ? snapshot : this.#commit(change, planned);
  }

  /** The primary's roots as they are now, or were read last. @throws {ProviderError} without any */
  async #read(): Promise<Followed> {
    const { follower } = this.#options;
    await follower.look(true);
    const { primary, followed, fault } = follower;
    if (followed !== null) return followed;
    const reason = fault === null ? "" : `: ${fault.reason}`;
    throw new ProviderError(
      "provider_unavailable",
      `Cannot change the CA: the roots of the primary datacenter ${primary.name} could not be read${reason}`,
      { retryAfterMs: this.#options.policy.leaderRetryMs },
    );
  }
}
