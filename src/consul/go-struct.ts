/**
 * Decodes JSON objects as Go's encoding/json decodes them into structs: names in any case, unknown
 * names refused, type errors with Go's texts.
 * @module
 */
import * as v from "valibot";
import { decodeFailed, goKind, type Json } from "./go-json.ts";

export type JsonObject = { readonly [key: string]: Json };

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isU64 = (value: unknown) =>
  typeof value === "bigint"
    ? value >= 0n && value < 2n ** 64n
    : typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

/** Checks the value of a field that is not null. */
export type GoField<T extends Json = Json> = v.GenericSchema<unknown, T>;
export type GoFields = Readonly<Record<string, GoField>>;

/** encoding/json's error for a value of another type. */
function typeError(goName: string, goTypeName: string) {
  return ({ input }: { readonly input: unknown }) => {
    const kind = goKind(input as Json);
    // encoding/json adds a number that is out of range.
    const literal = goTypeName === "uint64" && kind === "number" ? ` ${input}` : "";
    return `json: cannot unmarshal ${kind}${literal} into Go struct field .${goName} of type ${goTypeName}`;
  };
}

// Fields by their type. Each takes the name of the field as Go's errors have it.
export const goAny = () => v.custom<Json>(() => true);
export const goString = (name: string) => v.string(typeError(name, "string"));
export const goBool = (name: string) => v.boolean(typeError(name, "bool"));
export const goUint64 = (name: string) =>
  v.custom<number | bigint>(isU64, typeError(name, "uint64"));
export const goStructs = (name: string) =>
  v.custom<readonly Json[]>(Array.isArray, typeError(name, "[]struct"));
export const goMap = (name: string, type = "map[string]interface {}") =>
  v.custom<JsonObject>(isObject, typeError(name, type));

/** The values of a struct's fields; null for one that is missing or null, which Go leaves as it is. */
type GoStruct<F extends GoFields> = {
  readonly [Name in keyof F]: v.InferOutput<F[Name]> | null;
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
    const schema = name === undefined ? undefined : fields[name];
    if (name === undefined || schema === undefined)
      throw decodeFailed(`json: unknown field ${JSON.stringify(key)}`);
    // Go takes the last of two spellings, which hides one of two values that an operator wrote.
    const before = seen.get(name);
    if (before !== undefined)
      throw decodeFailed(
        `json: duplicate key ${JSON.stringify(key)}: ${JSON.stringify(before)} is the same field`,
      );
    seen.set(name, key);
    if (value === null) continue;
    const checked = v.safeParse(schema, value);
    if (!checked.success) throw decodeFailed(checked.issues[0].message);
    decoded[name] = checked.output;
  }
  return decoded as GoStruct<F>;
}
