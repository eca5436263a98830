/**
 * Go structs in JSON: decodes objects as Go's encoding/json does, with names in any case, unknown
 * names refused and Go's texts of type errors; and encodes them in the order of a table of fields.
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
type Schema<T extends Json = Json> = v.GenericSchema<unknown, T>;
type Schemas = Readonly<Record<string, Schema>>;

/** encoding/json's error for a value of another type. */
function typeError(goName: string, goTypeName: string) {
  return ({ input }: { readonly input: unknown }) => {
    const kind = goKind(input as Json);
    // encoding/json adds a number that is out of range.
    const literal = goTypeName === "uint64" && kind === "number" ? ` ${input}` : "";
    // A field may be named with its struct, as Go does for structs that have a name.
    const field = goName.includes(".") ? goName : `.${goName}`;
    return `json: cannot unmarshal ${kind}${literal} into Go struct field ${field} of type ${goTypeName}`;
  };
}

// Fields by their type. Each takes the name of the field as Go's errors have it.
export const any = () => v.custom<Json>(() => true);
export const string = (name: string) => v.string(typeError(name, "string"));
export const bool = (name: string) => v.boolean(typeError(name, "bool"));
export const uint64 = (name: string) => v.custom<number | bigint>(isU64, typeError(name, "uint64"));
export const list = (name: string) =>
  v.custom<readonly Json[]>(Array.isArray, typeError(name, "[]struct"));
export const map = (name: string, type = "map[string]interface {}") =>
  v.custom<JsonObject>(isObject, typeError(name, type));

/** The values of a struct's fields; null for one that is missing or null, which Go leaves as it is. */
type GoStruct<F extends Schemas> = {
  readonly [Name in keyof F]: v.InferOutput<F[Name]> | null;
};

/**
 * Decodes an object. Its fields are checked in its own order, since Go reports the first fault.
 * @param goName of the struct, as Go's errors name it.
 * @throws {RequestError} `request_malformed`
 */
export function decodeStruct<F extends Schemas>(
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

/** A field of a Go struct. */
interface Field<T> {
  readonly goName: string;
  readonly schema: Schema;
  /** @param value checked; null if the field is missing. @throws {RequestError} */
  decode(value: Json): T;
  /** Undefined: the field is not written. */
  encode(value: T): Json | undefined;
}

/** @param decode,encode between Go's type `J` and ours. */
export const field = <T, J extends Json>(
  goName: string,
  schemaOf: (goName: string) => Schema<J>,
  decode: (value: J | null) => T,
  encode: (value: T) => Json | undefined,
): Field<T> => ({
  goName,
  schema: schemaOf(goName),
  decode: (value) => decode(value as J | null),
  encode,
});

/** Go's omitempty. */
export const omitEmpty = <T extends string | null | readonly Json[]>(value: T) =>
  value === null || value.length === 0 ? undefined : value;
export const same = <T extends Json>(value: T) => value;

/** A Go struct and our type of it. */
export class Struct<T extends object> {
  readonly #goName: string;
  readonly #fields: readonly (readonly [key: string, field: Field<unknown>])[];
  readonly #schemas: Schemas;

  /**
   * @param fields in the order in which they are written.
   * @param ignored fields that are checked and not used.
   */
  constructor(
    goName: string,
    fields: { readonly [Key in keyof T]-?: Field<T[Key]> },
    ignored: Schemas = {},
  ) {
    this.#goName = goName;
    this.#fields = Object.entries<Field<unknown>>(fields);
    const schemas = this.#fields.map(([, { goName: name, schema }]) => [name, schema] as const);
    this.#schemas = { ...Object.fromEntries(schemas), ...ignored };
  }

  /** @throws {RequestError} `request_malformed` with Go's text */
  decode(body: Json): T {
    const values = decodeStruct(this.#schemas, body, this.#goName);
    const decoded = this.#fields.map(
      ([key, { goName, decode }]) => [key, decode(values[goName] ?? null)] as const,
    );
    return Object.fromEntries(decoded) as T;
  }

  encode(value: T): JsonObject {
    const written: Record<string, Json> = {};
    for (const [key, { goName, encode }] of this.#fields) {
      const json = encode(value[key as keyof T]);
      if (json !== undefined) written[goName] = json;
    }
    return written;
  }
}

export const text = (name: string) => field(name, string, (value) => value ?? "", same);
export const optionalText = (name: string) =>
  field(name, string, (value) => value ?? "", omitEmpty);
export const textOrNull = (name: string) =>
  field(name, string, (value) => value || null, omitEmpty);
export const texts = (name: string) =>
  field<readonly string[], readonly Json[]>(
    name,
    list,
    (value) => (value ?? []).map((item) => readText(item, name)),
    omitEmpty,
  );
export const structs = <T extends object>(name: string, struct: Struct<T>) =>
  field<readonly T[], readonly Json[]>(
    name,
    list,
    (value) => (value ?? []).map((item) => struct.decode(item)),
    (value) => omitEmpty(value.map((item) => struct.encode(item))),
  );
export const oneOf = <T extends string>(name: string, values: readonly T[], fault: string) =>
  field<T, string>(name, string, (value) => readOneOf(value, values, fault), same);

function readText(item: Json, name: string): string {
  if (typeof item === "string") return item;
  throw decodeFailed(`json: cannot unmarshal into Go struct field .${name} of type string`);
}

function readOneOf<T extends string>(value: string | null, values: readonly T[], fault: string): T {
  const known = values.find((candidate) => candidate === value);
  if (known === undefined) throw decodeFailed(fault);
  return known;
}
