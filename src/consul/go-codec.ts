/**
 * Between Go structs in JSON and our types: one table of fields decodes as encoding/json does, and
 * encodes in the order of the table.
 * @module
 */
import { decodeFailed, type Json } from "./go-json.ts";
import {
  decodeStruct,
  type GoField,
  type GoFields,
  goString,
  goStructs,
  type JsonObject,
} from "./go-struct.ts";

/** A field of a Go struct. */
interface Field<T> {
  readonly goName: string;
  readonly schema: GoField;
  /** @param value checked; null if the field is missing. @throws {RequestError} */
  decode(value: Json): T;
  /** Undefined: the field is not written. */
  encode(value: T): Json | undefined;
}

/** @param decode,encode between Go's type `J` and ours. */
export const field = <T, J extends Json>(
  goName: string,
  schemaOf: (goName: string) => GoField<J>,
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
  readonly #schemas: GoFields;

  /**
   * @param fields in the order in which they are written.
   * @param ignored fields that are checked and not used.
   */
  constructor(
    goName: string,
    fields: { readonly [Key in keyof T]-?: Field<T[Key]> },
    ignored: GoFields = {},
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

export const text = (name: string) => field(name, goString, (value) => value ?? "", same);
export const optionalText = (name: string) =>
  field(name, goString, (value) => value ?? "", omitEmpty);
export const textOrNull = (name: string) =>
  field(name, goString, (value) => value || null, omitEmpty);
export const texts = (name: string) =>
  field<readonly string[], readonly Json[]>(
    name,
    goStructs,
    (value) => (value ?? []).map((item) => readText(item, name)),
    omitEmpty,
  );
export const structs = <T extends object>(name: string, struct: Struct<T>) =>
  field<readonly T[], readonly Json[]>(
    name,
    goStructs,
    (value) => (value ?? []).map((item) => struct.decode(item)),
    (value) => omitEmpty(value.map((item) => struct.encode(item))),
  );
export const oneOf = <T extends string>(name: string, values: readonly T[], fault: string) =>
  field<T, string>(name, goString, (value) => readOneOf(value, values, fault), same);

function readText(item: Json, name: string): string {
  if (typeof item === "string") return item;
  throw decodeFailed(`json: cannot unmarshal into Go struct field .${name} of type string`);
}

function readOneOf<T extends string>(value: string | null, values: readonly T[], fault: string): T {
  const known = values.find((candidate) => candidate === value);
  if (known === undefined) throw decodeFailed(fault);
  return known;
}
