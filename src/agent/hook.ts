/**
 * What tells a service that the files in its credential folder changed: a command or a signal. Runs
 * one at a time, and again until it succeeds or a newer generation replaces its files.
 * @module
 */
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { AgentMetrics } from "./agent-metrics.ts";

/** The pause after a failure in milliseconds: it doubles up to five minutes. */
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [1000, 300_000];

/** What a hook learns of the files. */
export interface Delivered {
  /** The credential folder. */
  readonly folder: string;
  readonly spiffeId: string;
  readonly service: string;
  /** The paths of the files. */
  readonly files: Readonly<
    Record<"bundle" | "chain" | "key" | "roots" | "combined" | "trustBundle", string>
  >;
}

export type HookOutcome =
  | { readonly kind: "ok" }
  /** The service does not run: it reads the files when it starts. */
  | { readonly kind: "not_running"; readonly reason: string }
  /** @property output the last lines of a command, without secrets; empty if there are none. */
  | { readonly kind: "failed"; readonly reason: string; readonly output: string };

export interface Hook {
  /** For logs: `command /usr/sbin/nginx`, `signal HUP`. */
  readonly name: string;
  /** Never rejects. @param closing ends it early */
  run(delivered: Delivered, closing: AbortSignal): Promise<HookOutcome>;
}

interface HookRunnerOptions {
  readonly hook: Hook;
  readonly folder: string;
  readonly log: Log;
  readonly metrics: AgentMetrics;
  readonly clock: Clock;
}

interface Request {
  readonly delivered: Delivered;
  readonly onSuccess: () => Promise<void>;
}

/** Runs the hook of one folder. */
export class HookRunner {
  readonly #options: HookRunnerOptions;
  readonly #closing = new AbortController();
  #next: Request | null = null;
  /** Settles when no run is requested any more; it never rejects. */
  #running: Promise<void> | null = null;
  #endPause: () => void = () => undefined;
  #failures = 0;
  #problem: string | null = null;
  /** The reason that was logged last. */
  #logged: string | null = null;
  /** The first run for the newest files; null if it has ended. */
  #attempt: PromiseWithResolvers<void> | null = null;

  constructor(options: HookRunnerOptions) {
    this.#options = options;
  }

  /** Why the hook failed the last time; null if it succeeded, or the service does not run. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Resolves when the hook has run once for the newest files, or was closed. Never rejects. */
  get attempted(): Promise<void> {
    return this.#attempt?.promise ?? Promise.resolve();
  }

  /**
   * Runs the hook now, or after the run that goes on. Files that wait for a run already are replaced.
   * @param onSuccess called after a success
   */
  request(delivered: Delivered, onSuccess: () => Promise<void>): void {
    if (this.#closing.signal.aborted) return;
    this.#attempt ??= Promise.withResolvers<void>();
    this.#next = { delivered, onSuccess };
    this.#failures = 0;
    this.#endPause();
    this.#running ??= this.#runAll();
  }

  /** Ends a run that goes on, and starts no other. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#endPause();
    await this.#running;
    this.#endAttempt();
  }

  #endAttempt(): void {
    this.#attempt?.resolve();
    this.#attempt = null;
  }

  async #runAll(): Promise<void> {
    const { hook, clock } = this.#options;
    while (this.#next !== null && !this.#closing.signal.aborted) {
      const request = this.#next;
      this.#next = null;
      const outcome = await hook.run(request.delivered, this.#closing.signal);
      await this.#report(outcome, request);
      if (this.#next !== null) continue;
      this.#endAttempt();
      if (outcome.kind === "ok") break;
      this.#failures += 1;
      this.#next = request;
      const pause = new AbortController();
      this.#endPause = () => pause.abort();
      if (!this.#closing.signal.aborted)
        await clock.sleep(
          Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1)),
          pause.signal,
        );
    }
    this.#running = null;
  }

  /** Logs and counts an outcome; that the service does not run is logged once. */
  async #report(outcome: HookOutcome, { delivered, onSuccess }: Request): Promise<void> {
    const { hook, folder, log, metrics } = this.#options;
    const { spiffeId } = delivered;
    const fields = { hook: hook.name, folder, spiffeId };
    if (outcome.kind === "ok") {
      metrics.delivered("files", "ok");
      this.#problem = null;
      this.#logged = null;
      log.info("Notified the service of new files", fields);
      await onSuccess();
      return;
    }
    const { kind, reason } = outcome;
    const isNew = this.#logged !== reason;
    this.#logged = reason;
    this.#problem = kind === "failed" ? `${hook.name}: ${reason}` : null;
    if (kind === "not_running") {
      const text = "The service does not run; it reads the new files when it starts";
      log[isNew ? "info" : "debug"](text, { ...fields, reason });
      return;
    }
    metrics.delivered("files", "failed");
    log.error("Failed to notify the service of new files, which are in place; will retry", {
      ...fields,
      reason,
      ...(outcome.output === "" ? {} : { output: outcome.output }),
    });
  }
}
