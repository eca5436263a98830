/**
 * AclAdmin of all kinds of ACL records, and the deletion of those that are over.
 * @module
 */
import type { AclAdmin } from "../core/acl/admin.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import { AuthMethodRecords, BindingRuleRecords, type IssuerChecks } from "./auth-method-records.ts";
import { deleteInBatches, deletionOf } from "./deletion.ts";
import { DenylistRecords, type Leaves } from "./denylist-records.ts";
import { isOrphaned, isRuleOf } from "./login-origin.ts";
import { PolicyRecords } from "./policy-records.ts";
import type { AclReplica } from "./replica.ts";
import { RoleRecords } from "./role-records.ts";
import { PolicyTemplates } from "./templated-policies.ts";
import { TokenRecords } from "./token-records.ts";
import { isExpired } from "./tokens.ts";

interface AclRecordsOptions extends IssuerChecks {
  readonly replica: AclReplica;
  readonly clock: Clock;
  readonly random: Random;
  readonly leaves: Leaves;
}

export class AclRecords implements AclAdmin {
  readonly tokens: TokenRecords;
  readonly policies: PolicyRecords;
  readonly roles: RoleRecords;
  readonly templates = new PolicyTemplates();
  readonly authMethods: AuthMethodRecords;
  readonly bindingRules: BindingRuleRecords;
  readonly denylist: DenylistRecords;
  readonly #replica: AclReplica;

  constructor({ replica, clock, random, leaves, ...issuers }: AclRecordsOptions) {
    this.#replica = replica;
    this.policies = new PolicyRecords(replica, random);
    this.roles = new RoleRecords(replica, this.policies, random);
    this.tokens = new TokenRecords(replica, this, clock, random);
    this.authMethods = new AuthMethodRecords(replica, random, issuers);
    this.bindingRules = new BindingRuleRecords(replica, random);
    this.denylist = new DenylistRecords(replica, leaves, clock);
  }

  async collect(until: Date): Promise<number> {
    const { tokens, bindingRules, authMethods } = this.#replica;
    const methodOf = (name: string | null) => authMethods.get(name ?? "");
    const expired = this.denylist.expired(until);
    const deadTokens = [...tokens.values()].filter(
      (entry) =>
        isExpired(entry.value.expirationTime, until) ||
        isOrphaned(entry, methodOf(entry.value.authMethod)),
    );
    const deadRules = [...bindingRules.values()].filter((rule) => {
      const method = methodOf(rule.value.authMethod);
      return method === undefined || !isRuleOf(rule, method);
    });
    await this.#replica.forgetClaims(until);
    return deleteInBatches(this.#replica, [
      ...deadTokens.map((entry) => deletionOf("token", entry.value.accessorId, entry)),
      ...deadRules.map((entry) => deletionOf("binding-rule", entry.value.id, entry)),
      ...expired,
    ]);
  }
}
