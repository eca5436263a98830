/**
 * Decodes JSON objects as Go decodes them into structs: names in any case, unknown ones refused,
 * type errors in Go's words. valibot holds the shape; Go's words hang on its issues.
 * @module
 */
import * as v from "valibot";
import { decodeFailed, goKind, type Json } from "./go-json.ts";

export type JsonObject = { readonly [key: string]: Json };

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
export const isString = (value: Json): value is string => typeof value === "string";
export const isBoolean = (value: Json): value is boolean => typeof value === "boolean";
export const isU64 = (value: Json): value is number | bigint =>
  typeof value === "bigint"
    ? value >= 0n && value < 2n ** 64n
    : typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

/**
 * A field of Go's struct: null leaves it as it is, another type is an error that names field and
 * type.
 * @param faultOf what else is wrong with a value of the right type, or null. @default nothing
 */
export const goField = <T extends Json>(
  goName: string,
  goTypeName: string,
  is: (value: Json) => value is T,
  faultOf: (value: T) => string | null = () => null,
): v.GenericSchema<unknown, T | null> =>
  v.pipe(
    v.unknown(),
    v.rawTransform<unknown, T | null>(({ dataset, addIssue, NEVER }) => {
      const value = dataset.value as Json | undefined;
      if (value === undefined || value === null) return null;
      if (is(value)) {
        const message = faultOf(value);
        if (message === null) return value;
        addIssue({ message });
        return NEVER;
      }
      // encoding/json adds the literal where a number has the right kind and the wrong range.
      const literal = goTypeName === "uint64" && goKind(value) === "number" ? ` ${value}` : "";
      addIssue({
        message: `json: cannot unmarshal ${goKind(value)}${literal} into Go struct field .${goName} of type ${goTypeName}`,
      });
      return NEVER;
    }),
  );

/**
 * Finds each field by its name in any case and checks it, in the order of the body, since Go
 * reports its first fault.
 */
export function decodeStruct(
  fields: Readonly<Record<string, v.GenericSchema>>,
  body: Json,
  goName: string,
): Record<string, Json> {
  if (body === null) throw decodeFailed("null where an object belongs");
  if (!isObject(body))
    throw decodeFailed(`json: cannot unmarshal ${goKind(body)} into Go value of type ${goName}`);
  const named: Record<string, Json> = Object.fromEntries(
    Object.keys(fields).map((name) => [name, null]),
  );
  const seen = new Map<string, string>();
  for (const [key, value] of Object.entries(body)) {
    const name = Object.keys(fields).find(
      (candidate) => candidate.toLowerCase() === key.toLowerCase(),
    );
    if (name === undefined) throw decodeFailed(`json: unknown field ${JSON.stringify(key)}`);
    // Go lets the last of two spellings win, which hides one of two values that an operator wrote.
    const before = seen.get(name);
    if (before !== undefined)
      throw decodeFailed(
        `json: duplicate key ${JSON.stringify(key)}: ${JSON.stringify(before)} is the same field`,
      );
    seen.set(name, key);
    const checked = v.safeParse(fields[name] as v.GenericSchema, value);
    if (!checked.success) throw decodeFailed(checked.issues[0].message);
    named[name] = value;
  }
  return named;
}
