/**
 * Replicas over a shared store: a change on one of them applies on the others within a second,
 * and they go on with the last records while the store is unavailable.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createAclCache } from "../../src/acl/cache.ts";
import { type AclReplica, createAclReplica } from "../../src/acl/replica.ts";
import { createResolverMemory, TokenResolver } from "../../src/acl/token-resolver.ts";
import { makeUuid } from "../../src/acl/tokens.ts";
import type { Authorizer } from "../../src/core/acl/authorizer.ts";
import type { Token } from "../../src/core/acl/types.ts";
import { CaError } from "../../src/core/errors.ts";
import { systemClock } from "../../src/entry/platform.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import type { Backend } from "../../src/store/backend.ts";
import { claimSqlite, openSqlite } from "../../src/store/sqlite/backend.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { silentLog } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { noRedis, type RedisServer, redisUrl, startRedis, until } from "../redis/server.ts";
import { CLUSTER } from "./access.ts";

interface Replica {
  readonly replica: AclReplica;
  readonly authorizer: Authorizer;
}

/** Starts replicas that follow a store each on a backend of its own. */
async function startReplicas(
  open: () => Promise<Backend>,
): Promise<{ replicas: Replica[]; stop(): Promise<void> }> {
  const sealer = createSealer(await readKeks(makeKek()));
  const closing = new AbortController();
  const backends: Backend[] = [];
  const loops: Promise<void>[] = [];
  const replicas: Replica[] = [];
  for (let i = 0; i < 3; i++) {
    const backend = await open();
    backends.push(backend);
    const { access } = backend.open(createCodec(sealer), `replica ${i}`);
    const options = { clock: systemClock, random: systemRandom };
    const replica = createAclReplica({
      ...options,
      store: access,
      sealer,
      ca: {
        clusterId: () => CLUSTER,
        acl: () => null,
        refresh: async () => undefined,
        record: async () => undefined,
        recordSchema: () => 1,
        raiseRecordSchema: async () => undefined,
      },
      lastSeen: null,
      address: "",
      cache: createAclCache(),
      onChange: () => undefined,
      log: silentLog,
    });
    await replica.start();
    const loop = async () => {
      while (!closing.signal.aborted)
        await replica
          .follow(closing.signal)
          .catch(() => new Promise((resolve) => setTimeout(resolve, 100)));
    };
    loops.push(loop());
    replicas.push({
      replica,
      authorizer: new TokenResolver({
        ...options,
        replica,
        memory: createResolverMemory(systemRandom),
        defaultPolicy: "deny",
        datacenter: "dc1",
        maxStalenessMs: null,
      }),
    });
  }
  return {
    replicas,
    async stop() {
      closing.abort();
      await Promise.all(loops);
      for (const backend of backends) backend.close();
    },
  };
}

async function addToken({ replica }: Replica): Promise<{ token: Token; secret: string }> {
  const [accessorId, secret] = [makeUuid(systemRandom), makeUuid(systemRandom)];
  const token: Token = {
    accessorId,
    description: "",
    policies: [],
    serviceIdentities: [{ serviceName: "web", datacenters: [] }],
    nodeIdentities: [],
    local: false,
    createTime: new Date(),
    expirationTime: null,
    authMethod: null,
  };
  await replica.write([
    {
      kind: "token",
      id: accessorId,
      replaces: null,
      content: token,
      key: await replica.hashSecret(secret),
    },
  ]);
  return { token, secret };
}

async function isKnown({ authorizer }: Replica, secret: string): Promise<boolean> {
  try {
    return (await authorizer.authorize(secret)).allows("service", "write", "web");
  } catch (error) {
    assert.ok(error instanceof CaError && error.code === "token_unknown", String(error));
    return false;
  }
}

function describeReplicas(
  name: string,
  skip: string | false,
  make: () => Promise<{ open(): Promise<Backend>; end(): Promise<void> | void }>,
): void {
  describe(`replicas over ${name}`, { skip }, () => {
    let made: Awaited<ReturnType<typeof make>>;
    let group: Awaited<ReturnType<typeof startReplicas>>;
    before(async () => {
      made = await make();
      group = await startReplicas(made.open);
    });
    after(async () => {
      await group.stop();
      await made.end();
    });

    it("a new token is accepted and a deleted one refused by every replica", async () => {
      const [first, ...others] = group.replicas as [Replica, ...Replica[]];
      const { token, secret } = await addToken(first);
      const becomes = async (known: boolean) => {
        await until(async () =>
          (await Promise.all(group.replicas.map((replica) => isKnown(replica, secret)))).every(
            (one) => one === known,
          ),
        );
      };
      await becomes(true);
      const last = others.at(-1) as Replica;
      const entry = last.replica.tokens.get(token.accessorId);
      assert.ok(entry !== undefined);
      await last.replica.write([
        { kind: "token", id: token.accessorId, replaces: entry, content: null },
      ]);
      await becomes(false);
    });
  });
}

describeReplicas("SQLite, as workers of one server", false, async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshca-access-"));
  const path = join(folder, "access.db");
  const giveBack = claimSqlite(path);
  return {
    open: async () => openSqlite(path, systemClock, { shared: true }),
    end() {
      giveBack();
      rmSync(folder, { recursive: true, force: true });
    },
  };
});

describeReplicas("Redis", noRedis, async () => {
  const server = await startRedis();
  return {
    open: () => openTestRedis(redisUrl(server.port)),
    end: () => server.stop(),
  };
});

describe("replicas over an unavailable Redis", { skip: noRedis }, () => {
  let server: RedisServer;
  let group: Awaited<ReturnType<typeof startReplicas>>;
  before(async () => {
    server = await startRedis({ config: ["appendonly yes", "appendfsync always"] });
    group = await startReplicas(() => openTestRedis(redisUrl(server.port)));
  });
  after(async () => {
    await group.stop();
    await server.stop();
  });

  it("replicas use the last records while the store is unavailable, and follow again afterwards", async () => {
    const [first, second] = group.replicas as [Replica, Replica];
    const { secret } = await addToken(first);
    await until(() => isKnown(second, secret));
    server.kill("SIGKILL");
    await until(async () => (await first.replica.refresh().catch(() => null)) === null);
    assert.equal(await isKnown(first, secret), true);
    assert.equal(await isKnown(second, secret), true);
    await server.restart();
    const later = await until(async () => (await addToken(first).catch(() => null)) !== null).then(
      () => first.replica.index,
    );
    await until(() => second.replica.index >= later);
    assert.equal(await isKnown(second, secret), true);
    // Redis contains nothing that reveals a token's secret.
    const dump = JSON.stringify(await server.admin.hgetall("{meshca}:access:records"));
    assert.ok(dump.includes("access-key/current") && !dump.includes(secret));
  });
});
