/**
 * What the steps of a change in Vault share.
 * @module
 */
import type { Clock, Random } from "../../src/core/ports/clock.ts";
import type { ResourceOwner } from "../../src/core/ports/provider.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import type { ClusterIdentity } from "../../src/core/spiffe/trust-domain.ts";
import { type VaultPlatform, WarningLog } from "./client.ts";
import type { VaultConnection } from "./config.ts";
import { PkiApi } from "./pki-api.ts";

/** Opens a client; it calls nothing before its first use. */
export type Connect = (connection: VaultConnection) => PkiApi;

export interface VaultProviderOptions {
  readonly connect: Connect;
  readonly clock: Clock;
}

export function createConnect(platform: VaultPlatform): Connect {
  const warnings = new WarningLog(platform.log);
  return (connection) => new PkiApi(connection, platform, warnings);
}

/** Runs work with a client of its own, and revokes the token that it logged in for. */
export async function withClient<T>(
  connect: Connect,
  connection: VaultConnection,
  work: (api: PkiApi) => Promise<T>,
): Promise<T> {
  const api = connect(connection);
  try {
    return await work(api);
  } finally {
    // One that cannot be revoked expires.
    await api.revoke().catch(() => undefined);
    api.close();
  }
}

export interface ChangeContext extends ClusterIdentity, ResourceOwner {
  readonly api: PkiApi;
  readonly sealer: Sealer;
  readonly random: Random;
  /** The store's clock. */
  readonly now: Date;
  /**
   * Registers a compensating action before its resource is created. It runs with a client that is
   * open then.
   */
  readonly onRollback: (compensation: (later: PkiApi) => Promise<void>) => void;
  /** Takes a warning for the operator. */
  readonly warn: (warning: string) => void;
}
