/**
 * Builds access control over the store of its records.
 * @module
 */
import { AclRecords } from "../acl/admin.ts";
import { type AclCache, createAclCache } from "../acl/cache.ts";
import type { DenylistCache } from "../acl/denylist-cache.ts";
import { createKeySetCache, type KeySetCache, KeySets } from "../acl/jwks.ts";
import { Login } from "../acl/login.ts";
import { type AclReplica, createAclReplica } from "../acl/replica.ts";
import { createResolverMemory, type ResolverMemory, TokenResolver } from "../acl/token-resolver.ts";
import { TokenReviews } from "../acl/token-review.ts";
import type { Settings } from "../config/settings.ts";
import type { Acl } from "../core/acl/ports.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import { intermediateEnd } from "../core/ca/intermediates.ts";
import { maxLeafLifeMs } from "../core/ca/leaf-issuers.ts";
import type { Policy } from "../core/ca/timing-and-limits.ts";
import { NotReadyError } from "../core/errors.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { AclLastSeenStore } from "../core/ports/last-seen.ts";
import type { RecordStore } from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { Platform } from "./platform.ts";

/** Access control state that the requests of one isolate share (plain data). */
export interface AclMemory {
  readonly records: AclCache;
  readonly resolver: ResolverMemory;
  readonly keySets: KeySetCache;
  /** Whether the records are loaded. */
  started: boolean;
  /** Whether the configured management token was looked for among them. */
  ensured: boolean;
  /** When all records were verified last, in milliseconds since 1970. */
  verifiedAt: number;
}

export function createAclMemory(random: Random): AclMemory {
  return {
    records: createAclCache(),
    resolver: createResolverMemory(random),
    keySets: createKeySetCache(),
    started: false,
    ensured: false,
    verifiedAt: 0,
  };
}

export interface AclParts {
  readonly platform: Platform;
  readonly defaultPolicy: Exclude<Settings["acl"], "off">;
  readonly policy: Policy;
  readonly store: RecordStore;
  readonly sealer: Sealer;
  readonly ca: CertificateAuthority;
  readonly audit: Audit | null;
  readonly memory: AclMemory;
  /** The last-seen state of access control; null if it does not survive a restart. */
  readonly lastSeen: AclLastSeenStore | null;
  /** The address of this replica. */
  readonly address: string;
}

export function createReplica(parts: AclParts, onChange: () => void): AclReplica {
  const { platform, store, sealer, ca, memory, lastSeen, address } = parts;
  const { clock, random, log } = platform;
  return createAclReplica({
    store,
    sealer,
    ca: {
      clusterId: () => ca.require().state.clusterId,
      acl: () => ca.require().state.access,
      refresh: () => ca.refresh(),
      record: async (next) => void (await ca.recordAccess(async () => next)),
      recordSchema: () => {
        const { access } = ca.require().state;
        return access === null ? 1 : (access.recordSchema ?? 2);
      },
      raiseRecordSchema: async () => {
        if (ca.require().state.access === null)
          throw new NotReadyError(
            "operation_running",
            "Cannot write roles or templated policies yet: the leader has not recorded the ACL in the CA document; try again",
            { retryAfterMs: 1000 },
          );
        await ca.recordAccess(async (before) => before && { ...before, recordSchema: 3 });
      },
    },
    lastSeen,
    address,
    clock,
    random,
    log,
    cache: memory.records,
    onChange,
  });
}

export function createAcl(
  replica: AclReplica,
  denylistCache: DenylistCache,
  settings: Settings,
  { platform, defaultPolicy, policy, ca, memory }: AclParts,
): Acl {
  const { clock, random, fetchKeys: fetch, resolve } = platform;
  const { datacenter, jwksHosts: hosts, jwksPrivateHosts: privateHosts } = settings;
  const outgoing = { fetch, resolve, hosts, privateHosts, clock };
  const keySets = new KeySets(outgoing, memory.keySets);
  const reviews = new TokenReviews(outgoing);
  const resolver = new TokenResolver({
    replica,
    defaultPolicy,
    datacenter,
    clock,
    maxStalenessMs: policy.maxStalenessMs,
    memory: memory.resolver,
  });
  const maxTokens = settings.limits.tokensPerLogin;
  const login = new Login({ replica, keySets, reviews, datacenter, clock, random, maxTokens });
  const adminOver = (through: AclReplica) =>
    new AclRecords({
      replica: through,
      clock: notBehindStore(clock, ca),
      random,
      keySets,
      reviews,
      leaves: {
        scope: () => ({
          trustDomain: ca.require().state.trustDomain,
          datacenter,
        }),
        horizonMs: () => maxLeafLifeMs(ca.require(), policy),
        intermediateEnd: (keyId) => intermediateEnd(ca.require().state, keyId),
      },
    });
  const admin = adminOver(replica);
  return {
    defaultPolicy,
    authorize: (secret) => resolver.authorize(secret),
    admin,
    denylistEntryOf: (subject) =>
      (replica.state.loaded ? admin.denylist : denylistCache).entryOf(subject),
    adminFor: (before) => adminOver(replica.withBeforeChange(before)),
    login: (request, before) => login.login(request, before),
    logout: (secret, before) => login.logout(secret, before),
    get kek() {
      return replica.kek;
    },
    rewrap: (before) => replica.rewrap(before),
    get state() {
      return replica.state;
    },
    conflict: () => replica.conflict(),
    resolve: (keep, before) => replica.resolve(keep, before),
  };
}

/** A clock that is not behind the store's: an expiry counted from it is not too early. */
function notBehindStore(clock: Clock, ca: CertificateAuthority): Clock {
  const now = () => new Date(clock.now().getTime() + Math.max(0, ca.status.clockOffsetMs));
  return { ...clock, now };
}
