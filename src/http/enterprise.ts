/**
 * Query parameters and headers of Consul Enterprise.
 * @module
 */
import { RequestError } from "../core/errors.ts";
import type { Call } from "./route.ts";

/**
 * Refuses other namespaces and partitions with Consul's texts, in its order (agent/http_ce.go).
 * @throws {RequestError} `request_malformed`
 */
export function refuseEnterprise(call: Call): void {
  const refused = (part: string, name: string, what: string) =>
    new RequestError(
      "request_malformed",
      `Invalid ${part}: ${JSON.stringify(name)} - ${what} are a Consul Enterprise feature`,
    );
  for (const [header, parameter, what] of [
    ["X-Consul-Namespace", "ns", "Namespaces"],
    ["X-Consul-Partition", "partition", "Partitions"],
  ] as const) {
    if (call.header(header)) throw refused("header", header, what);
    if (call.params().get(parameter)) throw refused("query parameter", parameter, what);
  }
}
