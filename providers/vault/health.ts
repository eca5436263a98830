/**
 * The health of an opened Vault provider: whether leaves can be signed, and what an operator should
 * know and do.
 * @module
 */
import type { ProviderHealth } from "../../src/core/ports/provider.ts";
import { blocksSigning, type Outage } from "./circuit-breaker.ts";
import type { VaultConfig } from "./config.ts";
import type { TokenStatus } from "./token-renewer.ts";
import type { VaultState } from "./vault-state.ts";

/** What probes, inspections and leaves have shown. */
export interface Findings {
  /** Of the files of the configuration, a line each. */
  readonly fileFaults: readonly string[];
  /** Since when Vault cuts the lifetime of leaves. */
  readonly cutSince: Date | null;
  readonly rootLostSince: Date | null;
}

export function healthOf(
  findings: Findings & { readonly outage: Outage | null; readonly token: TokenStatus },
  config: VaultConfig,
  { intermediate }: VaultState,
  now: Date,
): ProviderHealth {
  const { outage, token, fileFaults, cutSince, rootLostSince } = findings;
  const expiry = intermediate.certificate.notAfter.toISOString();
  const isLocal = config.leafSigning === "local";
  const obstacle =
    outage !== null && !isLocal && blocksSigning(outage, now)
      ? `${outage.error.message}, since ${outage.since.toISOString()}`
      : null;
  const notes = [
    outage === null
      ? null
      : `Vault is unavailable since ${outage.since.toISOString()}: ${outage.error.message}; ${isLocal ? `leaves are signed by a local intermediate until ${expiry}` : "no leaf can be signed"}`,
    tokenNote(token, config),
    ...fileFaults.map((fault) => `Vault: a file of the configuration cannot be used: ${fault}`),
    cutSince === null
      ? null
      : `leaves live shorter than LeafCertTTL since ${cutSince.toISOString()}: the mount ${JSON.stringify(intermediate.mount.path)} or its role leaf-cert in Vault has a lower limit; raise it, or configure a lower LeafCertTTL`,
    rootLostSince === null
      ? null
      : `the root's issuer was deleted from Vault, noticed at ${rootLostSince.toISOString()}: leaves are signed until the intermediate expires at ${expiry}, and it cannot be renewed; PUT /v1/connect/ca/rotate with {"ForceWithoutCrossSigning": true} creates another root`,
  ];
  return {
    obstacle,
    notes: notes.filter((note) => note !== null),
    unavailable: outage !== null,
  };
}

function tokenNote({ failure, renewable, expiresAt }: TokenStatus, config: VaultConfig) {
  const expiry = expiresAt?.toISOString();
  if (failure !== null)
    return `Vault: the token cannot be renewed since ${failure.since.toISOString()}: ${failure.message}${expiry === undefined ? "" : `; it expires at ${expiry}`}`;
  return expiry !== undefined && !renewable && config.connection.login.kind !== "method"
    ? `Vault: the token is not renewable; it expires at ${expiry}; configure another one before`
    : null;
}
