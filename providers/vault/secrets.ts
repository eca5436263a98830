/**
 * The secret fields of a configuration: taken out to be sealed, put back to be used.
 * @module
 */
import { type ConfigMap, HIDDEN } from "../../src/core/ca/state.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { parseVaultConfig, VAULT_SECRET_FIELDS } from "./config.ts";

/** Secrets by the path to them: `Token`, `AuthMethod.Params.secret_id`. */
export type Secrets = Readonly<Record<string, string>>;

type Visit = (path: string, value: string) => string;

const plain = (key: string) => key.replaceAll("_", "").toLowerCase();

/** A copy in which each secret that is there is what `visit` makes of it. */
function mapSecrets(config: ConfigMap, visit: Visit, above: readonly string[] = []): ConfigMap {
  const map = ([key, value]: [string, unknown]): [string, unknown] => {
    const at = [...above, key];
    const under = VAULT_SECRET_FIELDS.filter(
      (path) => path.split(".").slice(0, at.length).map(plain).join(".") === at.map(plain).join("."),
    );
    const [path] = under;
    if (path === undefined) return [key, value];
    if (path.split(".").length === at.length) return [key, typeof value === "string" && value !== "" ? visit(path, value) : value];
    return [key, typeof value === "object" && value !== null && !Array.isArray(value) ? mapSecrets(value as ConfigMap, visit, at) : value];
  };
  return Object.fromEntries(Object.entries(config).map(map));
}

/** The secrets that a configuration has, those that are HIDDEN not among them. */
export function secretsOf(config: ConfigMap): Secrets {
  const found: Record<string, string> = {};
  mapSecrets(config, (path, value) => {
    if (value !== HIDDEN) found[path] = value;
    return value;
  });
  return found;
}

/** The configuration with its secrets in place of HIDDEN. @throws {ConfigError} where one is not kept */
export function withSecrets(config: ConfigMap, kept: Secrets): ConfigMap {
  return mapSecrets(config, (path, value) => {
    if (value !== HIDDEN) return value;
    const secret = kept[path];
    if (secret === undefined)
      throw new ConfigError(`${path} is "hidden", which keeps the stored value, but none is stored: send the value itself`);
    return secret;
  });
}

/**
 * Refuses to send a secret that is kept to another server, or over a connection that is no longer verified: whoever may
 * change a configuration must not learn it that way.
 * @throws {ConfigError}
 */
export function requireSameServer(config: ConfigMap, stored: ConfigMap): void {
  let hidden: string | null = null;
  mapSecrets(config, (path, value) => {
    if (value === HIDDEN) hidden ??= path;
    return value;
  });
  if (hidden === null) return;
  const [next, before] = [parseVaultConfig(config, false).connection, parseVaultConfig(stored, false).connection];
  const changed = next.address !== before.address ? "Address" : next.tls.skipVerify && !before.tls.skipVerify ? "TLSSkipVerify" : null;
  if (changed !== null)
    throw new ConfigError(`${hidden} is "hidden", which keeps the stored value, but ${changed} changes: send the value itself`);
}
