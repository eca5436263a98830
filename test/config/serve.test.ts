/**
 * The server as an operator uses it: when it refuses to start, how it exits, what it
 * keeps over a restart, what it logs.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, beforeEach, describe, it } from "node:test";
import { STORE_FORMS } from "../../src/config/store-url.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { makeDataDir, runServer, startServer } from "../fixtures/process.ts";
import { type RawAnswer, send } from "../fixtures/raw.ts";
import { put, sign } from "../fixtures/refusals.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";

const ROOTS = { method: "GET", target: "/v1/connect/ca/roots" };
const CONFIGURATION = { method: "GET", target: "/v1/connect/ca/configuration" };
const CLUSTER_ID = "11111111-2222-3333-4444-555555555555";
const LISTEN = { MESHCA_LISTEN: "127.0.0.1:0" };

/** Creates a file at the path of a required folder. */
function prepared(folder: string): Record<string, never> {
  writeFileSync(join(folder, "file"), "");
  return {};
}

describe("meshca serve", () => {
  const made: string[] = [];
  let dataDir = "";
  beforeEach(() => {
    dataDir = makeDataDir();
    made.push(dataDir);
  });
  after(() => {
    for (const folder of made) rmSync(folder, { recursive: true, force: true });
  });

  /** Writes a configuration file and names it in the environment. */
  const withFile = (file: unknown): Record<string, string> => {
    const path = join(dataDir, "meshca.json");
    writeFileSync(path, JSON.stringify(file));
    return { MESHCA_CONFIG: path, MESHCA_DATA_DIR: dataDir };
  };
  const bodyOf = (answer: RawAnswer | null): string => {
    assert.equal(answer?.status, 200);
    return answer?.body ?? "";
  };

  it("meshca serve exits with 78 and prints every fault on standard error", async () => {
    const environment = {
      MESHCA_LISTEN: "x",
      MESHCA_STORE: "redis:",
      MESHCA_LOGLEVEL: "info",
      ...withFile({ datacentre: "a" }),
    };
    const { code, stdout, stderr } = await runServer(environment);
    assert.deepEqual([code, stdout], [78, ""]);
    assert.deepEqual(stderr.trimEnd().split("\n").toSorted(), [
      "  MESHCA_LISTEN: must be HOST:PORT, for example 127.0.0.1:8500, with port 0 for a free one",
      "  MESHCA_LOGLEVEL: is not a setting; did you mean MESHCA_LOG_LEVEL?",
      `  MESHCA_STORE: ${STORE_FORMS}`,
      "  datacentre: is not a key of Consul's agent configuration; did you mean datacenter?",
      "Cannot start:",
    ]);
  });

  for (const host of ["0.0.0.0", "[::]", "10.255.255.1"])
    it(`meshca serve exits with 78 if it would listen on ${host}, which is not loopback, without access control or TLS`, async () => {
      const environment = { MESHCA_LISTEN: `${host}:0`, MESHCA_DATA_DIR: dataDir };
      const open = await runServer({ ...environment, MESHCA_ACL: "off" });
      assert.deepEqual([open.code, open.stdout], [78, ""], open.stderr);
      assert.match(
        open.stderr,
        /^Cannot start:\n {2}MESHCA_LISTEN: cannot listen on ".*": without access control only loopback is served; use 127\.0\.0\.1, ::1 or localhost\n$/,
      );
      const plain = await runServer(environment);
      assert.deepEqual([plain.code, plain.stdout], [78, ""], plain.stderr);
      assert.match(
        plain.stderr,
        /^Cannot start:\n {2}MESHCA_LISTEN: cannot serve plain HTTP on ".*": set MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, /,
      );
    });

  it("meshca serve exits with 78 and the reason if the configuration of the first start is refused", async () => {
    const file = { connect: { ca_config: { leaf_cert_ttl: "30m", private_key_bits: 224 } } };
    const { code, stderr } = await runServer({ ...LISTEN, ...withFile(file) });
    assert.equal(code, 78);
    assert.equal(
      stderr,
      "error configuring provider: leaf cert TTL must be greater or equal than 1h0m0s; EC key length must be one of (256, 384, 521) bits\n",
    );
  });

  it("meshca serve exits with 78 if key-encryption keys are malformed, without printing them", async () => {
    const { code, stderr } = await runServer({
      ...LISTEN,
      MESHCA_DATA_DIR: dataDir,
      MESHCA_KEK: "a=c2VjcmV0c2VjcmV0",
    });
    assert.equal(code, 78);
    assert.match(
      stderr,
      /^Cannot read key-encryption keys from MESHCA_KEK or the file of MESHCA_KEK_FILE: entry 1 is not ID:BASE64 with a key of 32 octets/,
    );
    assert.ok(!stderr.includes("c2VjcmV0"));
  });

  it("meshca serve prints what to do if its address is in use", async () => {
    const server = await startServer();
    try {
      const { code, stderr } = await runServer({
        MESHCA_LISTEN: `127.0.0.1:${server.port}`,
        MESHCA_DATA_DIR: dataDir,
      });
      assert.notEqual(code, 0);
      assert.equal(
        stderr,
        `Cannot listen on 127.0.0.1:${server.port}: the address is in use; set MESHCA_LISTEN to another, or port 0 for a free one\n`,
      );
    } finally {
      await server.stop();
    }
  });

  it("meshca serve names the address that this machine does not have, and the folder that cannot be created", async () => {
    const elsewhere = await runServer({
      MESHCA_LISTEN: "127.0.0.1:0",
      MESHCA_DATA_DIR: join(dataDir, "file", "below"),
      ...prepared(dataDir),
    });
    assert.equal(elsewhere.code, 78);
    assert.match(
      elsewhere.stderr,
      /^MESHCA_DATA_DIR: ".*\/file\/below" cannot be made: ".*\/file" is not a folder\n$/,
    );
    const token = "0123456789abcdef0123";
    const far = {
      MESHCA_LISTEN: "192.0.2.1:8500",
      MESHCA_DATA_DIR: dataDir,
      MESHCA_ACL: "deny",
      MESHCA_PLAIN_HTTP: "behind-proxy",
    };
    const away = await runServer({ ...far, MESHCA_INITIAL_MANAGEMENT_TOKEN: token });
    assert.equal(away.code, 69);
    assert.equal(
      away.stderr,
      "Cannot listen on 192.0.2.1:8500: this machine has no such address; set MESHCA_LISTEN to another, or to 0.0.0.0 or [::] for all addresses\n",
    );
    for (const host of ["no-such-host.invalid", "a..b"]) {
      const unknown = await runServer({
        ...far,
        MESHCA_LISTEN: `${host}:8500`,
        MESHCA_INITIAL_MANAGEMENT_TOKEN: token,
      });
      assert.equal(unknown.code, 69, unknown.stderr);
      assert.equal(
        unknown.stderr,
        `Cannot listen on ${host}:8500: the host has no address; set MESHCA_LISTEN to another\n`,
      );
    }
  });

  it("meshca serve creates no other key-encryption key for a CA whose key is missing, and prints what to do", {
    timeout: 60_000,
  }, async () => {
    const folder = makeDataDir();
    try {
      const server = await startServer({ MESHCA_DATA_DIR: folder });
      await server.stop();
      const key = readFileSync(join(folder, "kek"), "utf8");
      rmSync(join(folder, "kek"));
      const { code, stderr } = await runServer({
        MESHCA_LISTEN: "127.0.0.1:0",
        MESHCA_DATA_DIR: folder,
      });
      assert.equal(
        stderr,
        `The key-encryption key ${JSON.stringify(join(folder, "kek"))} is missing, and the CA of this data folder cannot be used without it: restore the file from a backup, or set MESHCA_DATA_DIR to an empty folder for a new CA\n`,
      );
      assert.deepEqual([code, existsSync(join(folder, "kek"))], [78, false]);
      // Another key does not help, and the text names the one that is needed.
      const other = await runServer({
        MESHCA_LISTEN: "127.0.0.1:0",
        MESHCA_DATA_DIR: folder,
        MESHCA_KEK: `2:${"A".repeat(43)}=`,
      });
      assert.equal(other.code, 78);
      assert.ok(
        other.stderr.includes(`key-encryption key "${key.split(":")[0]}" is not configured`),
        other.stderr,
      );
      writeFileSync(join(folder, "kek"), key, { mode: 0o600 });
      assert.equal((await (await startServer({ MESHCA_DATA_DIR: folder })).stop()).code, 0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("meshca serve names MESHCA_IMPORT and its path if there is no backup, no file or no CA there", {
    timeout: 60_000,
  }, async () => {
    const refused = async (path: string, expected: RegExp, kind = "backup") => {
      const folder = makeDataDir();
      const { code, stderr } = await runServer({
        ...LISTEN,
        MESHCA_DATA_DIR: folder,
        MESHCA_IMPORT: `${kind}:${path}`,
      });
      rmSync(folder, { recursive: true, force: true });
      assert.match(stderr, expected);
      assert.ok(stderr.includes(JSON.stringify(path)), stderr);
      assert.equal(code, 78);
    };
    const path = join(dataDir, "backup");
    writeFileSync(path, "hello\n");
    await refused(
      path,
      /^MESHCA_IMPORT: cannot use ".*": Cannot trust the stored CA state: its document is not JSON\n$/,
    );
    writeFileSync(path, "");
    await refused(path, /^MESHCA_IMPORT: the backup ".*" is empty\n$/);
    await refused(
      join(dataDir, "missing"),
      /^MESHCA_IMPORT: cannot read ".*": there is no such file\n$/,
    );
    await refused(dataDir, /^MESHCA_IMPORT: cannot read ".*": it is a folder\n$/);
    writeFileSync(path, "hello world, this is no database\n");
    await refused(
      path,
      /^MESHCA_IMPORT: cannot use ".*": Cannot open ".*": it is not a SQLite database, or a damaged one\n$/,
      "sqlite",
    );
  });

  it("meshca serve checks the key-encryption keys before it waits for Redis", async () => {
    const { code, stderr } = await runServer({
      ...LISTEN,
      MESHCA_DATA_DIR: dataDir,
      MESHCA_STORE: "redis://127.0.0.1:1",
      MESHCA_KEK: "bad",
    });
    assert.equal(code, 78);
    assert.match(
      stderr,
      /^Cannot read key-encryption keys from MESHCA_KEK or the file of MESHCA_KEK_FILE: entry 1 is not ID:BASE64/,
    );
  });

  it("meshca serve on port 0 prints the free port that it has taken, and listens there", async () => {
    const [one, two] = await Promise.all([startServer(), startServer()]);
    try {
      assert.notEqual(one.port, two.port);
      for (const { port, url } of [one, two]) {
        assert.equal(url, `http://127.0.0.1:${port}`);
        assert.equal((await send(port, ROOTS))?.status, 200);
        assert.equal(
          (await send(port, { method: "GET", target: "/v1/status/leader" }))?.body,
          `"127.0.0.1:${port}"`,
        );
      }
    } finally {
      await Promise.all([one.stop(), two.stop()]);
    }
  });

  for (const signal of ["SIGTERM", "SIGINT"] as const)
    it(`meshca serve answers waiting watchers on ${signal} and exits with 0`, async () => {
      const server = await startServer();
      const waiting = Array.from({ length: 5 }, () =>
        send(server.port, { ...ROOTS, target: `${ROOTS.target}?index=1&wait=600s` }),
      );
      while (
        !/^meshca_\w*watchers\w* 5$/m.test(
          (await send(server.port, { method: "GET", target: "/metrics" }))?.body ?? "",
        )
      );
      server.kill(signal);
      for (const answer of await Promise.all(waiting))
        assert.deepEqual([answer?.status, answer?.header("X-Consul-Index")], [200, "1"]);
      const { code, stderr } = await server.ended;
      assert.deepEqual([code, stderr], [0, ""]);
      await server.stop();
    });

  for (const signal of ["SIGTERM", "SIGKILL"] as const)
    it(`meshca serve has the same roots and configuration after ${signal} and a restart, and signs under them`, async () => {
      const first = await startServer({ MESHCA_DATA_DIR: dataDir });
      await send(first.port, put({ Provider: "consul", Config: { LeafCertTTL: "50h" } }));
      await send(first.port, { method: "PUT", target: "/v1/connect/ca/rotate", body: "" });
      const before = [
        bodyOf(await send(first.port, ROOTS)),
        bodyOf(await send(first.port, CONFIGURATION)),
      ];
      first.kill(signal);
      await first.ended;
      const second = await startServer({ MESHCA_DATA_DIR: dataDir });
      try {
        assert.deepEqual(
          [bodyOf(await send(second.port, ROOTS)), bodyOf(await send(second.port, CONFIGURATION))],
          before,
        );
        const { csr } = opensslCsr(`URI:spiffe://${second.trustDomain}/ns/default/dc/dc1/svc/web`);
        assert.equal((await send(second.port, sign(csr)))?.status, 200);
      } finally {
        await second.stop();
      }
    });

  it("meshca serve refuses a data folder that another process uses, and that one goes on", async () => {
    const first = await startServer({ MESHCA_DATA_DIR: dataDir });
    try {
      const { code, stderr } = await runServer({ ...LISTEN, MESHCA_DATA_DIR: dataDir });
      assert.equal(code, 69, stderr);
      assert.match(stderr, /another process/i);
      assert.equal((await send(first.port, ROOTS))?.status, 200);
    } finally {
      await first.stop();
    }
  });

  it("meshca serve makes its data folder and every file in it inaccessible to other users", async () => {
    const server = await startServer({ MESHCA_DATA_DIR: dataDir });
    try {
      assert.equal(statSync(dataDir).mode & 0o777, 0o700);
      assert.equal(statSync(join(dataDir, "kek")).mode & 0o777, 0o600);
      for (const name of readdirSync(dataDir))
        assert.ok(!readFileSync(join(dataDir, name), "latin1").includes("PRIVATE KEY"), name);
    } finally {
      await server.stop();
    }
  });

  it("meshca serve does not start with a state that it has no key for, and leaves it unchanged", async () => {
    await (await startServer({ MESHCA_DATA_DIR: dataDir })).stop();
    const kek = join(dataDir, "kek");
    const right = readFileSync(kek);
    writeFileSync(kek, makeKek());
    const { code, stdout, stderr } = await runServer({ ...LISTEN, MESHCA_DATA_DIR: dataDir });
    assert.notEqual(code, 0);
    assert.deepEqual([stdout.includes('"message":"Ready"'), stderr === ""], [false, false]);
    writeFileSync(kek, right);
    const server = await startServer({ MESHCA_DATA_DIR: dataDir });
    assert.equal((await send(server.port, ROOTS))?.header("X-Consul-Index"), "1");
    await server.stop();
  });

  it("meshca serve takes the cluster ID and the configuration of the file at the first start only", async () => {
    const ca = (config: Record<string, unknown>) => ({
      datacenter: "eu1",
      connect: { ca_provider: "consul", ca_config: config },
    });
    const first = await startServer(withFile(ca({ cluster_id: CLUSTER_ID, leaf_cert_ttl: "48h" })));
    const before = bodyOf(await send(first.port, CONFIGURATION));
    assert.equal(first.trustDomain, `${CLUSTER_ID}.consul`);
    assert.match(
      before,
      /"Config":\{"IntermediateCertTTL":"8760h","LeafCertTTL":"48h","RootCertTTL":"87600h"\}/,
    );
    await first.stop();
    const second = await startServer(
      withFile(ca({ cluster_id: CLUSTER_ID.replaceAll("1", "9"), leaf_cert_ttl: "20h" })),
    );
    assert.equal(second.trustDomain, `${CLUSTER_ID}.consul`);
    assert.equal(bodyOf(await send(second.port, CONFIGURATION)), before);
    assert.match(
      second.stdout(),
      /"level":"WARN".*is ignored: it differs from the stored one, and is used at the first start only.*"fields":\["LeafCertTTL","cluster_id"\]/,
    );
    await second.stop();
  });

  it("meshca serve takes the trust domain of the file at the first start only", async () => {
    const ca = (config: Record<string, unknown>) => ({
      connect: { ca_provider: "consul", ca_config: config },
    });
    const first = await startServer(withFile(ca({ trust_domain: "mesh.example.com" })));
    assert.equal(first.trustDomain, "mesh.example.com");
    const before = bodyOf(await send(first.port, ROOTS));
    assert.match(before, /"TrustDomain":"mesh\.example\.com"/);
    for (const name of ["TrustDomain", "trust_domain"]) {
      const refused = await send(
        first.port,
        put({ Provider: "consul", Config: { [name]: "other.example.com" } }),
      );
      assert.equal(refused?.status, 400);
      assert.match(
        refused?.body ?? "",
        /cannot be set in Config: the trust domain is fixed when the CA is created/,
      );
    }
    await first.stop();
    const second = await startServer(withFile(ca({ trust_domain: "other.example.com" })));
    assert.equal(second.trustDomain, "mesh.example.com");
    assert.equal(bodyOf(await send(second.port, ROOTS)), before);
    assert.match(
      second.stdout(),
      /"level":"WARN".*is ignored: it differs from the stored one, and is used at the first start only.*"fields":\["trust_domain"\]/,
    );
    await second.stop();
    const third = await startServer(withFile(ca({})));
    assert.equal(third.trustDomain, "mesh.example.com");
    assert.doesNotMatch(third.stdout(), /is ignored: it differs/);
    await third.stop();
  });

  it("meshca serve signs for the datacenter of the file", async () => {
    const server = await startServer(withFile({ datacenter: "EU1" }));
    try {
      const { csr } = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/eu1/svc/web`);
      assert.equal((await send(server.port, sign(csr)))?.status, 200);
      for (const dc of ["eu1", "EU1"])
        assert.equal(
          (await send(server.port, { ...ROOTS, target: `${ROOTS.target}?dc=${dc}` }))?.status,
          200,
        );
      assert.equal(
        (await send(server.port, { ...ROOTS, target: `${ROOTS.target}?dc=dc1` }))?.status,
        400,
      );
    } finally {
      await server.stop();
    }
  });

  it("meshca serve answers 503 with Consul's text on every route of the CA if connect is disabled", async () => {
    const server = await startServer(withFile({ connect: { enabled: false } }));
    try {
      assert.match(server.stdout(), /"message":"Ready".*"obstacle":"connect is disabled"/);
      for (const request of [
        ROOTS,
        CONFIGURATION,
        put({ Provider: "consul" }),
        sign("x"),
        { method: "PUT", target: "/v1/connect/ca/rotate", body: "" },
      ]) {
        const answer = await send(server.port, request);
        assert.deepEqual(
          [answer?.status, answer?.body],
          [503, "Connect must be enabled in order to use this endpoint"],
          request.target,
        );
      }
      assert.equal((await send(server.port, { method: "GET", target: "/healthz" }))?.status, 200);
      assert.equal((await send(server.port, { method: "GET", target: "/readyz" }))?.status, 503);
    } finally {
      assert.equal((await server.stop()).code, 0);
    }
  });

  it("meshca serve logs one JSON object a line, without keys, certificates or requests", async () => {
    const server = await startServer({ MESHCA_LOG_LEVEL: "debug", MESHCA_DATA_DIR: dataDir });
    const { csr, key: leafKey } = opensslCsr(
      `URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`,
    );
    const { key, certificate } = makeRoot(server.trustDomain);
    assert.equal((await send(server.port, sign(csr)))?.status, 200);
    assert.equal((await send(server.port, sign(csr + leafKey)))?.status, 400);
    assert.equal(
      (
        await send(
          server.port,
          put({ Provider: "consul", Config: { PrivateKey: key, RootCert: certificate } }),
        )
      )?.status,
      200,
    );
    assert.equal(
      (
        await send(
          server.port,
          put({ Provider: "consul", Config: { PrivateKey: `${key}x`, RootCert: "abc" } }),
        )
      )?.status,
      400,
    );
    const { stdout, stderr } = await server.stop();
    assert.equal(stderr, "");
    const lines = stdout.trimEnd().split("\n");
    assert.ok(lines.length >= 5, stdout);
    for (const line of lines) {
      const record = JSON.parse(line) as Record<string, unknown>;
      assert.ok("@timestamp" in record && "level" in record && "message" in record, line);
    }
    assert.match(
      stdout,
      /"message":"CA changed: rotated the root".*"fields":\[[^\]]*"PrivateKey","RootCert"\]/,
    );
    assert.ok(!stdout.includes("-----BEGIN"), "PEM shows");
    for (const pem of [
      csr,
      leafKey,
      key,
      certificate,
      readFileSync(join(dataDir, "kek"), "utf8").replace(/^.*?=/, "\n"),
    ])
      for (const line of pem
        .split("\n")
        .filter((text) => text.length > 16 && !text.startsWith("--")))
        assert.ok(!stdout.includes(line.slice(0, 16)));
  });
});

describe("the name of a replica", () => {
  for (const [listen, advertise, wanted] of [
    ["[::1]:0", undefined, /^\[::1\]:\d+$/],
    ["127.0.0.1:0", undefined, /^127\.0\.0\.1:\d+$/],
    ["127.0.0.1:0", "ca-1.example.com:9000", /^ca-1\.example\.com:9000$/],
    ["127.0.0.1:0", "ca-1.example.com", /^ca-1\.example\.com:\d+$/],
    ["127.0.0.1:0", "[fd00::1]", /^\[fd00::1\]:\d+$/],
  ] as const)
    it(`it is ${wanted} if it listens on ${listen} and MESHCA_ADVERTISE is ${advertise ?? "not given"}`, async () => {
      const settings = {
        MESHCA_STORE: "memory:",
        MESHCA_LISTEN: listen,
        ...(advertise === undefined ? {} : { MESHCA_ADVERTISE: advertise }),
      };
      const server = await startServer(settings);
      try {
        const ask = async (path: string) => (await fetch(`${server.url}${path}`)).json();
        const leader = (await ask("/v1/status/leader")) as string;
        assert.match(leader, wanted);
        if (advertise?.includes(":9000") !== true)
          assert.ok(leader.endsWith(`:${server.port}`), leader);
        assert.deepEqual(await ask("/v1/status/peers"), [leader]);
      } finally {
        await server.stop();
      }
    });
});

describe("meshca", () => {
  const meshca = (...args: readonly string[]) =>
    spawnSync(
      process.execPath,
      [new URL("../../src/cli/main.ts", import.meta.url).pathname, ...args],
      { encoding: "utf8" },
    );

  it("exits with 64 without a known command or flag, and says what is wrong", () => {
    for (const [args, text] of [
      [[], /^Usage: meshca \[options\] \[command\]\n/],
      [["server"], /^"server" is not a command of meshca; did you mean serve\?\n/],
      [["serve", "--port", "1"], /^--port is not a flag of meshca serve\n/],
    ] as const) {
      const { status, stdout, stderr } = meshca(...args);
      assert.deepEqual([status, stdout], [64, ""], args.join(" "));
      assert.match(stderr, text);
    }
  });

  it("prints its help and exits with 0", () => {
    for (const command of ["help", "--help", "-h", "-help"]) {
      const { status, stdout } = meshca(command);
      assert.equal(status, 0);
      assert.match(stdout, /^Usage: meshca \[options\] \[command\]\n/);
    }
  });
});
