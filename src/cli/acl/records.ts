/**
 * ACL records as the command line reads and writes them: Consul's objects, found by id, by the
 * beginning of an id, or by name.
 * @module
 */
import * as v from "valibot";
import { type Json, sortKeys, writeJson } from "../../consul/go-json.ts";
import { isObject, type JsonObject } from "../../consul/go-struct.ts";
import type { Call } from "../command.ts";
import type { Connection } from "../connection/connection.ts";
import { HttpFailure } from "../connection/failures.ts";
import type { Flag } from "../flags.ts";
import { EXIT, Failure, usage } from "../output.ts";

/** An object of Consul's API, with its names of fields. */
export type AclObject = JsonObject;
export const AclObjectSchema = v.custom<JsonObject>(isObject);

/** A kind of records, and how Consul's texts name it. */
export interface Kind {
  /** The path of one record, below /v1/acl/. */
  readonly path: "token" | "policy" | "role" | "auth-method" | "binding-rule";
  readonly plural: string;
  /** `role`, in texts. */
  readonly what: string;
  /** The field that identifies one in its path. */
  readonly key: "AccessorID" | "ID" | "Name";
  /** The object as Go's client has it, whose JSON is Consul's output. */
  readonly shape?: (object: AclObject) => AclObject;
}

/** Go's client has the datacenters of a policy without omitempty. */
function policyShape({ ID, Name, Description, Rules, Datacenters, ...rest }: AclObject): AclObject {
  return {
    ...{ ID: ID ?? "", Name: Name ?? "", Description: Description ?? "" },
    ...(Rules === undefined ? {} : { Rules }),
    ...{ Datacenters: Datacenters ?? null, ...rest },
  };
}

/** Go's client has the configuration as a map, and leaves an empty description out. */
function methodShape({ MaxTokenTTL, Description, ...object }: AclObject): AclObject {
  const { Name, Type, DisplayName, Config, ...rest } = object;
  return {
    ...(MaxTokenTTL === undefined ? {} : { MaxTokenTTL }),
    ...{ Name: Name ?? "", Type: Type ?? "" },
    ...(DisplayName === undefined ? {} : { DisplayName }),
    ...(Description === undefined || Description === "" ? {} : { Description }),
    ...(Config === undefined ? {} : { Config: sortKeys(Config) }),
    ...rest,
  };
}

/** @returns the object with the fields, and their order, that Consul's command line prints */
export const shaped = ({ shape }: Kind, object: AclObject): AclObject => shape?.(object) ?? object;

export const TOKEN: Kind = {
  path: "token",
  plural: "tokens",
  what: "token",
  key: "AccessorID",
};
export const POLICY: Kind = {
  ...{ path: "policy", plural: "policies", what: "policy", key: "ID" },
  shape: policyShape,
};
export const ROLE: Kind = { path: "role", plural: "roles", what: "role", key: "ID" };
export const AUTH_METHOD: Kind = {
  path: "auth-method",
  plural: "auth-methods",
  what: "auth method",
  key: "Name",
  shape: methodShape,
};
export const BINDING_RULE: Kind = {
  path: "binding-rule",
  plural: "binding-rules",
  what: "binding rule",
  key: "ID",
};

/** RFC 9562 section 4. */
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const FORMAT_FLAG: Flag = {
  ...{ name: "format", value: "FORMAT", choices: ["pretty", "json"] },
  help: "pretty or json",
};
export const META_FLAG: Flag = {
  ...{ name: "meta", value: null },
  help: "show the hash and the indexes too",
};

/** The text of a field; empty if it is missing. */
export function textOf(object: AclObject, name: string): string {
  const value = object[name];
  return value === undefined || value === null ? "" : String(value);
}

/** The objects in a list of an object. */
export function objectsOf(object: AclObject, name: string): readonly AclObject[] {
  const read = v.safeParse(v.array(AclObjectSchema), object[name]);
  return read.success ? read.output : [];
}

export const pathOf = ({ path }: Kind, key: string, rest = ""): string =>
  `/v1/acl/${path}/${encodeURIComponent(key)}${rest}`;

/** @throws {Failure} */
export function listRecords(
  connection: Connection,
  { plural }: Kind,
  query: Readonly<Record<string, string | null>> = {},
): Promise<readonly AclObject[]> {
  return connection.json(v.array(AclObjectSchema), {
    method: "GET",
    path: `/v1/acl/${plural}`,
    query,
  });
}

/** The id that begins with a text. @throws {Failure} */
export async function fullId(connection: Connection, kind: Kind, partial: string): Promise<string> {
  if (UUID.test(partial) || kind.key === "Name") return partial;
  const found = (await listRecords(connection, kind)).filter((record) =>
    textOf(record, kind.key).startsWith(partial),
  );
  const [only] = found;
  if (only === undefined)
    throw new Failure(EXIT.data, `No such ${kind.what} ID with prefix: ${partial}`);
  if (found.length > 1) throw new Failure(EXIT.data, `Partial ${kind.what} ID is not unique`);
  return textOf(only, kind.key);
}

/** The id of a record that `-id` or `-name` names. @throws {Failure} */
export async function namedId(
  connection: Connection,
  kind: Kind,
  { id, name }: { readonly id: string | null; readonly name: string | null },
): Promise<string> {
  if (id !== null && id !== "") return fullId(connection, kind, id);
  const path = pathOf(kind, "name", `/${encodeURIComponent(name ?? "")}`);
  try {
    return textOf(await readObject(connection, path), kind.key);
  } catch (error) {
    if (error instanceof HttpFailure && error.status === 404)
      throw new Failure(
        error.exit,
        `No such ${kind.what} with name${kind === POLICY ? ":" : ""} ${name ?? ""}`,
        error,
      );
    throw error;
  }
}

export function readObject(
  connection: Connection,
  path: string,
  query: Readonly<Record<string, string | null>> = {},
): Promise<AclObject> {
  return connection.json(AclObjectSchema, { method: "GET", path, query });
}

export function putObject(
  connection: Connection,
  path: string,
  body: AclObject,
): Promise<AclObject> {
  return connection.json(AclObjectSchema, { method: "PUT", path, body });
}

/** A name that exists, which trying again does not change. */
const isDuplicate = ({ status, body }: HttpFailure): boolean =>
  status === 409 && /already (?:exists|in use)/.test(body);

/**
 * Does something, and puts Consul's text before the reason of a failure.
 * @param text such as `Failed to create new role`
 */
export async function attempt<T>(text: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof HttpFailure)
      throw new Failure(
        isDuplicate(error) ? EXIT.data : error.exit,
        `${text}: ${error.consulText}`,
        error,
      );
    if (error instanceof Failure) throw new Failure(error.exit, `${text}: ${error.message}`, error);
    throw error;
  }
}

/** Writes a value in the format that the flags name. @throws {Failure} for another format */
export function show<T extends Json>(
  { flags, json, terminal }: Call,
  value: T,
  text: (value: T) => string,
): void {
  const format = flags.text("format") ?? "pretty";
  if (format !== "pretty" && format !== "json") throw usage(`Unknown format: ${format}`);
  // Consul's command line ends with an empty line.
  if (json || format === "json") terminal.write(writeJson(value, true));
  else {
    const shown = text(value);
    if (shown !== "") terminal.show(`${shown}\n`);
  }
}

/** The value of a flag that a command needs. @throws {Failure} */
export function required({ flags }: Call, name: string, text: string): string {
  const value = flags.text(name) ?? "";
  if (value === "") throw usage(text);
  return value;
}
