/**
 * Durations in settings, in Go's form.
 * @module
 */
import * as v from "valibot";
import { parseDuration } from "../consul/duration.ts";
import { FormatError } from "../core/errors.ts";

/** A duration in milliseconds, within bounds that `what` names. */
export const duration = (min: number, max: number, what: string) =>
  v.pipe(
    v.string(),
    v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
      try {
        const ms = parseDuration(value);
        if (ms >= min && ms <= max) return ms;
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
      addIssue({ message: `must be a duration ${what}` });
      return NEVER;
    }),
  );
