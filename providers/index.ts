/**
 * Every provider that there is, by wire name.
 * @module
 */
import type { ProviderTypes } from "../src/core/provider.ts";
import { consulProvider } from "./consul/provider.ts";

export const providers: ProviderTypes = new Map([[consulProvider.name, consulProvider]]);
