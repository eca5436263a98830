/**
 * The answer of GET /v1/status/datacenter, which `meshca status` and `meshca doctor` read. Fields that
 * a later version adds are ignored.
 * @module
 */
import * as v from "valibot";
import type { Connection } from "./connection/connection.ts";

const instant = v.pipe(v.string(), v.isoTimestamp());

const DatacenterStatus = v.object({
  Datacenter: v.string(),
  Others: v.array(v.string()),
  Primary: v.nullable(
    v.object({
      Datacenter: v.string(),
      Asked: v.boolean(),
      LastContact: v.nullable(instant),
      Index: v.nullable(v.number()),
      FollowedIndex: v.nullable(v.number()),
      ClockOffsetMs: v.nullable(v.number()),
      Fault: v.nullable(v.object({ Code: v.string(), Reason: v.string(), Since: instant })),
    }),
  ),
  OtherPrimary: v.optional(
    v.nullable(v.object({ Datacenter: v.string(), Promotions: v.number(), By: v.string() })),
    null,
  ),
  PreparedRoot: v.optional(v.nullable(v.object({ ID: v.string(), ActivateAt: instant })), null),
  Intermediate: v.nullable(
    v.object({
      ID: v.string(),
      NotBefore: instant,
      NotAfter: instant,
      Delay: v.nullable(v.picklist(["overdue", "urgent"])),
    }),
  ),
  Intermediates: v.object({ Unexpired: v.number(), FirstNotAfter: v.nullable(instant) }),
});
export type DatacenterStatus = v.InferOutput<typeof DatacenterStatus>;

/** @throws {HttpFailure} if the server refuses it, or is too old @throws {Failure} */
export function fetchDatacenterStatus(connection: Connection): Promise<DatacenterStatus> {
  return connection.json(DatacenterStatus, { method: "GET", path: "/v1/status/datacenter" });
}
