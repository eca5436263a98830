/**
 * AclAdmin of policies, by Consul's rules and with its texts.
 * @module
 */
import type { PolicyAdmin, PolicyRequest } from "../core/acl/admin.ts";
import type { AclPolicy, Entry } from "../core/acl/types.ts";
import { ConflictError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { malformed, notFound } from "./errors.ts";
import type { AclReplica } from "./replica.ts";
import { GLOBAL_MANAGEMENT } from "./rule-index.ts";
import { readRules } from "./rules.ts";
import { isPolicyName, makeUuid, requireDescription, requireWritten } from "./tokens.ts";

const { id, name, description, rules } = GLOBAL_MANAGEMENT;
const BUILTIN: Entry<AclPolicy> = {
  value: { id, name, description, rules, datacenters: [] },
  version: 0,
  createIndex: 0,
  modifyIndex: 0,
};

export class PolicyRecords implements PolicyAdmin {
  readonly #replica: AclReplica;
  readonly #random: Random;

  constructor(replica: AclReplica, random: Random) {
    this.#replica = replica;
    this.#random = random;
  }

  list(): readonly Entry<AclPolicy>[] {
    return [BUILTIN, ...this.#replica.policies.values()];
  }

  get(id: string): Entry<AclPolicy> | null {
    return id === BUILTIN.value.id ? BUILTIN : (this.#replica.policies.get(id) ?? null);
  }

  getByName(name: string): Entry<AclPolicy> | null {
    return this.list().find(({ value }) => value.name === name) ?? null;
  }

  create(request: PolicyRequest): Promise<Entry<AclPolicy>> {
    return this.#write(makeUuid(this.#random), request, null);
  }

  async update(id: string, request: PolicyRequest): Promise<Entry<AclPolicy>> {
    return this.#write(id, request, this.#requireChangeable(id));
  }

  async delete(id: string): Promise<void> {
    const replaces = this.#requireChangeable(id);
    await this.#replica.write([{ kind: "policy", id, replaces, content: null }]);
  }

  async #write(
    id: string,
    request: PolicyRequest,
    replaces: Entry<AclPolicy> | null,
  ): Promise<Entry<AclPolicy>> {
    const { name } = request;
    if (!isPolicyName(name))
      throw malformed(
        "Invalid Policy: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      );
    requireDescription("Policy", request.description);
    readRules(request.rules);
    const owner = this.getByName(name);
    if (owner !== null && owner.value.id !== id)
      throw new ConflictError(
        "name_taken",
        `Invalid Policy: A Policy with Name ${JSON.stringify(name)} already exists`,
      );
    const content = { ...request, id };
    await this.#replica.write([{ kind: "policy", id, replaces, content, key: name }]);
    return requireWritten("policy", this.#replica.policies.get(id));
  }

  #requireChangeable(id: string): Entry<AclPolicy> {
    if (id === BUILTIN.value.id)
      throw malformed(`Changing the builtin ${BUILTIN.value.name} policy is not permitted`);
    const entry = this.get(id);
    if (entry === null) throw notFound("policy", id);
    return entry;
  }
}
