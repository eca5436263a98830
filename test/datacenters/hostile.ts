/**
 * A secondary that follows its primary over real HTTPS, through a server that a test scripts.
 * @module
 */
import assert from "node:assert/strict";
import { NodeTransport } from "../../src/client/node/transport.ts";
import { PrimaryServers } from "../../src/compose/primary.ts";
import type { PrimarySettings } from "../../src/config/datacenters.ts";
import { meshPair, meshRoot } from "../client/tls-server.ts";
import { createTestCa, type TestCa } from "../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../fakes/clock.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";
import { createSearch } from "../fixtures/planted.ts";
import { requireMutual } from "./leaves.ts";
import { answering, Peer, type Script } from "./peer.ts";
import { notingLog, readyzOf, requireRefused } from "./watched.ts";

/** Answers as the app of a CA does. */
export function served({ app }: Pick<Guarded, "app">): Script {
  return (socket, received) => {
    const { method, target, header, body } = received;
    const token = header("x-consul-token");
    const request = new Request(`http://127.0.0.1:8500${target}`, {
      method,
      headers: token === null ? {} : { "X-Consul-Token": token },
      ...(method === "GET" ? {} : { body }),
    });
    void (async () => {
      const response = await app.fetch(request);
      const headers: Record<string, string> = {};
      for (const name of ["Content-Type", "X-Consul-Index", "Retry-After"]) {
        const value = response.headers.get(name);
        if (value !== null) headers[name] = value;
      }
      answering(response.status, await response.text(), headers)(socket, received);
    })();
  };
}

export interface Hostile {
  readonly one: Guarded;
  readonly two: TestCa;
  readonly peer: Peer;
  readonly token: string;
  readonly good: Script;
  readonly logged: readonly string[];
  settle(): Promise<void>;
  readyz(): Promise<string>;
  stop(): Promise<void>;
}

/** A secondary over HTTPS; it has joined if it could. @param servers in place of the peer. */
export async function hostile(servers: readonly URL[] = []): Promise<Hostile> {
  // TLS libraries look at the time of this machine.
  const clock = createFakeClock(new Date());
  const one = await guarded(await createTestCa({ clock, hasDatacenters: true }));
  const policy = await one.access.addPolicy('intermediate = "write"');
  const { secret: token } = await one.access.addToken({ policies: [policy.id] });
  const good = served(one);
  const peer = await Peer.start(good, await meshPair(one, "/agent/server/dc/dc1"));
  const settings: PrimarySettings = {
    ...{
      datacenter: "dc1",
      servers: servers.length === 0 ? [peer.url] : servers,
      caPem: meshRoot(one).pem,
      caPin: null,
    },
    ...{ token, tokenFile: null },
  };
  const current = { primary: settings, primaryDatacenter: "dc1", datacenters: new Map() };
  const { log, logged } = notingLog();
  let two: TestCa | null = null;
  const primary = new PrimaryServers(settings, {
    ...{ settings: { current }, openTransport: () => new NodeTransport() },
    ...{ isVerifiedByPlatform: false, snapshot: () => two?.manager.snapshot ?? null },
    ...{ clock, random: systemRandom, log },
  });
  const made = await createTestCa({
    ...{ clock, datacenter: "dc2", hasDatacenters: true, primary, log, started: false },
  });
  two = made;
  await made.manager.tick();
  return {
    ...{ one, two: made, peer, token, good, logged },
    async settle() {
      clock.advance(300_000);
      for (const { manager } of [one, made]) await manager.heartbeat();
      for (let i = 0; i < 4; i++) await made.manager.tick();
    },
    readyz: await readyzOf(made, log),
    async stop() {
      primary.close();
      await peer.stop();
      for (const { manager } of [one, made]) await manager.close();
    },
  };
}

/** Requires a refusal, no secret in what is written, and that the secondary follows afterwards. */
export async function requireHealed(
  test: Hostile,
  reason: RegExp,
  heal: () => void = () => {
    test.peer.script = test.good;
  },
): Promise<void> {
  await requireRefused(test, reason);
  const search = createSearch();
  search.plant("the token", test.token);
  search.collect("/readyz", await test.readyz());
  search.collect("the log", test.logged.join("\n"));
  assert.deepEqual(search.leaks(), []);
  const { document } = test.two.backend;
  heal();
  test.peer.hangUp();
  await test.settle();
  assert.notEqual(test.two.backend.document, document);
  assert.equal(test.two.manager.status.primary?.fault, null);
  await requireMutual([
    { ...test.one, name: "dc1" },
    { ...test.two, name: "dc2" },
  ]);
}
