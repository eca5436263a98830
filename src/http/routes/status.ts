/**
 * Routes for monitoring: GET /v1/status/leader, /v1/status/peers, /healthz, /readyz, /metrics.
 * @module
 */
import type { Acl } from "../../core/acl/ports.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { isLocal } from "../client.ts";
import type { AppOptions, MetricsOptions, ServerOptions } from "../options.ts";
import { compressibleBody, json, TEXT } from "../responses.ts";
import { type Call, consulRoute, type Endpoint, endpoint, type Route } from "../route.ts";

/** Seconds for Retry-After. */
const RETRY_AFTER = "1";

interface StatusRouteOptions {
  readonly ca: Pick<CertificateAuthority, "leader" | "obstacle" | "status">;
  readonly control: Acl | null;
  readonly audit: Audit | null;
  readonly details: AppOptions["details"];
  readonly server: Pick<ServerOptions, "behindProxy" | "loopbackOnly">;
  readonly renderMetrics: MetricsOptions["render"];
}

export function statusRoutes(options: StatusRouteOptions): Route[] {
  const { ca, renderMetrics } = options;
  const health = endpoint("public", () => ({ body: compressibleBody(TEXT, "ok\n") }));
  return [
    consulRoute("/v1/status/leader", {
      GET: endpoint("public", async (call) => json(call, (await ca.leader()) ?? "")),
    }),
    consulRoute("/v1/status/peers", {
      GET: endpoint("public", (call) =>
        json(call, ca.status.live.map(({ address }) => address).toSorted()),
      ),
    }),
    // Alive: the process answers.
    operationsRoute("/healthz", health),
    operationsRoute("/readyz", readiness(options)),
    ...(renderMetrics === null ? [] : [operationsRoute("/metrics", metrics(renderMetrics))]),
  ];
}

function operationsRoute(path: string, get: Endpoint): Route {
  return { path, kind: "operations", unlimited: true, methods: { GET: get } };
}

/** Ready: the CA can sign a leaf now. */
function readiness(options: StatusRouteOptions): Endpoint {
  const { ca, control, audit } = options;
  return endpoint("optional", (call) => {
    const obstacle = signingObstacle({ ca, control, audit });
    const summary = obstacle === null ? "ok\n" : "not ready\n";
    const text = maySeeDetails(call, options) ? detailedText(obstacle, options) : summary;
    const body = compressibleBody(TEXT, text);
    return obstacle === null
      ? { body }
      : { status: 503, headers: { "Retry-After": RETRY_AFTER }, body };
  });
}

/** Why no leaf can be signed now, or null. */
export function signingObstacle({
  ca,
  control,
  audit,
}: Pick<StatusRouteOptions, "control" | "audit"> & {
  readonly ca: Pick<CertificateAuthority, "obstacle">;
}): string | null {
  return (
    ca.obstacle() ??
    (audit?.stopsSigning === true ? "the audit log cannot be written" : null) ??
    accessObstacle(control)
  );
}

function metrics(render: NonNullable<MetricsOptions["render"]>): Endpoint {
  return endpoint("operator:read", async () => {
    const { type, text } = await render();
    return { body: compressibleBody(type, text) };
  });
}

/**
 * Names of roots, addresses of replicas and notes of the provider are for operators: with access
 * control, for callers with operator:read and for those on this machine.
 */
export function maySeeDetails(
  { request, environment, authorized }: Call,
  { control, server }: Pick<StatusRouteOptions, "control" | "server">,
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
  details: ReturnType<AppOptions["details"]>,
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
