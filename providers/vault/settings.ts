/**
 * A stored configuration with its secrets: they lie sealed in the provider's state, and read "hidden" everywhere else.
 * @module
 */
import { fromUtf8, utf8 } from "../../src/core/bytes.ts";
import { mapSecrets, plain } from "../../src/core/ca/secrets.ts";
import { type ConfigMap, HIDDEN, type ProviderRecord, type ProviderState } from "../../src/core/ca/state.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { ProviderContext } from "../../src/core/provider.ts";
import { parseVaultConfig, VAULT_SECRET_FIELDS, type VaultConfig } from "./config.ts";

/** By path, as the names are told apart. */
type Secrets = Readonly<Record<string, unknown>>;

const purposeOf = (clusterId: string) => ({ clusterId, purpose: "vault-login", id: "vault" });

async function openSecrets(state: ProviderState, { sealer, clusterId }: ProviderContext): Promise<Secrets> {
  if (state.secrets === undefined) return {};
  const bytes = await sealer.openSecret(state.secrets, purposeOf(clusterId));
  try {
    return JSON.parse(fromUtf8(bytes)) as Secrets;
  } finally {
    bytes.fill(0);
  }
}

function fill(config: ConfigMap | null, secrets: Secrets): ConfigMap {
  return mapSecrets(config ?? {}, VAULT_SECRET_FIELDS, (name, value) => (value === HIDDEN ? secrets[plain(name)] : value));
}

/** The configuration of a record, secrets included. @throws {SealError} */
export async function configOf(record: ProviderRecord, context: ProviderContext): Promise<VaultConfig> {
  return parseVaultConfig(fill(record.config, await openSecrets(record.state, context)));
}

export interface Settled {
  readonly config: VaultConfig;
  /** What is kept of its secrets, sealed: `secrets`, or nothing. */
  readonly sealed: ProviderState;
}

/**
 * A configuration as it was sent, with what it keeps of the one before.
 * @throws {ConfigError} where a secret would go to another server than it was given for @throws {SealError}
 */
export async function settle(config: ConfigMap | null, previous: ProviderRecord | null, context: ProviderContext): Promise<Settled> {
  const kept = previous === null ? {} : await openSecrets(previous.state, context);
  const filled = fill(config, kept);
  const read = parseVaultConfig(filled);
  const secrets: Record<string, unknown> = {};
  let keeps = false;
  mapSecrets(config ?? {}, VAULT_SECRET_FIELDS, (_name, value) => {
    keeps ||= value === HIDDEN;
    return value;
  });
  mapSecrets(filled, VAULT_SECRET_FIELDS, (name, value) => {
    secrets[plain(name)] = value;
    return value;
  });
  if (previous !== null && keeps && parseVaultConfig(fill(previous.config, kept)).connection.address !== read.connection.address)
    throw new ConfigError(
      'error configuring provider: Address changes while Token or a login parameter is "hidden": send the secret itself, so that it goes nowhere unasked',
    );
  if (Object.keys(secrets).length === 0) return { config: read, sealed: {} };
  const text = JSON.stringify(secrets);
  // The same secrets stay as they are sealed, so that nothing changes where nothing changed.
  if (previous?.state.secrets !== undefined && JSON.stringify(kept) === text)
    return { config: read, sealed: { secrets: previous.state.secrets } };
  return { config: read, sealed: { secrets: await context.sealer.sealSecret(utf8(text), purposeOf(context.clusterId)) } };
}
