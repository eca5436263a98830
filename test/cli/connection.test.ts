/**
 * How a command reaches its server: addresses, TLS, pins, client certificates, sockets, and what it
 * says if it does not.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp, request } from "node:http";
import { createServer, type ServerOptions } from "node:https";
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Server,
} from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { readServerOptions } from "../../src/cli/connection/address.ts";
import { CONNECTION_FLAGS } from "../../src/cli/connection/connection-flags.ts";
import { type Environment, Flags } from "../../src/cli/flags.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { selfSigned } from "../tls/harness.ts";
import { meshca } from "./run.ts";

const OPTIONS = { timeout: 120_000 };
const GET = ["connect", "ca", "get-config"];
const sha256 = (pem: string): string =>
  `sha256:${new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase()}`;

describe("readServerOptions()", () => {
  const read = (flags: Readonly<Record<string, string>>, environment: Environment = {}) =>
    readServerOptions(
      new Flags(
        CONNECTION_FLAGS,
        new Map(Object.entries(flags).map(([name, value]) => [name, [value]])),
      ),
      environment,
      {
        readText: (path) => {
          if (path === "/missing") throw Object.assign(new Error("x"), { code: "ENOENT" });
          return `text of ${path}`.replaceAll(" ", "-");
        },
        readCertificates: (path) => `certificates-of-${path}`,
        readKeyPair: (cert, key) => ({ cert: `text-of-${cert}`, key: `text-of-${key}` }),
        list: () => ["b.pem", "a.pem"],
      },
    );

  for (const [address, environment, url, socketPath] of [
    [null, {}, "http://127.0.0.1:8500/", null],
    ["ca.example:8501", {}, "http://ca.example:8501/", null],
    ["ca.example:8501", { CONSUL_HTTP_SSL: "true" }, "https://ca.example:8501/", null],
    [
      "ca.example:8501",
      { CONSUL_HTTP_SSL: "true", MESHCA_HTTP_SSL: "false" },
      "http://ca.example:8501/",
      null,
    ],
    ["http://ca.example:8501", { CONSUL_HTTP_SSL: "true" }, "http://ca.example:8501/", null],
    ["https://[::1]:8501/prefix/", {}, "https://[::1]:8501/prefix/", null],
    ["unix:///run/meshca.sock", {}, "http://localhost/", "/run/meshca.sock"],
  ] as const)
    it(`reads the address ${address} with ${JSON.stringify(environment)}`, () => {
      const options = read(address === null ? {} : { "http-addr": address }, environment);
      assert.deepEqual([options.url.href, options.socketPath], [url, socketPath]);
    });

  it("prefers a flag, then MESHCA_*, then CONSUL_*, and of one kind the token's file", () => {
    const environment = {
      CONSUL_HTTP_ADDR: "c:1",
      CONSUL_HTTP_TOKEN: "consul",
      CONSUL_HTTP_TOKEN_FILE: "/consul",
      MESHCA_HTTP_TOKEN: "ours",
    };
    const { url, token } = read({}, environment);
    assert.deepEqual([url.host, token], ["c:1", "ours"]);
    assert.equal(read({}, { ...environment, MESHCA_HTTP_TOKEN: "" }).token, "text-of-/consul");
    assert.equal(read({ token: "flag" }, environment).token, "flag");
    assert.equal(read({ token: "flag", "token-file": "/f" }, environment).token, "text-of-/f");
    assert.equal(read({}, { ...environment, MESHCA_HTTP_ADDR: "m:1" }).url.host, "m:1");
    assert.equal(read({ "http-addr": "f:1" }, environment).url.host, "f:1");
    assert.equal(
      read({ "ca-path": "/certs" }).anchorsPem,
      "text-of-/certs/a.pem\ntext-of-/certs/b.pem",
    );
  });

  const HEX = "ab".repeat(32);
  for (const [flags, environment, exit, text] of [
    [{ "http-addr": "ftp://a" }, {}, 64, 'The address "ftp://a" must be a URL'],
    [
      { "http-addr": "http://user:secret@a:1" },
      {},
      64,
      'The address "http://a:1" must not have a user',
    ],
    [{ "http-addr": "" }, { CONSUL_HTTP_ADDR: "http://user:secret@" }, 64, "The address"],
    [
      { "token-file": "/missing" },
      {},
      66,
      'The token file "/missing" cannot be read: there is no such file',
    ],
    [{ token: "a b" }, {}, 65, "The token has characters that no token has"],
    [{ "client-cert": "/c" }, {}, 64, "--client-cert needs --client-key too"],
    [{ "client-key": "/c" }, {}, 64, "--client-key needs --client-cert too"],
    [
      { "server-pin": "sha256:abc" },
      {},
      64,
      "--server-pin must be sha256: and 64 hexadecimal digits",
    ],
    [{ "server-pin": `sha1:${HEX}` }, {}, 64, "--server-pin must be sha256:"],
    [
      { "server-pin": `sha256:${HEX}`, "http-addr": "ca.example:8500" },
      {},
      64,
      "--server-pin needs an address with https://, since http://ca.example:8500 shows no certificate",
    ],
    [{}, { CONSUL_HTTP_SSL_VERIFY: "maybe" }, 78, "CONSUL_HTTP_SSL_VERIFY must be true or false"],
  ] as const)
    it(`refuses ${JSON.stringify({ ...flags, ...environment })}`, () => {
      assert.throws(
        () => read(flags as Readonly<Record<string, string>>, environment as Environment),
        (error: Error & { readonly exit?: number }) => {
          assert.equal(error.exit, exit);
          assert.ok(error.message.startsWith(text), error.message);
          assert.doesNotMatch(error.message, /secret|a b/);
          return true;
        },
      );
    });

  it("reads a pin with colons, in any case", () => {
    const colons = HEX.match(/../g)?.join(":").toUpperCase() ?? "";
    for (const address of ["https://ca.example", "unix:///run/meshca.sock"])
      assert.equal(read({ "server-pin": `sha256:${colons}`, "http-addr": address }).pin, HEX);
  });
});

describe("a server without TLS on another machine", () => {
  const ADDRESS = "http://ca.localhost:1";
  for (const [name, command, environment, expected] of [
    ["a token", GET, { CONSUL_HTTP_TOKEN: "planted-token" }, "the token"],
    ["a body", ["sign", "-service", "web", "-"], {}, "the request"],
    ["neither", GET, {}, null],
  ] as const)
    it(
      `is ${expected === null ? "called without a warning" : "warned of"} if the request has ${name}`,
      OPTIONS,
      async () => {
        const { stderr } = await meshca(
          command,
          { CONSUL_HTTP_ADDR: ADDRESS, ...environment },
          "CSR",
        );
        const warning = `Warning: ${expected} is sent to ${ADDRESS} without TLS, and can be read on the way; use https://`;
        if (expected === null) assert.doesNotMatch(stderr, /Warning/);
        else assert.equal(stderr.split("\n")[0], warning);
        assert.doesNotMatch(stderr, /planted-token/);
      },
    );
});

describe("a server with a certificate of its own CA", () => {
  let server: ServerProcess;
  let folder: string;
  let roots: string;
  let rootsPem: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-connection-"));
    server = await startServer({ MESHCA_STORE: "memory:", MESHCA_TLS: "self" });
    const pem = await meshca(["roots", "-pem"], {
      CONSUL_HTTP_ADDR: server.url,
      CONSUL_HTTP_SSL_VERIFY: "false",
    });
    assert.match(pem.stderr, /^Warning: the certificate of \S+ is not verified/);
    rootsPem = pem.stdout;
    roots = join(folder, "roots.pem");
    writeFileSync(roots, rootsPem);
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const call = (environment: Readonly<Record<string, string>>, command?: readonly string[]) =>
    meshca(GET, { CONSUL_HTTP_ADDR: server.url, ...environment }, "", command);

  for (const name of ["bun", "node", "deno"] as const)
    it(
      `is verified by a CA file and by pins on ${name}, and by nothing else`,
      OPTIONS,
      async () => {
        const command = name === "deno" ? [...COMMANDS.deno(folder)] : COMMANDS[name]();
        const byFile = await call({ CONSUL_CACERT: roots }, command);
        assert.deepEqual([byFile.code, byFile.stderr], [0, ""]);
        const byRoot = await call({ MESHCA_SERVER_PIN: sha256(rootsPem) }, command);
        assert.deepEqual([byRoot.code, byRoot.stderr], [0, ""]);
        const unverified = await call({}, command);
        assert.equal(unverified.code, 69);
        const [, shown = ""] =
          /cannot be verified by the CAs that this machine trusts; give its CA by --ca-file, or --server-pin (sha256:[0-9a-f]{64}), after comparing/.exec(
            unverified.stderr,
          ) ?? [];
        assert.notEqual(shown, "", unverified.stderr);
        const byLeaf = await call({ MESHCA_SERVER_PIN: shown }, command);
        assert.deepEqual([byLeaf.code, byLeaf.stderr], [0, ""]);
        const wrong = await call({ MESHCA_SERVER_PIN: `sha256:${"0".repeat(64)}` }, command);
        assert.equal(wrong.code, 69);
        assert.match(
          wrong.stderr,
          new RegExp(`has another certificate than the pinned one: ${shown}; `),
        );
      },
    );

  it(
    "is refused by another CA, and its own CA does not verify another server",
    OPTIONS,
    async () => {
      const other = join(folder, "other.pem");
      writeFileSync(other, makeRoot("other.consul").certificate);
      const refused = await call({ CONSUL_CACERT: other });
      assert.equal(refused.code, 69);
      assert.match(
        refused.stderr,
        /cannot be verified by the CA file; give the roots that are published now/,
      );
    },
  );
});

/** An HTTPS server that answers everything with a configuration, and keeps what it was sent. */
async function fakeServer(options: ServerOptions) {
  const seen: string[] = [];
  const server = createServer(options, (incoming, response) => {
    seen.push(`${incoming.method} ${incoming.url} ${incoming.headers["x-consul-token"] ?? ""}`);
    response.setHeader("Content-Type", "application/json");
    response.end('{"Provider":"consul","Config":null}');
  });
  return { seen, ...(await listening(server)) };
}

async function listening(server: Server) {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

describe("any other server with TLS", () => {
  it(
    "with an expired certificate gets no token, and is called by the pin of the certificate",
    OPTIONS,
    async () => {
      const expired = makeRoot("a.consul", {
        extensions: ["subjectAltName=DNS:localhost,IP:127.0.0.1"],
        validity: ["20200101000000Z", "20210101000000Z"],
      });
      const server = await fakeServer({ cert: expired.certificate, key: expired.key });
      const folder = mkdtempSync(join(tmpdir(), "meshca-expired-"));
      const file = join(folder, "ca.pem");
      writeFileSync(file, expired.certificate);
      const environment = {
        CONSUL_HTTP_ADDR: `https://127.0.0.1:${server.port}`,
        CONSUL_HTTP_TOKEN: "planted-token",
        CONSUL_CACERT: file,
      };
      try {
        const pin = sha256(expired.certificate);
        for (const name of ["bun", "node", "deno"] as const) {
          const refused = await meshca(GET, environment, "", [
            ...(name === "deno" ? COMMANDS.deno(folder) : COMMANDS[name]()),
          ]);
          assert.equal(refused.code, 69);
          assert.match(
            refused.stderr,
            new RegExp(
              `has a TLS certificate that has expired, or one in its chain; give --server-pin ${pin}, after comparing`,
            ),
            name,
          );
        }
        const wrong = await meshca(GET, {
          ...environment,
          MESHCA_SERVER_PIN: `sha256:${"1".repeat(64)}`,
        });
        assert.equal(wrong.code, 69);
        // Reading the roots for a comparison sends no token.
        assert.ok(
          server.seen.every((line) => !line.includes("planted-token")),
          server.seen.join("\n"),
        );
        for (const name of ["bun", "node", "deno"] as const) {
          const ran = await meshca(GET, { ...environment, MESHCA_SERVER_PIN: pin }, "", [
            ...(name === "deno" ? COMMANDS.deno(folder) : COMMANDS[name]()),
          ]);
          assert.deepEqual([ran.code, ran.stderr], [0, ""], name);
        }
        assert.match(server.seen.at(-1) ?? "", /planted-token$/);
      } finally {
        server.close();
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );

  it(
    "gets no token if it shows another certificate than at the comparison with the pin",
    OPTIONS,
    async () => {
      const seen: string[] = [];
      const pinned = selfSigned("pinned");
      const servers = [pinned, selfSigned("other")].map((made) =>
        createServer(made, ({ headers }, response) => {
          seen.push(String(headers["x-consul-token"]));
          response.end("{}");
        }),
      );
      const [first, next] = await Promise.all(servers.map(listening));
      // The first connection is the one of the comparison.
      let connections = 0;
      const proxy = createTcpServer((client) => {
        connections += 1;
        const target = connectTcp((connections === 1 ? first : next)?.port ?? 0, "127.0.0.1");
        for (const socket of [client, target]) socket.on("error", () => undefined);
        client.pipe(target).pipe(client);
      });
      const { port, close } = await listening(proxy);
      try {
        const { code, stderr } = await meshca(GET, {
          CONSUL_HTTP_ADDR: `https://127.0.0.1:${port}`,
          CONSUL_HTTP_TOKEN: "planted-token",
          MESHCA_SERVER_PIN: sha256(pinned.cert),
        });
        assert.equal(code, 69);
        assert.match(stderr, /has another certificate than the pinned one/);
        assert.deepEqual(seen, []);
        assert.ok(connections > 1);
      } finally {
        for (const end of [close, first?.close, next?.close]) end?.();
      }
    },
  );

  it("is checked for the name of the host, or that of --tls-server-name", OPTIONS, async () => {
    const { cert, key } = selfSigned("web");
    const server = await fakeServer({ cert, key });
    const folder = mkdtempSync(join(tmpdir(), "meshca-name-"));
    const file = join(folder, "ca.pem");
    writeFileSync(file, cert);
    const environment = {
      CONSUL_HTTP_ADDR: `https://127.0.0.1:${server.port}`,
      CONSUL_CACERT: file,
    };
    try {
      const wrong = await meshca([...GET, "-tls-server-name", "ca.example"], environment);
      assert.equal(wrong.code, 69);
      assert.match(
        wrong.stderr,
        /has a certificate for another name than ca\.example; give the name by --tls-server-name/,
      );
      assert.deepEqual(server.seen, []);
    } finally {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("gets a client certificate", OPTIONS, async () => {
    const own = makeRoot("a.consul", { extensions: ["subjectAltName=DNS:localhost,IP:127.0.0.1"] });
    const client = selfSigned("client");
    const server = await fakeServer({
      ...{ cert: own.certificate, key: own.key, ca: client.cert },
      ...{ requestCert: true, rejectUnauthorized: true },
    });
    const folder = mkdtempSync(join(tmpdir(), "meshca-client-"));
    const [cert, key] = [join(folder, "client.pem"), join(folder, "client.key")];
    writeFileSync(cert, client.cert);
    writeFileSync(key, client.key, { mode: 0o600 });
    const environment = {
      CONSUL_HTTP_ADDR: `https://127.0.0.1:${server.port}`,
      MESHCA_SERVER_PIN: sha256(own.certificate),
    };
    try {
      for (const name of ["bun", "node", "deno"] as const) {
        const command = name === "deno" ? [...COMMANDS.deno(folder)] : COMMANDS[name]();
        const ran = await meshca(
          GET,
          { ...environment, CONSUL_CLIENT_CERT: cert, CONSUL_CLIENT_KEY: key },
          "",
          command,
        );
        assert.deepEqual([ran.code, ran.stderr], [0, ""], name);
        const without = await meshca(GET, environment, "", command);
        assert.equal(without.code, 69, name);
        assert.match(without.stderr, /client certificate/, name);
      }
    } finally {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("a server that speaks only an old version of TLS", () => {
  it("is named as such", OPTIONS, async () => {
    // The fatal alert protocol_version (RFC 8446 section 6.2).
    const alert = Buffer.from([21, 3, 1, 0, 2, 2, 70]);
    const server = createTcpServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end(alert));
    });
    const { port, close } = await listening(server);
    try {
      const { code, stderr } = await meshca(GET, {
        CONSUL_HTTP_ADDR: `https://127.0.0.1:${port}`,
      });
      assert.equal(code, 69);
      assert.match(stderr, /does not speak TLS 1\.2 or a newer version \(/);
    } finally {
      close();
    }
  });
});

describe("a Unix socket", () => {
  it("is called, and named if it is missing", OPTIONS, async () => {
    const target = await startServer({ MESHCA_STORE: "memory:" });
    const folder = mkdtempSync(join(tmpdir(), "meshca-unix-"));
    const path = join(folder, "ca.sock");
    const relay = createHttp((incoming, response) => {
      const sent = request(`${target.url}${incoming.url}`, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      incoming.pipe(sent);
    });
    await new Promise<void>((resolve) => relay.listen(path, resolve));
    try {
      const ran = await meshca(GET, { CONSUL_HTTP_ADDR: `unix://${path}` });
      assert.deepEqual([ran.code, ran.stderr], [0, ""]);
    } finally {
      relay.close();
      await target.stop();
    }
    rmSync(path, { force: true });
    const missing = await meshca(GET, { CONSUL_HTTP_ADDR: `unix://${path}` });
    assert.equal(missing.code, 69);
    assert.match(missing.stderr, /has no socket at this path; check the address/);
    rmSync(folder, { recursive: true, force: true });
  });
});
