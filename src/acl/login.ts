/**
 * Login and logout: exchanges a login token for an ACL token with the identities that binding rules
 * give it, and deletes that token.
 * @module
 */

import type { NewToken } from "../core/acl/admin.ts";
import type { BeforeChange, LoginRequest } from "../core/acl/ports.ts";
import type {
  AuthMethod,
  BindingRule,
  Entry,
  NodeIdentity,
  ServiceIdentity,
  TemplatedPolicy,
  Token,
} from "../core/acl/types.ts";
import { hex, sha256, utf8 } from "../core/bytes.ts";
import { DeniedError, RequestError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import { type MethodSettings, readSettings } from "./auth-methods.ts";
import { type BindingSettings, IS_BOUND_NAME, readBinding } from "./binding.ts";
import { loginDenied, malformed, unknownToken } from "./errors.ts";
import { nameOfTemplated } from "./grants.ts";
import type { KeySets } from "./jwks.ts";
import { isRuleOf, originOf } from "./login-origin.ts";
import { DEFAULT_MAX_TOKENS, LoginQuota } from "./login-quota.ts";
import { type LoginToken, reviewLoginToken, verifyLoginToken } from "./login-token.ts";
import { openSecret } from "./method-secrets.ts";
import type { AclReplica } from "./replica.ts";
import { GLOBAL_MANAGEMENT } from "./rule-index.ts";
import type { LoginFields } from "./selector.ts";
import { requireTemplatedPolicy } from "./templated-policies.ts";
import type { TokenReviews } from "./token-review.ts";
import { MAX_DESCRIPTION, makeUuid, presentedSecret } from "./tokens.ts";

interface LoginOptions {
  readonly replica: AclReplica;
  readonly keySets: KeySets;
  readonly reviews: Pick<TokenReviews, "review">;
  readonly datacenter: string;
  readonly clock: Clock;
  readonly random: Random;
  /** How many live tokens a subject of a method may have. @default DEFAULT_MAX_TOKENS */
  readonly maxTokens?: number | undefined;
}

/** Consul's bound for the name of an auth method; of a longer one errors quote the beginning. */
const MAX_NAME = 128;
/** Consul's default `token_max_ttl`: the longest life of a token if its method has no MaxTokenTTL. */
const DEFAULT_MAX_TTL_MS = 24 * 3_600_000;
/**
 * Consul's bounds for metadata (`metaMaxKeyPairs`, `metaKeyMaxLength`, `metaValueMaxLength` in
 * agent/structs/structs.go).
 */
const [MAX_META, MAX_META_KEY, MAX_META_VALUE] = [64, 128, 512];

/** What binding rules give to a login. */
interface Bound {
  readonly services: Map<string, ServiceIdentity>;
  readonly nodes: Map<string, NodeIdentity>;
  readonly roles: Set<string>;
  readonly policies: Set<string>;
  readonly templated: Map<string, TemplatedPolicy>;
}

type BoundGrants = Required<
  Pick<Token, "serviceIdentities" | "nodeIdentities" | "roles" | "policies" | "templatedPolicies">
>;

export class Login {
  readonly #options: LoginOptions;
  readonly #quota: LoginQuota;
  /** By entries, which each change of a record replaces. */
  readonly #settings = new WeakMap<Entry<AuthMethod>, MethodSettings>();
  readonly #bindings = new WeakMap<
    Entry<BindingRule>,
    { readonly of: MethodSettings; readonly binding: BindingSettings }
  >();

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#quota = new LoginQuota(
      options.replica,
      options.clock,
      options.maxTokens ?? DEFAULT_MAX_TOKENS,
    );
  }

  /**
   * @returns the new token and its secret, which is stored nowhere.
   * @throws {DeniedError}
   * @throws {RequestError}
   * @throws {RateLimitedError} `login_tokens_exceeded`
   * @throws {NotReadyError}
   * @throws {ProviderError} if the keys of the issuer or a review are not available
   * @throws {StoreError}
   */
  async login(
    { authMethod, bearerToken, meta }: LoginRequest,
    before?: BeforeChange,
  ): Promise<NewToken> {
    const { replica, clock, random } = this.#options;
    const description = describe(meta);
    const method = replica.authMethods.get(authMethod);
    // Consul's text (agent/consul/acl_endpoint.go).
    if (method === undefined)
      throw new DeniedError(
        "token_unknown",
        `ACL not found: auth method ${JSON.stringify(authMethod.slice(0, MAX_NAME))} not found`,
      );
    const presented = await this.#verify(bearerToken, method);
    const bound = this.#bind(method, presented.fields);
    // A token without identities, roles and policies grants nothing.
    if (Object.values(bound).every((list) => list?.length === 0))
      throw loginDenied("matches no binding rule");
    const login = originOf(method, presented.subject);
    this.#quota.require(method, login.subject);
    if (this.#settingsOf(method).once) await this.#claim(presented);
    const { name, maxTokenTtlMs } = method.value;
    const now = clock.now();
    const longest = now.getTime() + (maxTokenTtlMs || DEFAULT_MAX_TTL_MS);
    const token: Token = {
      accessorId: makeUuid(random),
      description,
      ...bound,
      local: true,
      createTime: now,
      expirationTime: new Date(
        maxTokenTtlMs > 0 ? longest : Math.min(longest, presented.expiresAt.getTime()),
      ),
      authMethod: name,
      login,
    };
    return this.#insert(token, method, login.subject, before);
  }

  /**
   * Deletes the token that a login created.
   * @throws {DeniedError}
   * @throws {NotReadyError}
   * @throws {StoreError}
   */
  async logout(secret: string | null, before?: BeforeChange): Promise<void> {
    const { replica } = this.#options;
    const presented = presentedSecret(secret);
    const entry =
      presented === null
        ? undefined
        : replica.tokensByHash.get(await replica.hashSecret(presented));
    if (entry === undefined) throw unknownToken();
    // Consul's text (agent/consul/auth/token_writer.go).
    if (entry.value.authMethod === null)
      throw new DeniedError(
        "permission_denied",
        "Permission denied: token wasn't created via login",
      );
    const detail = {
      "auth-method": entry.value.authMethod,
      ...(entry.value.login && { subject: entry.value.login.subject }),
    };
    await replica.write(
      [{ kind: "token", id: entry.value.accessorId, replaces: entry, content: null, detail }],
      before,
    );
  }

  #settingsOf(method: Entry<AuthMethod>): MethodSettings {
    const read = this.#settings.get(method) ?? readSettings(method.value);
    this.#settings.set(method, read);
    return read;
  }

  #bindingOf(rule: Entry<BindingRule>, of: MethodSettings): BindingSettings {
    const before = this.#bindings.get(rule);
    if (before?.of === of) return before.binding;
    const binding = readBinding(rule.value, of);
    this.#bindings.set(rule, { of, binding });
    return binding;
  }

  /** Verifies a login token. @throws {DeniedError} @throws {CaError} of the issuer or the store */
  #verify(jwt: string, method: Entry<AuthMethod>): Promise<LoginToken> {
    const { replica, keySets, reviews, clock } = this.#options;
    const read = this.#settingsOf(method);
    const { keySource, review, audiences } = read;
    if (review !== null) {
      const open = () => openSecret(method.value, review.token, replica);
      const ask = async () => reviews.review({ ...review, token: await open() }, jwt, audiences);
      return reviewLoginToken(jwt, read, ask, clock.now());
    }
    const getKeySet =
      keySource === null ? null : (missing: boolean) => keySets.get(keySource, missing);
    return verifyLoginToken(jwt, method.value.type, read, getKeySet, clock.now());
  }

  /** What the binding rules of a method give to a login. @throws {DeniedError} */
  #bind(method: Entry<AuthMethod>, fields: LoginFields): BoundGrants {
    const bound: Bound = {
      services: new Map(),
      nodes: new Map(),
      roles: new Set(),
      policies: new Set(),
      templated: new Map(),
    };
    for (const rule of this.#options.replica.bindingRules.values()) {
      if (!isRuleOf(rule, method)) continue;
      const binding = this.#bindingOf(rule, this.#settingsOf(method));
      if (binding.selector(fields)) this.#bindOne(rule.value, binding, fields, bound);
    }
    return {
      serviceIdentities: [...bound.services.values()],
      nodeIdentities: [...bound.nodes.values()],
      roles: [...bound.roles],
      policies: [...bound.policies],
      templatedPolicies: [...bound.templated.values()],
    };
  }

  #bindOne(
    { bindType }: BindingRule,
    { bindName, bindVariable }: BindingSettings,
    fields: LoginFields,
    { services, nodes, roles, policies, templated }: Bound,
  ): void {
    const { replica, datacenter } = this.#options;
    const name = bindName.fill(fields);
    const variable = bindVariable === null ? "" : bindVariable.fill(fields);
    if (name === null || variable === null || !IS_BOUND_NAME[bindType](name))
      throw loginDenied(
        `gets a name from a binding rule that no ${bindType === "service" || bindType === "node" ? "service or node" : bindType} can have`,
      );
    // Consul: a rule for a role or policy that does not exist gives nothing.
    const idOf = (entries: ReadonlyMap<string, Entry<{ id: string; name: string }>>) =>
      [...entries.values()].find((entry) => entry.value.name === name)?.value.id;
    if (bindType === "service") services.set(name, { serviceName: name, datacenters: [] });
    else if (bindType === "node") nodes.set(name, { nodeName: name, datacenter });
    else if (bindType === "role") addIfFound(roles, idOf(replica.roles));
    else if (bindType === "policy")
      addIfFound(
        policies,
        name === GLOBAL_MANAGEMENT.name ? GLOBAL_MANAGEMENT.id : idOf(replica.policies),
      );
    else {
      const policy = { templateName: name, name: variable, datacenters: [] };
      requireBound(policy);
      templated.set(nameOfTemplated(policy), policy);
    }
  }

  /**
   * Claims a login token that is accepted once.
   * @throws {DeniedError} the second time
   * @throws {StoreError}
   */
  async #claim({ name, deadAt }: LoginToken): Promise<void> {
    if (name === null) return;
    if (!(await this.#options.replica.claim(hex(sha256(utf8(name))), deadAt)))
      throw loginDenied("was used before");
  }

  /** Writes a token, and deletes it again if tokens that were written before exhaust the limit. */
  async #insert(
    token: Token,
    method: Entry<AuthMethod>,
    subject: string,
    before: BeforeChange | undefined,
  ): Promise<NewToken> {
    const { replica, random } = this.#options;
    this.#quota.require(method, subject);
    const [secret, id] = [makeUuid(random), token.accessorId];
    const key = await replica.hashSecret(secret);
    const detail = { "auth-method": method.value.name, subject };
    await replica.write(
      [{ kind: "token", id, replaces: null, content: token, key, detail }],
      before,
    );
    const entry = replica.tokens.get(id);
    if (entry === undefined)
      return {
        token: {
          value: token,
          version: 1,
          createIndex: replica.index,
          modifyIndex: replica.index,
        },
        secret,
      };
    const refusal = this.#quota.refusal(method, subject, entry);
    if (refusal === null) return { token: entry, secret };
    await replica.write([{ kind: "token", id, replaces: entry, content: null, detail }], before);
    throw refusal;
  }
}

function addIfFound(ids: Set<string>, id: string | undefined): void {
  if (id !== undefined) ids.add(id);
}

/** @throws {DeniedError} for a variable that the templated policy cannot have */
function requireBound(policy: TemplatedPolicy): void {
  try {
    requireTemplatedPolicy(policy, "binding rule");
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw loginDenied("gets a name from a binding rule that its templated policy cannot have");
  }
}

/** The description of a login's token. @throws {RequestError} `request_malformed` */
function describe(meta: Readonly<Record<string, string>>): string {
  const entries = Object.entries(meta);
  if (entries.length > MAX_META)
    throw malformed(
      `Cannot log in: Meta has ${entries.length} entries, at most ${MAX_META} are allowed`,
    );
  for (const [key, value] of entries) {
    if (key === "" || key.length > MAX_META_KEY)
      throw malformed(
        `Cannot log in: a key of Meta is empty or longer than ${MAX_META_KEY} characters`,
      );
    if (value.length > MAX_META_VALUE)
      throw malformed(`Cannot log in: a value of Meta is longer than ${MAX_META_VALUE} characters`);
  }
  const description = `token created via login${entries.length === 0 ? "" : `: ${JSON.stringify(meta)}`}`;
  if (description.length > MAX_DESCRIPTION)
    throw malformed(`Cannot log in: Meta is longer than ${MAX_DESCRIPTION} characters in JSON`);
  return description;
}
