/**
 * Schemas of values that several settings have: durations, whole numbers, names of files.
 * @module
 */
import * as v from "valibot";
import { parseDuration } from "../consul/duration.ts";
import { readOrNull } from "../core/errors.ts";

/** A text that `parse` reads; it returns null for a text that it cannot read. */
export const parsed = <T>(parse: (text: string) => T | null, message: string) =>
  v.pipe(
    v.string(message),
    v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
      const result = parse(value);
      if (result !== null) return result;
      addIssue({ message });
      return NEVER;
    }),
  );

/** Milliseconds of a duration in Go's form; null if it is malformed or out of bounds. */
export function durationWithin(text: string, min: number, max: number): number | null {
  const ms = readOrNull(() => parseDuration(text));
  return ms !== null && ms >= min && ms <= max ? ms : null;
}

/** A duration in milliseconds. @param bounds the bounds in words. */
export const duration = (min: number, max: number, bounds: string) =>
  parsed((text) => durationWithin(text, min, max), `must be a duration ${bounds}`);

/** @param digits the most digits, with leading zeros. */
export const wholeNumber = (min: number, max: number, digits = 10) =>
  parsed((text) => {
    const number = /^\d+$/.test(text) && text.length <= digits ? Number(text) : Number.NaN;
    return number >= min && number <= max ? number : null;
  }, `must be a whole number from ${min} to ${max}`);

export const fileName = v.pipe(v.string("must name a file"), v.nonEmpty("must name a file"));

/** The parts of a text between commas and blanks. */
export const listOf = (text: string): string[] =>
  text.split(/[\s,]+/).filter((part) => part !== "");

/** The SHA-256 of a root's DER: 64 hexadecimal digits in lower case. */
export const rootPin = parsed((text) => {
  const hex = text
    .replace(/^sha256:/i, "")
    .replaceAll(":", "")
    .toLowerCase();
  return /^[0-9a-f]{64}$/.test(hex) ? hex : null;
}, "must be the SHA-256 of a root's DER: 64 hexadecimal digits, with or without colons");
