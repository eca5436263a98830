/**
 * Decodes the bodies of configuration changes, rotations, rollbacks, drops and promotions, as Consul does its own.
 * @module
 */

import { parseDuration } from "../consul/duration.ts";
import { type Json, sortKeys } from "../consul/go-json.ts";
import * as go from "../consul/go-struct.ts";
import type { ConfigurationRequest } from "../core/ca/plan-change.ts";
import type { DropRequest } from "../core/ca/plan-drop.ts";
import type { PromotionRoot } from "../core/ca/plan-promotion.ts";
import type { RollbackRequest } from "../core/ca/plan-rollback.ts";
import type { RotationRequest } from "../core/ca/plan-root.ts";
import { RequestError, readOrNull } from "../core/errors.ts";

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

const Rollback = { ...Rotation, To: go.string("To") };

const Drop = {
  ...Rotation,
  ID: go.string("ID"),
  NewRoot: go.bool("NewRoot"),
  AlsoThrough: go.bool("AlsoThrough"),
};

const Promotion = {
  ...Rotation,
  Backup: go.string("Backup"),
  NewRoot: go.bool("NewRoot"),
  Soak: go.string("Soak"),
};

/**
 * For how long a new root is published before it signs. A blocked query is answered at once, and a
 * client that is between two asks again within seconds; longer than that is for clients that poll.
 */
const DEFAULT_SOAK = "10m";
/** Seven days, in milliseconds. */
const MAX_SOAK_MS = 604_800_000;

/** SHA-1 in colon hex. */
const ROOT_ID = /^[0-9a-f]{2}(?::[0-9a-f]{2}){19}$/i;

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
  return rotationOf(go.decodeStruct(Rotation, body, "rotation"));
}

/** What rotations, rollbacks, drops and promotions have in common. */
function rotationOf({
  ForceWithoutCrossSigning: force,
  ModifyIndex: modifyIndex,
}: {
  readonly ForceWithoutCrossSigning: boolean | null;
  readonly ModifyIndex: number | bigint | null;
}): RotationRequest {
  return {
    forceWithoutCrossSigning: force ?? false,
    modifyIndex: modifyIndex === null ? null : BigInt(modifyIndex),
  };
}

/** @throws {RequestError} `request_malformed` */
export function decodeRollback(body: Json): RollbackRequest {
  const fields = go.decodeStruct(Rollback, body, "rollback");
  const { To: to } = fields;
  if (to === null || !ROOT_ID.test(to))
    throw new RequestError(
      "request_malformed",
      "Cannot roll back: To must be the ID of the retired root, 20 octets in hex with colons, as GET /v1/connect/ca/roots lists it",
    );
  return { to: to.toLowerCase(), ...rotationOf(fields) };
}

/**
 * @param id of the path, which the body repeats: no request drops a root by a mistake in its path.
 * @throws {RequestError} `request_malformed`
 */
export function decodeDrop(body: Json, id: string): DropRequest {
  const fields = go.decodeStruct(Drop, body, "drop");
  if (fields.ID?.toLowerCase() !== id.toLowerCase())
    throw new RequestError(
      "request_malformed",
      `Cannot drop a root: ID of the body must be that of the path, ${JSON.stringify(id)}, and is ${fields.ID === null ? "missing" : JSON.stringify(fields.ID)}`,
    );
  return {
    id: id.toLowerCase(),
    newRoot: fields.NewRoot ?? false,
    alsoThrough: fields.AlsoThrough ?? false,
    ...rotationOf(fields),
  };
}

/** What a body asks for, with the backup as text. */
export interface PromotionBody extends RotationRequest {
  readonly root:
    | { readonly kind: "backup"; readonly text: string }
    | Exclude<PromotionRoot, { readonly kind: "backup" }>;
}

/** @throws {RequestError} `request_malformed` */
export function decodePromotion(body: Json): PromotionBody {
  const fields = go.decodeStruct(Promotion, body, "promotion");
  const { Backup: text, NewRoot: isNew, Soak: soak } = fields;
  const refuse = (message: string) => new RequestError("request_malformed", message);
  if (text !== null && isNew === true)
    throw refuse("Cannot promote: Backup and NewRoot are both given, and name different roots");
  if (soak !== null && isNew !== true)
    throw refuse(
      "Cannot promote: Soak is given without NewRoot; only a new root is published first",
    );
  const root =
    text !== null
      ? ({ kind: "backup", text } as const)
      : isNew === true
        ? ({ kind: "new", soakMs: soakMs(soak ?? DEFAULT_SOAK) } as const)
        : ({ kind: "own" } as const);
  return { root, ...rotationOf(fields) };
}

function soakMs(text: string): number {
  const ms = readOrNull(() => parseDuration(text));
  if (ms === null || ms < 0 || ms > MAX_SOAK_MS)
    throw new RequestError(
      "request_malformed",
      "Cannot promote: Soak must be a duration from 0 to 168h, such as 10m",
    );
  return ms;
}
