/**
 * All that an operator does to access control: tokens and policies, and here auth methods, binding
 * rules and denials.
 * @module
 */

import { formatDuration } from "../consul/duration.ts";
import type { Administration, BindingRuleRequest } from "../core/acl/admin.ts";
import type { AuthMethod, BindingRule, Denial, Entry, Token } from "../core/acl/types.ts";
import { ConflictError, RequestError } from "../core/errors.ts";
import type { AuditDetail } from "../core/ports/audit.ts";
import { readBinding, readSettings } from "./auth-methods.ts";
import { canonicalDenial, type DenialScope, denialId, indexDenials } from "./denylist.ts";
import type { Draft } from "./directory.ts";
import type { KeySets } from "./jwks.ts";
import { isOrphaned, isRuleOf } from "./login-origin.ts";
import { exposed, hideSecrets, sealMethod } from "./method-secrets.ts";
import {
  type AdministrationOptions,
  createTokenAdministration,
  requireDescription,
} from "./token-admin.ts";
import type { TokenReviews } from "./token-review.ts";
import { isExpired, makeUuid } from "./tokens.ts";

/** Consul's `validAuthMethodName`. */
const METHOD_NAME = /^[A-Za-z0-9_-]{1,128}$/;
/** Consul's `token_min_ttl` and `token_max_ttl` by default. */
const [MIN_TTL_MS, MAX_TTL_MS] = [60_000, 24 * 3_600_000];
/**
 * Deletions in one write: a record's name is about 50 octets, and a write of 100 blocks no store.
 */
const BATCH = 100;

/** What denials are about. */
export interface Leaves {
  /** Whose leaves this CA signs. */
  scope(): DenialScope;
  /**
   * How long a leaf may live, in milliseconds, that was signed until now; it may grow and shrink.
   */
  horizonMs(): number;
}

export interface FullAdministrationOptions extends AdministrationOptions {
  readonly keySets: Pick<KeySets, "check">;
  readonly reviews: Pick<TokenReviews, "check">;
  readonly leaves: Leaves;
}

export function createAdministration(options: FullAdministrationOptions): Administration {
  const { directory, clock, random, keySets, reviews, leaves } = options;
  let denials = { revision: -1, of: indexDenials([]) };

  const requireMethod = (name: string): Entry<AuthMethod> => {
    const entry = directory.authMethods.get(name);
    if (entry === undefined)
      throw new RequestError("not_found", `Cannot find auth method ${JSON.stringify(name)}`);
    return entry;
  };
  /** Every rule that names a method, those of an earlier one of that name too. */
  const rulesOf = (name: string) =>
    [...directory.bindingRules.values()].filter(({ value }) => value.authMethod === name);
  const orphaned = (entry: Entry<Token>) =>
    isOrphaned(entry, directory.authMethods.get(entry.value.authMethod ?? ""));
  const checkMethod = (method: AuthMethod) => {
    if (!METHOD_NAME.test(method.name))
      throw malformed(
        "Invalid Auth Method: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
      );
    requireDescription(method.description);
    requireDescription(method.displayName);
    const ttl = method.maxTokenTtlMs;
    if (ttl !== 0 && !(ttl >= MIN_TTL_MS && ttl <= MAX_TTL_MS))
      throw malformed(
        `MaxTokenTTL ${formatDuration(ttl)} must be between ${formatDuration(MIN_TTL_MS)} and ${formatDuration(MAX_TTL_MS)}`,
      );
    const before = directory.authMethods.get(method.name);
    const settings = readSettings({
      type: method.type,
      config: exposed(method, before?.value ?? null),
    });
    if (settings.keySource !== null) keySets.check(settings.keySource);
    if (settings.review !== null) reviews.check(settings.review.host);
    for (const rule of rulesOf(method.name))
      if (before !== undefined && isRuleOf(rule, before)) readBinding(rule.value, settings);
  };
  const checkRule = (request: BindingRuleRequest) => {
    const method = directory.authMethods.get(request.authMethod);
    if (method === undefined)
      throw malformed(
        `Invalid Binding Rule: cannot find auth method ${JSON.stringify(request.authMethod)}`,
      );
    requireDescription(request.description);
    readBinding(request, readSettings(method.value));
    return method;
  };
  const requireRule = (id: string): Entry<BindingRule> => {
    const entry = directory.bindingRules.get(id);
    if (entry === undefined)
      throw new RequestError("not_found", `Cannot find binding rule ${JSON.stringify(id)}`);
    return entry;
  };
  const stored = <T>(entry: T | undefined): T => {
    if (entry === undefined)
      throw new ConflictError(
        "index_mismatch",
        "Cannot show what was written: it was deleted meanwhile",
      );
    return entry;
  };
  const put = async (
    kind: "auth-method",
    method: AuthMethod,
    replaces: Entry<AuthMethod> | null,
  ) => {
    const content = await sealMethod(method, replaces?.value ?? null, directory, random);
    await directory.write([{ kind, id: content.name, replaces, content }]);
    return shown(stored(directory.authMethods.get(content.name)));
  };
  const putRule = async (
    id: string,
    request: BindingRuleRequest,
    replaces: Entry<BindingRule> | null,
  ) => {
    checkRule(request);
    await directory.write([{ kind: "binding-rule", id, replaces, content: { ...request, id } }]);
    return stored(directory.bindingRules.get(id));
  };
  /** Deletes, a batch at a time. What was changed meanwhile stays. @returns how much went. */
  const remove = async (drafts: readonly Draft[]): Promise<number> => {
    let count = 0;
    for (let start = 0; start < drafts.length; start += BATCH) {
      const batch = drafts.slice(start, start + BATCH);
      try {
        await directory.write(batch);
        count += batch.length;
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
      }
    }
    return count;
  };
  /**
   * When a denial ends. Not only what was so when it was made: a root with longer leaves may be
   * published since, by a backup or by one of two states that became one.
   */
  const endOf = ({ createTime, expirationTime }: Denial, horizonMs: number): Date =>
    new Date(Math.max(expirationTime.getTime(), createTime.getTime() + horizonMs));
  const deletion =
    (kind: "token" | "binding-rule" | "denial") =>
    (entry: { readonly value: object; readonly version: number }, id: string) =>
      ({ kind, id, replaces: entry, content: null }) as const;

  return {
    ...createTokenAdministration(options),

    authMethods: () => [...directory.authMethods.values()].map(shown),
    authMethod(name) {
      const entry = directory.authMethods.get(name);
      return entry === undefined ? null : shown(entry);
    },
    async createAuthMethod(method) {
      if (directory.authMethods.has(method.name))
        throw new ConflictError(
          "name_taken",
          `Invalid Auth Method: auth method ${JSON.stringify(method.name)} already exists`,
        );
      checkMethod(method);
      return put("auth-method", { ...method, id: makeUuid(random) }, null);
    },
    async updateAuthMethod(method) {
      const entry = requireMethod(method.name);
      if (entry.value.type !== method.type)
        throw malformed(
          `Changing an auth method's type from ${JSON.stringify(entry.value.type)} is not permitted`,
        );
      checkMethod(method);
      return put("auth-method", { ...method, id: entry.value.id ?? makeUuid(random) }, entry);
    },
    async deleteAuthMethod(name) {
      // Its tokens are good for nothing from then on; what a login makes meanwhile is collected.
      await directory.write([
        { kind: "auth-method", id: name, replaces: requireMethod(name), content: null },
        ...rulesOf(name).map(
          (rule) =>
            ({ kind: "binding-rule", id: rule.value.id, replaces: rule, content: null }) as const,
        ),
      ]);
      const tokens = [...directory.tokens.values()].filter(
        ({ value }) => value.authMethod === name,
      );
      await remove(tokens.map((entry) => deletion("token")(entry, entry.value.accessorId)));
    },

    bindingRules: () => [...directory.bindingRules.values()],
    bindingRule: (id) => directory.bindingRules.get(id) ?? null,
    createBindingRule: async (request) => putRule(makeUuid(random), request, null),
    async updateBindingRule(id, request) {
      const entry = requireRule(id);
      if (entry.value.authMethod !== request.authMethod)
        throw malformed("Changing the auth method of a binding rule is not permitted");
      return putRule(id, request, entry);
    },
    async deleteBindingRule(id) {
      await directory.write([
        { kind: "binding-rule", id, replaces: requireRule(id), content: null },
      ]);
    },

    denials() {
      const horizonMs = leaves.horizonMs();
      return [...directory.denials.values()].map((entry) => ({
        ...entry,
        value: { ...entry.value, expirationTime: endOf(entry.value, horizonMs) },
      }));
    },
    async deny(request) {
      const value = canonicalDenial(request.kind, request.value, leaves.scope());
      requireDescription(request.reason);
      const id = denialId(request.kind, value);
      const now = clock.now();
      const content = {
        ...request,
        id,
        value,
        createTime: now,
        expirationTime: new Date(now.getTime() + leaves.horizonMs()),
      };
      await directory.write([
        {
          kind: "denial",
          id,
          replaces: directory.denials.get(id) ?? null,
          content,
          detail: detailOf(content),
        },
      ]);
      return stored(directory.denials.get(id));
    },
    async allow(id) {
      const entry = directory.denials.get(id);
      if (entry === undefined)
        throw new RequestError("not_found", `Cannot find denial ${JSON.stringify(id)}`);
      await directory.write([{ ...deletion("denial")(entry, id), detail: detailOf(entry.value) }]);
    },
    denialOf(subject) {
      // Without a set that can be trusted nobody knows what is denied: nothing is signed then, nor
      // renewed.
      directory.requireLoaded();
      if (directory.denials.size === 0) return null;
      if (denials.revision !== directory.denialRevision)
        denials = {
          revision: directory.denialRevision,
          of: indexDenials([...directory.denials.values()].map(({ value }) => value)),
        };
      return denials.of(subject)[0] ?? null;
    },

    async collect(until) {
      const tokens = [...directory.tokens.values()].filter(
        (entry) => isExpired(entry.value.expirationTime, until) || orphaned(entry),
      );
      const rules = [...directory.bindingRules.values()].filter((rule) => {
        const method = directory.authMethods.get(rule.value.authMethod);
        return method === undefined || !isRuleOf(rule, method);
      });
      const horizonMs = directory.denials.size === 0 ? 0 : leaves.horizonMs();
      const expired = [...directory.denials.values()].filter(({ value }) =>
        isExpired(endOf(value, horizonMs), until),
      );
      await directory.forgetClaims(until);
      return remove([
        ...tokens.map((entry) => deletion("token")(entry, entry.value.accessorId)),
        ...rules.map((entry) => deletion("binding-rule")(entry, entry.value.id)),
        ...expired.map((entry) => deletion("denial")(entry, entry.value.id)),
      ]);
    },
  };
}

/** An auth method without its secret. */
function shown(entry: Entry<AuthMethod>): Entry<AuthMethod> {
  return { ...entry, value: { ...entry.value, config: hideSecrets(entry.value.config) } };
}

/** What the audit log says of a denial. */
function detailOf({ kind, value, reason }: Denial): AuditDetail {
  return { [kind]: value, reason };
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
