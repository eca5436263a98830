/**
 * The stored form of what a replica says of itself: JSON, read back through a schema, since anybody
 * may have written it.
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
  }),
);

/** The replica in a text, in a list of its own; an empty one where the text is none of ours. */
export function readReplica(text: string): Replica[] {
  const result = v.safeParse(Announced, text);
  return result.success ? [result.output] : [];
}
