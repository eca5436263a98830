/**
 * The configuration of the built-in provider, as Consul defines it (agent/structs/connect_ca.go), with its
 * messages.
 * @module
 */
import * as v from "valibot";
import { ConfigError, type Violation } from "../../src/core/errors.ts";
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
 * @throws {ConfigError} with every fault, in Consul's order and words
 */
export function parseConsulConfig(config: ConfigMap | null): ConsulConfig {
  const fields = decodeConfig(Fields, config ?? {});
  const privateKey = fields.PrivateKey ?? "";
  const rootCert = fields.RootCert ?? "";
  const faults: Violation[] = [];
  if (rootCert !== "" && privateKey === "")
    faults.push({
      field: "RootCert",
      message: "must provide a private key when providing a root cert",
    });
  const common = readCommon(fields, faults);
  if (faults.length > 0)
    throw new ConfigError(faults.map(({ message }) => message).join("; "), faults);
  return { ...common, privateKey, rootCert };
}
