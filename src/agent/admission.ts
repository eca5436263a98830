/**
 * Which calls of a socket are admitted: counts its open streams and what was refused, and bounds
 * the first.
 * @module
 */
import type { AgentMetrics, Delivery } from "./agent-metrics.ts";

/**
 * Streams that one socket serves at a time: ten thousand must be possible. Measured with 10,000 on
 * Node 24, a stream takes 18 KB, and 45 KB with a connection of its own; on Bun half of that.
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
