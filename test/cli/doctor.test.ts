/**
 * `meshca doctor` against one server on SQLite: well, broken in one thing after the other, half
 * broken, and what is no server of meshca.
 * @module
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createProxy } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { CHECK_IDS, type CheckId } from "../../src/cli/doctor/types.ts";
import { AGENT_COMMANDS } from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { doctor } from "./doctor.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const OPTIONS = { timeout: 120_000 };
const TOKEN = "5d2c9f1e-6b3a-4e17-8c40-91f7a3e0d652";
const SHIFTED = [process.execPath, "--preload", join(ROOT, "test/recovery/shifted-clock.ts")];

describe("meshca doctor and one server on SQLite", () => {
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    writeFileSync(join(folder, "token"), TOKEN, { mode: 0o600 });
    server = await startServer({ MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN });
    environment = {
      MESHCA_HTTP_ADDR: server.url,
      MESHCA_HTTP_TOKEN_FILE: join(folder, "token"),
    };
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const call = async (method: string, path: string, body: object): Promise<unknown> => {
    const answer = await fetch(`${server.url}${path}`, {
      ...{ method, body: JSON.stringify(body) },
      headers: { "X-Consul-Token": TOKEN },
    });
    assert.equal(answer.status, 200, path);
    return answer.json();
  };

  it(
    "makes every check of the server once, in order, and finds what a new one lacks",
    OPTIONS,
    async () => {
      const found = await doctor(environment);
      const ofServer = CHECK_IDS.filter((id) => !id.startsWith("agent."));
      assert.deepEqual(
        found.results.map(({ id }) => id),
        ofServer,
      );
      const withFindings = found.results.filter(({ outcome }) => outcome === "found");
      assert.deepEqual(
        withFindings.map(({ id }) => id),
        ["backup.age", "acl.management_token"],
      );
      assert.deepEqual([found.status, found.exit], ["warning", 1]);
      assert.deepEqual(
        found.results.filter(({ outcome }) => outcome === "unchecked"),
        [],
      );
      assert.match(
        found.finding("acl.management_token").fix,
        /meshca acl token delete -accessor-id [0-9a-f-]{36}$/,
      );
      for (const id of [
        "server.reachable",
        "server.api",
        "server.token",
        "ca.signing",
        "ca.changes",
        "ca.conflict",
        "ca.replicas",
        "root.expiry",
        "store.reachable",
        "store.durability",
        "store.disk",
        "clock.store",
        "clock.client",
        "chain.limits",
        "kek.use",
        "acl.mode",
        "acl.anonymous",
        "acl.unlimited_tokens",
        "files.server",
        "files.client",
      ] as const)
        assert.equal(found.of(id).outcome, "ok", id);
    },
  );

  it(
    "backup.age: none is known, then one of the present state, then one without the active root",
    OPTIONS,
    async () => {
      const { what, fix } = (await doctor(environment)).finding("backup.age");
      assert.equal(what, "No backup of the CA is known");
      assert.match(fix, /^meshca backup save/);
      const file = join(folder, "a.backup");
      assert.equal((await meshca(["backup", "save", file], environment)).code, 0);
      assert.match((await doctor(environment)).of("backup.age").detail, /^of the present state, /);
      assert.equal((await meshca(["rotate", "--yes"], environment)).code, 0);
      const rotated = (await doctor(environment)).finding("backup.age");
      assert.match(rotated.what, /^The last backup, .* old, was made before the active root$/);
      assert.equal(
        (await meshca(["backup", "save", join(folder, "b.backup")], environment)).code,
        0,
      );
      // Eight days later the state has changed.
      await call("PUT", "/v1/connect/ca/configuration", {
        Provider: "consul",
        Config: { LeafCertTTL: "71h" },
      });
      assert.equal((await doctor(environment)).of("backup.age").outcome, "ok");
      const later = await doctor(
        { ...environment, TEST_CLOCK_SHIFT_MS: String(8 * 86_400_000) },
        [],
        SHIFTED,
      );
      assert.match(
        later.finding("backup.age").what,
        /^The last backup is of an earlier state and 8d/,
      );
    },
  );

  it("acl.anonymous: callers without a token got a policy", OPTIONS, async () => {
    await call("PUT", "/v1/acl/policy", { Name: "open", Rules: 'operator = "read"' });
    const path = "/v1/acl/token/00000000-0000-0000-0000-000000000002";
    await call("PUT", path, { Policies: [{ Name: "open" }] });
    const { what, fix } = (await doctor(environment)).finding("acl.anonymous");
    assert.equal(what, "Callers without a token have rights: policy open");
    // As the fix says.
    const [, url = "", body = ""] = /SERVER(\S+) -d '(.*)'$/.exec(fix) ?? [];
    await call("PUT", url, JSON.parse(body));
    assert.equal((await doctor(environment)).of("acl.anonymous").outcome, "ok");
  });

  it("acl.unlimited_tokens: tokens that never expire, but none that does", OPTIONS, async () => {
    await call("PUT", "/v1/acl/token", { ExpirationTTL: "1h" });
    assert.equal((await doctor(environment)).of("acl.unlimited_tokens").outcome, "ok");
    const made = (await call("PUT", "/v1/acl/token", {
      Policies: [{ Name: "global-management" }],
    })) as { AccessorID: string };
    await call("PUT", "/v1/acl/token", {});
    const { findings } = (await doctor(environment)).of("acl.unlimited_tokens");
    assert.deepEqual(
      findings.map(({ severity, what }) => [severity, what]),
      [
        ["note", `Tokens with all rights never expire: ${made.AccessorID}`],
        ["note", "1 further token never expires"],
      ],
    );
  });

  it(
    "files.server: the data folder, its keys and its database are open to others",
    OPTIONS,
    async () => {
      const { dataDir } = server;
      chmodSync(join(dataDir, "kek"), 0o644);
      chmodSync(join(dataDir, "meshca.db"), 0o664);
      chmodSync(dataDir, 0o755);
      const { findings } = (await doctor(environment)).of("files.server");
      for (const [name, mode] of [
        ["", 0o700],
        ["kek", 0o600],
        ["meshca.db", 0o600],
      ] as const)
        chmodSync(join(dataDir, name), mode);
      assert.deepEqual(
        findings.map(({ severity, fix }) => [severity, fix.split(",")[0]]),
        [
          ["warning", `chmod 700 ${dataDir}`],
          ["critical", `chmod 600 ${dataDir}/meshca.db`],
          ["critical", `chmod 600 ${dataDir}/kek`],
        ],
      );
      assert.equal((await doctor(environment)).of("files.server").outcome, "ok");
    },
  );

  it(
    "files.client: the token file is open to others, the token is an argument",
    OPTIONS,
    async () => {
      chmodSync(join(folder, "token"), 0o644);
      const { fix } = (await doctor(environment)).finding("files.client");
      chmodSync(join(folder, "token"), 0o600);
      assert.match(fix, /^chmod 600 \S+\/token, /);
      const { what } = (await doctor(environment, ["--token", TOKEN])).finding("files.client");
      assert.equal(what, "The token was given by --token");
    },
  );

  it("clock.client: this machine's clock is wrong", OPTIONS, async () => {
    const at = (shift: number) =>
      doctor({ ...environment, TEST_CLOCK_SHIFT_MS: String(shift) }, [], SHIFTED);
    const ahead = (await at(30_000)).finding("clock.client");
    assert.equal(ahead.severity, "warning");
    assert.match(ahead.what, /^The server's clock is \d+s behind this machine's$/);
    const behind = (await at(-3_600_000)).finding("clock.client");
    assert.equal(behind.severity, "critical");
    assert.match(
      behind.what,
      /^The server's clock is (?:1h|59m \d+s|1h \d+s) ahead of this machine's$/,
    );
    assert.match(behind.fix, /timedatectl set-ntp true/);
  });

  it("root.expiry: as the server warns, with the command that comes in time", OPTIONS, async () => {
    const inDays = (days: number) =>
      doctor({ ...environment, TEST_CLOCK_SHIFT_MS: String(days * 86_400_000) }, [], SHIFTED);
    // Ten years are 3650 days.
    const soon = (await inDays(3640 - 15)).finding("root.expiry");
    assert.deepEqual([soon.severity, soon.fix], ["warning", "meshca rotate"]);
    const late = (await inDays(3646)).finding("root.expiry");
    assert.deepEqual([late.severity, late.fix], ["critical", "meshca rotate"]);
    const over = (await inDays(3660)).finding("root.expiry");
    assert.deepEqual([over.severity, over.fix], ["critical", "meshca recover"]);
  });

  it(
    "says what a wrong token, and none, kept from being checked, and never ok",
    OPTIONS,
    async () => {
      const tokenless = [
        "server.reachable",
        "server.api",
        "root.expiry",
        "ca.replicas",
        "chain.limits",
        "clock.client",
        "ca.signing",
      ] as const;
      const url = { MESHCA_HTTP_ADDR: server.url };
      const wrong = await doctor({ ...url, MESHCA_HTTP_TOKEN: crypto.randomUUID() });
      assert.match(
        wrong.of("server.token").detail,
        /^ACL not found; the server does not know the token/,
      );
      assert.equal(wrong.of("server.token").outcome, "unchecked");
      const isOk = wrong.results.filter(({ outcome }) => outcome === "ok").map(({ id }) => id);
      const allowed: readonly CheckId[] = [
        ...tokenless,
        "ca.conflict",
        "store.reachable",
        "ca.changes",
        "clock.store",
      ];
      assert.deepEqual(
        isOk.filter((id) => !allowed.includes(id)),
        [],
      );
      assert.deepEqual([wrong.status, wrong.exit], ["unchecked", 3]);
      for (const id of [
        "backup.age",
        "acl.mode",
        "files.server",
        "store.durability",
        "kek.use",
      ] as const)
        assert.equal(wrong.of(id).outcome, "unchecked", id);
    },
  );

  it(
    "server.reachable, server.api: no server, and one that does not speak meshca",
    OPTIONS,
    async () => {
      const gone = await doctor({ MESHCA_HTTP_ADDR: "127.0.0.1:1" });
      assert.match(gone.finding("server.reachable").what, /refused the connection/);
      assert.deepEqual([gone.status, gone.exit], ["critical", 2]);
      assert.deepEqual(
        gone.results.filter(({ outcome }) => outcome === "ok"),
        [],
      );
      const other = createServer((_, response) => {
        response.setHeader("Content-Type", "text/html");
        response.end("<html></html>");
      });
      await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
      const { port } = other.address() as AddressInfo;
      const foreign = await doctor({ MESHCA_HTTP_ADDR: `127.0.0.1:${port}` });
      other.close();
      assert.equal(foreign.of("server.reachable").outcome, "ok");
      assert.match(foreign.finding("server.api").what, /does not speak the API of meshca/);
      assert.deepEqual(
        foreign.results.filter(({ outcome }) => outcome === "ok").map(({ id }) => id),
        ["server.reachable"],
      );
      const unknown = await meshca(["doctor", "--agent", "nowhere"], environment);
      assert.equal(unknown.code, 64);
    },
  );

  it("is coloured on a terminal, fits 40 columns, and lists all with --all", OPTIONS, async () => {
    const { code, screen } = await meshcaOnTerminal(["doctor", "--all"], environment, {
      columns: 40,
    });
    assert.equal(code, 1, screen);
    const text = plain(screen);
    assert.notEqual(text, screen);
    assert.match(
      text,
      /^Warning acl\.management_token\n {2}The initial management token of the\n/m,
    );
    assert.match(text, /^Ok\n {2}server\.reachable:\s/m);
    assert.match(text, /^Does not apply\n/m);
    for (const line of text.split("\n"))
      assert.ok(line.length <= 40 || !line.trim().includes(" "), line);
  });

  it("ends quietly if its reader is gone", OPTIONS, async () => {
    const command = `exec 2>&1; '${process.execPath}' src/cli/main.ts doctor --all | head -1`;
    const { stdout } = spawnSync("bash", ["-c", command], {
      ...{ cwd: ROOT, encoding: "utf8" },
      env: { PATH: process.env.PATH ?? "", ...environment },
    });
    assert.match(stdout, /^(?:Warning|Critical) \S+\n$/);
    const child = spawn(process.execPath, ["src/cli/main.ts", "doctor", "--json"], {
      ...{ cwd: ROOT, env: { PATH: process.env.PATH ?? "", ...environment } },
    });
    child.stdout.destroy();
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    await new Promise((resolve) => child.once("close", resolve));
    assert.equal(stderr, "");
  });
});

describe("meshca doctor and other servers", () => {
  it(
    "acl.mode, store.durability: no access control, what no rule forbids, a store in memory",
    OPTIONS,
    async () => {
      const open = await startServer({ MESHCA_STORE: "memory:" });
      const found = await doctor({ MESHCA_HTTP_ADDR: open.url });
      await open.stop();
      assert.equal(found.finding("acl.mode").severity, "note");
      assert.match(
        found.finding("store.durability").what,
        /^The CA is only in the memory of the server$/,
      );
      assert.deepEqual([found.of("acl.anonymous").outcome, found.exit], ["skipped", 2]);
      const allowing = await startServer({ MESHCA_ACL: "allow" });
      const allowed = await doctor({ MESHCA_HTTP_ADDR: allowing.url });
      await allowing.stop();
      const { what } = allowed.finding("acl.mode");
      assert.equal(what, "Callers may do what no rule forbids (MESHCA_ACL=allow)");
      // No token is in its settings.
      assert.equal(allowed.of("acl.management_token").outcome, "ok");
    },
  );

  it(
    "acl.mode: a server without access control that a proxy serves to others",
    OPTIONS,
    async () => {
      const [address] = Object.values(networkInterfaces())
        .flatMap((each) => each ?? [])
        .filter(({ internal, family }) => !internal && family === "IPv4");
      // A machine without a network has no other address.
      if (address === undefined) return;
      const server = await startServer({ MESHCA_HOSTS: address.address });
      const proxy = createProxy((socket) => {
        const inner = connect(server.port, "127.0.0.1");
        socket.on("error", () => inner.destroy());
        inner.on("error", () => socket.destroy());
        socket.pipe(inner).pipe(socket);
      });
      await new Promise<void>((resolve) => proxy.listen(0, address.address, resolve));
      const { port } = proxy.address() as AddressInfo;
      const found = await doctor({ MESHCA_HTTP_ADDR: `${address.address}:${port}` });
      proxy.close();
      await server.stop();
      assert.equal(found.finding("acl.mode").severity, "critical");
      assert.match(found.finding("server.tls").what, / is called without TLS$/);
    },
  );

  it("runs on Node and Deno", OPTIONS, async () => {
    const server = await startServer({});
    for (const runtime of ["node", "deno"] as const) {
      const found = await doctor({ MESHCA_HTTP_ADDR: server.url }, [], AGENT_COMMANDS[runtime]);
      assert.deepEqual([found.exit, found.of("server.api").outcome], [1, "ok"], runtime);
      assert.equal(found.finding("backup.age").severity, "warning");
    }
    await server.stop();
  });
});
