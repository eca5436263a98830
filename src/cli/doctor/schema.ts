/**
 * The answers of a server that `meshca doctor` reads: GET /v1/status/diagnosis and GET
 * /v1/connect/ca/rewrap. Fields that a later version adds are ignored.
 * @module
 */
import * as v from "valibot";

const instant = v.pipe(v.string(), v.isoTimestamp());

const lookedAt = <T extends v.GenericSchema>(value: T) =>
  v.object({ Value: v.nullable(value), Error: v.nullable(v.string()) });

const Store = v.object({
  Kind: v.string(),
  Mode: v.nullable(v.string()),
  /** Servers of older versions leave it out. */
  Prefix: v.optional(v.nullable(v.string())),
  WaitReplicas: v.number(),
  Servers: v.array(
    v.object({
      AppendOnly: v.boolean(),
      Failing: v.array(v.string()),
      EvictionPolicy: v.string(),
      MemoryUsed: v.number(),
      MemoryLimit: v.number(),
      Replicas: v.number(),
      RequiresReplicas: v.boolean(),
    }),
  ),
});

const Provider = v.object({
  Token: v.object({
    Renewable: v.boolean(),
    ExpirationTime: v.nullable(instant),
    Failure: v.nullable(v.string()),
    Replaced: v.boolean(),
  }),
  MissingPermissions: v.nullable(
    v.array(
      v.object({
        Namespace: v.string(),
        Path: v.string(),
        Capabilities: v.array(v.string()),
        Purpose: v.string(),
        Rotation: v.boolean(),
      }),
    ),
  ),
  LowLimits: v.array(
    v.object({
      Path: v.string(),
      Field: v.string(),
      LimitSeconds: v.number(),
      NeededSeconds: v.number(),
    }),
  ),
  UnreadMounts: v.array(v.string()),
});

export const Diagnosis = v.object({
  Version: v.string(),
  Time: instant,
  Loopback: v.boolean(),
  Store: lookedAt(Store),
  State: v.nullable(v.object({ Index: v.number(), ActiveRootID: v.string() })),
  LastBackup: lookedAt(v.object({ Time: instant, Index: v.number(), ActiveRootID: v.string() })),
  Replication: v.optional(lookedAt(v.object({ Allowed: v.boolean() })), {
    Value: null,
    Error: "the server is of an earlier version",
  }),
  Provider: lookedAt(Provider),
  ACL: v.object({
    Mode: v.string(),
    Tokens: v.nullable(
      v.object({
        AnonymousRights: v.array(v.string()),
        InitialManagement: v.nullable(v.string()),
        Management: v.array(v.string()),
        Unlimited: v.number(),
        Total: v.number(),
      }),
    ),
  }),
  Files: v.nullable(
    v.array(
      v.object({
        Path: v.string(),
        Setting: v.string(),
        Kind: v.string(),
        Mode: v.nullable(v.string()),
        FreeBytes: v.nullable(v.number()),
      }),
    ),
  ),
});
export type Diagnosis = v.InferOutput<typeof Diagnosis>;

export const KekUse = v.object({
  Current: v.nullable(v.string()),
  InUse: v.array(v.string()),
  Replicas: v.array(v.object({ Address: v.string(), KEKs: v.array(v.string()) })),
});
export type KekUse = v.InferOutput<typeof KekUse>;
