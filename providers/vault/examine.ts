/**
 * Looks at Vault for an operator: what the token is not allowed to do of all that meshca does while a
 * configuration is in use, and mounts whose limits are below the configured lifetimes.
 * @module
 */
import type { Examination, LifeLimit } from "../../src/core/ports/examination.ts";
import type { Mount, VaultConfig } from "./config.ts";
import { failedBy } from "./errors.ts";
import { missingPermissions, permissionsOf } from "./permissions.ts";
import type { PkiApi } from "./pki-api.ts";
import { type Step, standingSteps } from "./plan.ts";
import type { VaultState } from "./vault-state.ts";

/** @throws {VaultError} */
export async function examineVault(
  api: PkiApi,
  config: VaultConfig,
  state: VaultState,
): Promise<Examination> {
  const { token } = api;
  const { root, intermediate } = state;
  const missing = await missingOf(api, config, state);
  const limits: LifeLimit[] = [];
  const unreadMounts: string[] = [];
  const look = async (mount: Mount, field: LifeLimit["field"], neededMs: number) => {
    const limitMs = await limitOf(api, mount);
    if (limitMs === null) unreadMounts.push(mount.path);
    // Zero: the limit of the server, which only an administrator of Vault can read.
    else if (limitMs > 0 && limitMs < neededMs)
      limits.push({ path: mount.path, field, limitMs, neededMs });
  };
  if (root !== null) await look(root.mount, "IntermediateCertTTL", config.intermediateTtlMs);
  if (intermediate.issuerId !== null)
    await look(intermediate.mount, "LeafCertTTL", config.leafTtlMs);
  const { renewable, expiresAt, failure } = token;
  return {
    token: {
      ...{ renewable, expiresAt },
      failure: failure?.message ?? null,
      isReplaced: config.connection.login.kind === "method",
    },
    missing,
    lowLimits: limits,
    unreadMounts,
  };
}

/** What is done without a change of the configuration, and what a rotation needs of the old root. */
async function missingOf(
  api: PkiApi,
  config: VaultConfig,
  { root }: VaultState,
): Promise<Examination["missing"]> {
  const standing = standingSteps(config, api.token, root === null ? "secondary" : "primary");
  const rotation: readonly Step[] =
    root === null ? [] : [{ kind: "cross-sign", mount: root.mount, issuerId: root.issuerId }];
  const missing = async (steps: readonly Step[], isOfRotation: boolean) =>
    (await missingPermissions(api, steps.flatMap(permissionsOf))).map((one) => ({
      ...one,
      isOfRotation,
    }));
  try {
    return [...(await missing(standing, false)), ...(await missing(rotation, true))];
  } catch (error) {
    if (failedBy(error, "denied")) return null;
    throw error;
  }
}

/** In milliseconds; null if the token may not read it or nothing is mounted. */
async function limitOf(api: PkiApi, mount: Mount): Promise<number | null> {
  try {
    return (await api.readMount(mount))?.maxLeaseTtlMs ?? null;
  } catch (error) {
    if (failedBy(error, "denied")) return null;
    throw error;
  }
}
