/**
 * Which calls of a socket are admitted: counts its open streams and what was refused, and bounds
 * the first.
 * @module
 */
import type { AgentMetrics, Delivery } from "./agent-metrics.ts";

/**
 * Streams that one socket serves at a time. Ten thousand must be possible; one takes some 15 KB
 * (measured on Node 24), so that all of them stay below 256 MB.
 */
export const MAX_STREAMS = 16_384;

export class Admission {
  readonly #metrics: AgentMetrics;
  readonly #max: number;
  #open = 0;

  /** @param max for tests. */
  constructor(metrics: AgentMetrics, max = MAX_STREAMS) {
    this.#metrics = metrics;
    this.#max = max;
  }

  /** @returns a function to call when the stream ended, or null if too many are open. */
  open(delivery: Delivery): (() => void) | null {
    if (this.#open >= this.#max) return null;
    this.#open++;
    this.#metrics.streams(delivery, 1);
    return () => {
      this.#open--;
      this.#metrics.streams(delivery, -1);
    };
  }

  /** Counts a refusal. @param reason a fixed word. */
  refused(delivery: Delivery, reason: string): void {
    this.#metrics.refused(delivery, reason);
  }
}
