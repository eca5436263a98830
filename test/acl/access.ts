/**
 * Access control in one process over the memory store: the real ACL replica, sealer and authorizer.
 * @module
 */

import { type AclCache, createAclCache } from "../../src/acl/cache.ts";
import type { RecordSchema } from "../../src/acl/record-codec.ts";
import { type AclReplica, createAclReplica } from "../../src/acl/replica.ts";
import {
  createResolverMemory,
  type ResolverOptions,
  TokenResolver,
} from "../../src/acl/token-resolver.ts";
import { makeUuid } from "../../src/acl/tokens.ts";
import type { Authorizer } from "../../src/core/acl/authorizer.ts";
import type { AclPolicy, Token } from "../../src/core/acl/types.ts";
import type { AclLastSeenStore } from "../../src/core/ports/last-seen.ts";
import type { Log } from "../../src/core/ports/log.ts";
import type { RecordStore } from "../../src/core/ports/record-store.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import type { AccessRecord } from "../../src/core/state.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { MemoryBackend } from "../../src/store/memory/store.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { silentLog } from "../fakes/ca.ts";
import { createFakeClock, type FakeClock, systemRandom } from "../fakes/clock.ts";

export const CLUSTER = "0f0f0f0f-1111-2222-3333-444444444444";

export interface TestAccess {
  readonly store: RecordStore;
  readonly clock: FakeClock;
  readonly sealer: Sealer;
  readonly replica: AclReplica;
  readonly authorizer: Authorizer;
  /** Another replica over the same store. */
  addReplica(options?: ReplicaOptions): Promise<AclReplica>;
  /** Says in the CA document that the set document is required from now on. */
  require(): Promise<void>;
  addPolicy(rules: string, more?: Partial<AclPolicy>): Promise<AclPolicy>;
  /** @returns the token and its secret. */
  addToken(more?: Partial<Token>): Promise<{ token: Token; secret: string }>;
}

export interface ReplicaOptions {
  readonly sealer?: Sealer;
  readonly store?: RecordStore;
  readonly cache?: AclCache;
  readonly lastSeen?: AclLastSeenStore;
  readonly log?: Log;
}

export async function createTestAccess(
  options: Partial<Pick<ResolverOptions, "defaultPolicy" | "maxStalenessMs">> & {
    keks?: string;
    store?: RecordStore;
    clock?: FakeClock;
    /** @default the newest */
    recordSchema?: RecordSchema;
  } = {},
): Promise<TestAccess> {
  const clock = options.clock ?? createFakeClock();
  const sealer = createSealer(await readKeks(options.keks ?? makeKek()));
  const store = options.store ?? new MemoryBackend(clock).open(createCodec(sealer), "test").access;
  /** The record of access control in the CA document. */
  let trust: AccessRecord | null = null;
  const addReplica: TestAccess["addReplica"] = async (other = {}) => {
    const made = createAclReplica({
      store: other.store ?? store,
      sealer: other.sealer ?? sealer,
      ca: {
        clusterId: () => CLUSTER,
        recordSchema: () => options.recordSchema ?? 2,
        raiseRecordSchema: async () => undefined,
        acl: () => trust,
        refresh: async () => undefined,
        record: async (next) => {
          trust = next;
        },
      },
      clock,
      random: systemRandom,
      log: other.log ?? silentLog,
      cache: other.cache ?? createAclCache(),
      lastSeen: other.lastSeen ?? null,
      onChange: () => undefined,
      address: "127.0.0.1:8500",
    });
    await made.start();
    return made;
  };
  const replica = await addReplica();
  const authorizer = new TokenResolver({
    replica,
    defaultPolicy: options.defaultPolicy ?? "deny",
    datacenter: "dc1",
    clock,
    memory: createResolverMemory(systemRandom),
    maxStalenessMs: options.maxStalenessMs ?? null,
  });
  return {
    store,
    clock,
    sealer,
    replica,
    authorizer,
    addReplica,
    async require() {
      await replica.writeSetDocument();
      trust = { keyId: replica.keyId ?? "", bootstrapAccessorId: null };
    },
    async addPolicy(rules, more = {}) {
      const id = makeUuid(systemRandom);
      const policy: AclPolicy = { id, name: id, description: "", rules, datacenters: [], ...more };
      await replica.write([
        { kind: "policy", id, replaces: null, content: policy, key: policy.name },
      ]);
      return policy;
    },
    async addToken(more = {}) {
      const [accessorId, secret] = [makeUuid(systemRandom), makeUuid(systemRandom)];
      const token: Token = {
        accessorId,
        description: "",
        policies: [],
        serviceIdentities: [],
        nodeIdentities: [],
        local: false,
        createTime: clock.now(),
        expirationTime: null,
        authMethod: null,
        ...more,
      };
      const key = await replica.hashSecret(secret);
      await replica.write([
        { kind: "token", id: token.accessorId, replaces: null, content: token, key },
      ]);
      return { token, secret };
    },
  };
}
