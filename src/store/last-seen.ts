/**
 * What a replica saw last, in its data folder, in the form of the store: keys sealed, the whole
 * under a MAC.
 * @module
 */
import * as v from "valibot";
import { utf8 } from "../core/bytes.ts";
import { SealError, StoreError } from "../core/errors.ts";
import type { AccessRecollection, Recollection } from "../core/ports/last-seen.ts";
import type { Sealer } from "../core/ports/sealer.ts";
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
          throw new SealError(
            error.code,
            says(error.message, "Give that key too, or remove the file"),
            { cause: error },
          );
        if (error instanceof StoreError)
          throw new StoreError(error.code, says(error.message, "Remove the file"), {
            cause: error,
          });
        throw error;
      });
      return { state, term: seen.output.term, confirmedAt: seen.output.confirmedAt };
    },
    async save({ state, term, confirmedAt }) {
      await kept.write(
        JSON.stringify({
          term,
          document: await codec.encode(state),
          confirmedAt: confirmedAt?.toISOString() ?? null,
        }),
      );
    },
  };
}

const SeenAccess = v.pipe(
  v.string(),
  v.parseJson(),
  v.strictObject({
    clusterId: v.string(),
    index: v.pipe(v.number(), v.safeInteger()),
    tip: v.string(),
    mac: v.string(),
  }),
);

/**
 * Which write of access control this replica saw last, in its data folder, under a MAC of the
 * key-encryption key.
 */
export function createAccessRecollection(
  sealer: Pick<Sealer, "mac" | "verifyMac">,
  kept: Kept,
): AccessRecollection {
  const macInput = (clusterId: string, index: number, tip: string) =>
    utf8(JSON.stringify(["meshca access seen", 1, clusterId, index, tip]));
  const unreadable = (reason: string) =>
    `Cannot trust ${kept.name}, where this replica keeps which access control it saw last: ${reason}`;
  return {
    async load(clusterId) {
      const text = kept.read();
      if (text === null) return null;
      const seen = v.safeParse(SeenAccess, text);
      if (!seen.success)
        throw new StoreError(
          "state_corrupt",
          `${unreadable("it is malformed")}. Remove it to go by the store`,
        );
      const { index, tip, mac, clusterId: of } = seen.output;
      const ours = await sealer.verifyMac(macInput(of, index, tip), mac).catch((error: unknown) => {
        if (!(error instanceof SealError)) throw error;
        throw new SealError(
          error.code,
          `${unreadable(error.message)}. Give that key too, or remove the file to go by the store`,
          {
            cause: error,
          },
        );
      });
      if (!ours)
        throw new StoreError(
          "state_corrupt",
          `${unreadable("its MAC is wrong")}. Remove it to go by the store`,
        );
      return of === clusterId ? { index, tip } : null;
    },
    async save(clusterId, { index, tip }) {
      const mac = await sealer.mac(macInput(clusterId, index, tip));
      await kept.write(
        JSON.stringify({ clusterId, index, tip, mac } satisfies v.InferOutput<typeof SeenAccess>),
      );
    },
  };
}
