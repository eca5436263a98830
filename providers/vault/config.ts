/**
 * The configuration of the Vault provider, as Consul defines it (agent/connect/ca/provider_vault.go,
 * ParseVaultCAConfig), and of Vault Transit.
 * @module
 */
import * as v from "valibot";
import { requireDistinctFields } from "../../src/core/ca/config-fields.ts";
import type { CommonConfig } from "../../src/core/ports/provider.ts";
import type { ConfigMap } from "../../src/core/state.ts";
import type { CaKeySpec } from "../../src/core/x509/keys.ts";
import {
  bool,
  COMMON_FIELDS,
  decodeConfig,
  field,
  IGNORED_FIELDS,
  readCommon,
  text,
} from "../common-config.ts";
import { Faults } from "../faults.ts";
import { type AuthMethod, readAuthMethod } from "./auth/method.ts";

/** Where an engine is mounted, or a path below it. */
export interface Mount {
  /** Without a slash at either end. */
  readonly path: string;
  /** Absolute; empty: the root namespace. */
  readonly namespace: string;
}

/** How to reach Vault, and how to log in. */
export interface VaultConnection {
  /** An origin: scheme, host and port. */
  readonly address: string;
  readonly login:
    | { readonly kind: "token"; readonly token: string }
    | { readonly kind: "file"; readonly path: string }
    | { readonly kind: "method"; readonly method: AuthMethod };
  /** The namespace of the login, and of mounts without one; empty: the root namespace. */
  readonly namespace: string;
  readonly tls: {
    readonly caFile: string;
    readonly caPath: string;
    readonly certFile: string;
    readonly keyFile: string;
    readonly serverName: string;
    readonly skipVerify: boolean;
  };
}

export interface VaultConfig extends CommonConfig {
  readonly connection: VaultConnection;
  /** Null in a secondary datacenter without one. */
  readonly root: Mount | null;
  readonly intermediate: Mount;
  readonly keySpec: CaKeySpec;
  /** Whether Vault signs each leaf, or an intermediate whose key is here. */
  readonly leafSigning: "vault" | "local";
}

const CONNECTION_FIELDS = {
  Address: field(text),
  Token: field(text),
  TokenFile: field(text),
  AuthMethod: v.optional(v.unknown()),
  Namespace: field(text),
  CAFile: field(text),
  CAPath: field(text),
  CertFile: field(text),
  KeyFile: field(text),
  TLSServerName: field(text),
  TLSSkipVerify: field(bool),
};

const ConnectionFields = v.object(CONNECTION_FIELDS);

const Fields = v.object({
  ...COMMON_FIELDS,
  ...CONNECTION_FIELDS,
  RootPKIPath: field(text),
  RootPKINamespace: field(text),
  IntermediatePKIPath: field(text),
  IntermediatePKINamespace: field(text),
  LeafSigning: field(text),
  ...IGNORED_FIELDS,
});

const TransitFields = v.object({
  ...CONNECTION_FIELDS,
  TransitPath: field(text),
  TransitKey: field(text),
});

/** The fields, which configuration files name in snake_case. */
export const VAULT_CONFIG_NAMES: readonly string[] = Object.keys(Fields.entries);

/** The fields that name the server, the login, the mounts, and the keys in them. */
export const VAULT_ROOT_FIELDS: readonly string[] = [
  ...Object.keys(CONNECTION_FIELDS),
  ...["RootPKIPath", "RootPKINamespace", "IntermediatePKIPath", "IntermediatePKINamespace"],
  ...["LeafSigning", "PrivateKeyType", "PrivateKeyBits"],
];

/** The fields that are never shown, by the path to them. */
export const VAULT_SECRET_FIELDS: readonly string[] = [
  "Token",
  ...["role_id", "secret_id", "jwt", "password"].map((name) => `AuthMethod.Params.${name}`),
];

/**
 * Reads a configuration.
 * @param primary whether this datacenter has the root, so that its mount is required.
 * @throws {ConfigError} with every fault
 */
export function parseVaultConfig(config: ConfigMap | null, primary = true): VaultConfig {
  const fields = decodeConfig(Fields, snakeless(config ?? {}, VAULT_CONFIG_NAMES));
  const faults = new Faults();
  const connection = readConnection(fields, faults);
  const { namespace } = connection;
  const mount = (path: string | undefined, own: string | undefined, name: string): Mount => ({
    path: readMountPath(path ?? "", `${name}Path`, faults),
    namespace: own ? readPath(own, `${name}Namespace`, faults) : namespace,
  });
  const root = mount(fields.RootPKIPath, fields.RootPKINamespace, "RootPKI");
  const intermediate = mount(
    fields.IntermediatePKIPath,
    fields.IntermediatePKINamespace,
    "IntermediatePKI",
  );
  faults.refuse(
    primary && root.path === "",
    "RootPKIPath",
    "must provide a valid path to a root PKI backend",
  );
  faults.refuse(
    intermediate.path === "",
    "IntermediatePKIPath",
    "must provide a valid path for the intermediate PKI backend",
  );
  faults.refuse(
    intermediate.path !== "" &&
      root.path === intermediate.path &&
      root.namespace === intermediate.namespace,
    "IntermediatePKIPath",
    "IntermediatePKIPath must not be the path of the root's mount, which would sign leaves itself",
  );
  const leafSigning = fields.LeafSigning ?? "";
  faults.refuse(
    !["", "vault", "local"].includes(leafSigning),
    "LeafSigning",
    'LeafSigning must be "vault" or "local"',
  );
  const common = readCommon(fields, faults);
  faults.throwIfAny();
  return {
    ...common,
    connection,
    root: root.path === "" ? null : root,
    intermediate,
    leafSigning: leafSigning === "local" ? "local" : "vault",
  };
}

interface TransitConfig {
  readonly connection: VaultConnection;
  readonly mount: Mount;
  readonly key: string;
}

/** Reads the configuration of Vault Transit. @throws {ConfigError} with every fault */
export function parseTransitConfig(config: ConfigMap): TransitConfig {
  requireDistinctFields(config);
  const fields = decodeConfig(TransitFields, snakeless(config, Object.keys(TransitFields.entries)));
  const faults = new Faults();
  const connection = readConnection(fields, faults);
  const path = readMountPath(fields.TransitPath ?? "transit", "TransitPath", faults);
  const key = fields.TransitKey ?? "";
  faults.refuse(
    !/^[A-Za-z0-9_.-]+$/.test(key),
    "TransitKey",
    "TransitKey must be the name of a key of the Transit engine: letters, digits, _, - and .",
  );
  faults.throwIfAny();
  return { connection, mount: { path, namespace: connection.namespace }, key };
}

function readConnection(
  fields: v.InferOutput<typeof ConnectionFields>,
  faults: Faults,
): VaultConnection {
  const tls = {
    caFile: fields.CAFile ?? "",
    caPath: fields.CAPath ?? "",
    certFile: fields.CertFile ?? "",
    keyFile: fields.KeyFile ?? "",
    serverName: fields.TLSServerName ?? "",
    skipVerify: fields.TLSSkipVerify ?? false,
  };
  faults.refuse(
    (tls.certFile === "") !== (tls.keyFile === ""),
    "CertFile",
    "CertFile and KeyFile go together",
  );
  faults.refuse(
    tls.caFile !== "" && tls.caPath !== "",
    "CAPath",
    "CAFile and CAPath exclude each other",
  );
  faults.refuse(
    !/^[A-Za-z0-9_.:-]*$/.test(tls.serverName),
    "TLSServerName",
    "TLSServerName must be a host name",
  );
  const login = readLogin(fields, faults);
  if (login.kind === "method" && login.method.type === "cert")
    faults.refuse(tls.certFile === "", "CertFile", "AuthMethod cert needs CertFile and KeyFile");
  return {
    address: readAddress(fields.Address ?? "", faults),
    login,
    namespace: readPath(fields.Namespace ?? "", "Namespace", faults),
    tls,
  };
}

/** Exactly one of a token, its file and an auth method. */
function readLogin(
  fields: v.InferOutput<typeof ConnectionFields>,
  faults: Faults,
): VaultConnection["login"] {
  const { Token: token = "", TokenFile: file = "", AuthMethod: method } = fields;
  const hasMethod = method !== undefined && method !== null;
  const given = [token !== "", file !== "", hasMethod].filter(Boolean).length;
  faults.refuse(
    given === 0,
    "Token",
    "must provide a Vault token or configure a Vault auth method",
  );
  faults.refuse(
    given > 1,
    "Token",
    token !== "" && hasMethod
      ? "only one of Vault token or Vault auth method can be provided, but not both"
      : "only one of Token, TokenFile and AuthMethod can be provided",
  );
  // It becomes a header.
  faults.refuse(
    !/^[\x21-\x7e]*$/.test(token),
    "Token",
    "Token must be printable characters without blanks",
  );
  if (hasMethod) return { kind: "method", method: readAuthMethod(method, faults) };
  return file === "" ? { kind: "token", token } : { kind: "file", path: file };
}

function readAddress(text: string, faults: Faults): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) {
    faults.refuse(
      true,
      "Address",
      "Address must be a URL of Vault, for example https://vault.example.com:8200",
    );
    return "";
  }
  faults.refuse(
    url.username !== "" ||
      url.password !== "" ||
      url.hash !== "" ||
      url.search !== "" ||
      url.pathname !== "/",
    "Address",
    "Address must have no user, password, path, query or fragment",
  );
  return url.origin;
}

/** The path of a mount, without slashes at its ends. */
function readMountPath(path: string, name: string, faults: Faults): string {
  const plain = readPath(path, name, faults);
  faults.refuse(
    /^(?:sys|auth|identity|cubbyhole)(?:\/|$)/.test(plain),
    name,
    `${name} must not be one of Vault's own paths`,
  );
  return plain;
}

/** A path or a namespace, without slashes at its ends. */
function readPath(path: string, name: string, faults: Faults): string {
  const plain = path.replace(/^\/|\/$/g, "");
  const isValid = plain.split("/").every((part) => /^(?!\.\.?$)[A-Za-z0-9_.~@:-]+$/.test(part));
  faults.refuse(
    plain !== "" && !isValid,
    name,
    `${name} must be segments of letters, digits, -, _, ., ~, @ and : between single slashes`,
  );
  return plain;
}

/** Replaces field names in snake_case, which configuration files have, by their usual form. */
function snakeless(config: ConfigMap, names: readonly string[]): ConfigMap {
  const known = (key: string) =>
    names.find(
      (name) => key.includes("_") && name.toLowerCase() === key.replaceAll("_", "").toLowerCase(),
    );
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [known(key) ?? key, value]),
  );
}
