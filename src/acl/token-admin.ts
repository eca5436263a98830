/**
 * What an operator does to tokens and policies, by Consul's rules and in its words.
 * @module
 */

import type {
  Administration,
  NewToken,
  PolicyLink,
  PolicyRequest,
  TokenRequest,
} from "../core/acl/admin.ts";
import { ANONYMOUS } from "../core/acl/authorizer.ts";
import type { Entry, NodeIdentity, Policy, ServiceIdentity, Token } from "../core/acl/types.ts";
import { ConflictError, DeniedError, RequestError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Directory } from "./directory.ts";
import { isOrphaned } from "./login-origin.ts";
import { GLOBAL_MANAGEMENT } from "./rule-index.ts";
import { readRules } from "./rules.ts";
import {
  ANONYMOUS_TOKEN,
  expiryOf,
  isExpired,
  isIdentityName,
  MAX_SECRET_LENGTH,
  makeUuid,
  presentedSecret,
  requireNewId,
} from "./tokens.ts";

/** Consul's `validPolicyName`. */
const POLICY_NAME = /^[A-Za-z0-9_-]{1,128}$/;
/** Consul has no bound; a record is read by every replica. */
export const MAX_DESCRIPTION = 4096;
/** Links and identities of one token: more are a policy. */
const MAX_LINKS = 256;

export interface AdministrationOptions {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
}

type TokenAdministration = Pick<
  Administration,
  | "bootstrap"
  | "ensureInitialManagement"
  | "tokens"
  | "token"
  | "tokenOf"
  | "createToken"
  | "updateToken"
  | "cloneToken"
  | "deleteToken"
  | "policies"
  | "policy"
  | "policyByName"
  | "createPolicy"
  | "updatePolicy"
  | "deletePolicy"
>;

const { id: builtinId, name: builtinName, description, rules } = GLOBAL_MANAGEMENT;
const BUILTIN: Entry<Policy> = {
  value: { id: builtinId, name: builtinName, description, rules, datacenters: [] },
  version: 0,
  createIndex: 0,
  modifyIndex: 0,
};

export function createTokenAdministration({
  directory,
  clock,
  random,
}: AdministrationOptions): TokenAdministration {
  const policy = (id: string) =>
    id === BUILTIN.value.id ? BUILTIN : (directory.policies.get(id) ?? null);
  const policies = () => [BUILTIN, ...directory.policies.values()];
  const policyByName = (name: string) =>
    policies().find(({ value }) => value.name === name) ?? null;
  const isAlive = (entry: Entry<Token>) =>
    !isExpired(entry.value.expirationTime, clock.now()) &&
    !isOrphaned(entry, directory.authMethods.get(entry.value.authMethod ?? ""));
  const token = (accessorId: string): Entry<Token> | null => {
    const entry =
      directory.tokens.get(accessorId) ??
      (accessorId === ANONYMOUS.accessorId ? ANONYMOUS_TOKEN : null);
    return entry === null || !isAlive(entry) ? null : entry;
  };
  const requireToken = (accessorId: string): Entry<Token> => {
    const entry = token(accessorId);
    if (entry === null)
      throw new RequestError("not_found", `Cannot find token ${JSON.stringify(accessorId)}`);
    return entry;
  };

  const resolve = ({ id, name }: PolicyLink): string => {
    const found = id === "" ? policyByName(name) : policy(id);
    if (found === null)
      throw malformed(
        id === ""
          ? `No such ACL policy with name ${JSON.stringify(name)}`
          : `No such ACL policy with ID ${JSON.stringify(id)}`,
      );
    return found.value.id;
  };

  const contentsOf = (request: TokenRequest) => {
    const { serviceIdentities, nodeIdentities, local } = request;
    const count = request.policies.length + serviceIdentities.length + nodeIdentities.length;
    if (count > MAX_LINKS)
      throw malformed(
        `Invalid Token: it has ${count} policies and identities, at most ${MAX_LINKS} are allowed`,
      );
    requireDescription(request.description);
    requireIdentities(serviceIdentities, nodeIdentities, local);
    return {
      description: request.description,
      policies: [...new Set(request.policies.map(resolve))],
      serviceIdentities: unique(serviceIdentities, ({ serviceName }) => serviceName),
      nodeIdentities: unique(
        nodeIdentities,
        ({ nodeName, datacenter }) => `${datacenter}/${nodeName}`,
      ),
      local,
    };
  };

  const written = (accessorId: string): Entry<Token> => {
    const entry = directory.tokens.get(accessorId);
    if (entry === undefined)
      throw new ConflictError("index_mismatch", "Cannot show token: it was deleted meanwhile");
    return entry;
  };

  const insert = async (
    content: Token,
    secret: string,
    more: Parameters<Directory["write"]>[0] = [],
  ): Promise<NewToken> => {
    const key = await directory.hashSecret(secret);
    await directory.write([
      { kind: "token", id: content.accessorId, replaces: null, content, key },
      ...more,
    ]);
    return { token: written(content.accessorId), secret };
  };

  const blank = (accessorId: string, text: string): Token => ({
    ...ANONYMOUS_TOKEN.value,
    accessorId,
    description: text,
    createTime: clock.now(),
  });

  const requirePolicy = (request: PolicyRequest) => {
    if (!POLICY_NAME.test(request.name))
      throw malformed(
        "Invalid Policy: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      );
    requireDescription(request.description);
    readRules(request.rules);
    const owner = policyByName(request.name);
    return (id: string | null) => {
      if (owner !== null && owner.value.id !== id)
        throw new ConflictError(
          "name_taken",
          `Invalid Policy: A Policy with Name ${JSON.stringify(request.name)} already exists`,
        );
    };
  };
  const changeable = (id: string): Entry<Policy> => {
    if (id === BUILTIN.value.id)
      throw malformed(`Changing the builtin ${BUILTIN.value.name} policy is not permitted`);
    const entry = policy(id);
    if (entry === null)
      throw new RequestError("not_found", `Cannot find policy ${JSON.stringify(id)}`);
    return entry;
  };
  const writtenPolicy = (id: string): Entry<Policy> => {
    const entry = directory.policies.get(id);
    if (entry === undefined)
      throw new ConflictError("index_mismatch", "Cannot show policy: it was deleted meanwhile");
    return entry;
  };

  return {
    async bootstrap(resetIndex, chosen, requireCaller) {
      await directory.refresh();
      directory.requireLoaded();
      const before = directory.bootstrap;
      const refused = (index: number) =>
        new DeniedError(
          "permission_denied",
          `Permission denied: ACL bootstrap no longer allowed (reset index: ${index})`,
        );
      if (before !== null && before.modifyIndex !== resetIndex) throw refused(before.modifyIndex);
      // There was a first token, whatever became of its record.
      if (before === null && directory.recordedBootstrap !== null && directory.index !== resetIndex)
        throw refused(directory.index);
      requireCaller();
      if (chosen !== null) requireNewId(chosen, "SecretID");
      const [accessorId, secret] = [makeUuid(random), chosen ?? makeUuid(random)];
      const content = {
        ...blank(accessorId, "Bootstrap Token (Global Management)"),
        policies: [BUILTIN.value.id],
      };
      try {
        return await insert(content, secret, [
          { kind: "bootstrap", id: "bootstrap", replaces: before, content: { accessorId } },
        ]);
      } catch (error) {
        if (error instanceof ConflictError && error.code === "index_mismatch")
          throw refused(directory.bootstrap?.modifyIndex ?? 0);
        throw error;
      }
    },
    async ensureInitialManagement(secret) {
      if (secret === ANONYMOUS.secret || secret === "" || secret.length > MAX_SECRET_LENGTH)
        throw malformed(
          "Invalid initial management token: it is empty, longer than a token can be, or the anonymous one",
        );
      if (directory.tokensByHash.has(await directory.hashSecret(secret))) return false;
      const accessorId = makeUuid(random);
      const content = {
        ...blank(accessorId, "Initial Management Token"),
        policies: [BUILTIN.value.id],
      };
      const first = {
        kind: "bootstrap",
        id: "bootstrap",
        replaces: null,
        content: { accessorId },
      } as const;
      try {
        await insert(content, secret, directory.bootstrap === null ? [first] : []);
        return true;
      } catch (error) {
        // Another replica was first.
        if (
          error instanceof ConflictError &&
          directory.tokensByHash.has(await directory.hashSecret(secret))
        )
          return false;
        throw error;
      }
    },

    tokens: () =>
      [
        ...(directory.tokens.has(ANONYMOUS.accessorId) ? [] : [ANONYMOUS_TOKEN]),
        ...directory.tokens.values(),
      ].filter(isAlive),
    token,
    async tokenOf(secret) {
      const presented = presentedSecret(secret);
      if (presented === null) return null;
      if (presented === ANONYMOUS.secret) return token(ANONYMOUS.accessorId);
      const entry = directory.tokensByHash.get(await directory.hashSecret(presented));
      return entry === undefined ? null : token(entry.value.accessorId);
    },
    async createToken(request) {
      const now = clock.now();
      if (request.accessorId !== null) requireNewId(request.accessorId, "AccessorID");
      if (request.secret !== null) requireNewId(request.secret, "SecretID");
      const [accessorId, secret] = [
        request.accessorId ?? makeUuid(random),
        request.secret ?? makeUuid(random),
      ];
      const expirationTime = expiryOf(request.expirationTtlMs, request.expirationTime, now);
      const content = {
        accessorId,
        ...contentsOf(request),
        createTime: now,
        expirationTime,
        authMethod: null,
      };
      try {
        return await insert(content, secret);
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        const field = error.code === "name_taken" ? "SecretID" : "AccessorID";
        throw new ConflictError("name_taken", `Invalid Token: ${field} is already in use`);
      }
    },
    async updateToken(accessorId, request) {
      const entry = requireToken(accessorId);
      const content = { ...entry.value, ...contentsOf(request) };
      if (content.local !== entry.value.local)
        throw malformed(`Cannot toggle local mode of ${accessorId}`);
      const stored = directory.tokens.get(accessorId);
      const key = stored?.hash ?? (await directory.hashSecret(ANONYMOUS.secret));
      await directory.write([
        { kind: "token", id: accessorId, replaces: stored ?? null, content, key },
      ]);
      return written(accessorId);
    },
    async cloneToken(accessorId, text) {
      const { value } = requireToken(accessorId);
      if (value.authMethod !== null)
        throw malformed("Cannot clone a token created from an auth method");
      if (text !== null) requireDescription(text);
      const content = {
        ...value,
        accessorId: makeUuid(random),
        description: text ?? value.description,
        createTime: clock.now(),
      };
      return insert(content, makeUuid(random));
    },
    async deleteToken(accessorId) {
      if (accessorId === ANONYMOUS.accessorId)
        throw malformed("Delete operation not permitted on the anonymous token");
      const entry = directory.tokens.get(accessorId);
      if (entry === undefined)
        throw new RequestError("not_found", `Cannot find token ${JSON.stringify(accessorId)}`);
      await directory.write([{ kind: "token", id: accessorId, replaces: entry, content: null }]);
    },

    policies,
    policy,
    policyByName,
    async createPolicy(request) {
      requirePolicy(request)(null);
      const id = makeUuid(random);
      await directory.write([
        { kind: "policy", id, replaces: null, content: { ...request, id }, key: request.name },
      ]);
      return writtenPolicy(id);
    },
    async updatePolicy(id, request) {
      const entry = changeable(id);
      requirePolicy(request)(id);
      await directory.write([
        { kind: "policy", id, replaces: entry, content: { ...request, id }, key: request.name },
      ]);
      return writtenPolicy(id);
    },
    async deletePolicy(id) {
      await directory.write([{ kind: "policy", id, replaces: changeable(id), content: null }]);
    },
  };
}

/** Consul's texts (agent/consul/auth/token_writer.go). */
function requireIdentities(
  services: readonly ServiceIdentity[],
  nodes: readonly NodeIdentity[],
  local: boolean,
): void {
  for (const { serviceName, datacenters } of services) {
    const name = JSON.stringify(serviceName);
    if (serviceName === "")
      throw malformed("Service identity is missing the service name field on this token");
    if (local && datacenters.length > 0)
      throw malformed(
        `Service identity ${name} cannot specify a list of datacenters on a local token`,
      );
    if (!isIdentityName(serviceName))
      throw malformed(
        `Service identity ${name} has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed`,
      );
  }
  for (const { nodeName, datacenter } of nodes) {
    if (nodeName === "")
      throw malformed("Node identity is missing the node name field on this token");
    if (datacenter === "")
      throw malformed("Node identity is missing the datacenter field on this token");
    if (!isIdentityName(nodeName))
      throw malformed(
        "Node identity has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed",
      );
  }
}

export function requireDescription(text: string): void {
  if (text.length > MAX_DESCRIPTION)
    throw malformed(`Description is longer than ${MAX_DESCRIPTION} characters`);
}

/** The last of those that are the same. */
function unique<T>(all: readonly T[], nameOf: (one: T) => string): T[] {
  return [...new Map(all.map((one) => [nameOf(one), one])).values()];
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
