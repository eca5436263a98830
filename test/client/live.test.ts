/**
 * The client against real servers: roots, leaves, rotations, restarts.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { verifyPeer } from "../../src/client/spiffe/verify-peer.ts";
import type { TrustBundle, X509Svid } from "../../src/client/svid.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { Parts, until } from "./agent-parts.ts";

describe("roots and leaves of a server", () => {
  let server: ServerProcess;
  let parts: Parts;
  before(async () => {
    server = await startServer();
    parts = new Parts({ servers: [server.url] });
    await parts.roots.start();
  });
  after(async () => {
    await parts.close();
    await server.stop();
  });

  it("a leaf is obtained, and verifies under the published roots", async () => {
    const leaf = parts.leaf({ service: "web" });
    await leaf.start();
    const svid = (await until(leaf)) as X509Svid;
    const bundle = parts.roots.current as TrustBundle;
    assert.equal(svid.spiffeId, `spiffe://${bundle.trustDomain}/ns/default/dc/dc1/svc/web`);
    await verifyPeer(svid.chain, bundle, [svid.spiffeId], new Date());
    assert.equal(leaf.problem, null);
  });
});
