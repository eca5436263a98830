/**
 * Every provider that there is, by wire name.
 * @module
 */
import type { ProviderTypes } from "../src/core/ports/provider.ts";
import { consulProvider } from "./consul/provider.ts";
import { createVaultProvider, type VaultProviderOptions } from "./vault/provider.ts";

/** What needs nothing of its surroundings. */
export const providers: ProviderTypes = new Map([[consulProvider.name, consulProvider]]);

/** All of them. */
export function createProviders(vault: VaultProviderOptions): ProviderTypes {
  const vaultProvider = createVaultProvider(vault);
  return new Map([...providers, [vaultProvider.name, vaultProvider]]);
}
