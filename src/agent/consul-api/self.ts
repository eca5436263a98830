/**
 * GET /v1/agent/self: what Consul's clients look up of their agent: its datacenter, name and version
 * (Consul's AgentSelf in agent/agent_endpoint.go).
 * @module
 */
import { writeJson } from "../../consul/go-json.ts";
import { parseSpiffeId } from "../../core/spiffe/id.ts";
import { secretOf } from "../../http/request-token.ts";
import { plainBody } from "../../http/responses.ts";
import type { Call, RouteResponse } from "../../http/route.ts";
import type { ConsulApiOptions } from "./options.ts";

/** Consul's name of a datacenter that is not configured (agent/config/default.go). */
const DEFAULT_DATACENTER = "dc1";
/** The state of a member that is alive (Serf's StatusAlive). */
const ALIVE = 1;

/** @throws {AgentRefusal} */
export async function self(call: Call, options: ConsulApiOptions): Promise<RouteResponse> {
  const { rights, nodeName, version } = options;
  const right = { resource: "agent", level: "read", name: nodeName } as const;
  await rights.require(secretOf(call.request), right);
  const datacenter = datacenterOf(options);
  const json = {
    Config: {
      Datacenter: datacenter,
      PrimaryDatacenter: datacenter,
      NodeName: nodeName,
      Server: false,
      Version: version,
    },
    DebugConfig: null,
    Member: { Name: nodeName, Tags: { dc: datacenter, role: "node" }, Status: ALIVE },
    Meta: null,
  };
  return { body: plainBody("application/json", writeJson(json, call.query().pretty)) };
}

/** The configured one, else that of a leaf. */
function datacenterOf({ datacenter, set }: ConsulApiOptions): string {
  if (datacenter !== null) return datacenter;
  for (const { svid } of set.workloads) {
    if (svid.current === null) continue;
    const id = parseSpiffeId(svid.current.spiffeId);
    if (id.kind !== "signing") return id.datacenter;
  }
  return DEFAULT_DATACENTER;
}
