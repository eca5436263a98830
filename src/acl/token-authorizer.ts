/**
 * The authorizer over the directory. A secret that was seen is found again by a digest under a key
 * of this process alone, so that no secret is kept, none is compared octet by octet, and nothing is
 * awaited for a leaf. What is made of a token stays with its entry, which is replaced by every
 * change of it.
 * @module
 */

import {
  type AccessLevel,
  ANONYMOUS,
  type Authorization,
  type Authorizer,
  type Resource,
} from "../core/acl/authorizer.ts";
import type { AclPolicy, Entry, Token } from "../core/acl/types.ts";
import { sha256 } from "../core/bytes.ts";
import { DeniedError, NotReadyError, StoreError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Directory, StoredToken } from "./directory.ts";
import { isOrphaned } from "./login-origin.ts";
import {
  type CompiledRules,
  compileRules,
  GLOBAL_MANAGEMENT,
  nodeIdentityRules,
  serviceIdentityRules,
} from "./rule-index.ts";
import { type Rule, readRules } from "./rules.ts";
import { ANONYMOUS_TOKEN, isExpired, MAX_SECRET_LENGTH, presentedSecret } from "./tokens.ts";

/**
 * Secrets remembered by their digest: several times the tokens that a large mesh has. Beyond that
 * all are looked up anew.
 */
const REMEMBERED = 100_000;

/** The token of a secret that was seen, and whose it is as of a revision of the directory. */
interface Known<E extends Entry<Token> = StoredToken> {
  readonly entry: E;
  readonly caller: Authorization;
  readonly revision: number;
  readonly policyRevision: number;
}

/**
 * What an authorizer has worked out, with nothing in it that is of one request. No weak maps: the
 * collector goes through all of them each time, which every leaf would pay.
 */
export interface AuthorizerMemory {
  /** By the digest of a secret. */
  readonly known: Map<string, Known>;
  anonymous: Known<Entry<Token>> | null;
  /**
   * By what a token links to: thousands of tokens have the same, and rules kept once are cheap to
   * collect.
   */
  readonly compiled: { revision: number; readonly rules: Map<string, CompiledRules> };
  /** By the id of a policy. */
  readonly parsed: Map<
    string,
    { readonly entry: Entry<AclPolicy>; readonly rules: readonly Rule[] }
  >;
  readonly digestOf: (secret: string) => string;
}

export function createAuthorizerMemory(random: Random): AuthorizerMemory {
  const compiled = { revision: -1, rules: new Map() };
  return {
    known: new Map(),
    anonymous: null,
    compiled,
    parsed: new Map(),
    digestOf: createDigest(random),
  };
}

export interface AuthorizerOptions {
  /** @default one that knows nothing */
  readonly memory?: AuthorizerMemory | undefined;
  readonly directory: Directory;
  readonly defaultPolicy: "allow" | "deny";
  readonly datacenter: string;
  readonly clock: Clock;
  readonly random: Random;
  /**
   * How long what was seen last is good for while the store is away; null where the store cannot be
   * away.
   */
  readonly maxStalenessMs: number | null;
}

export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const { directory, defaultPolicy, datacenter, clock, maxStalenessMs } = options;
  const memory = options.memory ?? createAuthorizerMemory(options.random);
  const { known, compiled, parsed, digestOf } = memory;
  const here = (datacenters: readonly string[]) =>
    datacenters.length === 0 || datacenters.includes(datacenter);

  const policyRules = (id: string): readonly Rule[] => {
    if (id === GLOBAL_MANAGEMENT.id) return readRules(GLOBAL_MANAGEMENT.rules);
    if (directory.faulty.has(`policy/${id}`))
      throw new StoreError("state_corrupt", "Cannot trust a policy of this token: it is not ours");
    const entry = directory.policies.get(id);
    // Consul: a link to a policy that is gone grants nothing.
    if (entry === undefined) parsed.delete(id);
    if (entry === undefined || !here(entry.value.datacenters)) return [];
    const before = parsed.get(id);
    if (before?.entry === entry) return before.rules;
    const rules = readRules(entry.value.rules);
    parsed.set(id, { entry, rules });
    return rules;
  };

  const compile = ({ policies, serviceIdentities, nodeIdentities }: Token): CompiledRules => {
    if (compiled.revision !== directory.policyRevision || compiled.rules.size >= REMEMBERED) {
      compiled.revision = directory.policyRevision;
      compiled.rules.clear();
    }
    const links = JSON.stringify([policies, serviceIdentities, nodeIdentities]);
    const before = compiled.rules.get(links);
    if (before !== undefined) return before;
    const rules = compileRules([
      ...policies.flatMap(policyRules),
      ...serviceIdentities
        .filter((identity) => here(identity.datacenters))
        .flatMap(({ serviceName }) => serviceIdentityRules(serviceName)),
      ...nodeIdentities
        .filter((identity) => identity.datacenter === datacenter)
        .flatMap(({ nodeName }) => nodeIdentityRules(nodeName)),
    ]);
    compiled.rules.set(links, rules);
    return rules;
  };

  const requireFresh = () => {
    directory.requireLoaded();
    // A clock that was set back by more says nothing about how long ago the store answered.
    if (
      maxStalenessMs !== null &&
      Math.abs(clock.now().getTime() - directory.seenAt.getTime()) > maxStalenessMs
    )
      throw new NotReadyError(
        "state_stale",
        "Cannot authorize: the store has been away for too long",
        { retryAfterMs: 3000 },
      );
  };

  /** @param before what was known of it, which may still hold. */
  const know = <E extends Entry<Token>>(
    entry: E | undefined,
    before: Known<E> | null = null,
  ): Known<E> => {
    // An auth method that is deleted takes its tokens with it, at once and for good.
    if (
      entry === undefined ||
      isOrphaned(entry, directory.authMethods.get(entry.value.authMethod ?? ""))
    )
      throw unknown();
    const { revision, policyRevision } = directory;
    const same = before?.entry === entry && before.policyRevision === policyRevision;
    const caller = same
      ? before.caller
      : makeAuthorization(entry.value.accessorId, compile(entry.value), defaultPolicy);
    return { entry, caller, revision, policyRevision };
  };

  const accept = ({ entry, caller }: Known): Authorization => {
    if (isExpired(entry.value.expirationTime, clock.now())) throw unknown();
    return caller;
  };

  const lookUp = async (secret: string, digest: string): Promise<Authorization> => {
    const hash = await directory.hashSecret(secret);
    const found = know(directory.tokensByHash.get(hash));
    const caller = accept(found);
    if (known.size >= REMEMBERED) known.clear();
    known.set(digest, found);
    return caller;
  };

  return {
    defaultPolicy,
    authorize(secret) {
      requireFresh();
      const presented = presentedSecret(secret);
      if (presented === null) throw unknown();
      if (presented === ANONYMOUS.secret) {
        if (memory.anonymous?.revision !== directory.revision)
          memory.anonymous = know(
            directory.tokens.get(ANONYMOUS.accessorId) ?? ANONYMOUS_TOKEN,
            memory.anonymous,
          );
        return memory.anonymous.caller;
      }
      const digest = digestOf(presented);
      const seen = known.get(digest);
      // Nearly always nothing has changed, and then nothing else is looked at.
      if (seen?.revision === directory.revision) return accept(seen);
      const entry =
        seen === undefined ? undefined : directory.tokens.get(seen.entry.value.accessorId);
      known.delete(digest);
      // A token that was deleted may have been made again with another secret.
      if (seen === undefined || entry?.hash !== seen.entry.hash) return lookUp(presented, digest);
      const renewed = know(entry, seen);
      known.set(digest, renewed);
      return accept(renewed);
    },
  };
}

/** It holds on to nothing of the authorizer that made it: it may stay when that is gone. */
function makeAuthorization(
  accessorId: string,
  rules: CompiledRules,
  defaultPolicy: Authorizer["defaultPolicy"],
): Authorization {
  const anonymous = accessorId === ANONYMOUS.accessorId;
  // Most tokens ask for one thing, again and again.
  let last: {
    readonly resource: Resource;
    readonly access: AccessLevel;
    readonly name: string;
    readonly allowed: boolean;
  } | null = null;
  const allows = (resource: Resource, access: AccessLevel, name = "") => {
    if (last !== null && last.name === name && last.resource === resource && last.access === access)
      return last.allowed;
    const decision = rules.decide(resource, access, name);
    // Consul: allowing by default does not make everybody a manager of tokens.
    const allowed =
      decision === "allow" ||
      (decision === "default" && defaultPolicy === "allow" && resource !== "acl");
    last = { resource, access, name, allowed };
    return allowed;
  };
  return {
    accessorId,
    anonymous,
    allows,
    require(resource, access, name = "") {
      if (!allows(resource, access, name))
        throw denied(accessorId, anonymous, resource, access, name);
    },
  };
}

/**
 * Digests of secrets under a key of this process. With its 16 octets (128 bits, as strong as a
 * UUID's 122) a secret of 36 characters is one block of SHA-256, and half of the digest names it.
 */
function createDigest(random: Random): (secret: string) => string {
  const KEY = 16;
  const input = new Uint8Array(KEY + 3 * MAX_SECRET_LENGTH);
  input.set(random.bytes(KEY));
  const encoder = new TextEncoder();
  const encode = (secret: string): number => {
    // Nearly always ASCII, which is quicker put down by hand.
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

function unknown(): DeniedError {
  // Consul's text (acl/errors.go).
  return new DeniedError("token_unknown", "ACL not found");
}

/** Consul's sentences (consul-observed.md). */
function denied(
  accessorId: string,
  anonymous: boolean,
  resource: Resource,
  access: AccessLevel,
  name: string,
): DeniedError {
  const whom = anonymous ? "anonymous token" : `token with AccessorID '${accessorId}'`;
  const what = `'${resource}:${access}'${name === "" ? "" : ` on ${JSON.stringify(name)}`}`;
  const hint = anonymous
    ? ". The anonymous token is used implicitly when a request does not specify a token."
    : "";
  return new DeniedError(
    "permission_denied",
    `Permission denied: ${whom} lacks permission ${what}${hint}`,
  );
}
