/**
 * Leases in Redis. Terms are kept for ever; the holder of a lease and its expiry by Redis's clock
 * are stored with the term.
 * @module
 */
import * as v from "valibot";
import type { Lease, LeaseName, Leases } from "../../core/ports/lease.ts";
import type { RedisCalls } from "./calls.ts";

export class RedisLeases implements Leases {
  readonly #calls: RedisCalls;
  readonly #holder: string;
  /**
   * The request of each lease that got no reply: it may have been granted, under a term that no
   * replica knows.
   */
  readonly #unanswered = new Map<LeaseName, string>();
  #requests = 0;

  /** @param holder this replica as the holder, another one at each start. */
  constructor(calls: RedisCalls, holder: string) {
    this.#calls = calls;
    this.#holder = holder;
  }

  async acquire(name: LeaseName, ttlMs: number): Promise<Lease | null> {
    const lost = this.#unanswered.get(name) ?? "";
    this.#unanswered.delete(name);
    const request = lost === "" ? String(++this.#requests) : lost;
    try {
      const args = [this.#holder, String(ttlMs), request, lost];
      const term = Number(await this.#run("acquire", v.string(), name, args));
      return term === 0 ? null : { name, term };
    } catch (error) {
      this.#unanswered.set(name, request);
      throw error;
    }
  }

  async renew({ name, term }: Lease, ttlMs: number): Promise<boolean> {
    const args = [this.#holder, String(term), String(ttlMs)];
    return (await this.#run("renew", v.number(), name, args)) === 1;
  }

  async release({ name, term }: Lease): Promise<void> {
    await this.#run("release", v.number(), name, [this.#holder, String(term)]);
  }

  async holder(name: LeaseName): Promise<string | null> {
    const holder = await this.#run("holder", v.string(), name);
    return holder === "" ? null : holder;
  }

  #run<T>(
    script: "acquire" | "renew" | "release" | "holder",
    answer: v.GenericSchema<unknown, T>,
    name: LeaseName,
    args: readonly string[] = [],
  ): Promise<T> {
    return this.#calls.run(script, answer, ({ lease }) => [[lease(name)], args]);
  }
}
