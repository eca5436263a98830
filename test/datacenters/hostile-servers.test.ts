/**
 * A secondary against a real server that is not its primary's, at the address of that: it gets neither
 * a token nor a request, the stored document stays as it is, the reason is in `/readyz` and in the
 * log, and the secondary follows by itself when the primary is back.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createMesh, type KeyPair, makeOtherCa, meshPair } from "../client/tls-server.ts";
import { createTestCa, trustDomain } from "../fakes/ca.ts";
import type { Guarded } from "../fixtures/guarded.ts";
import { hostile, requireHealed } from "./hostile.ts";
import { primaryOf } from "./pair.ts";
import { answering, Peer } from "./peer.ts";
import { requireRefused } from "./watched.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

describe("a server that is not one of the primary datacenter gets neither a token nor a request", () => {
  const OTHER_ID =
    /has a certificate of the mesh without the SPIFFE ID of a server, .*\/agent\/server\/dc\/dc1/;
  const CERTIFICATES: readonly (readonly [
    what: string,
    pair: (one: Guarded) => Promise<KeyPair> | KeyPair,
    reason: RegExp,
  ])[] = [
    [
      "a server of another datacenter of the mesh",
      async (one) => {
        const ninth = await createTestCa({
          ...{ clock: one.clock, datacenter: "dc9", hasDatacenters: true },
          ...{ primary: primaryOf(one), started: false },
        });
        await ninth.manager.tick();
        return meshPair(ninth, "/agent/server/dc/dc9");
      },
      OTHER_ID,
    ],
    ["an agent of the mesh", (one) => meshPair(one, "/agent/client/dc/dc1/id/node-1"), OTHER_ID],
    ["a service of the mesh", (one) => meshPair(one, "/ns/default/dc/dc1/svc/web"), OTHER_ID],
    [
      "a server of another mesh",
      async () => meshPair(await createMesh(), "/agent/server/dc/dc1"),
      /cannot be verified \(\w+\)/,
    ],
    [
      "a server with another root of this trust domain",
      (one) => {
        const id = `spiffe://${trustDomain(one.manager)}`;
        return makeOtherCa(id).issue(`URI:${id}/agent/server/dc/dc1`);
      },
      /cannot be verified \(\w+\)/,
    ],
    [
      "a server of a public CA with its name",
      () => makeOtherCa(null).issue("DNS:localhost,IP:127.0.0.1"),
      /cannot be verified \(\w+\)/,
    ],
  ];
  for (const [what, pair, reason] of CERTIFICATES)
    it(`if it is ${what}`, async () => {
      const test = await hostile();
      const own = await meshPair(test.one, "/agent/server/dc/dc1");
      const other = await pair(test.one);
      await test.one.manager.rotate(NOW);
      test.peer.use(other);
      const before = test.peer.received.length;
      await requireHealed(test, reason, () => {
        assert.equal(test.peer.received.length, before);
        test.peer.use(own);
      });
      assert.ok(test.peer.received.length > before);
      await test.stop();
    });

  it("if it has no TLS, or if it has TLS and none is expected", async () => {
    for (const pair of [null, makeOtherCa(null).issue("DNS:localhost")]) {
      const other = await Peer.start(answering(200, "{}"), pair);
      const url = new URL(other.url);
      url.protocol = pair === null ? "https:" : "http:";
      const test = await hostile([url]);
      await requireRefused(
        test,
        /^Datacenter dc1: No CA server answered: \S+ (?:cannot be|did not)/,
      );
      assert.deepEqual(other.received, []);
      assert.equal(test.two.backend.document, null);
      await test.stop();
      await other.stop();
    }
  });
});
