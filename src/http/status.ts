/**
 * What machines watch us by: GET /v1/status/leader, /healthz, /readyz, /metrics.
 * @module
 */
import { body } from "./answers.ts";
import type { AppOptions, Route } from "./app.ts";
import { writeJson } from "./json.ts";

const TEXT = "text/plain; charset=utf-8";

export function statusRoutes({ manager, renderMetrics }: AppOptions): Route[] {
  return [
    {
      path: "/v1/status/leader",
      kind: "consul",
      methods: {
        async GET(call) {
          return { body: body("application/json", writeJson((await manager.leader()) ?? "", call.query().pretty)) };
        },
      },
    },
    // Alive: the process answers.
    { path: "/healthz", kind: "operations", methods: { GET: () => ({ body: body(TEXT, "ok\n") }) } },
    // Ready: a leaf can be signed now.
    {
      path: "/readyz",
      kind: "operations",
      methods: {
        GET() {
          const obstacle = manager.obstacle();
          return obstacle === null ? { body: body(TEXT, "ok\n") } : { status: 503, body: body(TEXT, `Cannot sign: ${obstacle}\n`) };
        },
      },
    },
    {
      path: "/metrics",
      kind: "operations",
      methods: {
        async GET() {
          const { type, text } = await renderMetrics();
          return { body: body(type, text) };
        },
      },
    },
  ];
}
