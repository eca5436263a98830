/**
 * Auth methods as a configuration has them (vault.md §4), and what each sends to log in. What is a
 * file is read at each login, since anyone who writes it changes it.
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../../../src/core/errors.ts";
import { nearest } from "../../../src/core/nearest.ts";
import { VaultError } from "../errors.ts";

const KUBERNETES_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token";

const string = v.string("must be text");
const given = v.pipe(string, v.nonEmpty("must not be empty"));
/** What becomes a segment of a path. */
const username = v.pipe(
  given,
  v.regex(/^[A-Za-z0-9_.@-]+$/, "must be letters, digits, _, -, . and @"),
);

/**
 * The parameters of each method that is supported; files are named by parameters that end in
 * `path`.
 */
const PARAMS = {
  approle: v.object({
    role_id: v.optional(given),
    secret_id: v.optional(given),
    role_id_file_path: v.optional(given),
    secret_id_file_path: v.optional(given),
  }),
  kubernetes: v.object({ role: given, jwt: v.optional(given), token_path: v.optional(given) }),
  jwt: v.object({ role: given, jwt: v.optional(given), path: v.optional(given) }),
  userpass: v.object({
    username,
    password: v.optional(given),
    password_file_path: v.optional(given),
  }),
  ldap: v.object({ username, password: v.optional(given), password_file_path: v.optional(given) }),
  cert: v.object({ name: v.optional(given) }),
};

type MethodType = keyof typeof PARAMS;

const TYPES = Object.keys(PARAMS) as MethodType[];

export interface AuthMethod {
  readonly type: MethodType;
  /** Without a slash at either end. */
  readonly mountPath: string;
  readonly params: Readonly<Record<string, string>>;
}

/** A parameter that must come from one of two: itself, or a file. */
const SOURCES: Readonly<Record<MethodType, readonly (readonly [value: string, file: string])[]>> = {
  approle: [["role_id", "role_id_file_path"]],
  kubernetes: [],
  jwt: [["jwt", "path"]],
  userpass: [["password", "password_file_path"]],
  ldap: [["password", "password_file_path"]],
  cert: [],
};

/** Reads `AuthMethod`; what is wrong goes to `refuse`, without any value in it. */
export function readAuthMethod(
  value: unknown,
  refuse: (broken: boolean, name: string, message: string) => void,
): AuthMethod {
  const fault = (message: string) => refuse(true, "AuthMethod", `AuthMethod: ${message}`);
  const none: AuthMethod = { type: "cert", mountPath: "cert", params: {} };
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    fault("must be an object with Type, MountPath and Params");
    return none;
  }
  const found = new Map<string, unknown>();
  for (const [key, inner] of Object.entries(value)) {
    const name = ["type", "mountpath", "params"].find(
      (candidate) => candidate === key.replaceAll("_", "").toLowerCase(),
    );
    if (name !== undefined) found.set(name, inner);
    else fault(`unknown key ${JSON.stringify(key)}, ${hint(key, ["Type", "MountPath", "Params"])}`);
  }
  const name = found.get("type");
  const type = TYPES.find((candidate) => candidate === name);
  if (type === undefined) {
    if (name === "token") fault("Type token is not one: use Token or TokenFile");
    else fault(`Type must be one of ${TYPES.join(", ")}`);
    return none;
  }
  const mount = found.get("mountpath") ?? "";
  const mountPath = typeof mount === "string" ? mount.replace(/^\/|\/$/g, "") || type : "";
  if (!mountPath.split("/").every((part) => /^[A-Za-z0-9_~@:-][A-Za-z0-9_.~@:-]*$/.test(part)))
    fault("MountPath must be a path");
  return { type, mountPath, params: readParams(type, found.get("params") ?? {}, fault) };
}

function readParams(
  type: MethodType,
  value: unknown,
  fault: (message: string) => void,
): Record<string, string> {
  const schema = PARAMS[type];
  const names = Object.keys(schema.entries);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    fault("Params must be an object");
    return {};
  }
  for (const key of Object.keys(value))
    if (!names.includes(key))
      fault(`Params of ${type} have no ${JSON.stringify(key)}, ${hint(key, names)}`);
  const result = v.safeParse(schema as v.GenericSchema<unknown, Record<string, string>>, value);
  for (const issue of result.issues ?? [])
    fault(
      `Params.${v.getDotPath(issue) ?? ""} ${issue.received === "undefined" ? "must be given" : issue.message}`,
    );
  for (const [own, file] of SOURCES[type])
    if (!Object.hasOwn(value, own) && !Object.hasOwn(value, file))
      fault(`Params must have ${file} or ${own}`);
  return result.success ? result.output : {};
}

function hint(key: string, names: readonly string[]): string {
  const near = nearest(key, names);
  return near === null ? `known are ${names.join(", ")}` : `did you mean ${near}?`;
}

/** What is posted to log in. @throws {VaultError} where a file cannot be read */
export function loginRequest(
  method: AuthMethod,
  readFile: (path: string) => string,
): { path: string; body: Record<string, string> } {
  const { type, mountPath, params } = method;
  const login = `auth/${mountPath}/login`;
  /** A parameter, else what a file has, else nothing. */
  const take = (name: string, file: string, usual?: string): Record<string, string> => {
    const value = params[name];
    if (value !== undefined) return { [name]: value };
    const path = params[file] ?? usual;
    if (path === undefined) return {};
    const text = readSecret(path, readFile);
    return text === "" ? {} : { [name]: text };
  };
  switch (type) {
    case "approle":
      return {
        path: login,
        body: {
          ...take("role_id", "role_id_file_path"),
          ...take("secret_id", "secret_id_file_path"),
        },
      };
    case "kubernetes":
      return {
        path: login,
        body: { role: params.role ?? "", ...take("jwt", "token_path", KUBERNETES_TOKEN) },
      };
    case "jwt":
      return { path: login, body: { role: params.role ?? "", ...take("jwt", "path") } };
    case "userpass":
    case "ldap":
      return {
        path: `${login}/${params.username ?? ""}`,
        body: take("password", "password_file_path"),
      };
    case "cert":
      return { path: login, body: { ...params } };
  }
}

/** The files that a login reads, by the parameter that names each. */
export function filesOfMethod({ type, params }: AuthMethod): [field: string, path: string][] {
  const files = Object.entries(params)
    .filter(([name]) => name.endsWith("path"))
    .map(([name, path]): [string, string] => [`AuthMethod.Params.${name}`, path]);
  const isDefault =
    type === "kubernetes" && params.jwt === undefined && params.token_path === undefined;
  return isDefault ? [...files, ["AuthMethod.Params.token_path", KUBERNETES_TOKEN]] : files;
}

/** A secret in a file, without the line end behind it. @throws {VaultError} */
export function readSecret(path: string, readFile: (path: string) => string): string {
  try {
    return readFile(path).trim();
  } catch (error) {
    if (error instanceof ConfigError)
      throw new VaultError("not_allowed", `Vault: cannot log in: ${error.message}`, null, error);
    throw new VaultError(
      "login_refused",
      `Vault: cannot log in: cannot read ${JSON.stringify(path)}`,
      null,
      error,
    );
  }
}
