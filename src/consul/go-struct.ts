/**
 * Decodes JSON objects as Go's encoding/json decodes them into structs: names in any case, unknown
 * names refused, type errors with Go's texts.
 * @module
 */
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

/** Checks a value that is not null for a field. @throws {RequestError} `request_malformed` */
export type GoField<T extends Json = Json> = (value: Json) => T;

export type GoFields = Readonly<Record<string, GoField>>;

/**
 * A field of Go's struct.
 * @param goName,goTypeName of the field, as Go's errors name them.
 * @param faultOf what else is wrong with a value of the right type, or null. @default nothing
 */
export function goField<T extends Json>(
  goName: string,
  goTypeName: string,
  is: (value: Json) => value is T,
  faultOf: (value: T) => string | null = () => null,
): GoField<T> {
  return (value) => {
    if (!is(value)) {
      // encoding/json adds a number that is out of range.
      const literal = goTypeName === "uint64" && goKind(value) === "number" ? ` ${value}` : "";
      throw decodeFailed(
        `json: cannot unmarshal ${goKind(value)}${literal} into Go struct field .${goName} of type ${goTypeName}`,
      );
    }
    const fault = faultOf(value);
    if (fault !== null) throw decodeFailed(fault);
    return value;
  };
}

/** The values of a struct's fields; null for one that is missing or null, which Go leaves as it is. */
type GoStruct<F extends GoFields> = {
  readonly [Name in keyof F]: ReturnType<F[Name]> | null;
};

/**
 * Decodes an object. Its fields are checked in its own order, since Go reports the first fault.
 * @param goName of the struct, as Go's errors name it.
 * @throws {RequestError} `request_malformed`
 */
export function decodeStruct<F extends GoFields>(
  fields: F,
  body: Json,
  goName: string,
): GoStruct<F> {
  if (body === null) throw decodeFailed("null where an object belongs");
  if (!isObject(body))
    throw decodeFailed(`json: cannot unmarshal ${goKind(body)} into Go value of type ${goName}`);
  const names = Object.keys(fields);
  const decoded = Object.fromEntries<Json>(names.map((name) => [name, null]));
  const seen = new Map<string, string>();
  for (const [key, value] of Object.entries(body)) {
    const name = names.find((candidate) => candidate.toLowerCase() === key.toLowerCase());
    const check = name === undefined ? undefined : fields[name];
    if (name === undefined || check === undefined)
      throw decodeFailed(`json: unknown field ${JSON.stringify(key)}`);
    // Go takes the last of two spellings, which hides one of two values that an operator wrote.
    const before = seen.get(name);
    if (before !== undefined)
      throw decodeFailed(
        `json: duplicate key ${JSON.stringify(key)}: ${JSON.stringify(before)} is the same field`,
      );
    seen.set(name, key);
    if (value !== null) decoded[name] = check(value);
  }
  return decoded as GoStruct<F>;
}
