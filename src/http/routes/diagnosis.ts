/**
 * GET /v1/status/diagnosis: what this replica knows of its store, its provider, its files, its access
 * control and its backups, for `meshca doctor` and monitoring. Facts only: the caller judges them.
 * @module
 */
import type { Json } from "../../consul/go-json.ts";
import type { LastBackup } from "../../core/ports/backups.ts";
import type { Examination } from "../../core/ports/examination.ts";
import type { FileFacts } from "../../core/ports/file-facts.ts";
import type { StoreFacts } from "../../core/ports/store-facts.ts";
import { json } from "../responses.ts";
import { consulRoute, endpoint, type Route } from "../route.ts";

/** What could be found, or the reason why it could not. */
export type Found<T> = { readonly value: T } | { readonly error: string };

export interface AccessFacts {
  readonly mode: "off" | "allow" | "deny";
  /** Null without access control, or while its records are not loaded. */
  readonly tokens: {
    /** What a caller without a token may do, `operator:read`; of services as policies name them. */
    readonly anonymous: readonly string[];
    /** Accessor of the initial management token of the settings, or null. */
    readonly initialManagement: string | null;
    /** Accessors of other tokens with all rights that never expire. */
    readonly management: readonly string[];
    /** How many other tokens never expire. */
    readonly unlimited: number;
    readonly total: number;
  } | null;
}

export interface Diagnosis {
  readonly version: string;
  readonly now: Date;
  /** Whether it listens on the loopback interface only. */
  readonly isLoopback: boolean;
  readonly store: Found<StoreFacts>;
  readonly state: { readonly index: number; readonly rootId: string } | null;
  readonly lastBackup: Found<LastBackup | null>;
  /**
   * Whether the primary datacenter signs an intermediate for the replication token; null in a primary
   * one.
   */
  readonly replication: Found<{ readonly isAllowed: boolean } | null>;
  /** Null of a provider without external resources. */
  readonly provider: Found<Examination | null>;
  readonly access: AccessFacts;
  /** Null on a runtime without files. */
  readonly files: readonly FileFacts[] | null;
}

export function diagnosisRoutes(diagnose: () => Promise<Diagnosis>): Route[] {
  return [
    consulRoute("/v1/status/diagnosis", {
      GET: endpoint("operator:read", async (call) => json(call, diagnosisJson(await diagnose()))),
    }),
  ];
}

function diagnosisJson(found: Diagnosis): Json {
  const { version, now, isLoopback, store, state, lastBackup, provider, access, files } = found;
  const { replication } = found;
  return {
    Version: version,
    Time: now.toISOString(),
    Loopback: isLoopback,
    Store: foundJson(store, storeJson),
    State: state === null ? null : { Index: state.index, ActiveRootID: state.rootId },
    LastBackup: foundJson(lastBackup, (backup) =>
      backup === null
        ? null
        : { Time: backup.at.toISOString(), Index: backup.index, ActiveRootID: backup.rootId },
    ),
    Replication: foundJson(replication, (token) =>
      token === null ? null : { Allowed: token.isAllowed },
    ),
    Provider: foundJson(provider, (examined) =>
      examined === null ? null : providerJson(examined),
    ),
    ACL: accessJson(access),
    Files:
      files?.map(({ path, setting, kind, mode, freeBytes }) => ({
        Path: path,
        Setting: setting,
        Kind: kind,
        Mode: mode === null ? null : mode.toString(8).padStart(4, "0"),
        FreeBytes: freeBytes,
      })) ?? null,
  };
}

/** One of Value and Error is null. */
function foundJson<T>(found: Found<T>, jsonOf: (value: T) => Json): Json {
  return "error" in found
    ? { Value: null, Error: found.error }
    : { Value: jsonOf(found.value), Error: null };
}

function storeJson({ kind, mode, prefix, waitReplicas, servers }: StoreFacts): Json {
  return {
    Kind: kind,
    Mode: mode,
    Prefix: prefix,
    WaitReplicas: waitReplicas,
    Servers: servers.map((server) => ({
      AppendOnly: server.appendOnly,
      Failing: server.failing,
      EvictionPolicy: server.evictionPolicy,
      MemoryUsed: server.memoryUsed,
      MemoryLimit: server.memoryLimit,
      Replicas: server.replicas,
      RequiresReplicas: server.requiresReplicas,
    })),
  };
}

function providerJson({ token, missing, lowLimits, unreadMounts }: Examination): Json {
  return {
    Token: {
      Renewable: token.renewable,
      ExpirationTime: token.expiresAt?.toISOString() ?? null,
      Failure: token.failure,
      Replaced: token.isReplaced,
    },
    MissingPermissions:
      missing?.map(({ namespace, path, capabilities, purpose, isOfRotation }) => ({
        Namespace: namespace,
        Path: path,
        Capabilities: capabilities,
        Purpose: purpose,
        Rotation: isOfRotation,
      })) ?? null,
    LowLimits: lowLimits.map(({ path, field, limitMs, neededMs }) => ({
      Path: path,
      Field: field,
      LimitSeconds: Math.floor(limitMs / 1000),
      NeededSeconds: Math.ceil(neededMs / 1000),
    })),
    UnreadMounts: unreadMounts,
  };
}

function accessJson({ mode, tokens }: AccessFacts): Json {
  return {
    Mode: mode,
    Tokens:
      tokens === null
        ? null
        : {
            AnonymousRights: tokens.anonymous,
            InitialManagement: tokens.initialManagement,
            Management: tokens.management,
            Unlimited: tokens.unlimited,
            Total: tokens.total,
          },
  };
}
