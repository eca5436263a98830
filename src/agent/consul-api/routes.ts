/**
 * Consul's routes of an agent.
 * @module
 */
import { refuseEnterprise } from "../../http/enterprise.ts";
import { BodyReader } from "../../http/request-body.ts";
import {
  type Call,
  consulRoute,
  endpoint,
  type Route,
  type RouteResponse,
} from "../../http/route.ts";
import { localRefusal } from "../local-request.ts";
import { authorize } from "./authorize.ts";
import { AgentLeaves, LEAF_PATH } from "./leaf.ts";
import type { ConsulApiOptions } from "./options.ts";
import { AgentRefusal, orRefusal } from "./refusal.ts";
import { AgentRoots } from "./roots.ts";
import { self } from "./self.ts";
import { Waits } from "./waits.ts";

/** Within how many milliseconds a body must arrive. */
const BODY_MS = 10_000;

/** The routes, and what they keep. */
export class ConsulApi {
  /** The route that a CA server has too. */
  readonly roots: Route;
  /** The routes that only an agent has. */
  readonly own: readonly Route[];
  readonly #options: ConsulApiOptions;
  readonly #waits: Waits;
  readonly #leaves: AgentLeaves;

  constructor(options: ConsulApiOptions) {
    const waits = new Waits(options.clock);
    const leaves = new AgentLeaves(options, waits);
    const roots = new AgentRoots(options, waits);
    const bodies = new BodyReader(options.clock, BODY_MS);
    this.#options = options;
    this.#waits = waits;
    this.#leaves = leaves;
    this.#warnOfDeny();
    this.roots = this.#route("/v1/agent/connect/ca/roots", "GET", (call) => roots.answer(call));
    this.own = [
      this.#route(`${LEAF_PATH}*`, "GET", (call) => {
        refuseEnterprise(call);
        return leaves.answer(call);
      }),
      this.#route("/v1/agent/connect/authorize", "POST", (call) => {
        refuseEnterprise(call);
        return authorize(call, bodies, options);
      }),
      this.#route("/v1/agent/self", "GET", (call) => self(call, options)),
    ];
  }

  /** Answers all blocking queries, and closes the leaves that it opened. */
  close(): void {
    this.#waits.close();
    this.#leaves.close();
  }

  /** Without intentions a default of deny refuses every connection that asks. */
  #warnOfDeny(): void {
    const { set, defaultIntentionPolicy, defaultPolicy, log } = this.#options;
    if (defaultIntentionPolicy !== null) {
      if (defaultIntentionPolicy === "deny")
        log.warn(
          'POST /v1/agent/connect/authorize refuses every connection: default_intention_policy is "deny", and there are no intentions',
        );
      return;
    }
    let unsubscribe: (() => void) | null = null;
    const look = () => {
      if (set.bundle.current === null) return;
      unsubscribe?.();
      if (defaultPolicy() === "deny")
        log.warn(
          'POST /v1/agent/connect/authorize refuses every connection: the default policy of the servers is "deny", and there are no intentions; set default_intention_policy to "allow" if certificates of the mesh are enough',
        );
    };
    if (set.bundle.current === null) unsubscribe = set.bundle.subscribe(look);
    else look();
  }

  #route(
    path: string,
    method: "GET" | "POST",
    handle: (call: Call) => Promise<RouteResponse> | RouteResponse,
  ): Route {
    const guarded = async (call: Call) => {
      const { metrics, overSocket } = this.#options;
      const refusal = localRefusal(call.request, overSocket);
      const response = await orRefusal(() => {
        if (refusal !== null) throw new AgentRefusal(403, refusal);
        return handle(call);
      });
      if (response.status === 403)
        metrics.refused("consul-api", refusal === null ? "right" : "origin");
      return { ...response, headers: { "Cache-Control": "no-store", ...response.headers } };
    };
    return consulRoute(path, { [method]: endpoint("public", guarded) });
  }
}
