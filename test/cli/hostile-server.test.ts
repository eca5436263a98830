/**
 * A server that sends what a terminal would act on, files of its own choice, and certificates that
 * were not asked for: a command shows, writes and trusts none of it.
 * @module
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import type { Report } from "../../src/cli/doctor/types.ts";
import { startServer } from "../fixtures/process.ts";
import { selfSigned } from "../tls/harness.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const OPTIONS = { timeout: 120_000 };
/** The title and the screen of a terminal, a colour in C1's form, a line of its own, text backwards. */
const EVIL = "\u001b]0;owned\u0007\u001b[2J\u009b31m\r\nStopped: x\u202e";
/** What of it must not reach a terminal. */
const UNSAFE = ["\u001b]", "\u001b[2J", "\u0007", "\u009b", "\u202e"];

function assertSafe(text: string): void {
  for (const part of UNSAFE)
    assert.equal(text.includes(part), false, `${JSON.stringify(part)} in ${JSON.stringify(text)}`);
}

const ROOT = {
  ID: EVIL,
  Name: EVIL,
  NotBefore: "2020-01-01T00:00:00Z",
  NotAfter: "2999-01-01T00:00:00Z",
  RootCert: EVIL,
  Active: true,
  PrivateKeyType: EVIL,
};
const CONFLICT = { Reason: EVIL, NoticedBy: EVIL, NoticedAt: EVIL, Differences: [EVIL] };
const LEAF = {
  ...{ SerialNumber: EVIL, CertPEM: EVIL, ServiceURI: EVIL, RenewAfter: EVIL },
  ...{ ValidAfter: "2020-01-01T00:00:00Z", ValidBefore: "2999-01-01T00:00:00Z" },
};

/** The body of each route, as JSON unless it is a text. */
const BODIES: Readonly<Record<string, unknown>> = {
  "GET /healthz": "ok\n",
  "GET /v1/status/diagnosis": {
    ...{ Version: EVIL, Time: "2020-01-01T00:00:00Z", Loopback: true, State: null },
    Store: { Value: null, Error: EVIL },
    LastBackup: { Value: null, Error: EVIL },
    Replication: { Value: null, Error: EVIL },
    Provider: { Value: null, Error: EVIL },
    ACL: {
      Mode: EVIL,
      Tokens: {
        ...{ AnonymousRights: [EVIL], InitialManagement: EVIL, Management: [EVIL] },
        ...{ Unlimited: 1, Total: 1 },
      },
    },
    Files: [{ Path: EVIL, Setting: EVIL, Kind: "secret", Mode: "0777", FreeBytes: null }],
  },
  "GET /v1/status/datacenter": {
    ...{ Datacenter: EVIL, Others: [EVIL], Intermediate: null },
    Primary: {
      ...{ Datacenter: EVIL, Asked: true, LastContact: null, Index: 2, FollowedIndex: 1 },
      ClockOffsetMs: 60_001,
      Fault: { Step: EVIL, Code: EVIL, Reason: EVIL, Since: "2020-01-01T00:00:00Z" },
    },
    Intermediates: { Unexpired: 1, FirstNotAfter: "2999-01-01T00:00:00Z" },
  },
  "GET /readyz": `Cannot sign: ${EVIL.replaceAll(/[\r\n]/g, "")}\nalarm: ${EVIL}\nroot_expires: never\n`,
  "GET /v1/connect/ca/roots": { ActiveRootID: EVIL, TrustDomain: EVIL, Roots: [ROOT] },
  "GET /v1/status/leader": EVIL,
  "GET /v1/status/peers": [EVIL],
  "GET /v1/connect/ca/deny": [{ ID: "x", SPIFFEID: EVIL, Reason: EVIL, CreateTime: EVIL }],
  "PUT /v1/connect/ca/deny": { ID: EVIL, CreateTime: EVIL },
  "GET /v1/connect/ca/rewrap": { Current: EVIL, InUse: [EVIL], Replicas: [] },
  "PUT /v1/connect/ca/rotate": { ActiveRootID: EVIL, ModifyIndex: 1 },
  "GET /v1/connect/ca/state-conflict": { Conflict: true, ...CONFLICT },
  "GET /v1/connect/ca/configuration": { Provider: EVIL, Config: { x: EVIL } },
  "GET /v1/connect/ca/backup": { schema: 3, clusterId: "x", index: 1, body: "" },
  "PUT /v1/connect/ca/sign": LEAF,
};

/** Routes that answer text. */
const TEXTS = ["/readyz", "/healthz"];

describe("a server that sends what it should not", () => {
  let server: Server;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  /** Bodies of one test. */
  let bodies: Record<string, unknown>;
  before(async () => {
    server = createServer((request, response) => {
      const path = new URL(request.url ?? "", "http://localhost").pathname;
      const body = bodies[`${request.method} ${path}`];
      response.writeHead(body === undefined ? 500 : path === "/readyz" ? 503 : 200, {
        "Content-Type": TEXTS.includes(path) ? "text/plain" : "application/json",
        "Content-Disposition": 'attachment; filename=".profile"',
        "X-Meshca-Abandoned-Roots": "a\u009b31m",
      });
      response.end(TEXTS.includes(path) ? body : JSON.stringify(body ?? EVIL));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    environment = { MESHCA_HTTP_ADDR: `127.0.0.1:${port}` };
    folder = mkdtempSync(join(tmpdir(), "meshca-hostile-"));
  });
  beforeEach(() => {
    bodies = { ...BODIES };
  });
  after(() => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const run = (...args: readonly string[]) =>
    meshca(args, environment, "", [process.execPath], folder);

  for (const command of [
    ...["status", "roots", "roots --pem", "rotate --yes", "deny list", "deny add -serial 1 --yes"],
    ...["kek status", "conflict show", "connect ca get-config", "connect ca set-config"],
    ...["deny remove x --yes", "kek rewrap", "recover --yes", "sign --key-out k.pem"],
    "doctor --all",
  ])
    it(`${command} writes nothing that a terminal acts on`, OPTIONS, async () => {
      const args = command.split(" ");
      const text = await run(...args);
      // JSON for a file is as Consul writes it.
      const isData = command.includes("get-config");
      assertSafe(isData ? text.stderr : text.stdout + text.stderr);
      const json = await meshcaOnTerminal([...args, "--json"], environment, { cwd: folder });
      assertSafe(plain(json.screen));
    });

  it("doctor puts no word of a server into a command unquoted", OPTIONS, async () => {
    const word = "/x; touch y $(touch z)";
    bodies["GET /v1/status/diagnosis"] = {
      ...(BODIES["GET /v1/status/diagnosis"] as object),
      Provider: {
        Value: {
          Token: { Renewable: true, ExpirationTime: null, Failure: null, Replaced: false },
          ...{ MissingPermissions: [], UnreadMounts: [] },
          LowLimits: [{ Path: word, Field: "x", LimitSeconds: 1, NeededSeconds: 2 }],
        },
        Error: null,
      },
      ACL: {
        Mode: "deny",
        Tokens: {
          ...{ AnonymousRights: [], InitialManagement: word, Management: [] },
          ...{ Unlimited: 0, Total: 1 },
        },
      },
      Files: [
        { Path: word, Setting: "x", Kind: "secret", Mode: "0777", FreeBytes: null },
        { Path: word, Setting: "x", Kind: "folder", Mode: "0777", FreeBytes: 1 },
      ],
    };
    const { stdout } = await run("doctor", "--json");
    const { results } = JSON.parse(stdout) as Report;
    const fixes = results.flatMap(({ findings }) => findings.map(({ fix }) => fix));
    const naming = fixes.filter((fix) => fix.includes("touch"));
    assert.equal(naming.length, 5, naming.join("\n"));
    for (const fix of naming) assert.ok(fix.includes(`'${word}'`), fix);
  });

  it("a cell of a table is one line", OPTIONS, async () => {
    const { stdout } = await run("roots");
    assert.match(stdout, /^ID: +\S.* Stopped: x\\u202e$/m);
    assert.doesNotMatch((await run("status")).stdout, /^Stopped: x/m);
  });

  it("backup save writes under a name of a backup, and only a backup", OPTIONS, async () => {
    assert.equal((await run("backup", "save")).stdout, "Saved meshca.backup\n");
    assert.deepEqual(readdirSync(folder), ["meshca.backup"]);
    bodies["GET /v1/connect/ca/backup"] = { page: "not a backup" };
    const { code, stderr } = await run("backup", "save", "b.backup");
    assert.equal(code, 76);
    assert.match(stderr, /its answer to GET \/v1\/connect\/ca\/backup has no valid schema;/);
    assert.equal(existsSync(join(folder, "b.backup")), false);
  });

  it("sign and roots --pem write certificates only, and those of the key", OPTIONS, async () => {
    const sign = ["sign", "--key-out", "key.pem", "--out", "leaf.pem"];
    for (const [pem, reason] of [
      [EVIL, /has no certificate;/],
      ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", /cannot be read: /],
      ["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", /a PEM block PRIVATE KEY/],
    ] as const) {
      bodies["PUT /v1/connect/ca/sign"] = { ...LEAF, CertPEM: pem };
      bodies["GET /v1/connect/ca/roots"] = {
        ...{ ActiveRootID: "x", TrustDomain: "x" },
        Roots: [{ ...ROOT, RootCert: pem }],
      };
      for (const args of [sign, ["roots", "--pem"]]) {
        const { code, stdout, stderr } = await run(...args);
        assert.deepEqual([code, stdout], [76, ""], stderr);
        assert.match(stderr, reason);
      }
    }
    const other = selfSigned("other").cert;
    bodies["PUT /v1/connect/ca/sign"] = { ...LEAF, CertPEM: `${EVIL}\n${other}` };
    const foreign = await run(...sign);
    assert.equal(foreign.code, 76);
    assert.match(foreign.stderr, /is a leaf for another key;/);
    assert.deepEqual([existsSync(join(folder, "key.pem")), existsSync("leaf.pem")], [false, false]);
  });
});

describe("meshca verify --roots URL", () => {
  it("verifies the server that the roots come from", OPTIONS, async () => {
    const own = selfSigned("localhost");
    const roots = selfSigned("root").cert;
    const server = createTlsServer(own, (_, response) => response.end(roots));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `https://localhost:${(server.address() as AddressInfo).port}/roots.pem`;
    const folder = mkdtempSync(join(tmpdir(), "meshca-roots-"));
    const files = ["leaf.pem", "ca.pem"].map((name) => join(folder, name)) as [string, string];
    writeFileSync(files[0], roots);
    writeFileSync(files[1], own.cert);
    try {
      const unknown = await meshca(["verify", files[0], "--roots", url]);
      assert.equal(unknown.code, 69);
      assert.match(unknown.stderr, /cannot be verified by the CAs that this machine trusts/);
      const { stdout, stderr } = await meshca([
        "verify",
        files[0],
        "--roots",
        url,
        "--ca-file",
        files[1],
      ]);
      assert.match(stdout, /^The leaf /, stderr);
    } finally {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("takes the roots of the server of --http-addr without it", OPTIONS, async () => {
    const server = await startServer({ MESHCA_STORE: "memory:", MESHCA_ACL: "off" });
    try {
      const environment = { MESHCA_HTTP_ADDR: server.url };
      const folder = mkdtempSync(join(tmpdir(), "meshca-roots-"));
      const signed = await meshca(
        ["sign", "--service", "web", "--key-out", join(folder, "key.pem")],
        environment,
      );
      rmSync(folder, { recursive: true, force: true });
      const { code, stdout, stderr } = await meshca(["verify", "-"], environment, signed.stdout);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /^The leaf verifies:\n/);
    } finally {
      await server.stop();
    }
  });
});
