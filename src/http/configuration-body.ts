/**
 * Decodes the bodies of configuration changes and rotations as Consul does.
 * @module
 */
import { type Json, sortKeys } from "../consul/go-json.ts";
import {
  decodeStruct,
  goField,
  isBoolean,
  isObject,
  isString,
  isU64,
  type JsonObject,
} from "../consul/go-struct.ts";
import type { ConfigurationRequest, RotationRequest } from "../core/ca/plan-change.ts";

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

/** The struct of Consul's CAConfiguration.UnmarshalJSON (agent/structs/connect_ca.go). */
const GO_STRUCT =
  'struct { ForceWithoutCrossSigningSnake bool "json:\\"force_without_cross_signing\\""; *structs.Alias }';

/** @throws {RequestError} `request_malformed` */
export function decodeConfiguration(body: Json): ConfigurationRequest {
  const fields = decodeStruct(Configuration, body, GO_STRUCT);
  return {
    provider: fields.Provider ?? "",
    // Integers beyond a JS number become floats, as in Go.
    config: fields.Config === null ? null : (sortKeys(fields.Config) as JsonObject),
    state: fields.State,
    forceWithoutCrossSigning:
      (fields.ForceWithoutCrossSigning ?? false) || (fields.force_without_cross_signing ?? false),
    modifyIndex: fields.ModifyIndex === null ? null : BigInt(fields.ModifyIndex),
  };
}

/** @throws {RequestError} `request_malformed` */
export function decodeRotation(body: Json): RotationRequest {
  const fields = decodeStruct(Rotation, body, "rotation");
  return {
    forceWithoutCrossSigning: fields.ForceWithoutCrossSigning ?? false,
    modifyIndex: fields.ModifyIndex === null ? null : BigInt(fields.ModifyIndex),
  };
}
