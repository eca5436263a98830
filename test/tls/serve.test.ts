/**
 * `meshca serve` with TLS as an operator meets it: what it does not start with, a pair of files
 * that is replaced, and a certificate of its own through which no client notices a rotation.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { opensslCsr } from "../fakes/ca.ts";
import { makeDataDir, runServer, type ServerProcess, startServer } from "../fixtures/process.ts";
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

const ROOTS = "/v1/connect/ca/roots";

/** Runs `work` with a server, which is ended afterwards. */
async function serving(
  environment: Readonly<Record<string, string>>,
  work: (server: ServerProcess) => Promise<void>,
  args?: readonly string[],
): Promise<void> {
  const server = await startServer(environment, args);
  try {
    await work(server);
  } finally {
    assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
  }
}

interface Root {
  readonly RootCert: string;
}
const rootsAt = async (port: number): Promise<readonly Root[]> =>
  (JSON.parse((await get(port, ROOTS)).body) as { Roots: Root[] }).Roots;

async function put(port: number, path: string, body = "", as: Partial<Made> = {}): Promise<string> {
  const client = await openHttp2(port, as);
  const answer = await client.request(
    path,
    body.startsWith("{") ? { "content-type": "application/json" } : {},
    body,
  );
  client.session.destroy();
  assert.equal(answer.status, 200, answer.body);
  return answer.body;
}

const rotate = (port: number) => put(port, "/v1/connect/ca/rotate");

describe("meshca serve with MESHCA_TLS=self", () => {
  it("signs over HTTP/1.1 and HTTP/2", () =>
    serving({ MESHCA_TLS: "self" }, async (server) => {
      assert.match(server.url, /^https:/);
      const { csr } = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`);
      await put(server.port, "/v1/connect/ca/sign", csr);
      assert.equal(
        (await get(server.port, "/v1/status/leader")).body,
        `"127.0.0.1:${server.port}"`,
      );
    }));

  const refusals: readonly (readonly [string, (port: number) => Promise<number>])[] = [
    ["HTTP/1.1", async (port) => (await get(port, "/v1/acl/tokens")).status],
    [
      "HTTP/2",
      async (port) => {
        const client = await openHttp2(port, {});
        const { status } = await client.request("/v1/acl/tokens");
        client.session.destroy();
        return status;
      },
    ],
  ];
  // A server each: refusals of anonymous callers are counted by the second, and the first one of it
  // has a line.
  for (const [protocol, refused] of refusals)
    it(`knows the client address of a request, over ${protocol}`, () =>
      serving(
        { MESHCA_TLS: "self", MESHCA_AUDIT: "stdout", MESHCA_ACL: "deny" },
        async ({ port, stdout }) => {
          assert.equal(await refused(port), 403);
          await until(() => stdout().includes("GET /v1/acl/tokens"));
          const line = stdout()
            .split("\n")
            .find((one) => one.includes('"kind":"audit"') && one.includes("/v1/acl/"));
          assert.equal((JSON.parse(line ?? "{}") as { address?: string }).address, "127.0.0.1");
        },
      ));

  it(
    "verifies under every published root through rotations, without one failed handshake",
    { timeout: 120_000 },
    () =>
      serving({ MESHCA_TLS: "self" }, ({ port }) =>
        inNewFolder(async (folder) => {
          /** The roots as they were fetched at some moment, and each by itself. */
          const files: string[] = [];
          const note = async () => {
            const roots = (await rootsAt(port)).map(({ RootCert }) => RootCert);
            for (const pem of [roots.join(""), ...roots]) {
              files.push(join(folder, `${files.length}.pem`));
              writeFileSync(files.at(-1) as string, pem);
            }
          };
          await note();
          let [handshakes, over] = [0, false];
          const serials = new Set<string>();
          const lane = async () => {
            while (!over)
              serials.add(
                await opensslHandshake(port, files[handshakes++ % files.length] as string),
              );
          };
          const lanes = [lane(), lane()];
          const failed = Promise.all(lanes);
          const enough = async () => {
            const aim = handshakes + 20;
            await Promise.race([failed, until(() => handshakes >= aim)]);
          };
          await enough();
          for (const seen of [1, 2]) {
            assert.equal(serials.size, seen);
            await rotate(port);
            await Promise.race([failed, until(() => serials.size > seen)]);
            await note();
            await enough();
          }
          over = true;
          await failed;
          assert.equal(serials.size, 3);
          for (const file of files) await opensslHandshake(port, file);
        }),
      ),
  );

  it("takes leaves of its own CA for clients' certificates, those from before a rotation too, and none from elsewhere", async () => {
    const dataDir = makeDataDir();
    const environment = {
      MESHCA_TLS: "self",
      MESHCA_TLS_CLIENT_CA_FILE: "self",
      MESHCA_DATA_DIR: dataDir,
    };
    const leafOf = async (
      { port, trustDomain }: ServerProcess,
      as: Partial<Made>,
    ): Promise<Made> => {
      const { csr, key } = opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`);
      const { CertPEM } = JSON.parse(
        await put(port, "/v1/connect/ca/sign", JSON.stringify({ CSR: csr }), as),
      ) as { CertPEM: string };
      return { cert: CertPEM, key };
    };
    try {
      let first: Made = { cert: "", key: "" };
      await serving(environment, async (server) => {
        first = await leafOf(server, {});
      });
      await serving({ ...environment, MESHCA_TLS_CLIENT_CERT: "required" }, async (server) => {
        const { port } = server;
        for (const stranger of [{}, selfSigned("stranger")])
          await assert.rejects(get(port, ROOTS, stranger));
        assert.equal((await get(port, ROOTS, first)).status, 200);
        await put(port, "/v1/connect/ca/rotate", "", first);
        // What is signed now is trusted once the roots of the change are.
        const second = await leafOf(server, first);
        await until(async () => (await get(port, ROOTS, second).catch(() => null))?.status === 200);
        assert.equal((await get(port, ROOTS, first)).status, 200);
      });
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  });

  it("frees the place of a watcher that has disconnected, over HTTP/1.1 and HTTP/2", () =>
    serving({ MESHCA_TLS: "self" }, async ({ port }) => {
      const watchers = async () =>
        Number(/^meshca_watchers (\d+)$/m.exec((await get(port, "/metrics")).body)?.[1]);
      const one = await openHttp1(port);
      one.socket.write(`GET ${ROOTS}?index=1&wait=600s HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      const two = await openHttp2(port);
      for (let i = 0; i < 3; i++) two.request(`${ROOTS}?index=1&wait=600s`).catch(() => undefined);
      await until(async () => (await watchers()) === 4);
      one.socket.destroy();
      await until(async () => (await watchers()) === 3);
      two.session.destroy();
      await until(async () => (await watchers()) === 0);
    }));

  it("answers waiting watchers on SIGTERM", async () => {
    const server = await startServer({ MESHCA_TLS: "self" });
    const one = await openHttp1(server.port);
    const two = await openHttp2(server.port);
    const path = `${ROOTS}?index=1&wait=600s`;
    const answers = [one.get(path), two.request(path), two.request(path)];
    await until(async () =>
      (await get(server.port, "/metrics")).body.includes("\nmeshca_watchers 3\n"),
    );
    server.kill("SIGTERM");
    for (const answer of answers) assert.equal((await answer).status, 200);
    const { code, stderr } = await server.ended;
    assert.deepEqual([code, stderr], [0, ""]);
    await server.stop();
  });

  it("cuts a body off that is longer than any route reads, over HTTP/1.1 and HTTP/2", () =>
    serving({ MESHCA_TLS: "self" }, async ({ port }) => {
      const client = await openHttp2(port);
      const body = "x".repeat(300_000);
      for (const headers of [{}, { "content-length": String(body.length) }])
        assert.equal((await client.request("/v1/connect/ca/sign", headers, body)).status, 413);
      client.session.destroy();
      for (const head of [
        `Content-Length: ${body.length}\r\n\r\n`,
        `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n`,
      ]) {
        const { socket } = await openHttp1(port);
        const status = new Promise<string>((resolve) =>
          socket.once("data", (text: string) => resolve(text.slice(0, 12))),
        );
        socket.on("error", () => undefined);
        socket.write(`PUT /v1/connect/ca/sign HTTP/1.1\r\nHost: localhost\r\n${head}${body}`);
        assert.equal(await status, "HTTP/1.1 413");
        socket.destroy();
      }
    }));

  it("serves with two workers behind one port", { timeout: 60_000 }, () =>
    serving(
      { MESHCA_TLS: "self" },
      async ({ port }) => {
        const serials = new Set<string>();
        await until(async () => {
          for (const { serial } of await Promise.all(
            Array.from({ length: 10 }, () => get(port, ROOTS)),
          ))
            serials.add(serial);
          return serials.size === 2;
        });
      },
      ["--workers", "2"],
    ),
  );
});

describe("meshca serve with MESHCA_TLS_CERT_FILE", () => {
  const environmentIn = (folder: string, { cert, key }: Partial<Made>) => {
    const [MESHCA_TLS_CERT_FILE, MESHCA_TLS_KEY_FILE] = [
      join(folder, "cert.pem"),
      join(folder, "key.pem"),
    ];
    if (cert !== undefined) writeFileSync(MESHCA_TLS_CERT_FILE, cert);
    if (key !== undefined) writeFileSync(MESHCA_TLS_KEY_FILE, key);
    return { MESHCA_TLS_CERT_FILE, MESHCA_TLS_KEY_FILE };
  };

  it("shows a new pair once it is whole, and drops no connection", { timeout: 60_000 }, () =>
    inNewFolder(async (folder) => {
      const [one, other] = [selfSigned("one"), selfSigned("other")];
      const serialOf = ({ cert }: Made) => new X509Certificate(cert).serialNumber;
      const environment = environmentIn(folder, one);
      await serving(environment, async (server) => {
        const held = await openHttp1(server.port);
        const held2 = await openHttp2(server.port);
        const waiting = held2.request(`${ROOTS}?index=1&wait=600s`);
        assert.equal((await held.get(ROOTS)).serial, serialOf(one));
        writeFileSync(environment.MESHCA_TLS_CERT_FILE, other.cert.slice(0, 100));
        await until(() =>
          server.stdout().includes("Failed to reload TLS files; keeping the previous certificate"),
        );
        writeFileSync(environment.MESHCA_TLS_CERT_FILE, other.cert);
        await until(() =>
          server.stdout().includes("contains a private key that does not match the certificate"),
        );
        assert.equal((await get(server.port, ROOTS)).serial, serialOf(one));
        writeFileSync(environment.MESHCA_TLS_KEY_FILE, other.key);
        await until(async () => (await get(server.port, ROOTS)).serial === serialOf(other));
        assert.deepEqual(
          [(await held.get(ROOTS)).status, (await held.get(ROOTS)).serial],
          [200, serialOf(one)],
        );
        await rotate(server.port);
        assert.equal((await waiting).status, 200);
        held.socket.destroy();
        held2.session.destroy();
      });
    }),
  );

  it(
    "keeps the last pair, and keeps serving, if a file becomes a FIFO, a folder, a device, too large or nothing",
    { timeout: 60_000 },
    () =>
      inNewFolder(async (folder) => {
        const made = selfSigned("one");
        const environment = environmentIn(folder, made);
        await serving(environment, async (server) => {
          const file = environment.MESHCA_TLS_KEY_FILE;
          const odd: readonly (readonly [string, () => void])[] = [
            ["it is not a regular file", () => execFileSync("mkfifo", [file])],
            ["it is a folder", () => mkdirSync(file)],
            ["it is not a regular file", () => symlinkSync("/dev/zero", file)],
            ["it is larger than 1048576 octets", () => writeFileSync(file, "x".repeat(2_000_000))],
            ["there is no such file", () => symlinkSync(`${file}-gone`, file)],
            ["its symbolic links form a loop", () => symlinkSync(file, file)],
          ];
          for (const [reason, make] of odd) {
            rmSync(file, { recursive: true, force: true });
            const before = server.stdout().length;
            make();
            process.kill(server.pid, "SIGHUP");
            await until(() => server.stdout().slice(before).includes(`cannot be read: ${reason}`));
            assert.equal(
              (await get(server.port, "/healthz")).serial,
              new X509Certificate(made.cert).serialNumber,
            );
          }
        });
      }),
  );

  it("ends with 78 if the files cannot be used, and names each", () =>
    inNewFolder(async (folder) => {
      const environment = environmentIn(folder, {});
      const run = async () => {
        const { code, stdout, stderr } = await runServer({
          MESHCA_LISTEN: "127.0.0.1:0",
          MESHCA_STORE: "memory:",
          ...environment,
        });
        assert.deepEqual([code, stdout], [78, ""]);
        return stderr;
      };
      assert.equal(
        await run(),
        `Cannot start:\n  MESHCA_TLS_CERT_FILE: "${folder}/cert.pem" cannot be read: there is no such file\n  MESHCA_TLS_KEY_FILE: "${folder}/key.pem" cannot be read: there is no such file\n`,
      );
      environmentIn(folder, { cert: selfSigned("one").cert, key: selfSigned("other").key });
      assert.match(
        await run(),
        /MESHCA_TLS_KEY_FILE: ".*" contains a private key that does not match the certificate\n$/,
      );
    }));

  it("follows a file of Consul's agent", () =>
    inNewFolder(async (folder) => {
      const made = selfSigned("one");
      const { MESHCA_TLS_CERT_FILE: cert_file, MESHCA_TLS_KEY_FILE: key_file } = environmentIn(
        folder,
        made,
      );
      const config = join(folder, "consul.json");
      const file = {
        ports: { http: -1, https: 0 },
        tls: { defaults: { cert_file, key_file, verify_incoming: true, ca_file: cert_file } },
      };
      writeFileSync(config, JSON.stringify(file));
      const server = await startServer({ MESHCA_CONFIG: config, MESHCA_LISTEN: "127.0.0.1:0" });
      try {
        await assert.rejects(get(server.port, ROOTS));
        assert.equal((await get(server.port, ROOTS, made)).status, 200);
      } finally {
        await server.stop();
      }
    }));
});
