/**
 * What machines watch us by: GET /v1/status/leader, /v1/status/peers, /healthz, /readyz, /metrics.
 * @module
 */

import { writeJson } from "../../consul/go-json.ts";
import type { CaManager } from "../../core/ca/ca.ts";
import type { Audit } from "../../core/ports/audit.ts";
import type { AppOptions, Call, Route } from "../app.ts";
import { isLocal } from "../caller.ts";
import { body } from "../shared-body.ts";

/** Seconds for Retry-After. */
const RETRY_AFTER = "1";
const TEXT = "text/plain; charset=utf-8";

export function statusRoutes(options: AppOptions): Route[] {
  const { manager, access, audit, facts, renderMetrics } = options;
  return [
    {
      path: "/v1/status/leader",
      needs: { GET: "public" },
      kind: "consul",
      methods: {
        async GET(call) {
          return {
            body: body(
              "application/json",
              writeJson((await manager.leader()) ?? "", call.query().pretty),
            ),
          };
        },
      },
    },
    {
      path: "/v1/status/peers",
      needs: { GET: "public" },
      kind: "consul",
      methods: {
        GET: (call) => ({
          body: body(
            "application/json",
            writeJson(
              manager.status.live.map(({ address }) => address).toSorted(),
              call.query().pretty,
            ),
          ),
        }),
      },
    },
    // Alive: the process answers.
    {
      path: "/healthz",
      needs: { GET: "public" },
      kind: "operations",
      unlimited: true,
      methods: { GET: () => ({ body: body(TEXT, "ok\n") }) },
    },
    // Ready: a leaf can be signed now.
    {
      path: "/readyz",
      needs: { GET: "optional" },
      kind: "operations",
      unlimited: true,
      methods: {
        GET(call) {
          const obstacle =
            manager.obstacle() ??
            (audit?.stopsSigning === true ? "the audit log cannot be written" : null) ??
            accessObstacle(access);
          const [status, headers] =
            obstacle === null ? [200, {}] : [503, { "Retry-After": RETRY_AFTER }];
          if (!maySeeDetails(call, options))
            return {
              status,
              headers,
              body: body(TEXT, obstacle === null ? "ok\n" : "not ready\n"),
            };
          const summary = obstacle === null ? "ok" : `Cannot sign: ${obstacle}`;
          const standing =
            describe(manager, facts()) +
            accessLine(access) +
            (audit === null ? "" : auditLine(audit));
          return { status, headers, body: body(TEXT, `${summary}\n${standing}`) };
        },
      },
    },
    ...(renderMetrics === null ? [] : [metricsRoute(renderMetrics)]),
  ];
}

/**
 * Names of roots, addresses of replicas and what a provider says are for operators: with access
 * control for callers with operator:read, and for those on this machine.
 */
function maySeeDetails({ request, environment, authorized }: Call, options: AppOptions): boolean {
  return (
    options.access === null ||
    authorized?.allows("operator", "read") === true ||
    isLocal(request, environment, options)
  );
}

function metricsRoute(renderMetrics: NonNullable<AppOptions["renderMetrics"]>): Route {
  return {
    path: "/metrics",
    needs: { GET: { resource: "operator", access: "read" } },
    kind: "operations",
    unlimited: true,
    methods: {
      async GET() {
        const { type, text } = await renderMetrics();
        return { body: body(type, text) };
      },
    },
  };
}

function auditLine({ failure, lost, reserveLeft }: Audit): string {
  const reserve =
    reserveLeft === null ? "" : `, ${reserveLeft} octets of the reserve are left for changes`;
  const state = failure === null ? "ok" : `cannot be written (${failure})${reserve}`;
  return `audit: ${state}${lost > 0 ? `, ${lost} records lost` : ""}\n`;
}

/** Why no token is known, or null. */
function accessObstacle(access: AppOptions["access"]): string | null {
  if (access === null || access.state.loaded) return null;
  const { stopped } = access.state;
  return stopped === null
    ? "access control is not loaded yet"
    : `access control cannot be loaded: ${stopped}`;
}

function accessLine(access: AppOptions["access"]): string {
  if (access === null || access.state.stopped === null) return "";
  const { loaded, stopped } = access.state;
  const inForce = loaded ? "what was read before stays in force" : "no token is known";
  return `access_control: changes stopped, ${inForce}: ${stopped}; see /v1/acl/state-conflict\n`;
}

/** How this replica stands, a line each. */
function describe({ status }: CaManager, facts: ReturnType<AppOptions["facts"]>): string {
  const { role, term, index, stalenessMs, clockOffsetMs, clockAlarm, stopped, live, notes } =
    status;
  const lines: (readonly [string, string | number])[] = [
    ["role", role],
    ["term", term],
    ["index", index],
    ["staleness_ms", stalenessMs ?? "unknown"],
    ["clock_offset_ms", Math.round(clockOffsetMs)],
    ["replicas", live.length],
  ];
  if (clockAlarm)
    lines.push([
      "alarm",
      "all replicas have another time than the store: its clock is off, and nothing is changed",
    ]);
  lines.push(...facts);
  if (stopped !== null)
    lines.push([
      "conflict",
      `the store lost writes: ${stopped}; see /v1/connect/ca/state-conflict`,
    ]);
  for (const note of notes) lines.push(["provider", note]);
  return lines.map(([name, value]) => `${name}: ${value}\n`).join("");
}
