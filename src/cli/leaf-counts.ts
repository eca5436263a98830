/**
 * The answer of GET /v1/connect/ca/leaves, which `meshca status` reads. Fields that a later version
 * adds are ignored.
 * @module
 */
import * as v from "valibot";
import type { Connection } from "./connection/connection.ts";

const instant = v.pipe(v.string(), v.isoTimestamp());

const LeafCounts = v.object({
  Counting: v.boolean(),
  CompleteSince: v.nullable(instant),
  LowerBound: v.boolean(),
  Roots: v.array(v.object({ ID: v.string(), Leaves: v.number(), Until: instant })),
});
export type LeafCounts = v.InferOutput<typeof LeafCounts>;

/** @throws {HttpFailure} if the server refuses it, or is too old @throws {Failure} */
export function fetchLeafCounts(connection: Connection): Promise<LeafCounts> {
  return connection.json(LeafCounts, { method: "GET", path: "/v1/connect/ca/leaves" });
}
