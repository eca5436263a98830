/**
 * The providers, by wire name.
 * @module
 */
import type { ProviderTypes } from "../src/core/ports/provider.ts";
import { consulProvider } from "./consul/provider.ts";
import type { VaultProviderOptions } from "./vault/context.ts";
import { createVaultProvider } from "./vault/provider.ts";

/** Those that need nothing from the runtime. */
export const providers: ProviderTypes = new Map([[consulProvider.name, consulProvider]]);

/** All providers. */
export function createProviders(vault: VaultProviderOptions): ProviderTypes {
  const vaultProvider = createVaultProvider(vault);
  return new Map([...providers, [vaultProvider.name, vaultProvider]]);
}
