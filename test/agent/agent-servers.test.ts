/**
 * The agent against real servers: TLS by a pin and by another CA's file, failover over one store, and
 * a login by JWT.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { makeKek } from "../../src/seal/kek.ts";
import { makeOtherCa } from "../client/tls-server.ts";
import {
  AGENT_RUNTIMES,
  type AgentProcess,
  inAgentFolder,
  runAgent,
  startAgent,
} from "../fixtures/agent.ts";
import { type IssuerServer, startIssuer } from "../fixtures/issuer-server.ts";
import { makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { freePort, noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";

const CONFIGURATION = "/v1/connect/ca/configuration";
const EC_384 = { Provider: "consul", Config: { PrivateKeyType: "ec", PrivateKeyBits: 384 } };

/** An exchange with a server that nobody verifies. */
function unverified(url: string, method = "GET", body: unknown = null): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, rejectUnauthorized: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${response.statusCode}: ${text}`));
      });
    });
    sent.on("error", reject).end(body === null ? undefined : JSON.stringify(body));
  });
}

const readyz = async (agent: AgentProcess) => (await fetch(`${agent.url()}/readyz`)).text();
const read = (folder: string, name: string) => readFileSync(join(folder, name), "utf8");
const serialOf = (folder: string) => new X509Certificate(read(folder, "tls.crt")).serialNumber;
const rootsIn = (folder: string) => read(folder, "ca.crt").split("-----BEGIN").length - 1;

for (const runtime of AGENT_RUNTIMES) {
  describe(`a server with MESHCA_TLS=self, on ${runtime}`, () => {
    it(
      "is followed by its pin through a rotation and a restart, and no other is",
      {
        timeout: 120_000,
      },
      () =>
        inAgentFolder(async (folder) => {
          const environment = {
            MESHCA_TLS: "self",
            MESHCA_LISTEN: `127.0.0.1:${await freePort()}`,
            MESHCA_DATA_DIR: makeDataDir(),
          };
          const server = await startServer(environment);
          const pem = await unverified(`${server.url}/v1/connect/ca/roots?pem=true`);
          const pin = createHash("sha256").update(new X509Certificate(pem).raw).digest("hex");
          const web = join(folder, "web");
          const agent = await startAgent(
            [
              ...["--server", server.url, "--ca-pin", pin, "--service", "web", "--dir", web],
              ...["--listen", "127.0.0.1:0"],
            ],
            { runtime },
          );
          // The certificate of the server is under the new root from now on.
          await unverified(`${server.url}${CONFIGURATION}`, "PUT", EC_384);
          await until(() => rootsIn(web) === 2);
          await server.stop();
          await until(async () => /No CA server answered/.test(await readyz(agent)));
          const again = await startServer(environment);
          await until(async () => !/No CA server answered/.test(await readyz(agent)));
          await again.stop();

          const serial = serialOf(web);
          const stranger = await startServer({
            MESHCA_TLS: "self",
            MESHCA_LISTEN: environment.MESHCA_LISTEN,
          });
          await until(async () => /The pin matches none of the 1 roots/.test(await readyz(agent)));
          assert.match(await readyz(agent), /^ok\n/);
          assert.equal(serialOf(web), serial);
          assert.equal(rootsIn(web), 2);
          await agent.stop();
          await stranger.stop();
        }),
    );
  });

  describe(`a server with the certificate of another CA, on ${runtime}`, () => {
    it("is verified by the CA file and by its name, and else refused", { timeout: 120_000 }, () =>
      inAgentFolder(async (folder) => {
        const file = (name: string, text: string) => {
          writeFileSync(join(folder, name), text, { mode: 0o600 });
          return join(folder, name);
        };
        const ca = makeOtherCa(null);
        const serve = (names: string) => {
          const { key, cert } = ca.issue(names);
          return startServer({
            MESHCA_TLS_CERT_FILE: file("cert.pem", cert),
            MESHCA_TLS_KEY_FILE: file("key.pem", key),
          });
        };
        const flags = (server: ServerProcess, name: string, caFile: string) => [
          ...["--server", `https://localhost:${server.port}`, "--service", "web"],
          ...["--dir", join(folder, name), "--ca-file", caFile],
        ];
        const caFile = file("ca.pem", ca.pem);
        const server = await serve("DNS:localhost");
        const good = await runAgent(["--once", ...flags(server, "good", caFile)], { runtime });
        assert.deepEqual([good.code, good.stderr], [0, ""]);
        const refusal = async (at: ServerProcess, name: string, trusted: string) => {
          const agent = await startAgent(flags(at, name, trusted), { runtime, until: "started" });
          const { reason } = await agent.logged(
            "Failed to read the roots; the last ones stay in use, will retry",
          );
          await agent.stop();
          assert.ok(!existsSync(join(folder, name, "tls.crt")));
          return String(reason);
        };
        // The roots of the mesh do not verify it, nor does a CA that has the same name.
        const pem = await unverified(`${server.url}/v1/connect/ca/roots?pem=true`);
        for (const [name, text] of [
          ["mesh", pem],
          ["other", makeOtherCa(null).pem],
        ] as const)
          assert.match(
            await refusal(server, name, file(`${name}.pem`, text)),
            /cannot be verified/,
          );
        await server.stop();
        const elsewhere = await serve("DNS:ca.example,IP:127.0.0.2");
        assert.match(
          await refusal(elsewhere, "name", caFile),
          /certificate for another name than localhost|cannot be verified/,
        );
        await elsewhere.stop();
      }),
    );
  });
}

describe("two servers over one store", { skip: noRedis }, () => {
  let redis: RedisServer;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  it(
    "take over from each other when one is killed, for roots and for leaves",
    {
      timeout: 120_000,
    },
    () =>
      inAgentFolder(async (folder) => {
        const shared = { MESHCA_STORE: `redis://127.0.0.1:${redis.port}`, MESHCA_KEK: makeKek() };
        const serve = async (port: number) =>
          startServer({ ...shared, MESHCA_LISTEN: `127.0.0.1:${port}` });
        const ports = [await freePort(), await freePort()] as const;
        const first = await serve(ports[0]);
        const second = await serve(ports[1]);
        const web = join(folder, "web");
        const agent = await startAgent([
          ...["--server", first.url, "--server", second.url, "--service", "web", "--dir", web],
          ...["--listen", "127.0.0.1:0"],
        ]);
        const leafOf = async (service: string) => {
          const url = `${agent.url()}/v1/agent/connect/ca/leaf/${service}`;
          const response = await fetch(url);
          assert.equal(response.status, 200, await response.clone().text());
          return (await response.json()) as { CertPEM: string };
        };
        const rotate = async (server: ServerProcess, PrivateKeyBits: number) => {
          const Config = { PrivateKeyType: "ec", PrivateKeyBits };
          const body = JSON.stringify({ Provider: "consul", Config });
          const response = await fetch(`${server.url}${CONFIGURATION}`, { method: "PUT", body });
          return response.status;
        };
        first.kill("SIGKILL");
        await first.ended;
        assert.match((await leafOf("db")).CertPEM, /BEGIN CERTIFICATE/);
        await agent.logged("Using another CA server");
        await until(async () => (await rotate(second, 384)) === 200);
        await until(() => rootsIn(web) === 2);
        assert.match(await readyz(agent), /^ok\n/);

        const again = await serve(ports[0]);
        second.kill("SIGKILL");
        await second.ended;
        await until(async () => (await rotate(again, 521)) === 200);
        await until(() => rootsIn(web) === 3);
        assert.match((await leafOf("cache")).CertPEM, /BEGIN CERTIFICATE/);
        assert.equal((await agent.stop()).code, 0);
        await again.stop();
      }),
  );
});

describe("a login by JWT", () => {
  const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
  let issuer: IssuerServer;
  let server: ServerProcess;
  let key: CryptoKeyPair;

  const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${server.url}${path}`, {
      method,
      headers: { "X-Consul-Token": MANAGEMENT },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    assert.equal(response.status, 200, text);
    return JSON.parse(text) as unknown;
  };
  const tokens = async () =>
    ((await call("GET", "/v1/acl/tokens")) as { AuthMethod?: string }[]).filter(
      ({ AuthMethod }) => AuthMethod === "workloads",
    ).length;
  const jwt = (service: string, audience = "meshca") =>
    new SignJWT({ service })
      .setProtectedHeader({ alg: "ES256", kid: "one" })
      .setIssuer(issuer.url)
      .setSubject(service)
      .setAudience(audience)
      .setJti(crypto.randomUUID())
      .setIssuedAt()
      .setExpirationTime("1h")
      .sign(key.privateKey);

  before(async () => {
    key = await generateKeyPair("ES256", { extractable: true });
    const jwk = { ...(await exportJWK(key.publicKey)), kid: "one", alg: "ES256", use: "sig" };
    issuer = await startIssuer(({ path }) =>
      path === "/keys" ? [200, { keys: [jwk] }] : [404, {}],
    );
    server = await startServer({
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      MESHCA_JWKS_PRIVATE_HOSTS: issuer.host,
    });
    await call("PUT", "/v1/acl/auth-method", {
      Name: "workloads",
      Type: "jwt",
      Config: {
        BoundAudiences: ["meshca"],
        JWTSupportedAlgs: ["ES256"],
        BoundIssuer: issuer.url,
        JWKSURL: `${issuer.url}/keys`,
        JWKSCACert: issuer.ca,
        ClaimMappings: { service: "service" },
      },
    });
    await call("PUT", "/v1/acl/binding-rule", {
      AuthMethod: "workloads",
      BindType: "service",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the form of a binding
      BindName: "${value.service}",
    });
  });
  after(async () => {
    await server?.stop();
    await issuer?.stop();
  });

  const flagsFor = (folder: string, file: string) => [
    ...["--server", server.url, "--login-auth-method", "workloads", "--login-token-file", file],
    ...["--dir", join(folder, "web")],
  ];

  for (const runtime of AGENT_RUNTIMES)
    it(
      `gives the service of its JWT a leaf, and ends with the agent, on ${runtime}`,
      {
        timeout: 60_000,
      },
      () =>
        inAgentFolder(async (folder) => {
          const file = join(folder, "jwt");
          const text = await jwt("web");
          writeFileSync(file, `${text}\n`, { mode: 0o600 });
          const agent = await startAgent(flagsFor(folder, file), { runtime });
          const names = new X509Certificate(read(join(folder, "web"), "tls.crt")).subjectAltName;
          assert.match(names ?? "", /^URI:spiffe:\/\/[^/]+\/ns\/default\/dc\/dc1\/svc\/web$/);
          assert.equal(await tokens(), 1);
          const { code, stdout, stderr } = await agent.stop();
          assert.equal(code, 0);
          assert.equal(await tokens(), 0);
          assert.ok(!(stdout + stderr).includes(text), "the JWT is in the log");
        }),
    );

  it(
    "that is refused is said, and repeated with another JWT of the file",
    { timeout: 60_000 },
    () =>
      inAgentFolder(async (folder) => {
        const file = join(folder, "jwt");
        const refused = await jwt("web", "another-audience");
        writeFileSync(file, refused, { mode: 0o600 });
        const agent = await startAgent([...flagsFor(folder, file), "--listen", "127.0.0.1:0"], {
          until: "open",
        });
        await until(async () =>
          /Login with auth method "workloads" failed: .*refused \(403\)/.test(await readyz(agent)),
        );
        writeFileSync(file, await jwt("web"));
        await agent.logged("Ready");
        assert.match(await readyz(agent), /^ok\n/);
        const { stdout } = await agent.stop();
        assert.ok(!stdout.includes(refused), "the JWT is in the log");
        assert.equal(await tokens(), 0);
      }),
  );

  for (const [what, write, exit, reason] of [
    [
      "is refused",
      async (file: string) => writeFileSync(file, await jwt("web", "x")),
      77,
      /refused \(403\): .*another audience/,
    ],
    [
      "is no JWT",
      async (file: string) => writeFileSync(file, "nothing"),
      77,
      /refused \(403\): Permission denied/,
    ],
    ["is empty", async (file: string) => writeFileSync(file, " \n"), 75, /is empty/],
    [
      "has no file",
      async () => undefined,
      75,
      /the token's service has no certificate: .*cannot be read: ".*jwt": ENOENT/,
    ],
  ] as const)
    it(`that ${what} ends --once with ${exit}`, { timeout: 60_000 }, () =>
      inAgentFolder(async (folder) => {
        const file = join(folder, "jwt");
        await write(file);
        const { code, stderr } = await runAgent([
          ...["--once", "--once-timeout", "10s"],
          ...flagsFor(folder, file),
        ]);
        assert.equal(code, exit, stderr);
        assert.match(stderr, reason);
        assert.equal(await tokens(), 0);
      }),
    );
});
