/**
 * The Vault provider: the root is in the PKI engine of Vault or OpenBao. Leaves are signed there, or
 * here by an intermediate whose key is sealed with the CA's state.
 * @module
 */
import type { ProviderType } from "../../src/core/ports/provider.ts";
import { prepare, renew, requestIntermediate } from "./change.ts";
import { VAULT_ROOT_FIELDS, VAULT_SECRET_FIELDS } from "./config.ts";
import { loginPurpose, parseSent, type SentVaultConfig } from "./config-secrets.ts";
import type { VaultProviderOptions } from "./context.ts";
import { garbageCollector } from "./garbage.ts";
import { purposeOf } from "./intermediate.ts";
import { openProvider } from "./opened.ts";
import { rotationObstacle } from "./plan.ts";
import { lent, readState, writeState } from "./vault-state.ts";

/** Makes the Vault provider's type. */
export function createVaultProvider(options: VaultProviderOptions): ProviderType<SentVaultConfig> {
  const { connect } = options;
  return {
    name: "vault",
    rootName: "Vault CA Primary Cert",
    secretFields: VAULT_SECRET_FIELDS,
    rootFields: VAULT_ROOT_FIELDS,
    parse: parseSent,
    prepare: (config, request, context) => prepare(connect, config, request, context),
    renew: (config, request, context) => renew(connect, config, request, context),
    requestIntermediate: (config, request, context) =>
      requestIntermediate(connect, config, request, context),
    open: (config, state, root, context) => openProvider(options, config, state, root, context),
    // Whether a root can be rotated depends on who made it, which only its state shows.
    rotateObstacle: (_, state) => (state === null ? null : rotationObstacle(readState(state))),
    issuerOf: (state) => readState(state).intermediate.certificate,
    handOver: (state) => ({ ...state, facts: writeState(lent(readState(state))) }),
    sealedPurposes: (state, _, clusterId) => ({
      secrets: loginPurpose(clusterId),
      key: purposeOf(readState(state).intermediate.certificate.key, clusterId),
    }),
    garbage: garbageCollector(connect),
  };
}
