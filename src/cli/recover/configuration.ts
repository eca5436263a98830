/**
 * The configuration with which the built-in provider takes a root and its key.
 * @module
 */
import { CONSUL_CONFIG_NAMES } from "../../../providers/consul/config.ts";
import { foldedName } from "../../core/ca/config-fields.ts";
import type { CaConfig } from "../commands/connect/ca-config.ts";

/** The built-in provider. */
export const BUILT_IN = "consul";

export interface NextConfiguration {
  readonly config: CaConfig;
  /** Fields of the present configuration that the built-in provider does not have. */
  readonly dropped: readonly string[];
}

/**
 * The present configuration with another root: every setting that the built-in provider has stays,
 * and the change is refused if the configuration was changed since it was read.
 * @param rootCert @param privateKey in PEM
 */
export function nextConfiguration(
  present: CaConfig,
  rootCert: string,
  privateKey: string,
): NextConfiguration {
  const own = new Set(CONSUL_CONFIG_NAMES.map(foldedName));
  const replaced = new Set(["PrivateKey", "RootCert"].map(foldedName));
  const { Config } = present;
  const fields = typeof Config === "object" && Config !== null ? Object.entries(Config) : [];
  const kept = fields.filter(([name]) => {
    const folded = foldedName(name);
    return own.has(folded) && !replaced.has(folded);
  });
  return {
    config: {
      ...present,
      Provider: BUILT_IN,
      // The state of another provider is of no use to this one.
      State: present.Provider === BUILT_IN ? (present.State ?? null) : null,
      Config: { ...Object.fromEntries(kept), RootCert: rootCert, PrivateKey: privateKey },
    },
    dropped: fields.map(([name]) => name).filter((name) => !own.has(foldedName(name))),
  };
}
