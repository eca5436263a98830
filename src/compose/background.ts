/**
 * What a running replica does besides answering requests: CA maintenance, synchronization with the
 * store, heartbeats, probes, expiry warnings and the maintenance of access control.
 * @module
 */
import type { Policy } from "../core/ca/timing-and-limits.ts";
import { reasonOf } from "../core/errors.ts";
import type { AccessControl } from "./access-control.ts";
import type { Service } from "./ca.ts";
import type { Platform } from "./platform.ts";

/** How often expired ACL records are deleted, in milliseconds: they have no effect before that. */
const COLLECT_MS = 60_000;
/** How often expiry dates are compared with the clock, in milliseconds. */
const EXPIRY_MS = 60_000;
/** How often leaf counts are written, in milliseconds: what a crash loses. */
const LEAF_COUNTS_MS = 60_000;
/** The delay before a failed task is retried, in milliseconds. */
const RETRY_MS = 1000;
/** The least pause of a task, in milliseconds, so that no loop runs without one. */
const MIN_PAUSE_MS = 100;

/** Does one unit of work, and returns the pause before the next one in milliseconds. */
type Task = () => Promise<number>;

export class BackgroundTasks {
  readonly #service: Service;
  readonly #policy: Policy;
  readonly #platform: Platform;
  readonly #signal: AbortSignal;

  /** @param signal ends all tasks. */
  constructor(service: Service, policy: Policy, platform: Platform, signal: AbortSignal) {
    this.#service = service;
    this.#policy = policy;
    this.#platform = platform;
    this.#signal = signal;
  }

  /** Runs all tasks until the signal fires. */
  async run(): Promise<void> {
    const { ca, report, accessControl } = this.#service;
    const { heartbeatMs } = this.#policy;
    await Promise.all([
      this.#repeat("run CA maintenance", () => this.#maintain()),
      this.#repeat("follow the CA state in the store", () => this.#follow()),
      ...(ca.hasPrimary
        ? [this.#repeat("follow the primary datacenter", () => this.#followPrimary())]
        : []),
      this.#repeat("send heartbeat", async () => {
        await ca.heartbeat();
        return heartbeatMs;
      }),
      this.#repeat("probe the CA provider", async () => {
        await ca.probe();
        return heartbeatMs;
      }),
      this.#repeat("write leaf counts", async () =>
        (await ca.saveLeafCounts()) ? this.#leafCountsPause() : RETRY_MS,
      ),
      this.#repeat("check certificates for expiry", async () => {
        report.warn();
        return EXPIRY_MS;
      }),
      ...(accessControl === null ? [] : this.#accessTasks(accessControl)),
    ]);
  }

  /** Repeats a task. A failure is logged once for each reason. */
  async #repeat(what: string, task: Task): Promise<void> {
    const { clock, log } = this.#platform;
    let failure: string | null = null;
    while (!this.#signal.aborted) {
      let pause = RETRY_MS;
      try {
        pause = await task();
        if (failure !== null) log.info(`Recovered after failing to ${what}`);
        failure = null;
      } catch (error) {
        const reason = reasonOf(error);
        if (reason !== failure) log.error(`Failed to ${what}; will retry`, { reason });
        failure = reason;
      }
      if (pause > 0) await clock.sleep(pause, this.#signal);
    }
  }

  async #maintain(): Promise<number> {
    const { ca, accessControl } = this.#service;
    const due = await ca.tick();
    if (due.kind !== "wait") return 0;
    if (ca.status.role === "leader") await accessControl?.recordInCa();
    const pause = this.#leasePause();
    if (due.until === null) return pause;
    const untilDue = due.until.getTime() - this.#platform.clock.now().getTime();
    return Math.max(MIN_PAUSE_MS, Math.min(pause, untilDue));
  }

  /** Jitter keeps replicas from writing at the same time. */
  #leafCountsPause(): number {
    return LEAF_COUNTS_MS * (1 + this.#platform.random.fraction() / 10);
  }

  /** Within the time in which a lease must be renewed; jitter keeps replicas out of step. */
  #leasePause(): number {
    const { leaderRetryMs, retryJitter } = this.#policy;
    return leaderRetryMs * (1 + this.#platform.random.fraction() * (retryJitter - 1));
  }

  async #follow(): Promise<number> {
    const { ca } = this.#service;
    const before = ca.snapshot;
    await ca.follow(this.#signal);
    return ca.snapshot === before ? MIN_PAUSE_MS : 0;
  }

  async #followPrimary(): Promise<number> {
    const waited = await this.#service.ca.followPrimary(this.#signal);
    return waited ? MIN_PAUSE_MS : RETRY_MS;
  }

  #accessTasks(access: AccessControl): Promise<void>[] {
    const { ca } = this.#service;
    return [
      this.#repeat("follow ACL records in the store", async () => {
        if (!access.started && ca.snapshot === null) return RETRY_MS;
        await access.start();
        await access.follow(this.#signal);
        return 0;
      }),
      this.#repeat("delete expired ACL records", async () => {
        if (ca.status.role === "leader") await access.collect();
        return COLLECT_MS;
      }),
    ];
  }
}
