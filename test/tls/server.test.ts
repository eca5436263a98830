/**
 * The server for TLS over real sockets: what it speaks, what it shows the app of a client, and that
 * nothing breaks when its certificate is replaced.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import type { TlsSettings } from "../../src/config/tls.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { TlsCertificates } from "../../src/tls/certificates.ts";
import type { Fetch } from "../../src/tls/node-server.ts";
import { listenTls, type TlsServer, type TlsServerOptions } from "../../src/tls/server.ts";
import { abandonedRoot } from "../core/ca/abandoned.ts";
import { createTestCa, opensslCsr, serviceUri, silentLog, type TestCa } from "../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../fakes/clock.ts";
import { until } from "../redis/server.ts";
import {
  get,
  inNewFolder,
  type Made,
  openHttp1,
  openHttp2,
  opensslHandshake,
  selfSigned,
} from "./harness.ts";

const ONE = selfSigned("one");
const OTHER = selfSigned("other");
const serialOf = ({ cert }: Made): string => new X509Certificate(cert).serialNumber;

/** An app that returns the request it receives. */
const show: Fetch = async (request, { peerCertificate }) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/nothing") return new Response(null, { status: 204 });
  return Response.json({
    path: pathname,
    host: request.headers.get("host"),
    length: request.method === "PUT" ? (await request.text()).length : null,
    peer:
      peerCertificate === undefined ? null : new X509Certificate(peerCertificate).subjectAltName,
  });
};

function listen(fetch: Fetch = show, options: Partial<TlsServerOptions> = {}): Promise<TlsServer> {
  const client = { clientCa: null, clientCertificate: "optional" } as const;
  return listenTls({
    host: "127.0.0.1",
    port: 0,
    shared: false,
    client,
    minVersion: "TLSv1.2",
    idleMs: 30_000,
    fetch,
    ...options,
  });
}

/** Runs `work` with a server that shows ONE. */
async function served(
  work: (server: TlsServer) => Promise<void>,
  fetch?: Fetch,
  options?: Partial<TlsServerOptions>,
): Promise<void> {
  const server = await listen(fetch, options);
  try {
    server.use(ONE, null);
    await work(server);
  } finally {
    await server.close(true);
  }
}

describe("listenTls()", () => {
  it("listenTls() speaks HTTP/1.1 and HTTP/2, and passes the app the same of both", () =>
    served(async ({ port }) => {
      const { status, body } = await get(port, "/a?b");
      assert.deepEqual(
        [status, JSON.parse(body)],
        [200, { path: "/a", host: "localhost", length: null, peer: null }],
      );
      const client = await openHttp2(port);
      const answer = await client.request("/a?b");
      assert.deepEqual(
        [answer.status, JSON.parse(answer.body)],
        [200, { path: "/a", host: `localhost:${port}`, length: null, peer: null }],
      );
      assert.equal((await client.request("/nothing")).status, 204);
      assert.equal(
        JSON.parse((await client.request("/a", {}, "x".repeat(100_000))).body).length,
        100_000,
      );
      client.session.destroy();
    }));

  it("listenTls() refuses an HTTP/2 request whose Host is another than its authority", () =>
    served(async ({ port }) => {
      const client = await openHttp2(port);
      assert.equal(
        (await client.request("/", { host: "other", ":authority": "localhost" })).status,
        400,
      );
      assert.equal(
        (await client.request("/", { host: "localhost", ":authority": "localhost" })).status,
        200,
      );
      client.session.destroy();
    }));

  it("listenTls() refuses an HTTP/2 body that is not as long as it says", () =>
    served(async ({ port }) => {
      const client = await openHttp2(port);
      for (const length of ["1", "1000"])
        await assert.rejects(client.request("/", { "content-length": length }, "12345"), length);
      assert.equal((await client.request("/")).status, 200);
      client.session.destroy();
    }));

  for (const version of ["-tls1", "-tls1_1"])
    it(`listenTls() refuses openssl s_client ${version}`, () =>
      served(({ port }) =>
        inNewFolder(async (folder) => {
          const ca = join(folder, "ca.pem");
          writeFileSync(ca, ONE.cert);
          await opensslHandshake(port, ca);
          const weakest = [version, "-cipher", "ALL:@SECLEVEL=0"];
          await assert.rejects(opensslHandshake(port, ca, weakest), /alert protocol version/);
        }),
      ));

  it("listenTls() takes TLS 1.2 and 1.3, and only 1.3 if configured", async () => {
    const only = (version: "TLSv1.2" | "TLSv1.3") => ({ minVersion: version, maxVersion: version });
    await served(async ({ port }) => {
      assert.equal((await get(port, "/", only("TLSv1.2"))).status, 200);
      assert.equal((await get(port, "/", only("TLSv1.3"))).status, 200);
    });
    await served(
      async ({ port }) => {
        await assert.rejects(get(port, "/", only("TLSv1.2")));
        assert.equal((await get(port, "/", only("TLSv1.3"))).status, 200);
      },
      show,
      { minVersion: "TLSv1.3" },
    );
  });

  // The second one may be the beginning of a handshake, which has ten seconds.
  for (const text of [
    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "\u0016\u0003\u0001\u0000\u0001x",
    "\u0000".repeat(100),
  ])
    it(`listenTls() closes a connection that begins with ${JSON.stringify(text.slice(0, 8))}, and keeps serving`, () =>
      served(async ({ port }) => {
        await new Promise<void>((resolve) => {
          const socket = connectTcp(port, "127.0.0.1", () => socket.write(text));
          socket.on("error", () => undefined);
          socket.on("close", () => resolve());
          socket.resume();
        });
        assert.equal((await get(port, "/")).status, 200);
      }));

  it("listenTls() answers 400 to octets that are not HTTP, and ends the connection", () =>
    served(async ({ port }) => {
      for (const text of [
        "GARBAGE\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      ]) {
        const { socket } = await openHttp1(port);
        let received = "";
        socket.on("data", (chunk: string) => {
          received += chunk;
        });
        const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
        socket.write(text);
        await closed;
        assert.match(received, /^HTTP\/1\.1 400 /);
      }
      assert.equal((await get(port, "/")).status, 200);
    }));

  it("listenTls() aborts the request of a client that has disconnected, over HTTP/1.1 and HTTP/2", async () => {
    let [waiting, aborted] = [0, 0];
    const wait: Fetch = async ({ signal }, { holdOpen }) => {
      holdOpen();
      waiting++;
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      aborted++;
      return new Response("too late");
    };
    await served(async ({ port }) => {
      const one = await openHttp1(port);
      one.socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
      const two = await openHttp2(port);
      const streams = ["/1", "/2"].map((path) => two.session.request({ ":path": path }));
      for (const stream of streams) stream.on("error", () => undefined).end();
      await until(() => waiting === 3);
      one.socket.destroy();
      streams[0]?.close(8); // CANCEL
      await until(() => aborted === 2);
      two.session.destroy();
      await until(() => aborted === 3);
    }, wait);
  });

  it("listenTls() fails handshakes before it has a certificate, and rejects a port that is taken", async () => {
    const server = await listen();
    await assert.rejects(get(server.port, "/"));
    server.use(ONE, null);
    assert.equal((await get(server.port, "/")).status, 200);
    await assert.rejects(
      listen(show, { port: server.port }),
      (error: NodeJS.ErrnoException) => error.code === "EADDRINUSE",
    );
    await server.close(false);
  });

  it("use() shows another certificate from the next handshake on, and leaves connections as they are", () =>
    served(async (server) => {
      const one = await openHttp1(server.port);
      const two = await openHttp2(server.port);
      assert.equal((await one.get("/")).serial, serialOf(ONE));
      for (const made of [OTHER, ONE, OTHER]) {
        const asked = one.get("/during");
        server.use(made, null);
        assert.deepEqual([(await asked).status, (await asked).serial], [200, serialOf(ONE)]);
        assert.equal((await two.request("/during")).status, 200);
        assert.equal((await get(server.port, "/")).serial, serialOf(made));
        const three = await openHttp2(server.port);
        assert.equal((await three.request("/")).status, 200);
        three.session.destroy();
      }
      one.socket.destroy();
      two.session.destroy();
    }));

  it("close() answers requests in flight, and ends silent connections", async () => {
    const asked: (() => void)[] = [];
    const slow: Fetch = async () => {
      await new Promise<void>((resolve) => asked.push(resolve));
      return new Response("done");
    };
    const server = await listen(slow);
    const { port } = server;
    server.use(ONE, null);
    const [silent, busy] = [await openHttp1(port), await openHttp1(port)];
    const [silent2, busy2] = [await openHttp2(port), await openHttp2(port)];
    const answers = [busy.get("/"), busy2.request("/")];
    await until(() => asked.length === 2);
    const closed = server.close(false);
    await until(() => silent.socket.destroyed && silent2.session.destroyed);
    for (const answer of asked) answer();
    for (const answer of answers) assert.equal((await answer).body, "done");
    await closed;
    await assert.rejects(openHttp1(port));
  });
});

describe("listenTls() with clients' certificates", () => {
  let ca: TestCa;
  let old: TestCa;
  before(async () => {
    ca = await createTestCa({ clock: createFakeClock(new Date()) });
    old = await createTestCa({ clock: createFakeClock(new Date(Date.now() - 100 * 86_400_000)) });
  });

  const rootsOf = ({ manager }: TestCa) =>
    manager
      .require()
      .state.roots.map(({ certificate }) => pemOf(certificate))
      .join("");
  const leafOf = async ({ manager }: TestCa): Promise<Made> => {
    const { csr, key } = opensslCsr(`URI:${serviceUri(manager, "web")}`);
    return { cert: (await manager.sign(csr)).certificatePem, key };
  };
  const peers = async (port: number, made: Partial<Made>) => {
    const client = await openHttp2(port, made);
    const answers = [(await get(port, "/", made)).body, (await client.request("/")).body];
    client.session.destroy();
    return answers.map((body) => (JSON.parse(body) as { peer: string | null }).peer);
  };
  const asking = async (
    clientCertificate: "optional" | "required",
    work: (server: TlsServer) => Promise<void>,
  ) => {
    const server = await listen(show, {
      client: { clientCa: { kind: "self" }, clientCertificate },
    });
    try {
      server.use(ONE, rootsOf(ca));
      await work(server);
    } finally {
      await server.close(true);
    }
  };

  it("listenTls() shows the app a certificate that verifies, and no other", () =>
    asking("optional", async ({ port }) => {
      const uri = `URI:${serviceUri(ca.manager, "web")}`;
      assert.deepEqual(await peers(port, await leafOf(ca)), [uri, uri]);
      assert.deepEqual(await peers(port, {}), [null, null]);
      assert.deepEqual(await peers(port, OTHER), [null, null]);
      assert.deepEqual(await peers(port, await leafOf(old)), [null, null]);
    }));

  it("listenTls() shows no certificate that has expired", () =>
    asking("optional", async (server) => {
      const expired = await leafOf(old);
      server.use(ONE, rootsOf(old));
      assert.deepEqual(await peers(server.port, expired), [null, null]);
    }));

  it("listenTls() refuses a connection without a certificate that verifies, if one is required", () =>
    asking("required", async ({ port }) => {
      const uri = `URI:${serviceUri(ca.manager, "web")}`;
      assert.deepEqual(await peers(port, await leafOf(ca)), [uri, uri]);
      for (const made of [{}, OTHER, await leafOf(old)]) await assert.rejects(get(port, "/", made));
    }));

  it("listenTls() answers 403 to a certificate that verifies and is not accepted, if one is required", () =>
    asking("required", async (server) => {
      const leaf = await leafOf(ca);
      for (const accepts of [async () => false, () => Promise.reject(new Error("unreadable"))]) {
        server.use(ONE, rootsOf(ca), accepts);
        const client = await openHttp2(server.port, leaf);
        for (const { status, body } of [
          await get(server.port, "/", leaf),
          await client.request("/"),
        ])
          assert.deepEqual(
            [status, body],
            [
              403,
              "Permission denied: the client certificate is not a leaf of this CA, or its root was abandoned",
            ],
          );
        client.session.destroy();
      }
      server.use(ONE, rootsOf(ca), async () => true);
      assert.equal((await get(server.port, "/", leaf)).status, 200);
    }));

  it("TlsCertificates accepts leaves of this CA, and none of an abandoned root that an older root had certified", async () => {
    const now = new Date();
    const { ca, forge } = await abandonedRoot(now);
    const settings: TlsSettings = {
      source: { kind: "self", names: { dnsNames: [], ipAddresses: [] } },
      clientCa: { kind: "self" },
      clientCertificate: "required",
      minVersion: "TLSv1.3",
    };
    const certificates = new TlsCertificates(settings, "dc1", () => assert.fail(), {
      persistentFile: () => null,
      clock: ca.clock,
      random: systemRandom,
      log: silentLog,
    });
    const server = await listen(show, { client: settings });
    try {
      await certificates.open(server);
      await certificates.start(ca.manager);
      // The thief's chain verifies under the older root, as TLS sees it.
      const forged = await get(server.port, "/", forge("web"));
      assert.deepEqual([forged.status, /is not a leaf of this CA/.test(forged.body)], [403, true]);
      const leaf = await leafOf(ca);
      const [alone] = leaf.cert.split(/(?<=-----END CERTIFICATE-----\n)/);
      for (const cert of [leaf.cert, alone ?? ""])
        assert.equal((await get(server.port, "/", { ...leaf, cert })).status, 200);
    } finally {
      await server.close(true);
    }
  });

  it("use() takes other CAs for clients' certificates, also for resumed sessions", () =>
    asking("optional", async (server) => {
      const leaf = await leafOf(ca);
      const first = await openHttp1(server.port, leaf);
      const session = new Promise<Buffer>((resolve) => first.socket.once("session", resolve));
      assert.notEqual(JSON.parse((await first.get("/")).body).peer, null);
      const ticket = await Promise.race([
        session,
        new Promise<null>((resolve) => setTimeout(() => resolve(null), 500)),
      ]);
      first.socket.destroy();
      server.use(ONE, rootsOf(old));
      const body = (
        await get(server.port, "/", { ...leaf, ...(ticket === null ? {} : { session: ticket }) })
      ).body;
      assert.equal(JSON.parse(body).peer, null);
    }));

  it("use() never takes the CAs of the public web for clients' certificates", () =>
    asking("optional", async (server) => {
      assert.throws(() => server.use(ONE, null), TypeError);
    }));
});
