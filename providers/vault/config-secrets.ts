/**
 * A stored configuration with its secrets: they lie sealed in the provider's state, and read
 * "hidden" everywhere else.
 * @module
 */
import { fromUtf8, utf8 } from "../../src/core/bytes.ts";
import type { ProviderContext } from "../../src/core/ports/provider.ts";
import type { ConfigMap, ProviderState } from "../../src/core/state.ts";
import { parseVaultConfig, type VaultConfig } from "./config.ts";
import { requireSameDestination, type Secrets, secretsOf, withSecrets } from "./secrets.ts";
import { readFacts } from "./vault-state.ts";

const purposeOf = (clusterId: string) => ({ clusterId, purpose: "vault-login", id: "vault" });

async function openSecrets(
  state: ProviderState,
  { sealer, clusterId }: ProviderContext,
): Promise<Secrets> {
  if (state.secrets === undefined) return {};
  const bytes = await sealer.openSecret(state.secrets, purposeOf(clusterId));
  try {
    return JSON.parse(fromUtf8(bytes)) as Secrets;
  } finally {
    bytes.fill(0);
  }
}

/** A parsed configuration with the map that it was parsed from, in which secrets may read "hidden". */
export interface SentVaultConfig extends VaultConfig {
  readonly sent: ConfigMap;
}

/** @throws {ConfigError} with every fault */
export function parseSent(
  sent: ConfigMap | null,
  datacenter: "primary" | "secondary" = "primary",
): SentVaultConfig {
  return { ...parseVaultConfig(sent, datacenter === "primary"), sent: sent ?? {} };
}

/** A stored configuration, secrets included. @throws {SealError} */
export async function configOf(
  { sent }: SentVaultConfig,
  state: ProviderState,
  context: ProviderContext,
): Promise<VaultConfig> {
  const filled = withSecrets(sent, await openSecrets(state, context));
  return parseVaultConfig(filled, readFacts(state).root !== null);
}

export interface Settled {
  readonly config: VaultConfig;
  /** What is kept of its secrets, sealed: `secrets`, or nothing. */
  readonly sealed: ProviderState;
}

/**
 * A configuration as it was sent, with what it keeps of the one before.
 * @param primary whether this datacenter has the root.
 * @throws {ConfigError} where a secret would go to another server than it was given for @throws
 * {SealError}
 */
export async function settle(
  { sent }: SentVaultConfig,
  previous: { readonly config: SentVaultConfig; readonly state: ProviderState } | null,
  context: ProviderContext,
  primary: boolean,
): Promise<Settled> {
  const kept = previous === null ? {} : await openSecrets(previous.state, context);
  if (previous !== null) requireSameDestination(sent, previous.config.sent, kept);
  const filled = withSecrets(sent, kept);
  const [config, secrets] = [parseVaultConfig(filled, primary), secretsOf(filled)];
  if (Object.keys(secrets).length === 0) return { config, sealed: {} };
  const text = JSON.stringify(secrets);
  // The same secrets stay as they are sealed, so that nothing changes where nothing changed.
  if (previous?.state.secrets !== undefined && JSON.stringify(kept) === text)
    return { config, sealed: { secrets: previous.state.secrets } };
  return {
    config,
    sealed: { secrets: await context.sealer.sealSecret(utf8(text), purposeOf(context.clusterId)) },
  };
}
