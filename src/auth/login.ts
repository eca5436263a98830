/**
 * Logging in: from a login token to a token of our own with the identities that binding rules give it, and back.
 * @module
 */
import type { AuthMethod, BindingRule, Entry, NodeIdentity, ServiceIdentity, Token } from "../core/access.ts";
import type { BeforeChange } from "../core/access-control.ts";
import { hex, utf8 } from "../core/bytes.ts";
import type { Clock, Random } from "../core/clock.ts";
import { DeniedError, RateLimitedError, RequestError } from "../core/errors.ts";
import { sha256 } from "../core/x509/digest.ts";
import type { Directory } from "./directory.ts";
import type { KeySets } from "./jwks.ts";
import { isOrphaned, isRuleOf, originOf } from "./login-origin.ts";
import { type LoginToken, reviewLoginToken, verifyLoginToken } from "./login-token.ts";
import { openSecret } from "./method-secrets.ts";
import { type BindingSettings, type MethodSettings, readBinding, readSettings } from "./methods.ts";
import type { Fields } from "./selector.ts";
import { MAX_DESCRIPTION } from "./token-administration.ts";
import type { TokenReviews } from "./token-review.ts";
import { isExpired, isIdentityName, makeUuid, presentedSecret } from "./tokens.ts";

export interface LoginOptions {
  readonly directory: Directory;
  readonly keySets: KeySets;
  readonly reviews: Pick<TokenReviews, "review">;
  readonly datacenter: string;
  readonly clock: Clock;
  readonly random: Random;
  /** How many live tokens a subject of a method may have. @default DEFAULT_MAX_TOKENS */
  readonly maxTokens?: number | undefined;
}

export interface LoginRequest {
  readonly authMethod: string;
  /** The login token. */
  readonly bearerToken: string;
  /** Shown in the token's description. */
  readonly meta: Readonly<Record<string, string>>;
}

export interface Login {
  /**
   * @returns the new token and its secret, which is nowhere else.
   * @throws {DeniedError} @throws {NotReadyError} @throws {ProviderError} where keys cannot be had @throws {StoreError}
   */
  login(request: LoginRequest, before?: BeforeChange): Promise<{ readonly token: Entry<Token>; readonly secret: string }>;
  /** Deletes the token that a login made. @throws {DeniedError} @throws {NotReadyError} @throws {StoreError} */
  logout(secret: string | null, before?: BeforeChange): Promise<void>;
}

/** Consul's bound for the name of an auth method; a longer one is not repeated whole. */
const MAX_NAME = 128;
/** Live tokens of one subject of a method, by default: a pod or a person has some, and logs out of those that are done with. */
export const DEFAULT_MAX_TOKENS = 100;
/** Consul's `token_max_ttl` by default: how long a token lives at most if its method does not say. */
const DEFAULT_MAX_TTL_MS = 24 * 3_600_000;
/** Consul's bounds for metadata (`metaMaxKeyPairs`, `metaKeyMaxLength`, `metaValueMaxLength` in agent/structs/structs.go). */
const [MAX_META, MAX_META_KEY, MAX_META_VALUE] = [64, 128, 512];

export function createLogin(options: LoginOptions): Login {
  const { directory, keySets, reviews, datacenter, clock, random } = options;
  const maxTokens = options.maxTokens ?? DEFAULT_MAX_TOKENS;
  // An entry is replaced by every change of it.
  const settings = new WeakMap<Entry<AuthMethod>, MethodSettings>();
  const bindings = new WeakMap<Entry<BindingRule>, { readonly of: MethodSettings; readonly binding: BindingSettings }>();
  const settingsOf = (method: Entry<AuthMethod>): MethodSettings => {
    const read = settings.get(method) ?? readSettings(method.value);
    settings.set(method, read);
    return read;
  };
  const bindingOf = (rule: Entry<BindingRule>, of: MethodSettings): BindingSettings => {
    const before = bindings.get(rule);
    if (before?.of === of) return before.binding;
    const binding = readBinding(rule.value, of);
    bindings.set(rule, { of, binding });
    return binding;
  };

  /** What a login token shows, once it is known to be good. */
  const present = (jwt: string, { value: method }: Entry<AuthMethod>, read: MethodSettings): Promise<LoginToken> => {
    const { keySource, review, audiences } = read;
    if (review !== null) {
      const ask = async () => reviews.review({ ...review, token: await openSecret(method, review.token, directory) }, jwt, audiences);
      return reviewLoginToken(jwt, read, ask, clock.now());
    }
    const getKeySet = keySource === null ? null : (missing: boolean) => keySets.get(keySource, missing);
    return verifyLoginToken(jwt, method.type, read, getKeySet, clock.now());
  };

  /** The identities that the rules of a method give to a login. */
  const bind = (method: Entry<AuthMethod>, fields: Fields) => {
    const services = new Map<string, ServiceIdentity>();
    const nodes = new Map<string, NodeIdentity>();
    for (const rule of directory.bindingRules.values()) {
      if (!isRuleOf(rule, method)) continue;
      const { selector, bindName } = bindingOf(rule, settingsOf(method));
      if (!selector(fields)) continue;
      const name = bindName.fill(fields);
      if (name === null || !isIdentityName(name)) throw denied("a binding rule gives it no name that a service or node can have");
      if (rule.value.bindType === "service") services.set(name, { serviceName: name, datacenters: [] });
      else nodes.set(name, { nodeName: name, datacenter });
    }
    return { serviceIdentities: [...services.values()], nodeIdentities: [...nodes.values()] };
  };

  /** Live tokens of a subject, the oldest first. */
  const tokensOf = (method: Entry<AuthMethod>, subject: string): Entry<Token>[] =>
    [...directory.tokens.values()]
      .filter(
        (entry) =>
          entry.value.authMethod === method.value.name &&
          entry.value.login?.subject === subject &&
          !isOrphaned(entry, method) &&
          !isExpired(entry.value.expirationTime, clock.now()),
      )
      .toSorted((a, b) => a.createIndex - b.createIndex);
  const requireRoom = (tokens: readonly Entry<Token>[]) => {
    if (tokens.length < maxTokens) return;
    const ends = tokens.map(({ value }) => value.expirationTime?.getTime() ?? Number.POSITIVE_INFINITY);
    throw new RateLimitedError(
      Math.max(1000, Math.min(DEFAULT_MAX_TTL_MS, Math.min(...ends) - clock.now().getTime())),
      "login_tokens_exceeded",
      `Cannot log in: ${maxTokens} tokens of this subject are live; log out of those that are not needed, or wait until one expires`,
    );
  };

  /** Writes a token, unless others that were written before leave it no room. */
  const insert = async (token: Token, method: Entry<AuthMethod>, subject: string, before: BeforeChange | undefined) => {
    requireRoom(tokensOf(method, subject));
    const secret = makeUuid(random);
    const key = await directory.hashSecret(secret);
    const id = token.accessorId;
    const detail = { "auth-method": method.value.name, subject };
    await directory.write([{ kind: "token", id, replaces: null, content: token, key, detail }], before);
    const entry = directory.tokens.get(id);
    if (entry === undefined)
      return { token: { value: token, version: 1, createIndex: directory.index, modifyIndex: directory.index }, secret };
    // Logins that ran at the same time did not see each other: the order of their writes decides, and in one write the id.
    const earlier = tokensOf(method, subject).filter(
      ({ createIndex, value }) =>
        createIndex < entry.createIndex || (createIndex === entry.createIndex && value.accessorId < entry.value.accessorId),
    );
    if (earlier.length >= maxTokens) {
      await directory.write([{ kind: "token", id, replaces: entry, content: null, detail }], before);
      requireRoom(earlier);
    }
    return { token: entry, secret };
  };

  return {
    async login({ authMethod, bearerToken, meta }, before) {
      const description = describe(meta);
      const method = directory.authMethods.get(authMethod);
      // Consul's text (agent/consul/acl_endpoint.go).
      if (method === undefined)
        throw new DeniedError("token_unknown", `ACL not found: auth method ${JSON.stringify(authMethod.slice(0, MAX_NAME))} not found`);
      const { name, maxTokenTtlMs } = method.value;
      const read = settingsOf(method);
      const presented = await present(bearerToken, method, read);
      const identities = bind(method, presented.fields);
      // A token without any right would only be there to be stored.
      if (identities.serviceIdentities.length + identities.nodeIdentities.length === 0) throw denied("no binding rule matches it");
      const origin = originOf(method, presented.subject);
      requireRoom(tokensOf(method, origin.subject));
      const now = clock.now();
      if (read.once && presented.name !== null) {
        const id = hex(sha256(utf8(presented.name)));
        if (!(await directory.claim(id, Math.max(1, presented.deadAt.getTime() - now.getTime())))) throw denied("it was used before");
      }
      const longest = now.getTime() + (maxTokenTtlMs || DEFAULT_MAX_TTL_MS);
      const token: Token = {
        accessorId: makeUuid(random),
        description,
        policies: [],
        ...identities,
        local: true,
        createTime: now,
        expirationTime: new Date(maxTokenTtlMs > 0 ? longest : Math.min(longest, presented.expiresAt.getTime())),
        authMethod: name,
        login: origin,
      };
      return insert(token, method, origin.subject, before);
    },
    async logout(secret, before) {
      const presented = presentedSecret(secret);
      const entry = presented === null ? undefined : directory.tokensByHash.get(await directory.hashSecret(presented));
      if (entry === undefined) throw new DeniedError("token_unknown", "ACL not found");
      // Consul's text (agent/consul/auth/token_writer.go).
      if (entry.value.authMethod === null) throw new DeniedError("permission_denied", "Permission denied: token wasn't created via login");
      const detail = { "auth-method": entry.value.authMethod, ...(entry.value.login && { subject: entry.value.login.subject }) };
      await directory.write([{ kind: "token", id: entry.value.accessorId, replaces: entry, content: null, detail }], before);
    },
  };
}

/** What a token shows of a login. @throws {RequestError} `request_malformed` */
function describe(meta: Readonly<Record<string, string>>): string {
  const entries = Object.entries(meta);
  if (entries.length > MAX_META) throw malformed(`Meta has ${entries.length} entries, at most ${MAX_META} are allowed`);
  for (const [key, value] of entries) {
    if (key === "" || key.length > MAX_META_KEY) throw malformed(`Meta has a key of 0 or more than ${MAX_META_KEY} characters`);
    if (value.length > MAX_META_VALUE) throw malformed(`Meta has a value of more than ${MAX_META_VALUE} characters`);
  }
  const description = `token created via login${entries.length === 0 ? "" : `: ${JSON.stringify(meta)}`}`;
  if (description.length > MAX_DESCRIPTION) throw malformed(`Meta has more than ${MAX_DESCRIPTION} characters as a whole`);
  return description;
}

function malformed(message: string): RequestError {
  return new RequestError("request_malformed", `Cannot log in: ${message}`);
}

function denied(why: string): DeniedError {
  return new DeniedError("permission_denied", `Permission denied: login token is not accepted: ${why}`);
}
