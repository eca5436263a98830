/**
 * Routes for monitoring: GET /v1/status/leader, /v1/status/peers, /healthz, /readyz, /metrics.
 * @module
 */
import type { Acl } from "../../core/acl/ports.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { isLocal } from "../client.ts";
import { compressibleBody, json, TEXT } from "../responses.ts";
import type { Call, Route } from "../route.ts";

/** Seconds for Retry-After. */
const RETRY_AFTER = "1";

/** Lines of /readyz, a name and a value each. */
export type ReadinessDetails = () => readonly (readonly [name: string, value: string])[];

/** Renders the metrics for Prometheus, with their media type. */
export type RenderMetrics = () => Promise<{ readonly type: string; readonly text: string }>;

export interface StatusRouteOptions {
  readonly ca: Pick<CertificateAuthority, "leader" | "obstacle" | "status">;
  readonly control: Acl | null;
  readonly audit: Audit | null;
  readonly details: ReadinessDetails;
  readonly server: { readonly loopbackOnly: boolean; readonly behindProxy: boolean };
  /** Null: there is no route /metrics. */
  readonly renderMetrics: RenderMetrics | null;
}

export function statusRoutes(options: StatusRouteOptions): Route[] {
  const { ca, renderMetrics } = options;
  return [
    {
      path: "/v1/status/leader",
      kind: "consul",
      methods: {
        GET: {
          access: "public",
          handle: async (call) => json(call, (await ca.leader()) ?? ""),
        },
      },
    },
    {
      path: "/v1/status/peers",
      kind: "consul",
      methods: {
        GET: {
          access: "public",
          handle: (call) => json(call, ca.status.live.map(({ address }) => address).toSorted()),
        },
      },
    },
    // Alive: the process answers.
    {
      path: "/healthz",
      kind: "operations",
      unlimited: true,
      methods: {
        GET: { access: "public", handle: () => ({ body: compressibleBody(TEXT, "ok\n") }) },
      },
    },
    readyzRoute(options),
    ...(renderMetrics === null ? [] : [metricsRoute(renderMetrics)]),
  ];
}

/** Ready: the CA can sign a leaf now. */
function readyzRoute(options: StatusRouteOptions): Route {
  const { ca, control, audit } = options;
  return {
    path: "/readyz",
    kind: "operations",
    unlimited: true,
    methods: {
      GET: {
        access: "optional",
        handle(call) {
          const obstacle =
            ca.obstacle() ??
            (audit?.stopsSigning === true ? "the audit log cannot be written" : null) ??
            accessObstacle(control);
          const [status, headers] =
            obstacle === null ? [200, {}] : [503, { "Retry-After": RETRY_AFTER }];
          const text = maySeeDetails(call, options)
            ? detailedText(obstacle, options)
            : obstacle === null
              ? "ok\n"
              : "not ready\n";
          return { status, headers, body: compressibleBody(TEXT, text) };
        },
      },
    },
  };
}

function metricsRoute(renderMetrics: RenderMetrics): Route {
  return {
    path: "/metrics",
    kind: "operations",
    unlimited: true,
    methods: {
      GET: {
        access: { resource: "operator", access: "read" },
        async handle() {
          const { type, text } = await renderMetrics();
          return { body: compressibleBody(type, text) };
        },
      },
    },
  };
}

/**
 * Names of roots, addresses of replicas and notes of the provider are for operators: with access
 * control, for callers with operator:read and for those on this machine.
 */
function maySeeDetails(
  { request, environment, authorized }: Call,
  { control, server }: StatusRouteOptions,
): boolean {
  return (
    control === null ||
    authorized?.allows("operator", "read") === true ||
    isLocal(request, environment, server)
  );
}

/** Why no token is valid, or null. */
function accessObstacle(control: Acl | null): string | null {
  if (control === null || control.state.loaded) return null;
  const { stopped } = control.state;
  return stopped === null
    ? "access control is not loaded yet"
    : `access control cannot be loaded: ${stopped}`;
}

function detailedText(
  obstacle: string | null,
  { ca, control, audit, details }: StatusRouteOptions,
): string {
  const lines = [
    ...replicaLines(ca.status, details()),
    ...accessLine(control),
    ...(audit === null ? [] : [auditLine(audit)]),
  ];
  const summary = obstacle === null ? "ok" : `Cannot sign: ${obstacle}`;
  return [summary, ...lines.map(([name, value]) => `${name}: ${value}`), ""].join("\n");
}

type Line = readonly [name: string, value: string | number];

function replicaLines(
  status: CertificateAuthority["status"],
  details: ReturnType<ReadinessDetails>,
): Line[] {
  const { role, term, index, stalenessMs, clockOffsetMs, clockAlarm, stopped, live, notes } =
    status;
  const lines: Line[] = [
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
      "the store's clock differs from the clocks of all replicas: changes are stopped until it is set right, signing is not affected",
    ]);
  lines.push(...details);
  if (stopped !== null)
    lines.push([
      "conflict",
      `the store lost writes: ${stopped}; changes are stopped until an operator decides with PUT /v1/connect/ca/state-conflict, signing is not affected`,
    ]);
  for (const note of notes) lines.push(["provider", note]);
  return lines;
}

function accessLine(control: Acl | null): Line[] {
  if (control === null || control.state.stopped === null) return [];
  const { loaded, stopped } = control.state;
  const inForce = loaded
    ? "the records loaded before stay in force"
    : "no records are loaded and no token is valid";
  return [
    [
      "access_control",
      `changes are stopped, ${inForce}: ${stopped}; decide with PUT /v1/acl/state-conflict`,
    ],
  ];
}

function auditLine({ failure, lost, reserveLeft }: Audit): Line {
  const reserve = reserveLeft === null ? "" : `, ${reserveLeft} octets of reserve left for changes`;
  const state = failure === null ? "ok" : `cannot be written (${failure})${reserve}`;
  return ["audit", `${state}${lost > 0 ? `, ${lost} records lost` : ""}`];
}
