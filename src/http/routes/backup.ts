/**
 * GET and PUT /v1/connect/ca/backup: the CA as one file with encrypted keys, and restoring it.
 * @module
 */
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import { RequestError, reasonOf, SealError, StoreError } from "../../core/errors.ts";
import type { Audit } from "../../core/ports/audit.ts";
import type { BackupLog, LastBackup } from "../../core/ports/backups.ts";
import type { StateCodec } from "../../core/ports/store.ts";
import type { CaState } from "../../core/state.ts";
import type { AppOptions } from "../options.ts";
import { booleanParam, indexParam, onceParam, queryPairs, rawQuery } from "../query.ts";
import type { BodyReader } from "../request-body.ts";
import { compressibleBody } from "../responses.ts";
import { caRoute, endpoint, type Route } from "../route.ts";
import { changeResponse } from "./configuration.ts";

interface BackupRouteOptions {
  readonly ca: Pick<CertificateAuthority, "require" | "restore">;
  readonly codec: StateCodec;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
  readonly maxBody: number;
  readonly backups: BackupLog;
  readonly runtime: Pick<AppOptions["runtime"], "clock" | "log">;
}

export function backupRoutes(options: BackupRouteOptions): Route[] {
  const { ca, codec, audit, bodies, maxBody } = options;
  return [
    caRoute("/v1/connect/ca/backup", {
      GET: endpoint("operator:write", async ({ caller }) => {
        const { state, active } = ca.require();
        // Recorded as a change is, since it contains every key, though encrypted.
        await audit?.beforeChange({
          caller,
          action: "backup",
          subject: active.id,
          outcome: "allowed",
          code: null,
        });
        const body = compressibleBody("application/octet-stream", await codec.encode(state));
        await record(options, { index: state.index, rootId: active.id });
        const name = `meshca-${state.clusterId}-${state.index}.backup`;
        return {
          secret: true,
          headers: { "Content-Disposition": `attachment; filename="${name}"` },
          body,
        };
      }),
      PUT: endpoint("operator:write", async (call) => {
        const { params } = call.query();
        const forceWithoutCrossSigning = booleanParam(params, "force");
        const pairs = queryPairs(rawQuery(call.request.url));
        // The first of two values would count.
        onceParam(pairs, "force");
        const modifyIndex = indexParam(pairs, "ModifyIndex");
        const sent = await bodies.text(call.request, maxBody);
        const backup = await readBackup(sent, (text) => codec.decode(text));
        const options = { forceWithoutCrossSigning, modifyIndex };
        return changeResponse(call, await ca.restore(backup, options, call.caller));
      }),
    }),
  ];
}

/** @throws {RequestError} `request_malformed` */
export async function readBackup(
  text: string,
  decode: (text: string) => Promise<CaState>,
): Promise<CaState> {
  try {
    return await decode(text);
  } catch (error) {
    if (!(error instanceof StoreError || error instanceof SealError)) throw error;
    const hint =
      error.code === "kek_unknown"
        ? "; add the key that encrypted the backup to MESHCA_KEK of every server, after the present one"
        : "";
    const message = `Cannot read backup: ${error.message}${hint}`;
    throw new RequestError("request_malformed", message, { cause: error });
  }
}

/** A store that is away must not keep an operator from a backup. */
async function record(
  { backups, runtime: { clock, log } }: BackupRouteOptions,
  backup: Omit<LastBackup, "at">,
): Promise<void> {
  try {
    await backups.record({ at: clock.now(), ...backup });
  } catch (error) {
    log.warn("Failed to record the time of a backup; the backup itself was handed out", {
      reason: reasonOf(error),
    });
  }
}
