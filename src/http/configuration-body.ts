/**
 * Decodes the bodies of configuration changes and rotations as Consul does.
 * @module
 */
import { type Json, sortKeys } from "../consul/go-json.ts";
import * as go from "../consul/go-struct.ts";
import type { ConfigurationRequest } from "../core/ca/plan-change.ts";
import type { RotationRequest } from "../core/ca/plan-root.ts";

const Configuration = {
  Provider: go.string(".Alias.Provider"),
  Config: go.map(".Alias.Config"),
  State: go.map(".Alias.State", "map[string]string"),
  ForceWithoutCrossSigning: go.bool(".Alias.ForceWithoutCrossSigning"),
  force_without_cross_signing: go.bool("force_without_cross_signing"),
  CreateIndex: go.uint64(".Alias.RaftIndex.CreateIndex"),
  ModifyIndex: go.uint64(".Alias.RaftIndex.ModifyIndex"),
};

const Rotation = {
  ForceWithoutCrossSigning: go.bool("ForceWithoutCrossSigning"),
  ModifyIndex: go.uint64("ModifyIndex"),
};

/** The struct of Consul's CAConfiguration.UnmarshalJSON (agent/structs/connect_ca.go). */
const GO_STRUCT =
  'struct { ForceWithoutCrossSigningSnake bool "json:\\"force_without_cross_signing\\""; *structs.Alias }';

/** @throws {RequestError} `request_malformed` */
export function decodeConfiguration(body: Json): ConfigurationRequest {
  const fields = go.decodeStruct(Configuration, body, GO_STRUCT);
  return {
    provider: fields.Provider ?? "",
    // Integers beyond a JS number become floats, as in Go.
    config: fields.Config === null ? null : (sortKeys(fields.Config) as go.JsonObject),
    state: fields.State,
    forceWithoutCrossSigning:
      (fields.ForceWithoutCrossSigning ?? false) || (fields.force_without_cross_signing ?? false),
    modifyIndex: fields.ModifyIndex === null ? null : BigInt(fields.ModifyIndex),
  };
}

/** @throws {RequestError} `request_malformed` */
export function decodeRotation(body: Json): RotationRequest {
  const fields = go.decodeStruct(Rotation, body, "rotation");
  return {
    forceWithoutCrossSigning: fields.ForceWithoutCrossSigning ?? false,
    modifyIndex: fields.ModifyIndex === null ? null : BigInt(fields.ModifyIndex),
  };
}
