/**
 * Resolves the secret of a request to what its token permits. A secret that was resolved before is
 * found by its digest under a key of this process: no secret is kept, none is compared octet by
 * octet, and a leaf's request awaits nothing. What follows from a token is kept with its entry, which
 * every change of the token replaces.
 * @module
 */

import {
  type AccessLevel,
  ANONYMOUS,
  type Authorization,
  type Authorizer,
  type Resource,
  type TokenIdentity,
} from "../core/acl/authorizer.ts";
import type { AclPolicy, AclRole, Entry, Grants, Token } from "../core/acl/types.ts";
import { sha256 } from "../core/bytes.ts";
import { DeniedError, NotReadyError, StoreError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { StoredToken } from "./cache.ts";
import { unknownToken } from "./errors.ts";
import { effectiveGrants } from "./grants.ts";
import { isOrphaned } from "./login-origin.ts";
import type { AclReplica } from "./replica.ts";
import {
  CompiledRules,
  GLOBAL_MANAGEMENT,
  nodeIdentityRules,
  serviceIdentityRules,
} from "./rule-index.ts";
import { type Rule, readRules } from "./rules.ts";
import { templatedRules } from "./templated-policies.ts";
import { ANONYMOUS_TOKEN, isExpired, MAX_SECRET_LENGTH, presentedSecret } from "./tokens.ts";

/** Secrets kept by their digest: several times the tokens of a large mesh. Then all are dropped. */
const MAX_RESOLVED = 100_000;

/** A token that was resolved, as of a revision of the records. */
interface Resolved<E extends Entry<Token> = StoredToken> {
  readonly entry: E;
  readonly authorization: Authorization;
  readonly revision: number;
  readonly policyRevision: number;
}

/**
 * What a resolver has worked out, with nothing in it that belongs to one request. There are no weak
 * maps: each garbage collection goes through all of them, which every leaf would pay.
 */
export interface ResolverMemory {
  /** By the digest of a secret. */
  readonly resolved: Map<string, Resolved>;
  anonymous: Resolved<Entry<Token>> | null;
  /** By the links of a token, which thousands of tokens share. */
  readonly compiled: { revision: number; readonly rules: Map<string, CompiledRules> };
  /** By the id of a policy. */
  readonly parsed: Map<
    string,
    { readonly entry: Entry<AclPolicy>; readonly rules: readonly Rule[] }
  >;
  readonly digestOf: (secret: string) => string;
}

export function createResolverMemory(random: Random): ResolverMemory {
  return {
    resolved: new Map(),
    anonymous: null,
    compiled: { revision: -1, rules: new Map() },
    parsed: new Map(),
    digestOf: createDigest(random),
  };
}

export interface ResolverOptions {
  readonly replica: AclReplica;
  readonly defaultPolicy: "allow" | "deny";
  readonly datacenter: string;
  readonly clock: Clock;
  /** How long the last records are used while the store is away; null if it cannot be away. */
  readonly maxStalenessMs: number | null;
  readonly memory: ResolverMemory;
}

export class TokenResolver implements Authorizer {
  readonly defaultPolicy: "allow" | "deny";
  readonly #replica: AclReplica;
  readonly datacenter: string;
  readonly #clock: Clock;
  readonly #maxStalenessMs: number | null;
  readonly #memory: ResolverMemory;

  constructor(options: ResolverOptions) {
    this.defaultPolicy = options.defaultPolicy;
    this.#replica = options.replica;
    this.datacenter = options.datacenter;
    this.#clock = options.clock;
    this.#maxStalenessMs = options.maxStalenessMs;
    this.#memory = options.memory;
  }

  authorize(secret: string | null): Authorization | Promise<Authorization> {
    this.#requireFresh();
    const presented = presentedSecret(secret);
    if (presented === null) throw unknownToken();
    if (presented === ANONYMOUS.secret) return this.#anonymous();
    const replica = this.#replica;
    const { resolved, digestOf } = this.#memory;
    const digest = digestOf(presented);
    const before = resolved.get(digest);
    // Nearly always nothing has changed, and then nothing else is looked at.
    if (before?.revision === replica.revision) return this.#accept(before);
    const entry =
      before === undefined ? undefined : replica.tokens.get(before.entry.value.accessorId);
    resolved.delete(digest);
    // A token that was deleted may have been created again with another secret.
    if (before === undefined || entry?.hash !== before.entry.hash)
      return this.#lookUp(presented, digest);
    const now = this.#resolve(entry, before);
    resolved.set(digest, now);
    return this.#accept(now);
  }

  #requireFresh(): void {
    this.#replica.requireLoaded();
    if (this.#maxStalenessMs === null) return;
    // After a clock was set back by more, the age is unknown.
    const ageMs = Math.abs(this.#clock.now().getTime() - this.#replica.seenAt.getTime());
    if (ageMs > this.#maxStalenessMs)
      throw new NotReadyError(
        "state_stale",
        "Cannot authorize: the ACL is stale, since the store has been away for too long",
        { retryAfterMs: 3000 },
      );
  }

  #anonymous(): Authorization {
    const memory = this.#memory;
    if (memory.anonymous?.revision !== this.#replica.revision) {
      const entry = this.#replica.tokens.get(ANONYMOUS.accessorId) ?? ANONYMOUS_TOKEN;
      memory.anonymous = this.#resolve(entry, memory.anonymous);
    }
    return memory.anonymous.authorization;
  }

  async #lookUp(secret: string, digest: string): Promise<Authorization> {
    const { resolved } = this.#memory;
    const hash = await this.#replica.hashSecret(secret);
    const now = this.#resolve(this.#replica.tokensByHash.get(hash), null);
    const authorization = this.#accept(now);
    if (resolved.size >= MAX_RESOLVED) resolved.clear();
    resolved.set(digest, now);
    return authorization;
  }

  #accept({ entry, authorization }: Resolved): Authorization {
    if (isExpired(entry.value.expirationTime, this.#clock.now())) throw unknownToken();
    return authorization;
  }

  /** @param before what the same secret resolved to before, which may still hold. */
  #resolve<E extends Entry<Token>>(entry: E | undefined, before: Resolved<E> | null): Resolved<E> {
    const { revision, policyRevision, authMethods } = this.#replica;
    // The tokens of a deleted auth method are void at once and for good.
    if (entry === undefined || isOrphaned(entry, authMethods.get(entry.value.authMethod ?? "")))
      throw unknownToken();
    const authorization =
      before?.entry === entry && before.policyRevision === policyRevision
        ? before.authorization
        : this.#authorization(entry.value);
    return { entry, authorization, revision, policyRevision };
  }

  #authorization(token: Token): Authorization {
    const grants = effectiveGrants(token, (id) => this.#roleOf(id));
    return new TokenAuthorization(token.accessorId, grants, this.#compile(grants), this);
  }

  #roleOf(id: string): Entry<AclRole> | undefined {
    if (this.#replica.faulty.has(`role/${id}`))
      throw new StoreError(
        "state_corrupt",
        "Cannot authorize: the record of a role of this token has an invalid MAC",
      );
    return this.#replica.roles.get(id);
  }

  #compile(grants: Required<Grants>): CompiledRules {
    const { policies, serviceIdentities, nodeIdentities } = grants;
    const templated = (grants.templatedPolicies ?? []).filter(({ datacenters }) =>
      isIn(this.datacenter, datacenters),
    );
    const { compiled } = this.#memory;
    const { policyRevision } = this.#replica;
    if (compiled.revision !== policyRevision || compiled.rules.size >= MAX_RESOLVED) {
      compiled.revision = policyRevision;
      compiled.rules.clear();
    }
    const links = JSON.stringify([policies, serviceIdentities, nodeIdentities, templated]);
    const before = compiled.rules.get(links);
    if (before !== undefined) return before;
    const rules = new CompiledRules([
      ...policies.flatMap((id) => this.#rulesOf(id)),
      ...serviceIdentities
        .filter(({ datacenters }) => isIn(this.datacenter, datacenters))
        .flatMap(({ serviceName }) => serviceIdentityRules(serviceName)),
      ...nodeIdentities
        .filter(({ datacenter }) => datacenter === this.datacenter)
        .flatMap(({ nodeName }) => nodeIdentityRules(nodeName)),
      ...templated.flatMap((policy) => readRules(templatedRules(policy))),
    ]);
    compiled.rules.set(links, rules);
    return rules;
  }

  #rulesOf(policyId: string): readonly Rule[] {
    if (policyId === GLOBAL_MANAGEMENT.id) return readRules(GLOBAL_MANAGEMENT.rules);
    const { parsed } = this.#memory;
    if (this.#replica.faulty.has(`policy/${policyId}`))
      throw new StoreError(
        "state_corrupt",
        "Cannot authorize: the record of a policy of this token has an invalid MAC",
      );
    const entry = this.#replica.policies.get(policyId);
    // Consul: a link to a deleted policy grants nothing.
    if (entry === undefined) parsed.delete(policyId);
    if (entry === undefined || !isIn(this.datacenter, entry.value.datacenters)) return [];
    const before = parsed.get(policyId);
    if (before?.entry === entry) return before.rules;
    const rules = readRules(entry.value.rules);
    parsed.set(policyId, { entry, rules });
    return rules;
  }
}

/** @param datacenters empty for all. */
function isIn(datacenter: string, datacenters: readonly string[]): boolean {
  return datacenters.length === 0 || datacenters.includes(datacenter);
}

/** It refers to nothing of the resolver that created it, which may be gone before it is. */
class TokenAuthorization implements Authorization {
  readonly accessorId: string;
  readonly anonymous: boolean;
  readonly #grants: Grants;
  readonly #rules: CompiledRules;
  readonly #defaultPolicy: "allow" | "deny";
  readonly #datacenter: string;
  /** The last question and its answer: most tokens ask for one thing, again and again. */
  #last: {
    readonly resource: Resource;
    readonly level: AccessLevel;
    readonly name: string;
    readonly allowed: boolean;
  } | null = null;

  constructor(
    accessorId: string,
    grants: Grants,
    rules: CompiledRules,
    { defaultPolicy, datacenter }: Pick<TokenResolver, "defaultPolicy" | "datacenter">,
  ) {
    this.accessorId = accessorId;
    this.anonymous = accessorId === ANONYMOUS.accessorId;
    this.#grants = grants;
    this.#rules = rules;
    this.#defaultPolicy = defaultPolicy;
    this.#datacenter = datacenter;
  }

  get identities(): readonly TokenIdentity[] {
    if (this.anonymous) return [];
    const { serviceIdentities, nodeIdentities } = this.#grants;
    const templated = (template: string) =>
      (this.#grants.templatedPolicies ?? [])
        .filter(
          ({ templateName, datacenters }) =>
            templateName === template && isIn(this.#datacenter, datacenters),
        )
        .map(({ name }) => name);
    const services = serviceIdentities
      .filter(({ datacenters }) => isIn(this.#datacenter, datacenters))
      .map(({ serviceName }) => serviceName);
    const nodes = nodeIdentities
      .filter(({ datacenter }) => datacenter === this.#datacenter)
      .map(({ nodeName }) => nodeName);
    return [
      ...Array.from(
        new Set([...services, ...templated("builtin/service")]),
        (name) => ({ kind: "service", name }) as const,
      ),
      ...Array.from(
        new Set([...nodes, ...templated("builtin/node")]),
        (name) => ({ kind: "node", name }) as const,
      ),
    ];
  }

  allows(resource: Resource, level: AccessLevel, name = ""): boolean {
    const last = this.#last;
    if (last !== null && last.name === name && last.resource === resource && last.level === level)
      return last.allowed;
    const decision = this.#rules.decide(resource, level, name);
    // Consul: a default policy of allow does not let everyone manage tokens.
    const allowed =
      decision === "allow" ||
      (decision === "default" && this.#defaultPolicy === "allow" && resource !== "acl");
    this.#last = { resource, level, name, allowed };
    return allowed;
  }

  require(resource: Resource, level: AccessLevel, name = ""): void {
    if (this.allows(resource, level, name)) return;
    // Consul's text (acl/errors.go).
    const whom = this.anonymous ? "anonymous token" : `token with AccessorID '${this.accessorId}'`;
    const what = `'${resource}:${level}'${name === "" ? "" : ` on ${JSON.stringify(name)}`}`;
    const hint = this.anonymous
      ? ". The anonymous token is used implicitly when a request does not specify a token."
      : "";
    throw new DeniedError(
      "permission_denied",
      `Permission denied: ${whom} lacks permission ${what}${hint}`,
    );
  }
}

/**
 * Digests of secrets under a key of this process. With a key of 16 octets (128 bits, as strong as a
 * UUID's 122) a secret of 36 characters is one block of SHA-256; half of the digest identifies it.
 */
function createDigest(random: Random): (secret: string) => string {
  const KEY = 16;
  const input = new Uint8Array(KEY + 3 * MAX_SECRET_LENGTH);
  input.set(random.bytes(KEY));
  const encoder = new TextEncoder();
  const encode = (secret: string): number => {
    // Nearly always ASCII, which is written faster by hand.
    for (let i = 0; i < secret.length; i++) {
      const unit = secret.charCodeAt(i);
      if (unit > 0x7f) return encoder.encodeInto(secret, input.subarray(KEY)).written;
      input[KEY + i] = unit;
    }
    return secret.length;
  };
  return (secret) => {
    const digest = sha256(input.subarray(0, KEY + encode(secret)));
    input.fill(0, KEY);
    const unit = (at: number) => ((digest[at] as number) << 8) | (digest[at + 1] as number);
    return String.fromCharCode(
      unit(0),
      unit(2),
      unit(4),
      unit(6),
      unit(8),
      unit(10),
      unit(12),
      unit(14),
    );
  };
}
