/**
 * What a server of another datacenter is verified by: every refusal happens before a token is sent.
 * @module
 */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { NodeTransport } from "../../src/client/node/transport.ts";
import { ConfiguredDatacenters } from "../../src/compose/other-datacenters.ts";
import { hex, sha256 } from "../../src/core/bytes.ts";
import type { Snapshot } from "../../src/core/ca/snapshot.ts";
import { processClock } from "../../src/entry/system.ts";
import type { ForwardedRequest } from "../../src/http/forwarding.ts";
import {
  createMesh,
  type KeyPair,
  makeOtherCa,
  meshPair,
  meshRoot,
  startTlsServer,
  type TlsServer,
} from "../client/tls-server.ts";
import { createTestCa, silentLog, trustDomain } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";

const TOKEN = "11111111-2222-3333-4444-555555555555";
const CONFIGURATION = "/v1/connect/ca/configuration";

describe("a server of another datacenter", () => {
  let mesh: TestApp;
  /** A CA of another mesh. */
  let strangers: TestApp;
  let own: KeyPair;
  const running: TlsServer[] = [];
  const opened: ConfiguredDatacenters[] = [];
  before(async () => {
    const clock = () => createFakeClock(new Date());
    mesh = await createTestApp(
      { server: { datacenter: "dc2" } },
      await createTestCa({ clock: clock(), datacenter: "dc2" }),
    );
    strangers = await createMesh();
    own = await meshPair(mesh, "/agent/server/dc/dc2");
  });
  afterEach(async () => {
    for (const each of opened.splice(0)) each.close();
    for (const each of running.splice(0)) await each.stop();
  });
  after(async () => {
    await mesh.manager.close();
    await strangers.manager.close();
  });

  async function serve(pair: KeyPair): Promise<TlsServer> {
    const server = await startTlsServer(mesh, pair);
    running.push(server);
    return server;
  }

  /** Asks for the configuration with a token. @returns the status, or why there is no response. */
  async function ask(
    server: TlsServer,
    verifiedBy: { readonly caPem?: string; readonly caPin?: string },
    snapshot: Snapshot | null = null,
    name = "dc2",
  ): Promise<number | string> {
    const { caPem = null, caPin = null } = verifiedBy;
    const others = new ConfiguredDatacenters({
      settings: {
        current: {
          ...{ primary: null, primaryDatacenter: null },
          datacenters: new Map([[name, { servers: [new URL(server.url)], caPem, caPin }]]),
        },
      },
      ...{
        openTransport: () => new NodeTransport(),
        isVerifiedByPlatform: false,
        snapshot: () => snapshot,
      },
      ...{ countForwarded: () => undefined, clock: processClock, log: silentLog },
    });
    opened.push(others);
    const request: ForwardedRequest = {
      method: "GET",
      ...{ path: `${CONFIGURATION}?dc=${name}`, headers: { "X-Consul-Token": TOKEN }, body: null },
      ...{ timeoutMs: 60_000, signal: new AbortController().signal },
    };
    try {
      return (await others.send(name, request)).status;
    } catch (error) {
      return (error as Error).message;
    }
  }

  /** Whether the token reached a server. */
  const gotToken = ({ asked }: TlsServer) => asked.some((line) => line.includes(TOKEN));

  it("of the mesh is taken by a CA file with its root, a pin of it, or the roots of this datacenter", async () => {
    const { pem, der } = meshRoot(mesh);
    const pin = `sha256:${hex(sha256(new Uint8Array(der)))}`;
    const other = makeOtherCa(null).pem;
    for (const [verifiedBy, snapshot] of [
      [{ caPem: pem }, null],
      [{ caPin: pin }, null],
      // After a rotation the file may have only a root that is gone.
      [{ caPem: other }, mesh.manager.require()],
      [{ caPin: `sha256:${"0".repeat(64)}` }, mesh.manager.require()],
      // Datacenters of two meshes.
      [{ caPem: pem }, strangers.manager.require()],
    ] as const) {
      const server = await serve(own);
      assert.equal(await ask(server, verifiedBy, snapshot), 200, JSON.stringify(verifiedBy));
      assert.ok(gotToken(server));
    }
  });

  it("under another CA is refused", async () => {
    for (const verifiedBy of [
      { caPem: makeOtherCa(null).pem },
      { caPem: meshRoot(strangers).pem },
      { caPin: `sha256:${hex(sha256(new Uint8Array(meshRoot(strangers).der)))}` },
    ]) {
      const server = await serve(own);
      const reason = await ask(server, verifiedBy, strangers.manager.require());
      assert.match(
        String(reason),
        /^Cannot reach datacenter "dc2": server 1 (?:cannot be verified|is not trusted|The pin|has a cert)/,
      );
      assert.ok(!gotToken(server), server.asked.join());
    }
  });

  it("with the certificate of another datacenter, or of a service, is refused", async () => {
    const { pem } = meshRoot(mesh);
    const server = await serve(own);
    const reason = await ask(server, { caPem: pem }, mesh.manager.require(), "dc3");
    assert.match(String(reason), /without the SPIFFE ID of a server, .*\/agent\/server\/dc\/dc3/);
    assert.deepEqual(server.asked, []);
    const service = await serve(await meshPair(mesh, "/ns/default/dc/dc2/svc/web"));
    const refused = await ask(service, { caPem: pem }, mesh.manager.require());
    assert.match(String(refused), /without the SPIFFE ID of a server/);
    assert.deepEqual(service.asked, []);
  });

  it("under a CA of another PKI is verified by its name", async () => {
    const ca = makeOtherCa(null);
    assert.equal(await ask(await serve(ca.issue("DNS:localhost")), { caPem: ca.pem }), 200);
    const wrong = await serve(ca.issue("DNS:ca.example"));
    assert.match(
      String(await ask(wrong, { caPem: ca.pem })),
      /another name than localhost|cannot be verified/,
    );
    assert.deepEqual(wrong.asked, []);
  });

  it("is of the trust domain that the test has", () => {
    assert.notEqual(trustDomain(mesh.manager), trustDomain(strangers.manager));
  });
});
