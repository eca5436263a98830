/**
 * Vault's auth methods: how a configuration names one, and what each sends to log in. Files are read
 * at each login, since they may change.
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../../../src/core/errors.ts";
import { nearest } from "../../../src/core/nearest.ts";
import type { Faults } from "../../faults.ts";
import { VaultError } from "../errors.ts";

const string = v.string("must be text");
const text = v.pipe(string, v.nonEmpty("must not be empty"));
/** It becomes a segment of a path. */
const username = v.pipe(
  text,
  v.regex(/^[A-Za-z0-9_.@-]+$/, "must be letters, digits, _, -, . and @"),
);

interface Param {
  readonly schema: v.GenericSchema<unknown, string>;
  /** The parameter that names a file with the value. */
  readonly file?: string;
  /** The file that is read if neither parameter is given. */
  readonly defaultFile?: string;
  readonly required?: boolean;
}

const password: Param = { schema: text, file: "password_file_path", required: true };
const role: Param = { schema: text, required: true };

/** The parameters of each supported method, which its login sends. */
const METHODS = {
  approle: {
    role_id: { schema: text, file: "role_id_file_path", required: true },
    secret_id: { schema: text, file: "secret_id_file_path" },
  },
  kubernetes: {
    role,
    jwt: {
      schema: text,
      file: "token_path",
      defaultFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
    },
  },
  jwt: { role, jwt: { schema: text, file: "path", required: true } },
  userpass: { username: { schema: username, required: true }, password },
  ldap: { username: { schema: username, required: true }, password },
  cert: { name: { schema: text } },
} satisfies Record<string, Record<string, Param>>;

type MethodType = keyof typeof METHODS;

const TYPES = Object.keys(METHODS) as MethodType[];

const paramsOf = (type: MethodType): [name: string, param: Param][] =>
  Object.entries(METHODS[type]);

export interface AuthMethod {
  readonly type: MethodType;
  /** Without a slash at either end. */
  readonly mountPath: string;
  readonly params: Readonly<Record<string, string>>;
}

const isMap = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads `AuthMethod`. @param faults takes each fault, without any value in it. */
export function readAuthMethod(value: unknown, faults: Faults): AuthMethod {
  const fault = (message: string) => faults.refuse(true, "AuthMethod", `AuthMethod: ${message}`);
  const none: AuthMethod = { type: "cert", mountPath: "cert", params: {} };
  if (!isMap(value)) {
    fault("must be an object with Type, MountPath and Params");
    return none;
  }
  const fields = new Map<string, unknown>();
  for (const [key, inner] of Object.entries(value)) {
    const folded = key.replaceAll("_", "").toLowerCase();
    if (["type", "mountpath", "params"].includes(folded)) fields.set(folded, inner);
    else fault(`unknown key ${JSON.stringify(key)}, ${hint(key, ["Type", "MountPath", "Params"])}`);
  }
  const type = TYPES.find((candidate) => candidate === fields.get("type"));
  if (type === undefined) {
    fault(
      fields.get("type") === "token"
        ? 'Type must not be "token": use Token or TokenFile'
        : `Type must be one of ${TYPES.join(", ")}`,
    );
    return none;
  }
  const mount = fields.get("mountpath") ?? "";
  const mountPath = typeof mount === "string" ? mount.replace(/^\/|\/$/g, "") || type : "";
  if (!mountPath.split("/").every((part) => /^[A-Za-z0-9_~@:-][A-Za-z0-9_.~@:-]*$/.test(part)))
    fault("MountPath must be a path");
  return { type, mountPath, params: readParams(type, fields.get("params") ?? {}, fault) };
}

function readParams(
  type: MethodType,
  value: unknown,
  fault: (message: string) => void,
): Record<string, string> {
  if (!isMap(value)) {
    fault("Params must be an object");
    return {};
  }
  const schemas = new Map<string, Param["schema"]>();
  for (const [name, { schema, file, required = false }] of paramsOf(type)) {
    schemas.set(name, schema);
    if (file !== undefined) schemas.set(file, text);
    const isGiven =
      Object.hasOwn(value, name) || (file !== undefined && Object.hasOwn(value, file));
    if (required && !isGiven)
      fault(
        file === undefined ? `Params.${name} must be given` : `Params must have ${file} or ${name}`,
      );
  }
  const params: Record<string, string> = {};
  for (const [key, inner] of Object.entries(value)) {
    const schema = schemas.get(key);
    if (schema === undefined) {
      fault(`Params of ${type} have no ${JSON.stringify(key)}, ${hint(key, [...schemas.keys()])}`);
      continue;
    }
    const result = v.safeParse(schema, inner);
    if (result.success) params[key] = result.output;
    else fault(`Params.${key} ${result.issues[0].message}`);
  }
  return params;
}

function hint(key: string, names: readonly string[]): string {
  const near = nearest(key, names);
  return near === null ? `known are ${names.join(", ")}` : `did you mean ${near}?`;
}

/** What is posted to log in. @throws {VaultError} if a file cannot be read */
export function loginRequest(
  { type, mountPath, params }: AuthMethod,
  readFile: (path: string) => string,
): { path: string; body: Record<string, string> } {
  const body: Record<string, string> = {};
  for (const [name, { file, defaultFile }] of paramsOf(type)) {
    const path = (file === undefined ? undefined : params[file]) ?? defaultFile;
    const value = params[name] ?? (path === undefined ? "" : readSecret(path, readFile));
    if (value !== "") body[name] = value;
  }
  const { username: user, ...rest } = body;
  const path = `auth/${mountPath}/login`;
  return user === undefined ? { path, body } : { path: `${path}/${user}`, body: rest };
}

/** The files that a login reads, by the parameter that names each. */
export function filesOfMethod({ type, params }: AuthMethod): [field: string, path: string][] {
  return paramsOf(type).flatMap(([name, { file, defaultFile }]): [string, string][] => {
    if (file === undefined) return [];
    const path = params[file] ?? (params[name] === undefined ? defaultFile : undefined);
    return path === undefined ? [] : [[`AuthMethod.Params.${file}`, path]];
  });
}

/** A secret in a file, without blanks around it. @throws {VaultError} */
export function readSecret(path: string, readFile: (path: string) => string): string {
  try {
    return readFile(path).trim();
  } catch (error) {
    const isAllowed = !(error instanceof ConfigError);
    throw new VaultError(
      isAllowed ? "login_refused" : "not_allowed",
      `Vault: cannot log in: ${isAllowed ? `cannot read ${JSON.stringify(path)}; check that it exists and is readable` : error.message}`,
      null,
      error,
    );
  }
}
