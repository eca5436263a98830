/**
 * The Vault provider: the root is in the PKI engine of Vault or OpenBao. Leaves are signed there, or
 * here by an intermediate whose key is sealed with the CA's state.
 * @module
 */
import type {
  CollectRequest,
  GarbageCollector,
  ProviderContext,
  ProviderType,
} from "../../src/core/ports/provider.ts";
import type { ProviderState } from "../../src/core/state.ts";
import { prepare, renew, requestIntermediate } from "./change.ts";
import { VAULT_SECRET_FIELDS } from "./config.ts";
import { openConfig, parseSent, type SentVaultConfig } from "./config-secrets.ts";
import { type Connect, type VaultProviderOptions, withClient } from "./context.ts";
import { collectGarbage } from "./garbage.ts";
import { openProvider } from "./opened.ts";
import { readState, supersededBy, writeState } from "./vault-state.ts";

/** Makes the Vault provider's type. */
export function createVaultProvider(options: VaultProviderOptions): ProviderType<SentVaultConfig> {
  const { connect } = options;
  return {
    name: "vault",
    rootName: "Vault CA Primary Cert",
    secretFields: VAULT_SECRET_FIELDS,
    parse: parseSent,
    prepare: (config, request, context) => prepare(connect, config, request, context),
    renew: (config, request, context) => renew(connect, config, request, context),
    requestIntermediate: (config, request, context) =>
      requestIntermediate(connect, config, request, context),
    open: (config, state, root, context) => openProvider(options, config, state, root, context),
    // Whether a root can be rotated depends on who made it, which only its state shows.
    rotateObstacle: () => null,
    issuerOf: (state) => readState(state).intermediate.certificate,
    garbage: garbageCollector(connect),
  };
}

function garbageCollector(connect: Connect): GarbageCollector<SentVaultConfig> {
  return {
    dueAt(state) {
      const dates = readState(state).superseded.map(({ after }) => after.getTime());
      return dates.length === 0 ? null : new Date(Math.min(...dates));
    },
    collect: (config, request, context) => collect(connect, config, request, context),
    garbageOf(state, after) {
      const vault = readState(state);
      const superseded = supersededBy(vault, after);
      if (superseded.length === 0) return null;
      const intermediate = { ...vault.intermediate, issuerId: null, keyId: null };
      const { secrets } = state;
      return {
        ...(secrets === undefined ? {} : { secrets }),
        facts: writeState({ ...vault, intermediate, superseded }),
      };
    },
  };
}

async function collect(
  connect: Connect,
  stored: SentVaultConfig,
  { state, others, now, requireLease }: CollectRequest,
  context: ProviderContext,
): Promise<ProviderState> {
  const config = await openConfig(stored, state, context);
  const vault = readState(state);
  const options = { clusterId: context.clusterId, now, requireLease };
  const superseded = await withClient(connect, config.connection, (api) =>
    collectGarbage(api, vault, others.map(readState), options),
  );
  return { ...state, facts: writeState({ ...vault, superseded }) };
}
