/**
 * GET /v1/agent/connect/ca/roots: the roots as the agent knows them.
 * @module
 */
import { readJson, writeJson } from "../../consul/go-json.ts";
import { compressibleBody, queryMeta } from "../../http/responses.ts";
import type { Call, RouteResponse } from "../../http/route.ts";
import type { ConsulApiOptions } from "./options.ts";
import { AgentRefusal, RETRY_MS } from "./refusal.ts";
import type { Waits } from "./waits.ts";

/** How long a request that does not block waits for the first roots, in milliseconds. */
const FIRST_MS = 10_000;

export class AgentRoots {
  readonly #options: Pick<ConsulApiOptions, "set" | "contact" | "clock">;
  readonly #waits: Waits;
  /** Consul's cache is filled by the first read, which is a miss. */
  #warm = false;

  constructor(options: Pick<ConsulApiOptions, "set" | "contact" | "clock">, waits: Waits) {
    this.#options = options;
    this.#waits = waits;
  }

  /** @throws {AgentRefusal} 503 before the first roots @throws {RateLimitedError} */
  async answer({ request, query, environment }: Call): Promise<RouteResponse> {
    const { bundle } = this.#options.set;
    const { index, givenWaitMs, pretty } = query();
    environment.holdOpen?.();
    const isKnown = () => bundle.current !== null;
    await this.#waits.until([bundle], isKnown, givenWaitMs ?? FIRST_MS, request.signal);
    // An index ahead of ours is answered at once: after a lost write its client would wait in vain.
    const isNew = () => bundle.current !== null && BigInt(bundle.current.index) !== index;
    const waited = index !== null && !isNew();
    if (waited) await this.#waits.until([bundle], isNew, givenWaitMs, request.signal);
    const { current } = bundle;
    if (current === null) throw this.#missing();
    const hit = this.#warm && !waited;
    this.#warm = true;
    const { lostAt } = this.#options.contact;
    const awayMs = lostAt === null ? 0 : this.#msSince(lostAt);
    return {
      headers: {
        ...queryMeta(current.index, lostAt === null, awayMs),
        ...(hit
          ? { "X-Cache": "HIT", Age: String(Math.round(awayMs / 1000)) }
          : { "X-Cache": "MISS" }),
      },
      body: compressibleBody(
        "application/json",
        pretty ? writeJson(readJson(current.json), true) : current.json,
      ),
    };
  }

  #msSince(instant: Date): number {
    return Math.max(0, this.#options.clock.now().getTime() - instant.getTime());
  }

  #missing(): AgentRefusal {
    const { problem } = this.#options.contact;
    // Consul's text.
    const reason = problem === null ? "no CA server has answered yet" : problem;
    return new AgentRefusal(503, `no CA roots: ${reason}`, RETRY_MS);
  }
}
