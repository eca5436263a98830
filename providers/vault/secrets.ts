/**
 * The secret fields of a configuration: taken out to be sealed, put back to be used.
 * @module
 */
import { foldedName } from "../../src/core/ca/config-names.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { type ConfigMap, HIDDEN } from "../../src/core/state.ts";
import { parseVaultConfig, VAULT_SECRET_FIELDS, type VaultConfig } from "./config.ts";

/** Secrets by the path to them: `Token`, `AuthMethod.Params.secret_id`. */
export type Secrets = Readonly<Record<string, string>>;

type Visit = (path: string, value: string) => string;

/** A copy in which each secret that is there is what `visit` makes of it. */
function mapSecrets(config: ConfigMap, visit: Visit, above: readonly string[] = []): ConfigMap {
  const map = ([key, value]: [string, unknown]): [string, unknown] => {
    const at = [...above, key];
    const under = VAULT_SECRET_FIELDS.filter(
      (path) =>
        path.split(".").slice(0, at.length).map(foldedName).join(".") ===
        at.map(foldedName).join("."),
    );
    const [path] = under;
    if (path === undefined) return [key, value];
    if (path.split(".").length === at.length) {
      // A number or a boolean is decoded as text.
      const isPlain = typeof value === "number" || typeof value === "boolean";
      return [
        key,
        isPlain || (typeof value === "string" && value !== "") ? visit(path, String(value)) : value,
      ];
    }
    return [
      key,
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? mapSecrets(value as ConfigMap, visit, at)
        : value,
    ];
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

/**
 * The configuration with its secrets in place of HIDDEN.
 * @throws {ConfigError} where one is not kept
 */
export function withSecrets(config: ConfigMap, kept: Secrets): ConfigMap {
  return mapSecrets(config, (path, value) => {
    if (value !== HIDDEN) return value;
    const secret = kept[path];
    if (secret === undefined)
      throw new ConfigError(
        `${path} is "hidden", which keeps the stored value, but none is stored: send the value itself`,
      );
    return secret;
  });
}

/**
 * Fields that decide who gets to see a secret: where it is sent, as whom, and how the receiver is
 * verified.
 */
function destinationOf({ connection }: VaultConfig): ReadonlyMap<string, unknown> {
  const { address, login, namespace, tls } = connection;
  const method = login.kind === "method" ? login.method : null;
  const params = Object.entries(method?.params ?? {})
    .map(([name, value]) => [`AuthMethod.Params.${name}`, value] as const)
    .filter(([path]) => !VAULT_SECRET_FIELDS.includes(path));
  return new Map<string, unknown>([
    ["Address", address],
    ["Namespace", namespace],
    ["AuthMethod", login.kind],
    ["TokenFile", login.kind === "file" ? login.path : null],
    ["AuthMethod.Type", method?.type],
    ["AuthMethod.MountPath", method?.mountPath],
    ...params,
    ["TLSServerName", tls.serverName],
    ["TLSSkipVerify", tls.skipVerify],
    ["CAFile", tls.caFile],
    ["CAPath", tls.caPath],
    ["CertFile", tls.certFile],
    ["KeyFile", tls.keyFile],
  ]);
}

/** Namespaces that calls with the token are made in, by the field that names each. */
function namespacesOf({
  connection,
  root,
  intermediate,
}: VaultConfig): ReadonlyMap<string, string> {
  return new Map([
    ["Namespace", connection.namespace],
    ...(root === null ? [] : [["RootPKINamespace", root.namespace] as const]),
    ["IntermediatePKINamespace", intermediate.namespace],
  ]);
}

/** The first field that sends a secret elsewhere than before, or null. */
function changedDestination(next: VaultConfig, before: VaultConfig): string | null {
  const [to, from] = [destinationOf(next), destinationOf(before)];
  for (const field of new Set([...to.keys(), ...from.keys()]))
    if (to.get(field) !== from.get(field)) return field;
  const known = [...namespacesOf(before).values()];
  for (const [field, namespace] of namespacesOf(next)) if (!known.includes(namespace)) return field;
  return null;
}

/** The secret that is a user name: whose secret_id it is. */
const ROLE_ID = "AuthMethod.Params.role_id";

/** Whether a kept secret would log in as somebody else, whose name is sent in clear. */
function changesRole(hidden: readonly string[], sent: Secrets, kept: Secrets): boolean {
  return (
    hidden.some((path) => path !== ROLE_ID) &&
    sent[ROLE_ID] !== undefined &&
    sent[ROLE_ID] !== kept[ROLE_ID]
  );
}

/**
 * Refuses to send a kept secret anywhere but where it was given for: to another server, namespace,
 * auth mount or user, or to a server that is verified in another way. A caller who may change the
 * configuration must not learn it that way.
 * @param kept the stored secrets.
 * @throws {ConfigError} naming the secret and the field that changes
 */
export function requireSameDestination(config: ConfigMap, stored: ConfigMap, kept: Secrets): void {
  const hidden: string[] = [];
  mapSecrets(config, (path, value) => {
    if (value === HIDDEN) hidden.push(path);
    return value;
  });
  if (hidden.length === 0) return;
  const moved = changedDestination(
    parseVaultConfig(config, false),
    parseVaultConfig(stored, false),
  );
  const changed = moved ?? (changesRole(hidden, secretsOf(config), kept) ? ROLE_ID : null);
  if (changed !== null)
    throw new ConfigError(
      `${hidden[0]} is "hidden", which keeps the stored value, but ${changed} changes: send the value itself`,
    );
}
