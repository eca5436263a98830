/**
 * What a server is verified by: every refusal happens before anything is sent.
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { trustDomain } from "../fakes/ca.ts";
import type { TestApp } from "../fixtures/app.ts";
import { eventually, Parts, type PartsOptions } from "./agent-parts.ts";
import {
  createMesh,
  type KeyPair,
  makeOtherCa,
  meshPair,
  meshRoot,
  startTlsServer,
  type TlsServer,
} from "./tls-server.ts";

const SERVER = "/agent/server/dc/dc1";
const WEB = "/ns/default/dc/dc1/svc/web";

describe("a server's certificate", () => {
  let mesh: TestApp;
  let td: string;
  let own: KeyPair;
  let pin: string;
  let rootPem: string;
  const running: TlsServer[] = [];
  const parts: Parts[] = [];
  before(async () => {
    mesh = await createMesh();
    td = trustDomain(mesh.manager);
    own = await meshPair(mesh, SERVER);
    const root = meshRoot(mesh);
    rootPem = root.pem;
    pin = `sha256:${createHash("sha256").update(root.der).digest("hex")}`;
  });
  afterEach(async () => {
    for (const each of parts.splice(0)) await each.close();
    for (const each of running.splice(0)) await each.stop();
  });
  after(() => mesh.manager.close?.());

  async function serve(pair: KeyPair, host?: string): Promise<TlsServer> {
    const server = await startTlsServer(mesh, pair, host);
    running.push(server);
    return server;
  }

  function connect(server: TlsServer, options: Omit<PartsOptions, "servers">): Parts {
    const made = new Parts({ servers: [server.url], ...options });
    parts.push(made);
    return made;
  }

  /** Reads the roots once. @returns why they cannot be read, or null. */
  async function attempt(made: Parts): Promise<string | null> {
    try {
      await made.roots.refresh();
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }
  const file = (pem: string) => ({ readCaFile: async () => pem });

  it("of the mesh with a server's SPIFFE ID is taken, by a file with the mesh's root", async () => {
    const server = await serve(own);
    assert.equal(await attempt(connect(server, file(rootPem))), null);
    assert.equal(await attempt(connect(server, { ...file(rootPem), datacenter: "dc1" })), null);
  });

  it("of a service of the mesh is refused although its root is trusted", async () => {
    const server = await serve(await meshPair(mesh, WEB));
    const reason = await attempt(connect(server, file(rootPem)));
    assert.match(
      reason ?? "",
      /without the SPIFFE ID of a server, spiffe:\/\/.*\/agent\/server\/dc\//,
    );
    assert.deepEqual(server.asked, []);
  });

  it("of another datacenter is refused if one is configured", async () => {
    const server = await serve(own);
    const made = connect(server, { ...file(rootPem), datacenter: "dc2" });
    assert.match((await attempt(made)) ?? "", /\/agent\/server\/dc\/dc2/);
    assert.deepEqual(server.asked, []);
  });

  for (const [what, names] of [
    ["a service with a DNS name that fits", `URI:spiffe://TD${WEB},DNS:localhost`],
    ["no SPIFFE ID and a DNS name that fits", "DNS:localhost"],
    ["two SPIFFE IDs", `URI:spiffe://TD${SERVER},URI:spiffe://TD${WEB},DNS:localhost`],
    ["a server of another trust domain", `URI:spiffe://other.consul${SERVER},DNS:localhost`],
    ["a client agent", "URI:spiffe://TD/agent/client/dc/dc1/id/n1,DNS:localhost"],
    ["a path that only begins as a server's", `URI:spiffe://TD${SERVER}/x,DNS:localhost`],
  ] as const)
    it(`under a root of a mesh with ${what} is refused`, async () => {
      const ca = makeOtherCa("spiffe://td.consul");
      const server = await serve(ca.issue(names.replaceAll("TD", "td.consul")));
      assert.match((await attempt(connect(server, file(ca.pem)))) ?? "", /SPIFFE ID of a server/);
      assert.deepEqual(server.asked, []);
    });

  it("of another CA is taken by its host name", async () => {
    const ca = makeOtherCa(null);
    const server = await serve(ca.issue("DNS:localhost"));
    assert.equal(await attempt(connect(server, file(ca.pem))), null);
    const byAddress = await serve(ca.issue("IP:127.0.0.1"), "127.0.0.1");
    assert.equal(await attempt(connect(byAddress, file(ca.pem))), null);
  });

  it("of another CA is taken from a file with a mesh's root next to it", async () => {
    const ca = makeOtherCa(null);
    const server = await serve(ca.issue("DNS:localhost"));
    assert.equal(await attempt(connect(server, file(rootPem + ca.pem))), null);
  });

  for (const [what, names, host, reason] of [
    [
      "another name",
      "DNS:ca.example",
      "localhost",
      /another name than localhost|cannot be verified/,
    ],
    [
      "a name in place of an address",
      "DNS:localhost",
      "127.0.0.1",
      /another name|cannot be verified/,
    ],
    [
      "a service's SPIFFE ID",
      `DNS:localhost,URI:spiffe://x.consul${WEB}`,
      "localhost",
      /of a workload/,
    ],
  ] as const)
    it(`of another CA with ${what} is refused`, async () => {
      const ca = makeOtherCa(null);
      const server = await serve(ca.issue(names), host);
      assert.match((await attempt(connect(server, file(ca.pem)))) ?? "", reason);
      assert.deepEqual(server.asked, []);
    });

  it("of a CA that is not in the file is refused", async () => {
    const server = await serve(makeOtherCa(null).issue("DNS:localhost"));
    const reason = await attempt(connect(server, file(makeOtherCa(null).pem)));
    assert.match(
      reason ?? "",
      /cannot be verified \(\w+\); after a forced rotation write the new roots/,
    );
    assert.deepEqual(server.asked, []);
  });

  it("a CA file without a certificate, or one that cannot be read, is named", async () => {
    const server = await serve(own);
    assert.match((await attempt(connect(server, file("nothing")))) ?? "", /no certificate in PEM/);
    const readCaFile = async () => Promise.reject(new Error("ENOENT"));
    assert.match((await attempt(connect(server, { readCaFile }))) ?? "", /CA file cannot be read/);
    assert.deepEqual(server.asked, []);
  });

  it("under the pinned root is taken; nothing but the roots is asked for before", async () => {
    const server = await serve(own);
    assert.equal(
      await attempt(connect(server, { pin: pin.toUpperCase().replace("SHA", "sha") })),
      null,
    );
    assert.deepEqual(
      server.asked,
      ["GET /v1/connect/ca/roots -", "GET /v1/connect/ca/roots -"],
      "once to compare with the pin, once verified",
    );
  });

  it("with a wrong pin nothing but the roots is asked for, and no token is sent", async () => {
    const server = await serve(own);
    const made = connect(server, { pin: `sha256:${"0".repeat(64)}` });
    assert.match((await attempt(made)) ?? "", /The pin matches none of the 1 roots/);
    const request = { csr: "", service: "web", ttlMs: null };
    await assert.rejects(made.api.sign(request, "secret-token"), /pin/);
    assert.ok(server.asked.length > 0);
    assert.ok(
      server.asked.every((line) => line === "GET /v1/connect/ca/roots -"),
      server.asked.join(),
    );
  });

  it("of a stranger who repeats the roots of the mesh is refused with a pin", async () => {
    const stranger = await serve(
      makeOtherCa(`spiffe://${td}`).issue(`URI:spiffe://${td}${SERVER}`),
    );
    const made = connect(stranger, { pin });
    assert.match((await attempt(made)) ?? "", /cannot be verified/);
    await assert.rejects(made.api.sign({ csr: "", service: "web", ttlMs: null }, "secret-token"));
    assert.ok(stranger.asked.every((line) => line === "GET /v1/connect/ca/roots -"));
  });

  it("of a service of the mesh is refused with a pin", async () => {
    const server = await serve(await meshPair(mesh, WEB));
    const made = connect(server, { pin });
    assert.match((await attempt(made)) ?? "", /SPIFFE ID of a server/);
    await assert.rejects(made.api.sign({ csr: "", service: "web", ttlMs: null }, "secret-token"));
    assert.ok(server.asked.every((line) => line === "GET /v1/connect/ca/roots -"));
  });

  it("is verified by the mesh's own roots after the first contact", async () => {
    const server = await serve(own);
    let pem = rootPem;
    const made = connect(server, { readCaFile: async () => pem });
    assert.equal(await attempt(made), null);
    pem = makeOtherCa(null).pem;
    assert.equal(await attempt(made), null);
    // A stranger takes the place of the server: the connection is another one.
    await server.stop();
    running.length = 0;
    const stranger = await serve(makeOtherCa(null).issue("DNS:localhost"));
    const other = connect(stranger, { readCaFile: async () => rootPem });
    other.pool.trustRoots({
      roots: [meshRoot(mesh).der as Uint8Array<ArrayBuffer>],
      trustDomain: td,
    });
    assert.match((await attempt(other)) ?? "", /cannot be verified/);
    assert.deepEqual(stranger.asked, []);
  });

  it("a kept connection is not used under another trust", async () => {
    const ca = makeOtherCa(null);
    const server = await serve(ca.issue("DNS:localhost"));
    let pem = ca.pem;
    const made = connect(server, { readCaFile: async () => pem });
    assert.equal(await attempt(made), null);
    // The CA is taken out of the file, while the connection to its server is kept.
    pem = makeOtherCa(null).pem;
    const before = server.asked.length;
    await eventually(() => server.asked.length === before);
    assert.match((await attempt(made)) ?? "", /cannot be verified/);
    assert.equal(server.asked.length, before);
    pem = ca.pem;
    await new Promise((resolve) => setTimeout(resolve, 600));
    assert.equal(await attempt(made), null);
  });

  it("on loopback nothing is demanded without a CA file and a pin", async () => {
    const server = await serve(makeOtherCa(null).issue("DNS:ca.example"));
    assert.equal(await attempt(connect(server, {})), null);
  });
});
