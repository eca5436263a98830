/**
 * What a replica saw last, in its data folder, in the form of the store: keys sealed, the whole under a MAC.
 * @module
 */
import * as v from "valibot";
import { SealError, StoreError } from "../core/errors.ts";
import type { Recollection } from "../core/recollection.ts";
import type { Codec } from "./codec.ts";

/** A text that is kept over a restart. */
export interface Kept {
  /** Null where nothing was written yet. @throws {Error} */
  read(): string | null;
  /** Replaces it at once and as a whole. @throws {Error} */
  write(text: string): Promise<void>;
  /** Where it is, for an operator. */
  readonly name: string;
}

/** A file of a version that did not keep `confirmedAt` is read as one of an unknown instant. */
const Seen = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    term: v.number(),
    document: v.string(),
    confirmedAt: v.optional(
      v.nullable(
        v.pipe(
          v.string(),
          v.isoTimestamp(),
          v.transform((text) => new Date(text)),
        ),
      ),
      null,
    ),
  }),
);

export function createRecollection(codec: Codec, kept: Kept): Recollection {
  return {
    async load() {
      const text = kept.read();
      if (text === null) return null;
      const seen = v.safeParse(Seen, text);
      if (!seen.success)
        throw new StoreError(
          "state_corrupt",
          `Cannot trust ${kept.name}, where this replica keeps what it saw last: it is malformed. Remove it to go by the store alone`,
        );
      const state = await codec.decode(seen.output.document).catch((error: unknown) => {
        const says = (reason: string, wayOut: string) =>
          `Cannot read ${kept.name}, where this replica keeps what it saw last: ${reason}. ${wayOut} to go by the store alone`;
        if (error instanceof SealError)
          throw new SealError(error.code, says(error.message, "Give that key too, or remove the file"), { cause: error });
        if (error instanceof StoreError) throw new StoreError(error.code, says(error.message, "Remove the file"), { cause: error });
        throw error;
      });
      return { state, term: seen.output.term, confirmedAt: seen.output.confirmedAt };
    },
    async save({ state, term, confirmedAt }) {
      await kept.write(JSON.stringify({ term, document: await codec.encode(state), confirmedAt: confirmedAt?.toISOString() ?? null }));
    },
  };
}
