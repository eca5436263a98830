/**
 * `meshca recover` against a real server whose CA has expired: what it shows, asks, sends, writes and
 * deletes, and what it does if it is interrupted, refused or lied to.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { createServer as createTls } from "node:tls";
import { opensslCsr } from "../fakes/ca.ts";
import { AGENT_COMMANDS } from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { copyOf, makeExpiredFolder, TOKEN, WITH_ACL } from "../recovery/expired.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const OPTIONS = { timeout: 180_000 };
const CERT = "meshca-recovery-root.pem";
const KEY = "meshca-recovery-root-key.pem";
const SERVER = { ...WITH_ACL, MESHCA_TLS: "self" };
const COLONS = "(?:[0-9a-f]{2}:){19}[0-9a-f]{2}";

describe("meshca recover", () => {
  let expired: string;
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  const path = (name: string) => join(folder, name);
  const recover = (args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
    meshca(["recover", ...args], { ...environment, ...more }, "", undefined, folder);
  const onTerminal = (
    args: readonly string[],
    type: readonly (readonly [string, string, number?])[],
  ) => meshcaOnTerminal(["recover", ...args], environment, { cwd: folder, type });
  const ask = async (args: readonly string[]) => {
    const { MESHCA_DATA_DIR = "" } = environment;
    const pin = readFileSync(join(MESHCA_DATA_DIR, "tls-fingerprint"), "utf8").trim();
    const { stdout, stderr } = await meshca(args, { ...environment, MESHCA_SERVER_PIN: pin });
    assert.equal(stderr, "");
    return JSON.parse(stdout);
  };
  const config = () => ask(["connect", "ca", "get-config"]);
  const activeRoot = async (): Promise<string> =>
    (await ask(["roots", "--json"])).ActiveRootID as string;
  /** The IDs are those of the certificates in files. */
  const idOf = (file: string): string =>
    execFileSync("openssl", ["x509", "-noout", "-fingerprint", "-sha1", "-in", file], {
      encoding: "utf8",
    })
      .replace(/.*=/, "")
      .trim()
      .toLowerCase();

  before(async () => {
    expired = await makeExpiredFolder(SERVER, async ({ url }) => {
      // A setting that a recovery has to keep.
      const put = await fetch(`${url}/v1/connect/ca/configuration`, {
        method: "PUT",
        headers: { "X-Consul-Token": TOKEN },
        body: JSON.stringify({
          Provider: "consul",
          Config: { LeafCertTTL: "36h", ServiceDNSNames: ["{service}.mesh.example"] },
        }),
        tls: { rejectUnauthorized: false },
      } as RequestInit);
      assert.equal(put.status, 200);
    });
  });
  after(() => rmSync(expired, { recursive: true, force: true }));
  beforeEach(async () => {
    const MESHCA_DATA_DIR = copyOf(expired);
    server = await startServer({ ...SERVER, MESHCA_DATA_DIR });
    folder = mkdtempSync(join(tmpdir(), "meshca-recover-"));
    environment = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN, MESHCA_DATA_DIR };
  });
  afterEach(async () => {
    await server.stop();
    for (const name of [folder, server.dataDir]) rmSync(name, { recursive: true, force: true });
  });

  /** Signs a leaf, as a service does. */
  const sign = async (): Promise<void> => {
    const { TrustDomain } = await ask(["roots", "--json"]);
    const uri = `spiffe://${TrustDomain}/ns/default/dc/dc1/svc/web`;
    writeFileSync(path("web.csr"), opensslCsr(`URI:${uri}`).csr);
    const leaf = await ask(["sign", path("web.csr"), "--json"]);
    assert.equal(leaf.ServiceURI, uri);
  };
  /** Everything of step 1 and before, as a pattern. */
  const BEFORE = () =>
    `server        ${server.url}, verified by the fingerprint in \\S+/tls-fingerprint\n` +
    "trust domain  \\S+\\.consul\n" +
    "provider      consul\n" +
    "leaves        cannot be signed: root expired: .*\n" +
    `(?:expired root  ${COLONS}, expired \\S+ ago|roots +none that is valid)\n` +
    "\nStep 1 of 2: create a root for the trust domain \\S+\\.consul\n" +
    `  ${CERT}      its certificate, valid for 365 days\n` +
    `  ${KEY}  its key \\(ec 256\\), deleted as soon as the server has taken it\n`;
  const STEP_2 = () =>
    `\nStep 2 of 2: send the root ${COLONS} and its key to ${server.url}\n` +
    "  All services get new leaves under it; every other setting of the CA stays.\n";
  const DONE =
    `==> Deleted ${KEY}\n` +
    `The active root is ${COLONS}, valid until \\S+Z\n\n` +
    "Agents get new leaves by themselves;(?:.|\n)*\n" +
    `  ${CERT} as their --ca-file, or\n` +
    "  --ca-pin sha256:[0-9a-f]{64}\n(?:.|\n)*\n";

  it(
    "shows both steps, deletes the key, keeps the settings, and leaves are signed again",
    OPTIONS,
    async () => {
      const old = await activeRoot();
      const { code, stdout, stderr } = await recover(["--yes"]);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(
        stdout,
        new RegExp(`^${BEFORE()}==> Saved ${CERT}\n==> Saved ${KEY}\n${STEP_2()}${DONE}$`),
      );
      assert.deepEqual(readdirSync(folder), [CERT]);
      assert.equal(await activeRoot(), idOf(path(CERT)));
      assert.notEqual(await activeRoot(), old);
      const { Provider, Config } = await config();
      assert.deepEqual(
        [Provider, Config.LeafCertTTL, Config.ServiceDNSNames, Config.PrivateKey],
        ["consul", "36h", ["{service}.mesh.example"], "hidden"],
      );
      assert.equal(Config.RootCert, readFileSync(path(CERT), "utf8"));
      await sign();
    },
  );

  for (const runtime of ["node", "deno"] as const)
    it(`does the same on ${runtime}`, OPTIONS, async () => {
      const ran = await meshca(
        ["recover", "--yes"],
        environment,
        "",
        AGENT_COMMANDS[runtime],
        folder,
      );
      assert.deepEqual([ran.code, ran.stderr], [0, ""]);
      assert.match(ran.stdout, new RegExp(`${STEP_2()}${DONE}$`));
      assert.deepEqual(readdirSync(folder), [CERT]);
      assert.equal(await activeRoot(), idOf(path(CERT)));
    });

  it("prints JSON, and the steps on stderr", OPTIONS, async () => {
    const { code, stdout, stderr } = await recover(["--yes", "--json", "-days=30", "-keep-key"]);
    assert.equal(code, 0, stderr);
    assert.match(
      stderr,
      /^server {8}https:(?:.|\n)*Step 1 of 2(?:.|\n)*Step 2 of 2(?:.|\n)*stays\.\n$/,
    );
    const value = JSON.parse(stdout);
    const fingerprint = execFileSync(
      "openssl",
      ["x509", "-noout", "-fingerprint", "-sha256", "-in", path(CERT)],
      { encoding: "utf8" },
    );
    assert.deepEqual(value, {
      trustDomain: server.trustDomain,
      rootId: idOf(path(CERT)),
      pin: `sha256:${fingerprint.replace(/.*=/, "").trim().replaceAll(":", "").toLowerCase()}`,
      notAfter: value.notAfter,
      certificateFile: CERT,
      keyFile: KEY,
      provider: { before: "consul", after: "consul" },
      droppedSettings: [],
      abandonedRoots: [],
      active: true,
    });
    const days = (Date.parse(value.notAfter) - Date.now()) / 86_400_000;
    assert.ok(days > 29 && days <= 30, String(days));
    assert.equal(statSync(path(KEY)).mode & 0o777, 0o600);
  });

  it("asks before each step on a terminal", OPTIONS, async () => {
    const { code, screen } = await onTerminal(
      [],
      [
        ["Create these files? [y/N]", "y\r"],
        ["Send them? [y/N]", "yes\r"],
      ],
    );
    assert.equal(code, 0, screen);
    const saved = `==> Saved ${CERT}\n==> Saved ${KEY}\n`;
    // A terminal repeats what is typed, and redraws the line of a question.
    const asked = (question: string) => `(?:.*${question} \\[y/N\\] .*\n)+`;
    assert.match(
      plain(screen).replaceAll("\r", ""),
      new RegExp(
        `^${BEFORE()}${asked("Create these files\\?")}${saved}${STEP_2()}${asked("Send them\\?")}${DONE}$`,
      ),
    );
    assert.equal(await activeRoot(), idOf(path(CERT)));
  });

  for (const [how, keys, code, text] of [
    ["no", "n\r", 1, "Nothing was changed"],
    ["Ctrl-C", "\u0003", 130, "Interrupted; nothing was changed"],
  ] as const)
    it(`${how} at the first question makes nothing`, OPTIONS, async () => {
      const old = await activeRoot();
      const ran = await onTerminal([], [["Create these files? [y/N]", keys]]);
      assert.equal(ran.code, code, ran.screen);
      assert.ok(plain(ran.screen).endsWith(`\n${text}\n`), ran.screen);
      assert.deepEqual([readdirSync(folder), await activeRoot()], [[], old]);
    });

  for (const [how, keys, code, text] of [
    ["no", "n\r", 1, "The CA was not changed."],
    ["Ctrl-C", "\u0003", 130, "Interrupted; the CA was not changed."],
  ] as const)
    it(
      `${how} at the second question leaves the CA as it was, and --continue goes on`,
      OPTIONS,
      async () => {
        const old = await activeRoot();
        const ran = await onTerminal(
          [],
          [
            ["Create these files? [y/N]", "y\r"],
            ["Send them? [y/N]", keys],
          ],
        );
        assert.equal(ran.code, code, ran.screen);
        const where = `${text} The root is in ${CERT} and its key in ${KEY}; the same command with --continue goes on with them`;
        assert.ok(plain(ran.screen).endsWith(`\n${where}\n`), ran.screen);
        assert.deepEqual(new Set(readdirSync(folder)), new Set([KEY, CERT]));
        assert.equal(await activeRoot(), old);
        // A new run does not overwrite them.
        const again = await recover(["--yes"]);
        assert.equal(again.code, 73);
        assert.match(
          again.stderr,
          /exist and are not overwritten;.*meshca recover --continue goes on/,
        );
        const end = await recover(["--yes", "--continue"]);
        assert.deepEqual([end.code, end.stderr], [0, ""]);
        assert.match(end.stdout, new RegExp(`${STEP_2()}${DONE}$`));
        assert.doesNotMatch(end.stdout, /Step 1/);
        assert.equal(await activeRoot(), idOf(path(CERT)));
        assert.deepEqual(readdirSync(folder), [CERT]);
      },
    );

  it(
    "--continue ends what was taken already, and refuses a folder without both files",
    OPTIONS,
    async () => {
      assert.equal((await recover(["--yes", "--keep-key"])).code, 0);
      const again = await recover(["--yes", "--continue"]);
      assert.deepEqual([again.code, again.stderr], [0, ""]);
      assert.match(
        again.stdout,
        new RegExp(`\nThe server has taken the root ${COLONS} already\n${DONE}$`),
      );
      const { code, stderr } = await recover(["--yes", "--continue"]);
      assert.equal(code, 66);
      assert.equal(
        stderr,
        `There is no recovery to continue in this folder: ${KEY} is missing; run meshca recover without --continue\n`,
      );
      // And one file alone is not overwritten either.
      const other = await recover(["--yes", "--replace-valid-root"]);
      assert.equal(other.code, 73);
      assert.match(other.stderr, new RegExp(`^The file ${CERT} exists and is not overwritten`));
    },
  );

  it(
    "makes keys of every type, one after the other, each cross-signed by the one before",
    OPTIONS,
    async () => {
      for (const [type, bits] of [
        ["ec", "256"],
        ["ec", "384"],
        ["ec", "521"],
        ["rsa", "2048"],
        ["rsa", "4096"],
      ] as const) {
        const { code, stderr } = await recover([
          ...["--yes", "--replace-valid-root", "-key-type", type, "-key-bits", bits],
        ]);
        assert.deepEqual([code, stderr], [0, ""], `${type} ${bits}`);
        const { ActiveRootID, Roots } = await ask(["roots", "--json"]);
        const active = Roots.find(({ ID }: { ID: string }) => ID === ActiveRootID);
        assert.deepEqual([active.PrivateKeyType, active.PrivateKeyBits], [type, Number(bits)]);
        await sign();
        rmSync(path(CERT));
      }
    },
  );

  it("takes a root that was made elsewhere, and keeps its key file", OPTIONS, async () => {
    const { key, certificate } = makeRoot(server.trustDomain, { newkey: ["-newkey", "rsa:3072"] });
    writeFileSync(path("root.pem"), certificate);
    writeFileSync(path("root.key"), key, { mode: 0o644 });
    const args = ["--yes", "--root-file", "root.pem", "--key-file", "root.key"];
    const open = await recover(args);
    assert.equal(open.code, 77);
    assert.match(open.stderr, /can be read by other users; run chmod 600 root\.key\n$/);
    chmodSync(path("root.key"), 0o600);
    const { code, stdout, stderr } = await recover(args);
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stdout, /Step 1|Deleted/);
    assert.equal(
      stderr,
      "The server has its own copy of the key, encrypted; delete root.key or move it to a safe place\n",
    );
    assert.equal(await activeRoot(), idOf(path("root.pem")));
    assert.equal(readFileSync(path("root.key"), "utf8"), key);
    await sign();
  });

  it(
    "says what is wrong with a root that was made elsewhere, and changes nothing",
    OPTIONS,
    async () => {
      const old = await activeRoot();
      const { key, certificate } = makeRoot("other.example");
      writeFileSync(path("root.pem"), certificate);
      writeFileSync(path("root.key"), key, { mode: 0o600 });
      const args = ["--yes", "--root-file", "root.pem", "--key-file", "root.key"];
      const { code, stderr } = await recover(args);
      assert.equal(code, 65);
      assert.match(
        stderr,
        new RegExp(
          `RootCert must have exactly the URI spiffe://${server.trustDomain} .*; the CA was not changed\\. The root is in root\\.pem and its key in root\\.key; the same command goes on with them\n$`,
        ),
      );
      assert.equal(await activeRoot(), old);
      writeFileSync(path("root.pem"), "nothing");
      const wrong = await recover(args);
      assert.equal(wrong.code, 65);
      assert.match(wrong.stderr, /^The file "root\.pem" is not a certificate in PEM: /);
      const missing = await recover(["--yes", "--root-file", "no.pem", "--key-file", "root.key"]);
      assert.equal(missing.code, 66);
      assert.match(missing.stderr, /^The certificate "no\.pem" cannot be read: /);
    },
  );

  it("refuses flags that contradict each other before it calls the server", OPTIONS, async () => {
    for (const [args, text] of [
      [["--root-file", "a"], "--root-file needs --key-file too\n"],
      [["--key-file", "a"], "--key-file needs --root-file too\n"],
      [["--continue", "--key-file", "a"], "--continue takes the files in this folder"],
      [["--continue", "--days", "3"], "--days is for a new root, and --continue takes one"],
      [
        ["--root-file", "a", "--key-file", "b", "--key-type", "rsa"],
        "--key-type is for a new root, and --root-file takes one",
      ],
      [["--days", "0"], "-days is a whole number from 1 to 36500"],
      [["--key-bits", "300"], "-key-bits of ec is one of 256, 384, 521"],
    ] as const) {
      const { code, stderr } = await recover(args, { MESHCA_HTTP_ADDR: "https://127.0.0.1:1" });
      assert.equal(code, 64, stderr);
      assert.ok(stderr.startsWith(text), stderr);
    }
  });

  it("leaves a CA alone that signs under a valid root", OPTIONS, async () => {
    assert.equal((await recover(["--yes"])).code, 0);
    rmSync(path(CERT));
    const active = await activeRoot();
    const { code, stderr } = await recover(["--yes"]);
    assert.equal(code, 65);
    assert.match(
      stderr,
      new RegExp(
        `^There is nothing to recover: ${server.url} signs leaves under the root ${active} \\(\\S+ \\S+ left\\); meshca rotate makes a new root without any file, and --replace-valid-root goes on\n$`,
      ),
    );
    assert.deepEqual(readdirSync(folder), []);
  });

  it("needs --yes without a terminal, and makes nothing", OPTIONS, async () => {
    const { code, stderr } = await recover([]);
    assert.equal(code, 64);
    assert.match(stderr, /Cannot ask without a terminal, nothing was changed; give --yes/);
    assert.deepEqual(readdirSync(folder), []);
  });

  describe("with a token", () => {
    /** A token with these rules. */
    const tokenWith = async (rules: string): Promise<string> => {
      const call = async (route: string, body: object): Promise<Record<string, string>> => {
        const answer = await fetch(`${server.url}/v1/acl/${route}`, {
          ...{ method: "PUT", headers: { "X-Consul-Token": TOKEN }, body: JSON.stringify(body) },
          tls: { rejectUnauthorized: false },
        } as RequestInit);
        assert.equal(answer.status, 200);
        return (await answer.json()) as Record<string, string>;
      };
      const { Name = "" } = await call("policy", { Name: "reader", Rules: rules });
      const { SecretID = "" } = await call("token", { Policies: [{ Name }] });
      return SecretID;
    };

    it("of nobody, or without one, it makes nothing", OPTIONS, async () => {
      for (const [token, text] of [
        [
          "00000000-aaaa-bbbb-cccc-000000000000",
          "the server does not know the token that was sent",
        ],
        ["", "no token was sent: give one by --token-file"],
      ] as const) {
        const { code, stderr } = await recover(["--yes"], { MESHCA_HTTP_TOKEN: token });
        assert.equal(code, 77);
        assert.ok(stderr.includes(text), stderr);
        assert.deepEqual(readdirSync(folder), []);
      }
    });

    it(
      "that may only read, it changes nothing, and --continue takes another one",
      OPTIONS,
      async () => {
        const old = await activeRoot();
        const reader = await tokenWith('operator = "read"');
        const { code, stderr } = await recover(["--yes"], { MESHCA_HTTP_TOKEN: reader });
        assert.equal(code, 77);
        assert.match(stderr, /Permission denied: .*; the CA was not changed\. The root is in /);
        assert.equal(await activeRoot(), old);
        assert.equal((await recover(["--yes", "--continue"])).code, 0);
        assert.equal(await activeRoot(), idOf(path(CERT)));
      },
    );
  });

  describe("before it sends the token or the key", () => {
    it(
      "compares the pin: a server with another certificate gets nothing but the handshake",
      OPTIONS,
      async () => {
        const { key, certificate } = makeRoot("mesh.example", {
          extensions: ["keyUsage=digitalSignature", "basicConstraints=CA:FALSE"],
        });
        let received = 0;
        const impostor = createTls({ key, cert: certificate }, (socket) => {
          socket.on("error", () => undefined);
          socket.on("data", (data) => {
            // What is compared with the pin is fetched without a token.
            assert.doesNotMatch(data.toString(), new RegExp(TOKEN));
            assert.match(data.toString(), /^GET \/v1\/connect\/ca\/roots HTTP/);
            received++;
            socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
          });
        }).listen(0, "127.0.0.1");
        await new Promise((resolve) => impostor.once("listening", resolve));
        const address = `https://127.0.0.1:${(impostor.address() as AddressInfo).port}`;
        try {
          for (const args of [["--yes"], ["--yes", "--server-pin", `sha256:${"0".repeat(64)}`]]) {
            const { code, stderr } = await recover(args, { MESHCA_HTTP_ADDR: address });
            assert.equal(code, 69);
            assert.match(
              stderr,
              /has another certificate than the pinned one: sha256:[0-9a-f]{64}; compare/,
            );
            assert.deepEqual(readdirSync(folder), []);
          }
          assert.equal(received, 2);
        } finally {
          impostor.close();
        }
      },
    );

    it(
      "refuses a server that is not verified, and one without TLS elsewhere",
      OPTIONS,
      async () => {
        for (const [address, text] of [
          [
            "https://ca.example:8501",
            "The key of the CA is not sent to a server that is not verified",
          ],
          [
            "http://ca.example:8500",
            "The key of the CA is not sent to http://ca.example:8500 without TLS",
          ],
        ] as const) {
          const { code, stderr } = await recover(["--yes"], {
            ...{ MESHCA_HTTP_ADDR: address, MESHCA_DATA_DIR: "", CONSUL_HTTP_SSL_VERIFY: "false" },
          });
          assert.equal(code, 64);
          assert.ok(stderr.startsWith(text), stderr);
        }
      },
    );

    it("names a data folder without a fingerprint, or with another text", OPTIONS, async () => {
      const missing = await recover(["--yes", "--data-dir", folder]);
      assert.equal(missing.code, 66);
      assert.match(
        missing.stderr,
        /^The fingerprint of the server's TLS certificate ".*\/tls-fingerprint" cannot be read: /,
      );
      writeFileSync(path("tls-fingerprint"), "nothing\n");
      const wrong = await recover(["--yes", "--data-dir", folder]);
      assert.equal(wrong.code, 65);
      assert.match(wrong.stderr, /tls-fingerprint" has no fingerprint; give --server-pin/);
    });
  });

  describe("through something that is not the server", () => {
    let front: Server;
    const frontAt = async (listener: Parameters<typeof createServer>[1]): Promise<string> => {
      front = createServer(listener).listen(0, "127.0.0.1");
      await new Promise((resolve) => front.once("listening", resolve));
      return `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
    };
    afterEach(() => front.close());

    it("that answers pages, it says so and makes nothing", OPTIONS, async () => {
      const address = await frontAt((_, response) =>
        response.writeHead(200, { "Content-Type": "text/html" }).end("<html>"),
      );
      const { code, stderr } = await recover(["--yes"], { MESHCA_HTTP_ADDR: address });
      assert.equal(code, 76);
      assert.match(stderr, /does not speak the API of meshca and Consul/);
      assert.deepEqual(readdirSync(folder), []);
    });
  });
});

describe("meshca recover, with an answer that is lost", () => {
  let expired: string;
  let server: ServerProcess;
  let folder: string;
  before(async () => {
    expired = await makeExpiredFolder(WITH_ACL);
    server = await startServer({ ...WITH_ACL, MESHCA_DATA_DIR: expired });
  });
  after(async () => {
    await server.stop();
    rmSync(expired, { recursive: true, force: true });
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-recover-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /**
   * Forwards to the server, but cuts the connection of a PUT: before it is forwarded, or after it was
   * answered.
   */
  async function cuttingProxy(cut: "request" | "answer") {
    let puts = 0;
    const proxy = createServer((request, response) => {
      void (async () => {
        const chunks: Uint8Array[] = [];
        for await (const chunk of request) chunks.push(chunk as Uint8Array);
        const isPut = request.method === "PUT";
        if (isPut) puts++;
        if (isPut && cut === "request") {
          request.socket.destroy();
          return;
        }
        const answer = await fetch(`${server.url}${request.url}`, {
          method: request.method ?? "GET",
          headers: { "X-Consul-Token": TOKEN },
          ...(isPut ? { body: Buffer.concat(chunks) } : {}),
        });
        if (isPut) {
          request.socket.destroy();
          return;
        }
        const type = answer.headers.get("content-type") ?? "";
        response.writeHead(answer.status, { "Content-Type": type }).end(await answer.text());
      })();
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => proxy.once("listening", resolve));
    return {
      url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
      puts: () => puts,
      close: () => proxy.close(),
    };
  }
  const recover = (url: string, args: readonly string[]) =>
    meshca(
      ["recover", "--yes", ...args],
      { MESHCA_HTTP_ADDR: url, MESHCA_HTTP_TOKEN: TOKEN },
      "",
      undefined,
      folder,
    );

  it(
    "keeps the files if the request was lost, and finds out if only the answer was",
    OPTIONS,
    async () => {
      const before = await cuttingProxy("request");
      const lost = await recover(before.url, []);
      before.close();
      assert.equal(lost.code, 69);
      assert.match(
        lost.stderr,
        new RegExp(
          `; it is not known whether the server has taken the root\\. The root is in ${CERT} and its key in ${KEY}; the same command with --continue goes on with them\n$`,
        ),
      );
      assert.equal(before.puts(), 1);
      assert.ok(existsSync(join(folder, KEY)));

      const afterwards = await cuttingProxy("answer");
      const taken = await recover(afterwards.url, ["--continue"]);
      afterwards.close();
      assert.deepEqual([taken.code, taken.stderr], [0, ""]);
      assert.match(taken.stdout, new RegExp(`==> Deleted ${KEY}\nThe active root is ${COLONS}, `));
      assert.equal(afterwards.puts(), 1);
      assert.deepEqual(readdirSync(folder), [CERT]);
    },
  );

  it("Ctrl-C while the server changes the CA keeps the files", OPTIONS, async () => {
    // It takes the connection of the PUT and never answers.
    const silent = createTcp((socket) => {
      socket.on("error", () => undefined);
      socket.on("data", (data) => {
        const text = data.toString();
        const path = /^GET (\S+)/.exec(text)?.[1];
        if (path === undefined) return;
        void fetch(`${server.url}${path}`, { headers: { "X-Consul-Token": TOKEN } }).then(
          async (answer) => {
            const body = await answer.text();
            const type = answer.headers.get("content-type") ?? "";
            socket.end(
              `HTTP/1.1 ${answer.status} OK\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
            );
          },
        );
      });
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => silent.once("listening", resolve));
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    try {
      const { code, screen } = await meshcaOnTerminal(
        ["recover", "--yes", "--replace-valid-root"],
        { MESHCA_HTTP_ADDR: url, MESHCA_HTTP_TOKEN: TOKEN },
        { cwd: folder, type: [["Waiting for the server...", "\u0003"]] },
      );
      assert.equal(code, 130, screen);
      assert.match(
        plain(screen),
        new RegExp(
          `Interrupted; it is not known whether the server has taken the root\\. The root is in ${CERT} and its key in ${KEY}; the same command with --continue`,
        ),
      );
      assert.deepEqual(new Set(readdirSync(folder)), new Set([KEY, CERT]));
    } finally {
      silent.close();
    }
  });
});
