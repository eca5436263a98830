/**
 * Consul's routes of an agent as an app of their own, with the common answers of Consul's API.
 * @module
 */
import { Hono } from "hono";
import { DEFAULT_HTTP_LIMITS } from "../../http/limits.ts";
import { type Bindings, Pipeline } from "../../http/pipeline.ts";
import { requestRefusal, unknownPath } from "../../http/responses.ts";
import type { RequestEnvironment } from "../../http/route.ts";
import type { ConsulApiOptions } from "./options.ts";
import { ConsulApi } from "./routes.ts";

export class ConsulAgentApp {
  readonly #api: ConsulApi;
  readonly #hono = new Hono<{ Bindings: Bindings }>({ strict: true });

  constructor(options: ConsulApiOptions) {
    const { clock, random, log, defaultPolicy } = options;
    const api = new ConsulApi(options);
    const pipeline = new Pipeline({
      // The handlers ask the servers what a token allows.
      control: null,
      defaultPolicy,
      audit: null,
      forwarder: null,
      limits: DEFAULT_HTTP_LIMITS,
      metrics: { countRequest: () => undefined, countWrongToken: () => undefined },
      runtime: { clock, random, log, inRequest: (_requestId, work) => work() },
      server: {
        datacenter: "",
        connectEnabled: true,
        // The Host is checked with the other signs of a web page.
        hosts: null,
        loopbackOnly: false,
        behindProxy: false,
        compressedInFront: false,
      },
    });
    this.#api = api;
    for (const route of [api.roots, ...api.own])
      this.#hono.all(route.path, (c) => pipeline.serve(c, route));
    this.#hono.notFound((c) => unknownPath(c.req.raw));
  }

  /** Answers a request of a program on this machine. */
  fetch(request: Request, environment: RequestEnvironment): Response | Promise<Response> {
    const requestId = environment.requestId ?? crypto.randomUUID();
    return (
      requestRefusal(request, DEFAULT_HTTP_LIMITS) ??
      this.#hono.fetch(request, { environment, requestId })
    );
  }

  /** Answers all blocking queries, and closes the leaves of callers. */
  close(): void {
    this.#api.close();
  }
}

/** Consul's routes of an agent. */
export function consulAgentApp(options: ConsulApiOptions): ConsulAgentApp {
  return new ConsulAgentApp(options);
}
