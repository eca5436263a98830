/**
 * The way to Vault against servers that are not: slow ones, ones that redirect, ones that lie, and
 * names that lead elsewhere.
 * @module
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttp, type RequestListener } from "node:http";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { createServer as createTls } from "node:tls";
import { parseVaultConfig } from "../../../providers/vault/config.ts";
import { VaultError } from "../../../providers/vault/errors.ts";
import { Transport, type TransportRequest } from "../../../providers/vault/transport.ts";
import { systemClock } from "../../../src/entry/platform.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { failure, openClient, vaultPlatform } from "./open.ts";
import { makePki } from "./pki.ts";

const TOKEN = "hvs.PlantedTokenThatNobodyMaySee1";
const stops: (() => void)[] = [];
after(() => {
  for (const stop of stops) stop();
});

async function listening(
  server: ReturnType<typeof createServer>,
  host = "127.0.0.1",
): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  stops.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

const web = (listener: RequestListener, host?: string) =>
  listening(createHttp(listener) as ReturnType<typeof createServer>, host);

function transportTo(
  address: string,
  platform = vaultPlatform(),
  files: Readonly<Record<string, string>> = {},
) {
  const { connection } = parseVaultConfig({
    Address: address,
    Token: TOKEN,
    RootPKIPath: "a",
    IntermediatePKIPath: "b",
    ...files,
  });
  return new Transport(connection, platform);
}

const get = (url: string, more: Partial<TransportRequest> = {}): TransportRequest => ({
  method: "GET",
  url,
  headers: { "X-Vault-Token": TOKEN },
  body: null,
  timeoutMs: 5000,
  ...more,
});

async function reason(act: Promise<unknown>): Promise<string> {
  const error = await failure(act);
  assert.ok(error instanceof VaultError, String(error));
  assert.ok(!error.message.includes("Planted"), "the token is in the message");
  return error.reason;
}

describe("Transport", () => {
  it("gives up on a socket that never answers, and on an answer that never ends", async () => {
    const silent = await listening(createServer(() => undefined));
    const dripping = await web((_request, response) => {
      response.writeHead(200, { "Content-Type": "application/json" });
      const timer = setInterval(() => response.write(" "), 20);
      response.once("close", () => clearInterval(timer));
    });
    for (const port of [silent, dripping]) {
      const address = `http://127.0.0.1:${port}`;
      assert.equal(
        await reason(transportTo(address).send(get(`${address}/v1/x`, { timeoutMs: 300 }))),
        "timeout",
      );
    }
  });

  it("reports a closed port, and a name without an address, as unreachable", async () => {
    const server = createServer();
    const port = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    const address = `http://127.0.0.1:${port}`;
    assert.equal(await reason(transportTo(address).send(get(`${address}/v1/x`))), "unreachable");
    assert.equal(
      await reason(
        transportTo("https://nowhere.test", vaultPlatform({ "nowhere.test": [] })).send(
          get("https://nowhere.test/v1/x"),
        ),
      ),
      "unreachable",
    );
  });

  it("stops reading an answer that is too long", async () => {
    const port = await web((_request, response) => response.end(Buffer.alloc(9 * 1024 * 1024, 32)));
    const address = `http://127.0.0.1:${port}`;
    assert.equal(
      await reason(transportTo(address).send(get(`${address}/v1/x`))),
      "malformed_response",
    );
  });

  it("follows a 307 with method and body to a server that may be asked", async () => {
    const seen: string[] = [];
    const active = await web((request, response) => {
      request.setEncoding("utf8");
      let body = "";
      request.on("data", (chunk: string) => {
        body += chunk;
      });
      request.on("end", () => {
        seen.push(`${request.method} ${request.url} ${body} ${request.headers["x-vault-token"]}`);
        response.end("done");
      });
    });
    const standby = await web((request, response) =>
      response.writeHead(307, { Location: `http://127.0.0.1:${active}${request.url}` }).end(),
    );
    const address = `http://127.0.0.1:${standby}`;
    const answer = await transportTo(address).send(
      get(`${address}/v1/x`, { method: "POST", body: '{"a":1}' }),
    );
    assert.deepEqual(
      [answer.status, answer.text, seen],
      [200, "done", [`POST /v1/x {"a":1} ${TOKEN}`]],
    );
  });

  it("follows nothing else", async () => {
    let reached = 0;
    const other = await web((_request, response) => {
      reached++;
      response.end();
    }, "127.0.0.2");
    const to = (status: number, location?: string) =>
      web((_request, response) =>
        response.writeHead(status, location === undefined ? {} : { Location: location }).end(),
      );
    const cases: [status: number, location: string | undefined, expected: string][] = [
      [307, `http://127.0.0.2:${other}/`, "not_allowed"],
      [307, "http://169.254.169.254/latest/meta-data", "not_allowed"],
      [307, "https://127.0.0.1/", "not_allowed"],
      [307, `http://user:pass@127.0.0.1:${other}/`, "not_allowed"],
      [307, undefined, "malformed_response"],
      [301, `http://127.0.0.2:${other}/`, "malformed_response"],
      [302, `http://127.0.0.2:${other}/`, "malformed_response"],
      [308, `http://127.0.0.2:${other}/`, "malformed_response"],
    ];
    for (const [status, location, expected] of cases) {
      const address = `http://127.0.0.1:${await to(status, location)}`;
      assert.equal(
        await reason(transportTo(address).send(get(`${address}/v1/x`))),
        expected,
        `${status} ${location}`,
      );
    }
    const loop = await web((request, response) =>
      response.writeHead(307, { Location: request.url ?? "/" }).end(),
    );
    assert.equal(
      await reason(
        transportTo(`http://127.0.0.1:${loop}`).send(get(`http://127.0.0.1:${loop}/v1/x`)),
      ),
      "malformed_response",
    );
    assert.equal(reached, 0);
  });

  it("connects to no name that leads to an address that is not allowed, also if it led elsewhere before", async () => {
    let reached = 0;
    const port = await web((_request, response) => {
      reached++;
      response.end("{}");
    });
    const names: Record<string, readonly string[]> = { "vault.test": ["169.254.169.254"] };
    const url = `https://vault.test:${port}`;
    assert.equal(
      await reason(transportTo(url, vaultPlatform(names)).send(get(`${url}/v1/x`))),
      "not_allowed",
    );
    names["vault.test"] = ["10.255.255.1", "0.0.0.0"];
    assert.equal(
      await reason(transportTo(url, vaultPlatform(names)).send(get(`${url}/v1/x`))),
      "not_allowed",
    );
    assert.equal(reached, 0);
  });

  it("keeps its connections", async () => {
    let connections = 0;
    const server = createHttp((_request, response) => response.end("{}"));
    server.on("connection", () => connections++);
    const port = await listening(server as ReturnType<typeof createServer>);
    const transport = transportTo(`http://127.0.0.1:${port}`);
    for (let i = 0; i < 20; i++) await transport.send(get(`http://127.0.0.1:${port}/v1/x`));
    assert.ok(connections <= 2, `${connections} connections for 20 requests one after the other`);
  });

  for (const [what, files, expected] of [
    ["CertFile and KeyFile", ["client.pem", "client.key"], "b ca"],
    ["CAFile", ["ca.pem"], "tls"],
  ] as const)
    it(`uses another ${what} for the next call, and aborts no call in flight`, async () => {
      const folder = mkdtempSync(join(tmpdir(), "meshca-vault-files-"));
      stops.push(() => rmSync(folder, { recursive: true, force: true }));
      for (const name of ["a", "b"]) makePki(folder, name);
      const use = (pki: string, names: readonly string[]) => {
        for (const name of names) copyFileSync(join(folder, `${pki}-${name}`), join(folder, name));
      };
      use("a", ["client.pem", "client.key", "ca.pem"]);
      const [arrived, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const ends: Promise<unknown>[] = [];
      const read = (name: string) => readFileSync(join(folder, name));
      // It reports which client certificate it received, which Bun's HTTPS server cannot.
      const server = createTls(
        {
          cert: read("a-server.pem"),
          key: read("a-server.key"),
          ca: [read("a-ca.pem"), read("b-ca.pem")],
          requestCert: true,
        },
        (socket) => {
          ends.push(new Promise((resolve) => socket.once("close", resolve)));
          socket.on("error", () => undefined);
          socket.on("data", async (request) => {
            if (String(request).startsWith("GET /slow ")) {
              arrived.resolve();
              await released.promise;
            }
            const by = String(socket.getPeerCertificate().issuer.CN);
            socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${by.length}\r\n\r\n${by}`);
          });
        },
      );
      const address = `https://127.0.0.1:${await listening(server)}`;
      const clock = createFakeClock();
      const transport = transportTo(
        address,
        { ...vaultPlatform(), clock: { now: clock.now, sleep: systemClock.sleep } },
        {
          CAFile: join(folder, "ca.pem"),
          CertFile: join(folder, "client.pem"),
          KeyFile: join(folder, "client.key"),
        },
      );
      const ask = (path: string) =>
        transport.send(get(`${address}${path}`)).then(
          ({ text }) => text,
          ({ reason }) => reason,
        );
      const slow = ask("/slow");
      await arrived.promise;
      assert.equal(await ask("/idle"), "a ca");
      const before = [...ends];
      assert.equal(before.length, 2);
      use("b", files);
      clock.advance(10_000);
      assert.equal(await ask("/next"), expected);
      released.resolve();
      assert.equal(await slow, "a ca");
      // What was connected by the old files is not kept.
      await Promise.all(before);
      transport.close();
    });
});

describe("the client of Vault", () => {
  it("takes nothing from the environment", async () => {
    const seen: string[] = [];
    const vault = await web((request, response) => {
      seen.push(
        `${request.url} ${request.headers["x-vault-token"]} ${request.headers["x-vault-namespace"]}`,
      );
      response
        .writeHead(200, { "Content-Type": "application/json" })
        .end('{"data":{"ttl":0,"renewable":false,"expire_time":null}}');
    });
    let foreign = 0;
    const proxy = await web((_request, response) => {
      foreign++;
      response.end();
    });
    const elsewhere = `http://127.0.0.1:${proxy}`;
    const script = `import { openClient } from "${import.meta.dirname}/open.ts";
      const client = openClient({ Address: "http://127.0.0.1:${vault}", Token: "${TOKEN}" });
      await client.connect(); client.close(); process.exit(0);`;
    const env = {
      PATH: process.env.PATH ?? "",
      ...Object.fromEntries(
        ["VAULT_ADDR", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"].map((name) => [
          name,
          elsewhere,
        ]),
      ),
      VAULT_TOKEN: "hvs.foreign",
      VAULT_NAMESPACE: "foreign",
      VAULT_PREFIX: "/foreign",
      VAULT_SKIP_VERIFY: "true",
      DEBUG: "*",
    };
    const child = spawn(process.execPath, ["-e", script], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
    const code = await new Promise((resolve) => child.once("close", resolve));
    assert.equal(code, 0, output);
    assert.equal(output, "");
    assert.deepEqual([...new Set(seen)], [`/v1/auth/token/lookup-self ${TOKEN} undefined`]);
    assert.equal(foreign, 0);
  });

  it("repeats read requests, and never a request with an effect", async () => {
    const count = new Map<string, number>();
    const port = await web((request, response) => {
      const call = `${request.method} ${request.url}`;
      count.set(call, (count.get(call) ?? 0) + 1);
      const isLookup = request.url === "/v1/auth/token/lookup-self";
      response.writeHead(isLookup ? 200 : 502, {
        "Content-Type": isLookup ? "application/json" : "text/html",
      });
      response.end(
        isLookup
          ? '{"data":{"ttl":0,"renewable":false,"expire_time":null}}'
          : `<html>${TOKEN}</html>`,
      );
    });
    const client = openClient({ Address: `http://127.0.0.1:${port}`, Token: TOKEN });
    const mount = { path: "pki", namespace: "" };
    assert.equal(await reason(client.listIssuers(mount)), "failing");
    assert.equal(await reason(client.setSigned(mount, "x")), "failing");
    assert.equal(count.get("GET /v1/pki/issuers?list=1"), 3);
    assert.equal(count.get("POST /v1/pki/intermediate/set-signed"), 1);
    client.close();
  });

  it("takes a refusal below a mount whose name ends with sys/health for a refusal", async () => {
    const port = await web((request, response) => {
      const isLookup = request.url === "/v1/auth/token/lookup-self";
      response.writeHead(isLookup ? 200 : 403, { "Content-Type": "application/json" });
      response.end(
        isLookup
          ? '{"data":{"ttl":0,"renewable":false,"expire_time":null}}'
          : '{"errors":["permission denied"]}',
      );
    });
    const client = openClient({ Address: `http://127.0.0.1:${port}`, Token: TOKEN });
    const mount = { path: "mesh-sys/health", namespace: "" };
    assert.equal(await reason(client.writeRole(mount, "leaf-cert", {})), "denied");
    client.close();
  });

  it("refuses responses of an unexpected format, without quoting them", async () => {
    for (const body of [
      "null",
      "[]",
      '{"data":{}}',
      `{"data":{"keys":["${TOKEN}", 1]}}`,
      "not json",
      "",
    ]) {
      const port = await web((request, response) => {
        const isLookup = request.url === "/v1/auth/token/lookup-self";
        response.writeHead(200, { "Content-Type": "application/json" });
        response.end(isLookup ? '{"data":{"ttl":0,"renewable":false,"expire_time":null}}' : body);
      });
      const client = openClient({ Address: `http://127.0.0.1:${port}`, Token: TOKEN });
      const asked = client.listIssuers({ path: "pki", namespace: "" });
      if (body === '{"data":{}}') assert.deepEqual(await asked, []);
      else assert.equal(await reason(asked), "malformed_response", body);
      client.close();
    }
  });
});
