/**
 * The flags by which tokens and roles get policies, roles, identities and templated policies.
 * @module
 */
import { type Body, isBody, readHcl, type Value } from "../../consul/hcl.ts";
import type { Call } from "../command.ts";
import type { Connection } from "../connection/connection.ts";
import { readInput } from "../files.ts";
import type { Flag } from "../flags.ts";
import { EXIT, Failure, usage } from "../output.ts";
import {
  type AclObject,
  attempt,
  fullId,
  type Kind,
  objectsOf,
  POLICY,
  ROLE,
  textOf,
} from "./records.ts";

const many = (name: string, value: string, help: string): Flag => ({
  name,
  value,
  help,
  many: true,
});

/** @param prefix `append-` for the flags of an update that add */
const linkFlags = (prefix: "" | "append-", withRoles: boolean): readonly Flag[] => [
  many(`${prefix}policy-id`, "ID", "policy, by its id or the beginning of it"),
  many(`${prefix}policy-name`, "NAME", "policy, by its name"),
  ...(withRoles
    ? [
        many(`${prefix}role-id`, "ID", "role, by its id or the beginning of it"),
        many(`${prefix}role-name`, "NAME", "role, by its name"),
      ]
    : []),
  many(`${prefix}service-identity`, "NAME[:DC,DC]", "service, in all datacenters or in some"),
  many(`${prefix}node-identity`, "NAME:DC", "node of a datacenter"),
];

const VAR_FLAG = many("var", "NAME:VALUE", "variable of the templated policy, name:web");

const templateFlags = (prefix: string): readonly Flag[] => [
  { name: `${prefix}templated-policy`, value: "NAME", help: "templated policy, with --var" },
  {
    ...{ name: `${prefix}templated-policy-file`, value: "FILE", file: true },
    help: 'templated policies in HCL: TemplatedPolicy "NAME" { Name = "..." }',
  },
];

/** Of a command that creates. */
export const createFlags = (withRoles: boolean): readonly Flag[] => [
  ...linkFlags("", withRoles),
  ...templateFlags(""),
  VAR_FLAG,
];

/** Of a command that updates. */
export const updateFlags = (withRoles: boolean): readonly Flag[] => [
  ...linkFlags("", withRoles),
  ...(withRoles ? linkFlags("append-", true) : []),
  ...templateFlags("append-"),
  ...templateFlags("replace-"),
  VAR_FLAG,
];

/** What a prefix of flags names. */
async function links(
  { flags }: Call,
  connection: Connection,
  prefix: string,
  kind: Kind,
): Promise<readonly AclObject[]> {
  const named = flags.all(`${prefix}${kind.path}-name`).map((Name) => ({ Name }));
  const ids = flags.all(`${prefix}${kind.path}-id`).map(async (id) => ({
    ID: await attempt(`Error resolving ${kind.what} ID ${id}`, () => fullId(connection, kind, id)),
  }));
  return [...named, ...(await Promise.all(ids))];
}

/** `NAME` or `NAME:DC1,DC2`. @throws {Failure} */
function serviceIdentity(text: string): AclObject {
  const [ServiceName = "", datacenters = "", ...more] = text.split(":");
  if (ServiceName === "" || more.length > 0)
    throw usage(`Malformed -service-identity argument: ${JSON.stringify(text)}`);
  return datacenters === ""
    ? { ServiceName }
    : { ServiceName, Datacenters: datacenters.split(",") };
}

/** `NAME:DC`. @throws {Failure} */
function nodeIdentity(text: string): AclObject {
  const [NodeName = "", Datacenter = "", ...more] = text.split(":");
  if (NodeName === "" || Datacenter === "" || more.length > 0)
    throw usage(`Malformed -node-identity argument: ${JSON.stringify(text)}`);
  return { NodeName, Datacenter };
}

/**
 * The variable `name` in `name:VALUE` or `name=VALUE`.
 * @param form of one argument, for errors @throws {Failure} for another variable
 */
export function variableOf(flag: string, form: string, texts: readonly string[]): string | null {
  let name: string | null = null;
  for (const text of texts) {
    const at = text.search(/[:=]/);
    if (at <= 0)
      throw usage(`malformed ${flag} argument: ${JSON.stringify(text)}, expecting ${form}`);
    if (text.slice(0, at).toLowerCase() !== "name")
      throw usage(
        `${flag} has the variable ${JSON.stringify(text.slice(0, at))}; the variable of a templated policy is name`,
      );
    name = text.slice(at + 1);
  }
  return name;
}

/** The templated policies that the flags of a prefix name. @throws {Failure} */
export async function templatedPolicies(
  { flags, terminal }: Call,
  policyFlag: string,
  fileFlag: string,
): Promise<readonly AclObject[]> {
  const [TemplateName, file] = [flags.text(policyFlag) ?? "", flags.text(fileFlag) ?? ""];
  if (TemplateName !== "" && file !== "")
    throw usage(`Give one of --${policyFlag} and --${fileFlag}, not both`);
  const Name = variableOf("-var", "VariableName:Value", flags.all("var"));
  if (TemplateName !== "")
    return [{ TemplateName, ...(Name === null ? {} : { TemplateVariables: { Name } }) }];
  if (Name !== null) throw usage(`--var needs --${policyFlag}`);
  if (file === "") return [];
  const text = await readInput(file, "The file of templated policies", terminal);
  return templatesOf(readHcl(text), file);
}

/** @param reason a predicate: `has ...` */
const unusable = (file: string, reason: string): Failure =>
  new Failure(EXIT.data, `The file ${JSON.stringify(file)} ${reason}`);

/** @throws {Failure} @throws {FormatError} */
function templatesOf({ items }: Body, file: string): readonly AclObject[] {
  return items.map(({ names, value }) => {
    const [kind, name] = names.map(({ text }) => text);
    if (kind !== "TemplatedPolicy" || name === undefined || !isBody(value))
      throw unusable(
        file,
        `must have blocks TemplatedPolicy "NAME" { Name = "..." }, found ${JSON.stringify(kind)}`,
      );
    const field = (wanted: string): Value | undefined =>
      value.items.find((item) => item.names[0]?.text === wanted)?.value;
    const [Name, Datacenters] = [field("Name"), field("Datacenters")];
    const isText = (one: Value): one is string => typeof one === "string";
    if (Name !== undefined && !isText(Name))
      throw unusable(file, `has a Name of ${JSON.stringify(name)} that is not a string`);
    if (Datacenters !== undefined && !(Array.isArray(Datacenters) && Datacenters.every(isText)))
      throw unusable(file, `has Datacenters of ${JSON.stringify(name)} that are not strings`);
    return {
      TemplateName: name,
      ...(Name === undefined ? {} : { TemplateVariables: { Name } }),
      ...(Datacenters === undefined ? {} : { Datacenters }),
    };
  });
}

/** What the flags of a new token or role name. @throws {Failure} */
export async function newGrants(
  call: Call,
  connection: Connection,
  withRoles: boolean,
): Promise<AclObject> {
  const { flags } = call;
  return {
    Policies: await links(call, connection, "", POLICY),
    ...(withRoles ? { Roles: await links(call, connection, "", ROLE) } : {}),
    ServiceIdentities: flags.all("service-identity").map(serviceIdentity),
    NodeIdentities: flags.all("node-identity").map(nodeIdentity),
    TemplatedPolicies: await templatedPolicies(call, "templated-policy", "templated-policy-file"),
  };
}

/** Whether grants name anything. */
export const isEmpty = (grants: AclObject): boolean =>
  Object.values(grants).every((list) => Array.isArray(list) && list.length === 0);

/** What replaces a list, or is added to it. @throws {Failure} if both are given */
function changed(
  before: readonly AclObject[],
  [replace, append]: readonly [readonly AclObject[], readonly AclObject[]],
  flag: string,
  merges: boolean,
): readonly AclObject[] {
  if (replace.length > 0 && append.length > 0)
    throw usage(`Give either ${flag}, or the same with --append-, not both`);
  if (merges) return [...before, ...replace, ...append];
  return replace.length > 0 ? replace : [...before, ...append];
}

/** Switches of older scripts: what the flag without `append-` names is added. */
export const MERGE_FLAGS: readonly Flag[] = [
  "policies",
  "roles",
  "service-identities",
  "node-identities",
].map((name) => ({
  ...{ name: `merge-${name}`, value: null },
  help: `add the ${name.replace("-", " ")} that are named, in older scripts`,
}));

/** The grants of a token after an update: flags replace, those with `append-` add. */
export async function tokenGrants(
  call: Call,
  connection: Connection,
  before: AclObject,
): Promise<AclObject> {
  const { flags } = call;
  const merges = (name: string) => flags.on(`merge-${name}`);
  const both = async (kind: Kind) =>
    [
      await links(call, connection, "", kind),
      await links(call, connection, "append-", kind),
    ] as const;
  const identities = (name: string, read: (text: string) => AclObject) =>
    [flags.all(name).map(read), flags.all(`append-${name}`).map(read)] as const;
  return {
    Policies: changed(
      objectsOf(before, "Policies"),
      await both(POLICY),
      "--policy-id and --policy-name",
      merges("policies"),
    ),
    Roles: changed(
      objectsOf(before, "Roles"),
      await both(ROLE),
      "--role-id and --role-name",
      merges("roles"),
    ),
    ServiceIdentities: changed(
      objectsOf(before, "ServiceIdentities"),
      identities("service-identity", serviceIdentity),
      "--service-identity",
      merges("service-identities"),
    ),
    NodeIdentities: changed(
      objectsOf(before, "NodeIdentities"),
      identities("node-identity", nodeIdentity),
      "--node-identity",
      merges("node-identities"),
    ),
    TemplatedPolicies: await changedTemplates(call, before),
  };
}

async function changedTemplates(call: Call, before: AclObject): Promise<readonly AclObject[]> {
  const of = (prefix: string) =>
    templatedPolicies(call, `${prefix}templated-policy`, `${prefix}templated-policy-file`);
  const named = (prefix: string) =>
    ["", "-file"].some((end) => call.flags.text(`${prefix}templated-policy${end}`) !== null);
  if (named("replace-") && named("append-"))
    throw usage("Give one of --append-templated-policy and --replace-templated-policy, not both");
  return named("replace-")
    ? of("replace-")
    : [...objectsOf(before, "TemplatedPolicies"), ...(named("append-") ? await of("append-") : [])];
}

/** The grants of a role after an update: flags add, unless `--no-merge` is given. */
export async function roleGrants(
  call: Call,
  connection: Connection,
  before: AclObject,
): Promise<AclObject> {
  const { flags } = call;
  const keep = (name: string) => (flags.on("no-merge") ? [] : objectsOf(before, name));
  const given = {
    Policies: await links(call, connection, "", POLICY),
    ServiceIdentities: flags.all("service-identity").map(serviceIdentity),
    NodeIdentities: flags.all("node-identity").map(nodeIdentity),
  };
  return {
    Policies: [...keep("Policies"), ...given.Policies],
    ServiceIdentities: [...keep("ServiceIdentities"), ...given.ServiceIdentities],
    NodeIdentities: [...keep("NodeIdentities"), ...given.NodeIdentities],
    TemplatedPolicies: await changedTemplates(call, {
      TemplatedPolicies: keep("TemplatedPolicies"),
    }),
  };
}

/** A field that a flag gives, else as it was. */
export const fieldOf = ({ flags }: Call, before: AclObject, name: string, flag: string): string =>
  flags.text(flag) ?? textOf(before, name);
