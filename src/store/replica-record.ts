/**
 * The stored form of a replica's heartbeat: JSON, validated when it is read, since other programs
 * can write it.
 * @module
 */
import * as v from "valibot";
import type { Replica } from "../core/ports/replicas.ts";

const Announced = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({
    id: v.string(),
    address: v.string(),
    keks: v.array(v.string()),
    schema: v.number(),
    index: v.number(),
    clockOffsetMs: v.number(),
    // Absent in the heartbeats of earlier versions, and of Workers.
    leaves: v.optional(v.string()),
  }),
);

/** The replica in a text, as a list of one; an empty list if the text is malformed. */
export function readReplica(text: string): Replica[] {
  const result = v.safeParse(Announced, text);
  return result.success ? [result.output] : [];
}
