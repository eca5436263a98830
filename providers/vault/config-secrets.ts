/**
 * The secrets of a configuration: they are sealed in the provider's state, and read "hidden"
 * everywhere else. A hidden secret is used only for the server, namespace and login that it was
 * given for.
 * @module
 */
import { fromUtf8, utf8 } from "../../src/core/bytes.ts";
import { foldedName, mapSecrets } from "../../src/core/ca/config-fields.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { ProviderContext } from "../../src/core/ports/provider.ts";
import type { SealPurpose } from "../../src/core/ports/sealer.ts";
import { type ConfigMap, HIDDEN, type ProviderState } from "../../src/core/state.ts";
import { parseVaultConfig, VAULT_SECRET_FIELDS, type VaultConfig } from "./config.ts";
import { readState } from "./vault-state.ts";

/** Secrets by the path to them: `Token`, `AuthMethod.Params.secret_id`. */
export type Secrets = Readonly<Record<string, string>>;

/** A parsed configuration with the map that it was parsed from, in which secrets may be hidden. */
export interface SentVaultConfig extends VaultConfig {
  readonly sent: ConfigMap;
}

/** A configuration with its secrets, and the part of the provider's state that keeps them. */
interface ResolvedConfig {
  readonly config: VaultConfig;
  /** `secrets`, sealed; empty without secrets. */
  readonly sealed: ProviderState;
}

/** @throws {ConfigError} with every fault */
export function parseSent(
  sent: ConfigMap | null,
  datacenter: "primary" | "secondary" = "primary",
): SentVaultConfig {
  return { ...parseVaultConfig(sent, datacenter === "primary"), sent: sent ?? {} };
}

/** A stored configuration with its secrets. @throws {SealError} */
export async function openConfig(
  { sent }: SentVaultConfig,
  state: ProviderState,
  context: ProviderContext,
): Promise<VaultConfig> {
  const filled = withSecrets(sent, await openSecrets(state, context));
  return parseVaultConfig(filled, readState(state).root !== null);
}

/**
 * A new configuration with its secrets, the hidden ones from the previous configuration.
 * @throws {ConfigError} if a hidden secret would go to another server than it was given for
 * @throws {SealError}
 */
export async function resolveConfig(
  { sent }: SentVaultConfig,
  previous: { readonly config: SentVaultConfig; readonly state: ProviderState } | null,
  context: ProviderContext,
  datacenter: "primary" | "secondary",
): Promise<ResolvedConfig> {
  const kept = previous === null ? {} : await openSecrets(previous.state, context);
  if (previous !== null) requireSameDestination(sent, previous.config.sent, kept);
  const filled = withSecrets(sent, kept);
  const config = parseVaultConfig(filled, datacenter === "primary");
  const secrets = secretsOf(filled);
  if (Object.keys(secrets).length === 0) return { config, sealed: {} };
  const text = JSON.stringify(secrets);
  // Unchanged secrets stay as they are sealed, so that an unchanged state stays equal.
  if (previous?.state.secrets !== undefined && JSON.stringify(kept) === text)
    return { config, sealed: { secrets: previous.state.secrets } };
  const { sealer, clusterId } = context;
  return {
    config,
    sealed: { secrets: await sealer.sealSecret(utf8(text), loginPurpose(clusterId)) },
  };
}

/** For what the secrets of a configuration are encrypted. */
export function loginPurpose(clusterId: string): SealPurpose {
  return { clusterId, purpose: "vault-login", id: "vault" };
}

async function openSecrets(
  { secrets }: ProviderState,
  { sealer, clusterId }: ProviderContext,
): Promise<Secrets> {
  if (secrets === undefined) return {};
  const bytes = await sealer.openSecret(secrets, loginPurpose(clusterId));
  try {
    return JSON.parse(fromUtf8(bytes)) as Secrets;
  } finally {
    bytes.fill(0);
  }
}

/** A copy in which each secret is replaced. @param replace takes its path as `Secrets` has it. */
function replaceSecrets(
  config: ConfigMap,
  replace: (path: string, value: string) => string,
): ConfigMap {
  return mapSecrets(config, VAULT_SECRET_FIELDS, (name, value) => {
    const path = VAULT_SECRET_FIELDS.find((known) => foldedName(known) === foldedName(name));
    // A number or a boolean is decoded as text.
    const isText = ["string", "number", "boolean"].includes(typeof value);
    return isText ? replace(path ?? name, String(value)) : value;
  });
}

/** The secrets of a configuration that are not hidden. */
export function secretsOf(config: ConfigMap): Secrets {
  const found: Record<string, string> = {};
  replaceSecrets(config, (path, value) => {
    if (value !== HIDDEN) found[path] = value;
    return value;
  });
  return found;
}

/**
 * The configuration with its secrets in place of "hidden".
 * @throws {ConfigError} if one is not stored
 */
export function withSecrets(config: ConfigMap, kept: Secrets): ConfigMap {
  return replaceSecrets(config, (path, value) => {
    if (value !== HIDDEN) return value;
    const secret = kept[path];
    if (secret === undefined)
      throw new ConfigError(
        `${path} is "hidden", which keeps the stored value, but none is stored: send the value itself`,
      );
    return secret;
  });
}

/** The fields that decide who sees a secret: the receiver, its verification, and the login. */
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

/** The namespaces of calls with the token, by the field that names each. */
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

/** The first field by which a secret would be sent elsewhere than before, or null. */
function changedDestination(next: VaultConfig, before: VaultConfig): string | null {
  const [to, from] = [destinationOf(next), destinationOf(before)];
  for (const field of new Set([...to.keys(), ...from.keys()]))
    if (to.get(field) !== from.get(field)) return field;
  const known = [...namespacesOf(before).values()];
  for (const [field, namespace] of namespacesOf(next)) if (!known.includes(namespace)) return field;
  return null;
}

/** A secret that names a user: the role that a secret_id belongs to. */
const ROLE_ID = "AuthMethod.Params.role_id";

/** Whether a hidden secret would log in as another role. */
function changesRole(hidden: readonly string[], sent: Secrets, kept: Secrets): boolean {
  return (
    hidden.some((path) => path !== ROLE_ID) &&
    sent[ROLE_ID] !== undefined &&
    sent[ROLE_ID] !== kept[ROLE_ID]
  );
}

/**
 * Refuses to send a hidden secret to another server, namespace, auth mount or user, or to a server
 * that is verified in another way: a caller who may change the configuration must not learn it.
 * @param kept the stored secrets.
 * @throws {ConfigError} naming the secret and the field that changes
 */
export function requireSameDestination(config: ConfigMap, stored: ConfigMap, kept: Secrets): void {
  const hidden: string[] = [];
  replaceSecrets(config, (path, value) => {
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
