/**
 * What tokens and roles grant: checks of what a request names, and what a token has through its
 * roles.
 * @module
 */
import type { GrantsRequest, Link } from "../core/acl/admin.ts";
import type {
  AclRole,
  Entry,
  Grants,
  NodeIdentity,
  ServiceIdentity,
  TemplatedPolicy,
  Token,
} from "../core/acl/types.ts";
import { malformed } from "./errors.ts";
import { requireTemplatedPolicy } from "./templated-policies.ts";
import { isIdentityName } from "./tokens.ts";

/** Links and identities of one token or role: more belong into a policy. */
const MAX_LINKS = 256;

/** Finds policies or roles. */
interface Names {
  get(id: string): Entry<{ readonly id: string }> | null;
  getByName(name: string): Entry<{ readonly id: string }> | null;
}

/** @param roles how many it links. @throws {RequestError} `request_malformed` */
export function requireFewLinks(
  what: "Token" | "Role",
  { policies, serviceIdentities, nodeIdentities, templatedPolicies = [] }: GrantsRequest,
  roles = 0,
): void {
  const lists = [policies, serviceIdentities, nodeIdentities, templatedPolicies];
  const count = lists.reduce((sum, { length }) => sum + length, roles);
  if (count > MAX_LINKS)
    throw malformed(
      `Invalid ${what}: it has ${count} policies and identities, at most ${MAX_LINKS} are allowed`,
    );
}

/**
 * The grants that a request names.
 * @param isLocal whether it is a local token.
 * @throws {RequestError} `request_malformed` with Consul's texts
 */
export function grantsOf(
  { policies, serviceIdentities, nodeIdentities, templatedPolicies = [] }: GrantsRequest,
  owner: "token" | "role",
  isLocal: boolean,
  names: Names,
): Grants {
  for (const identity of serviceIdentities) requireServiceIdentity(identity, owner, isLocal);
  for (const identity of nodeIdentities) requireNodeIdentity(identity, owner);
  for (const templated of templatedPolicies) requireTemplatedPolicy(templated, owner);
  return {
    policies: [...new Set(policies.map((link) => idOfLink("policy", link, names)))],
    serviceIdentities: lastOfEach(serviceIdentities, ({ serviceName }) => serviceName),
    nodeIdentities: lastOfEach(
      nodeIdentities,
      ({ nodeName, datacenter }) => `${datacenter}/${nodeName}`,
    ),
    templatedPolicies: lastOfEach(templatedPolicies, nameOfTemplated),
  };
}

/** The id of a linked policy or role. @throws {RequestError} `request_malformed` */
export function idOfLink(what: "policy" | "role", { id, name }: Link, names: Names): string {
  const found = id === "" ? names.getByName(name) : names.get(id);
  if (found !== null) return found.value.id;
  throw malformed(
    id === ""
      ? `No such ACL ${what} with name ${JSON.stringify(name)}`
      : `No such ACL ${what} with ID ${JSON.stringify(id)}`,
  );
}

/**
 * What a token has by itself and through its roles.
 * @param roleOf a role by its id; undefined for one that was deleted, which grants nothing.
 */
export function effectiveGrants(
  token: Pick<Token, "roles" | keyof Grants>,
  roleOf: (id: string) => Entry<AclRole> | undefined,
): Required<Grants> {
  const all: Grants[] = [token];
  for (const id of token.roles ?? []) {
    const role = roleOf(id);
    if (role !== undefined) all.push(role.value);
  }
  return {
    policies: [...new Set(all.flatMap(({ policies }) => policies))],
    serviceIdentities: all.flatMap(({ serviceIdentities }) => serviceIdentities),
    nodeIdentities: all.flatMap(({ nodeIdentities }) => nodeIdentities),
    templatedPolicies: all.flatMap(({ templatedPolicies }) => templatedPolicies ?? []),
  };
}

/** By which two templated policies are the same one. */
export function nameOfTemplated({ templateName, name }: TemplatedPolicy): string {
  return `${templateName}/${name}`;
}

/** With Consul's texts (agent/consul/auth/token_writer.go), as in requireNodeIdentity. */
function requireServiceIdentity(
  { serviceName, datacenters }: ServiceIdentity,
  owner: "token" | "role",
  isLocal: boolean,
): void {
  const name = JSON.stringify(serviceName);
  if (serviceName === "")
    throw malformed(`Service identity is missing the service name field on this ${owner}`);
  if (isLocal && datacenters.length > 0)
    throw malformed(
      `Service identity ${name} cannot specify a list of datacenters on a local token`,
    );
  if (!isIdentityName(serviceName))
    throw malformed(
      `Service identity ${name} has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed`,
    );
}

function requireNodeIdentity(
  { nodeName, datacenter }: NodeIdentity,
  owner: "token" | "role",
): void {
  if (nodeName === "")
    throw malformed(`Node identity is missing the node name field on this ${owner}`);
  if (datacenter === "")
    throw malformed(`Node identity is missing the datacenter field on this ${owner}`);
  if (!isIdentityName(nodeName))
    throw malformed(
      "Node identity has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed",
    );
}

/** Of the elements of one name the last. */
function lastOfEach<T>(all: readonly T[], nameOf: (one: T) => string): T[] {
  return [...new Map(all.map((one) => [nameOf(one), one])).values()];
}
