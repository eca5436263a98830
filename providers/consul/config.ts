/**
 * The configuration of the built-in provider, with Consul's rules and texts
 * (agent/structs/connect_ca.go).
 * @module
 */
import * as v from "valibot";
import type { CommonConfig } from "../../src/core/ports/provider.ts";
import type { ConfigMap } from "../../src/core/state.ts";
import type { CaKeySpec } from "../../src/core/x509/keys.ts";
import {
  COMMON_FIELDS,
  decodeConfig,
  field,
  IGNORED_FIELDS,
  readCommon,
  text,
} from "../common-config.ts";
import { Faults } from "../faults.ts";

export interface ConsulConfig extends CommonConfig {
  readonly keySpec: CaKeySpec;
  /** PEM, HIDDEN, or empty. */
  readonly privateKey: string;
  /** PEM or empty. */
  readonly rootCert: string;
}

/** Every field, by Consul's CamelCase name. */
const Fields = v.object({
  ...COMMON_FIELDS,
  PrivateKey: field(text),
  RootCert: field(text),
  ...IGNORED_FIELDS,
});

/** Files write these names in snake_case. */
export const CONSUL_CONFIG_NAMES: readonly string[] = Object.keys(Fields.entries);

/**
 * Reads a configuration.
 * @param datacenter a secondary one has no root. @default "primary"
 * @throws {ConfigError} with every fault, in Consul's order and words
 */
export function parseConsulConfig(
  config: ConfigMap | null,
  datacenter: "primary" | "secondary" = "primary",
): ConsulConfig {
  const fields = decodeConfig(Fields, config ?? {});
  const privateKey = fields.PrivateKey ?? "";
  const rootCert = fields.RootCert ?? "";
  const faults = new Faults();
  faults.refuse(
    rootCert !== "" && privateKey === "",
    "RootCert",
    "must provide a private key when providing a root cert",
  );
  for (const [name, value] of Object.entries({ PrivateKey: privateKey, RootCert: rootCert }))
    faults.refuse(
      datacenter === "secondary" && value !== "",
      name,
      `${name} belongs into the primary datacenter: a secondary one has no root of its own`,
    );
  const common = readCommon(fields, faults);
  faults.throwIfAny();
  return { ...common, privateKey, rootCert };
}
