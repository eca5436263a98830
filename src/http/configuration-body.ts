/**
 * Decodes the bodies of configuration changes as Go would: names in any case, unknown ones refused, type errors in Go's
 * words (consul-ca.md §1.4). valibot holds the shape; Go's words hang on its issues.
 * @module
 */
import * as v from "valibot";
import type { ConfigurationRequest, RotationRequest } from "../core/ca/reconfigure.ts";
import { decodeFailed, goKind, type Json, sortKeys } from "./json.ts";

type JsonObject = { readonly [key: string]: Json };

const isObject = (value: unknown): value is JsonObject => typeof value === "object" && value !== null && !Array.isArray(value);

/** A field of Go's struct: null leaves it as it is, another type is an error that names field and type. */
const goField = <T extends Json>(goName: string, goTypeName: string, is: (value: Json) => value is T): v.GenericSchema<unknown, T | null> =>
  v.pipe(
    v.unknown(),
    v.rawTransform<unknown, T | null>(({ dataset, addIssue, NEVER }) => {
      const value = dataset.value as Json | undefined;
      if (value === undefined || value === null) return null;
      if (is(value)) return value;
      // encoding/json adds the literal where a number has the right kind and the wrong range.
      const literal = goTypeName === "uint64" && goKind(value) === "number" ? ` ${value}` : "";
      addIssue({ message: `json: cannot unmarshal ${goKind(value)}${literal} into Go struct field .${goName} of type ${goTypeName}` });
      return NEVER;
    }),
  );

const isString = (value: Json): value is string => typeof value === "string";
const isBoolean = (value: Json): value is boolean => typeof value === "boolean";
const isU64 = (value: Json): value is number | bigint =>
  typeof value === "bigint" ? value >= 0n && value < 2n ** 64n : typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

const Configuration = {
  Provider: goField("Alias.Provider", "string", isString),
  Config: goField("Alias.Config", "map[string]interface {}", isObject),
  State: goField("Alias.State", "map[string]string", isObject),
  ForceWithoutCrossSigning: goField("Alias.ForceWithoutCrossSigning", "bool", isBoolean),
  force_without_cross_signing: goField("force_without_cross_signing", "bool", isBoolean),
  CreateIndex: goField("Alias.RaftIndex.CreateIndex", "uint64", isU64),
  ModifyIndex: goField("Alias.RaftIndex.ModifyIndex", "uint64", isU64),
};

const Rotation = {
  ForceWithoutCrossSigning: goField("ForceWithoutCrossSigning", "bool", isBoolean),
  ModifyIndex: goField("ModifyIndex", "uint64", isU64),
};

/** What Go calls the struct that it decodes a configuration into. */
const GO_STRUCT = 'struct { ForceWithoutCrossSigningSnake bool "json:\\"force_without_cross_signing\\""; *structs.Alias }';

/** @throws {RequestError} `request_malformed` */
export function decodeConfiguration(body: Json): ConfigurationRequest {
  const fields = v.parse(v.object(Configuration), decode(Configuration, body, GO_STRUCT));
  return {
    provider: fields.Provider ?? "",
    // Integers beyond a JS number become floats, as they do in Go.
    config: fields.Config === null ? null : (sortKeys(fields.Config) as JsonObject),
    state: fields.State,
    forceWithoutCrossSigning: (fields.ForceWithoutCrossSigning ?? false) || (fields.force_without_cross_signing ?? false),
    modifyIndex: fields.ModifyIndex === null ? null : BigInt(fields.ModifyIndex),
  };
}

/** @throws {RequestError} `request_malformed` */
export function decodeRotation(body: Json): RotationRequest {
  const fields = v.parse(v.object(Rotation), decode(Rotation, body, "rotation"));
  return {
    forceWithoutCrossSigning: fields.ForceWithoutCrossSigning ?? false,
    modifyIndex: fields.ModifyIndex === null ? null : BigInt(fields.ModifyIndex),
  };
}

/** Finds each field by its name in any case and checks it, in the order of the body, since Go reports its first fault. */
function decode(fields: Readonly<Record<string, v.GenericSchema>>, body: Json, goName: string): Record<string, Json> {
  if (body === null) throw decodeFailed("null where an object belongs");
  if (!isObject(body)) throw decodeFailed(`json: cannot unmarshal ${goKind(body)} into Go value of type ${goName}`);
  const named: Record<string, Json> = Object.fromEntries(Object.keys(fields).map((name) => [name, null]));
  for (const [key, value] of Object.entries(body)) {
    const name = Object.keys(fields).find((candidate) => candidate.toLowerCase() === key.toLowerCase());
    if (name === undefined) throw decodeFailed(`json: unknown field ${JSON.stringify(key)}`);
    const checked = v.safeParse(fields[name] as v.GenericSchema, value);
    if (!checked.success) throw decodeFailed(checked.issues[0].message);
    named[name] = value;
  }
  return named;
}
