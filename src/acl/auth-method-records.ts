/**
 * AclAdmin of auth methods and of their binding rules.
 * @module
 */
import { formatDuration } from "../consul/duration.ts";
import type { BindingRuleRequest, RecordAdmin } from "../core/acl/admin.ts";
import type { AuthMethod, BindingRule, Entry } from "../core/acl/types.ts";
import { ConflictError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { readSettings } from "./auth-methods.ts";
import { readBinding } from "./binding.ts";
import { deleteInBatches, deletionOf } from "./deletion.ts";
import { malformed, notFound } from "./errors.ts";
import type { KeySets } from "./jwks.ts";
import { isRuleOf } from "./login-origin.ts";
import { exposed, hideSecrets, sealMethod } from "./method-secrets.ts";
import type { AclReplica } from "./replica.ts";
import type { TokenReviews } from "./token-review.ts";
import { MAX_TTL_MS, MIN_TTL_MS, makeUuid, requireDescription, requireWritten } from "./tokens.ts";

/** Consul's `validAuthMethodName`. */
const METHOD_NAME = /^[A-Za-z0-9_-]{1,128}$/;

/** What an auth method may make this server ask. */
export interface IssuerChecks {
  readonly keySets: Pick<KeySets, "check">;
  readonly reviews: Pick<TokenReviews, "check">;
}

export class AuthMethodRecords implements RecordAdmin<AuthMethod, AuthMethod> {
  readonly #replica: AclReplica;
  readonly #random: Random;
  readonly #issuers: IssuerChecks;

  constructor(replica: AclReplica, random: Random, issuers: IssuerChecks) {
    this.#replica = replica;
    this.#random = random;
    this.#issuers = issuers;
  }

  list(): readonly Entry<AuthMethod>[] {
    return [...this.#replica.authMethods.values()].map(withoutSecret);
  }

  get(name: string): Entry<AuthMethod> | null {
    const entry = this.#replica.authMethods.get(name);
    return entry === undefined ? null : withoutSecret(entry);
  }

  async create(method: AuthMethod): Promise<Entry<AuthMethod>> {
    if (this.#replica.authMethods.has(method.name))
      throw new ConflictError(
        "name_taken",
        `Invalid Auth Method: auth method ${JSON.stringify(method.name)} already exists`,
      );
    return this.#write({ ...method, id: makeUuid(this.#random) }, null);
  }

  async update(name: string, request: AuthMethod): Promise<Entry<AuthMethod>> {
    const entry = this.#require(name);
    const { type, id = makeUuid(this.#random) } = entry.value;
    if (type !== request.type)
      throw malformed(
        `Changing an auth method's type from ${JSON.stringify(type)} is not permitted`,
      );
    return this.#write({ ...request, name, id }, entry);
  }

  async delete(name: string): Promise<void> {
    const method = this.#require(name);
    await this.#replica.write([
      deletionOf("auth-method", name, method),
      ...this.#rulesOf(name).map((rule) => deletionOf("binding-rule", rule.value.id, rule)),
    ]);
    // Its tokens are refused from here on. The leader deletes those of concurrent logins.
    const tokens = [...this.#replica.tokens.values()].filter(
      ({ value }) => value.authMethod === name,
    );
    await deleteInBatches(
      this.#replica,
      tokens.map((entry) => deletionOf("token", entry.value.accessorId, entry)),
    );
  }

  async #write(method: AuthMethod, replaces: Entry<AuthMethod> | null): Promise<Entry<AuthMethod>> {
    this.#check(method, replaces);
    const before = replaces?.value ?? null;
    const content = await sealMethod(method, before, this.#replica, this.#random);
    const { name } = content;
    await this.#replica.write([{ kind: "auth-method", id: name, replaces, content }]);
    return withoutSecret(requireWritten("auth method", this.#replica.authMethods.get(name)));
  }

  #check(method: AuthMethod, before: Entry<AuthMethod> | null): void {
    if (!METHOD_NAME.test(method.name))
      throw malformed(
        "Invalid Auth Method: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      );
    requireDescription("Auth Method", method.description);
    requireDescription("Auth Method", method.displayName, "DisplayName");
    const ttl = method.maxTokenTtlMs;
    // Consul's text (agent/consul/acl_endpoint.go).
    if (ttl !== 0 && !(ttl >= MIN_TTL_MS && ttl <= MAX_TTL_MS))
      throw malformed(
        `MaxTokenTTL ${formatDuration(ttl)} must be between ${formatDuration(MIN_TTL_MS)} and ${formatDuration(MAX_TTL_MS)}`,
      );
    const config = exposed(method, before?.value ?? null);
    const settings = readSettings({ type: method.type, config });
    if (settings.keySource !== null) this.#issuers.keySets.check(settings.keySource);
    if (settings.review !== null) this.#issuers.reviews.check(settings.review.host);
    if (before === null) return;
    for (const rule of this.#rulesOf(method.name))
      if (isRuleOf(rule, before)) readBinding(rule.value, settings);
  }

  /** The rules that name a method, those of an earlier method of that name included. */
  #rulesOf(name: string): Entry<BindingRule>[] {
    return [...this.#replica.bindingRules.values()].filter(
      ({ value }) => value.authMethod === name,
    );
  }

  #require(name: string): Entry<AuthMethod> {
    const entry = this.#replica.authMethods.get(name);
    if (entry === undefined) throw notFound("auth method", name);
    return entry;
  }
}

export class BindingRuleRecords implements RecordAdmin<BindingRule, BindingRuleRequest> {
  readonly #replica: AclReplica;
  readonly #random: Random;

  constructor(replica: AclReplica, random: Random) {
    this.#replica = replica;
    this.#random = random;
  }

  list(): readonly Entry<BindingRule>[] {
    return [...this.#replica.bindingRules.values()];
  }

  get(id: string): Entry<BindingRule> | null {
    return this.#replica.bindingRules.get(id) ?? null;
  }

  async create(request: BindingRuleRequest): Promise<Entry<BindingRule>> {
    return this.#write(makeUuid(this.#random), request, null);
  }

  async update(id: string, request: BindingRuleRequest): Promise<Entry<BindingRule>> {
    const entry = this.#require(id);
    if (entry.value.authMethod !== request.authMethod)
      throw malformed("Changing the auth method of a binding rule is not permitted");
    return this.#write(id, request, entry);
  }

  async delete(id: string): Promise<void> {
    await this.#replica.write([deletionOf("binding-rule", id, this.#require(id))]);
  }

  async #write(
    id: string,
    request: BindingRuleRequest,
    replaces: Entry<BindingRule> | null,
  ): Promise<Entry<BindingRule>> {
    const method = this.#replica.authMethods.get(request.authMethod);
    if (method === undefined)
      throw malformed(
        `Invalid Binding Rule: cannot find auth method ${JSON.stringify(request.authMethod)}`,
      );
    requireDescription("Binding Rule", request.description);
    readBinding(request, readSettings(method.value));
    const content = { ...request, id };
    await this.#replica.write([{ kind: "binding-rule", id, replaces, content }]);
    return requireWritten("binding rule", this.get(id) ?? undefined);
  }

  #require(id: string): Entry<BindingRule> {
    const entry = this.get(id);
    if (entry === null) throw notFound("binding rule", id);
    return entry;
  }
}

function withoutSecret(entry: Entry<AuthMethod>): Entry<AuthMethod> {
  return { ...entry, value: { ...entry.value, config: hideSecrets(entry.value.config) } };
}
