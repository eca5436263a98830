/**
 * AclAdmin of all kinds of ACL records, and the deletion of those that are over.
 * @module
 */
import type { AclAdmin } from "../core/acl/admin.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import { AuthMethodRecords, BindingRuleRecords, type IssuerChecks } from "./auth-method-records.ts";
import { deleteInBatches, deletionOf } from "./deletion.ts";
import { DenylistRecords, type Leaves } from "./denylist-records.ts";
import type { Directory } from "./directory.ts";
import { isOrphaned, isRuleOf } from "./login-origin.ts";
import { PolicyRecords } from "./policy-records.ts";
import { TokenRecords } from "./token-records.ts";
import { isExpired } from "./tokens.ts";

export interface AclRecordsOptions extends IssuerChecks {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  readonly leaves: Leaves;
}

export class AclRecords implements AclAdmin {
  readonly tokens: TokenRecords;
  readonly policies: PolicyRecords;
  readonly authMethods: AuthMethodRecords;
  readonly bindingRules: BindingRuleRecords;
  readonly denylist: DenylistRecords;
  readonly #directory: Directory;

  constructor({ directory, clock, random, leaves, ...issuers }: AclRecordsOptions) {
    this.#directory = directory;
    this.policies = new PolicyRecords(directory, random);
    this.tokens = new TokenRecords(directory, this.policies, clock, random);
    this.authMethods = new AuthMethodRecords(directory, random, issuers);
    this.bindingRules = new BindingRuleRecords(directory, random);
    this.denylist = new DenylistRecords(directory, leaves, clock);
  }

  async collect(until: Date): Promise<number> {
    const { tokens, bindingRules, authMethods } = this.#directory;
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
    await this.#directory.forgetClaims(until);
    return deleteInBatches(this.#directory, [
      ...deadTokens.map((entry) => deletionOf("token", entry.value.accessorId, entry)),
      ...deadRules.map((entry) => deletionOf("binding-rule", entry.value.id, entry)),
      ...expired,
    ]);
  }
}
