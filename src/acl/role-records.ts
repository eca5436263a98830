/**
 * AclAdmin of roles, by Consul's rules and with its texts.
 * @module
 */
import type { PolicyAdmin, RoleAdmin, RoleRequest } from "../core/acl/admin.ts";
import type { AclRole, Entry } from "../core/acl/types.ts";
import { ConflictError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { deletionOf } from "./deletion.ts";
import { malformed, notFound } from "./errors.ts";
import { grantsOf, requireFewLinks } from "./grants.ts";
import type { AclReplica } from "./replica.ts";
import { isRoleName, makeUuid, requireDescription, requireWritten } from "./tokens.ts";

export class RoleRecords implements RoleAdmin {
  readonly #replica: AclReplica;
  readonly #policies: PolicyAdmin;
  readonly #random: Random;

  constructor(replica: AclReplica, policies: PolicyAdmin, random: Random) {
    this.#replica = replica;
    this.#policies = policies;
    this.#random = random;
  }

  list(): readonly Entry<AclRole>[] {
    return [...this.#replica.roles.values()];
  }

  get(id: string): Entry<AclRole> | null {
    return this.#replica.roles.get(id) ?? null;
  }

  getByName(name: string): Entry<AclRole> | null {
    return this.list().find(({ value }) => value.name === name) ?? null;
  }

  create(request: RoleRequest): Promise<Entry<AclRole>> {
    return this.#write(makeUuid(this.#random), request, null);
  }

  async update(id: string, request: RoleRequest): Promise<Entry<AclRole>> {
    return this.#write(id, request, this.#require(id));
  }

  /** The links of tokens stay, and grant nothing: no later role gets this id. */
  async delete(id: string): Promise<void> {
    await this.#replica.write([deletionOf("role", id, this.#require(id))]);
  }

  async #write(
    id: string,
    request: RoleRequest,
    replaces: Entry<AclRole> | null,
  ): Promise<Entry<AclRole>> {
    const { name, description } = request;
    // Consul's texts (agent/consul/acl_endpoint.go).
    if (name === "") throw malformed("Invalid Role: no Name is set");
    if (!isRoleName(name))
      throw malformed(
        "Invalid Role: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      );
    requireDescription("Role", description);
    requireFewLinks("Role", request);
    const owner = this.getByName(name);
    if (owner !== null && owner.value.id !== id)
      throw new ConflictError(
        "name_taken",
        `Invalid Role: A Role with Name ${JSON.stringify(name)} already exists`,
      );
    const content = { id, name, description, ...grantsOf(request, "role", false, this.#policies) };
    await this.#replica.write([{ kind: "role", id, replaces, content, key: name }]);
    return requireWritten("role", this.#replica.roles.get(id));
  }

  #require(id: string): Entry<AclRole> {
    const entry = this.get(id);
    if (entry === null) throw notFound("role", id);
    return entry;
  }
}
