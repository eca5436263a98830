/**
 * Serves on Cloudflare Workers: a request at a time, and what is due from a cron trigger.
 * @module
 */
import { CONSUL_CONFIG_NAMES } from "../../providers/consul/config.ts";
import { Edge } from "../compose/worker.ts";
import { readWorkerSettings } from "../config/worker.ts";
import { CaError } from "../core/errors.ts";
import { createWorkerPlatform } from "./worker-platform.ts";

/** The part of the runtime's context that is used. */
interface Context {
  waitUntil(work: Promise<unknown>): void;
}

type Bindings = Readonly<Record<string, unknown>>;

/** What the isolate serves with: its settings do not change while it lives. */
let edge: Edge | null = null;

function edgeOf(bindings: Bindings): Edge {
  if (edge !== null) return edge;
  const settings = readWorkerSettings(bindings, CONSUL_CONFIG_NAMES);
  edge = new Edge(settings, createWorkerPlatform(settings));
  return edge;
}

/** Why nothing can be served. `/healthz` is answered also then: the Worker itself is alive. */
function unavailable(error: unknown, request: Request, requestId: string): Response {
  if (!(error instanceof CaError)) throw error;
  const headers = { "Cache-Control": "no-store", "X-Request-Id": requestId };
  const isRead = request.method === "GET" || request.method === "HEAD";
  if (isRead && new URL(request.url).pathname === "/healthz")
    return new Response("ok\n", { headers });
  const retry = { "Retry-After": String(Math.ceil((error.retryAfterMs ?? 3000) / 1000)) };
  return new Response(`meshca on Cloudflare Workers: ${error.message}\n`, {
    status: 503,
    headers: { ...headers, ...retry },
  });
}

export default {
  async fetch(request: Request, bindings: Bindings, context: Context): Promise<Response> {
    const requestId = crypto.randomUUID();
    try {
      const environment = {
        requestId,
        remoteAddress: request.headers.get("CF-Connecting-IP") ?? undefined,
      };
      const answer = edgeOf(bindings).fetch(request, environment, (work) =>
        context.waitUntil(work),
      );
      // A change continues if its caller disconnects.
      if (request.method !== "GET") context.waitUntil(answer.catch(() => undefined));
      return await answer;
    } catch (error) {
      return unavailable(error, request, requestId);
    }
  },
  async scheduled(_event: unknown, bindings: Bindings): Promise<void> {
    await edgeOf(bindings).tick();
  },
};
