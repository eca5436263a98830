/**
 * The audit log of a real server: a line for each decision, before its effect; what stops if it
 * cannot be written.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { opensslCsr } from "../fakes/ca.ts";
import { type Command, type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { put, sign } from "../fixtures/refusals.ts";

const csrOf = (server: ServerProcess, service = "web") =>
  opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/${service}`).csr;

type Line = Readonly<Record<string, unknown>>;
const parse = (text: string): Line[] =>
  text
    .split("\n")
    .filter((line) => line.includes('"kind":"audit"'))
    .map((line) => JSON.parse(line) as Line);

/** Runs a server with an audit file. @returns the file's content at the end. */
async function audited(
  work: (server: ServerProcess, lines: () => Line[]) => Promise<void>,
): Promise<Line[]> {
  return inFolderAsync(async (folder) => {
    const path = join(folder, "audit.jsonl");
    const server = await startServer({ MESHCA_AUDIT: path, MESHCA_STORE: "memory:" });
    try {
      await work(server, () => parse(readFileSync(path, "utf8")));
    } finally {
      await server.stop();
    }
    assert.equal(statSync(path).mode & 0o777, 0o600);
    return parse(readFileSync(path, "utf8"));
  });
}

function inFolderAsync<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-audit-"));
  return work(folder).finally(() => rmSync(folder, { recursive: true, force: true }));
}

describe("MESHCA_AUDIT", () => {
  it("each leaf, change and refusal has a line: who, from where, what, with which outcome", async () => {
    let leaf: { SerialNumber?: string; ServiceURI?: string } = {};
    let refusedId: string | undefined;
    const lines = await audited(async (server) => {
      leaf = JSON.parse((await send(server.port, sign(csrOf(server))))?.body ?? "") as typeof leaf;
      const other = opensslCsr("URI:SPIFFE://OTHER.consul/ns/default/dc/dc1/svc/web").csr;
      refusedId = (await send(server.port, sign(other)))?.header("X-Request-Id");
      await send(server.port, sign("-----BEGIN PRIVATE KEY-----"));
      await send(server.port, put({ Provider: "consul", Config: { LeafCertTTL: "50h" } }));
      await send(server.port, put({ Provider: "consul", Config: { LeafCertTTL: "50h" } }));
      await send(server.port, put({ Provider: "consul", Config: { PrivateKey: "hunter2" } }));
      await send(server.port, { method: "GET", target: "/v1/connect/ca/backup" });
      await send(server.port, { method: "GET", target: "/v1/connect/ca/roots" });
    });
    assert.deepEqual(
      lines.map(({ action, outcome, code }) => `${action} ${outcome} ${code}`),
      [
        "bootstrap allowed null",
        "sign allowed null",
        "sign refused profile_violation",
        "sign refused csr_malformed",
        "configure allowed null",
        "configure allowed unchanged",
        "PUT /v1/connect/ca/configuration refused config_invalid",
        "backup allowed null",
      ],
    );
    const [bootstrap, signed, refused] = lines;
    assert.deepEqual([bootstrap?.address, bootstrap?.request], [null, null]);
    assert.deepEqual(
      [signed?.subject, signed?.serial, signed?.address],
      [leaf.ServiceURI, leaf.SerialNumber, "127.0.0.1"],
    );
    assert.match(String(signed?.key_id), /^([0-9a-f]{2}:){31}[0-9a-f]{2}$/);
    assert.deepEqual(
      [refused?.subject, refused?.request],
      ["spiffe://other.consul/ns/default/dc/dc1/svc/web", refusedId],
    );
    assert.doesNotMatch(JSON.stringify(lines), /hunter2|PRIVATE/);
  });

  it("the line of a change is in the file before the change is answered", async () => {
    await audited(async (server, lines) => {
      const answer = await send(server.port, {
        method: "PUT",
        target: "/v1/connect/ca/rotate",
        body: "",
      });
      const { ActiveRootID } = JSON.parse(answer?.body ?? "") as { ActiveRootID: string };
      assert.deepEqual([lines().at(-1)?.action, lines().at(-1)?.subject], ["rotate", ActiveRootID]);
    });
  });

  it("stdout has the lines between those of the log", async () => {
    const server = await startServer({ MESHCA_AUDIT: "stdout", MESHCA_STORE: "memory:" });
    await send(server.port, sign(csrOf(server)));
    const { stdout } = await server.stop();
    assert.deepEqual(
      parse(stdout).map(({ action }) => action),
      ["bootstrap", "sign"],
    );
  });

  it("a file that cannot be opened stops the start, and the message names it", async () => {
    const failure = startServer({ MESHCA_AUDIT: "/nowhere/audit.jsonl", MESHCA_STORE: "memory:" });
    await assert.rejects(
      failure,
      /ended with 78 .*MESHCA_AUDIT: cannot open "\/nowhere\/audit\.jsonl": there is no such file/s,
    );
  });
});

describe("MESHCA_AUDIT with access control", () => {
  const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
  const KEY_ID = Array.from({ length: 20 }, () => "ab").join(":");
  const ACL = { MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT };
  const call = async (
    server: ServerProcess,
    method: string,
    target: string,
    token: string | null,
    body?: unknown,
  ) => {
    const headers = token === null ? {} : { "X-Consul-Token": token };
    const answer = await fetch(`${server.url}${target}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.status, text: await answer.text(), headers: answer.headers };
  };

  it("changes of access control have a line with the accessor that made them, and no secret", () =>
    inFolderAsync(async (folder) => {
      const path = join(folder, "audit.jsonl");
      const server = await startServer({ ...ACL, MESHCA_AUDIT: path, MESHCA_STORE: "memory:" });
      let secret = "";
      let accessor = "";
      try {
        const made = await call(server, "PUT", "/v1/acl/token", MANAGEMENT, {
          ServiceIdentities: [{ ServiceName: "web" }],
        });
        ({ SecretID: secret, AccessorID: accessor } = JSON.parse(made.text) as {
          SecretID: string;
          AccessorID: string;
        });
        assert.deepEqual(
          [made.headers.get("cache-control"), made.headers.get("content-encoding")],
          ["no-store", null],
        );
        await call(server, "PUT", "/v1/acl/policy", secret, { Name: "p" });
        const deny = await call(server, "PUT", "/v1/connect/ca/deny", MANAGEMENT, {
          KeyID: KEY_ID.toUpperCase(),
          Reason: "stolen",
        });
        await call(
          server,
          "DELETE",
          `/v1/connect/ca/deny/${(JSON.parse(deny.text) as { ID: string }).ID}`,
          MANAGEMENT,
        );
        await call(server, "PUT", "/v1/connect/ca/deny", MANAGEMENT, {
          SPIFFEID: `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/db`,
        });
        await send(server.port, {
          ...sign(csrOf(server, "db")),
          headers: { "X-Consul-Token": MANAGEMENT },
        });
        await call(server, "GET", "/v1/acl/tokens", MANAGEMENT);
        for (const name of ["web", "api"])
          await send(server.port, {
            ...sign(csrOf(server, name)),
            headers: { "X-Consul-Token": secret },
          });
        await call(server, "DELETE", `/v1/acl/token/${accessor}`, MANAGEMENT);
      } finally {
        await server.stop();
      }
      const text = readFileSync(path, "utf8");
      const lines = parse(text);
      assert.deepEqual(
        lines.map(({ action, outcome, code }) => `${action} ${outcome} ${code}`),
        [
          "bootstrap allowed null",
          "initial-management allowed null",
          "record-access allowed null",
          "PUT /v1/acl/token allowed null",
          "PUT /v1/acl/policy refused permission_denied",
          "PUT /v1/connect/ca/deny allowed null",
          "DELETE /v1/connect/ca/deny/:id allowed null",
          "PUT /v1/connect/ca/deny allowed null",
          "sign refused denylisted",
          "sign allowed null",
          "sign refused permission_denied",
          "DELETE /v1/acl/token/:id allowed null",
        ],
      );
      const [, initial, , created, refused, denied, undenied, deniedId, leaf, signed, , deleted] =
        lines;
      assert.equal(initial?.accessor, null);
      assert.match(String(created?.accessor), /^[0-9a-f-]{36}$/);
      assert.deepEqual([created?.subject, created?.address], [`token/${accessor}`, "127.0.0.1"]);
      assert.deepEqual([refused?.accessor, signed?.accessor], [accessor, accessor]);
      assert.match(String(denied?.subject), /^denial\/[0-9a-f]{32}$/);
      assert.equal(undenied?.subject, denied?.subject);
      for (const line of [denied, undenied])
        assert.deepEqual(line?.detail, { "key-id": KEY_ID, reason: "stolen" });
      const id = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/db`;
      assert.deepEqual(deniedId?.detail, { "spiffe-id": id, reason: "" });
      assert.equal(leaf?.subject, id);
      assert.deepEqual(
        [deleted?.subject, deleted?.accessor],
        [`token/${accessor}`, created?.accessor],
      );
      assert.ok(!text.includes(secret) && !text.includes(MANAGEMENT));
    }));

  it("changes of access control answer 503 and change nothing if the record cannot be written", () =>
    inFolderAsync(async (dataDir) => {
      await (await startServer({ ...ACL, MESHCA_DATA_DIR: dataDir })).stop();
      const server = await startServer({
        ...ACL,
        MESHCA_DATA_DIR: dataDir,
        MESHCA_AUDIT: "/dev/full",
      });
      try {
        const tokens = async () => (await call(server, "GET", "/v1/acl/tokens", MANAGEMENT)).text;
        const before = await tokens();
        for (const [target, body] of [
          ["/v1/acl/token", {}],
          ["/v1/acl/policy", { Name: "p" }],
          ["/v1/connect/ca/deny", { KeyID: KEY_ID }],
        ] as const)
          assert.equal((await call(server, "PUT", target, MANAGEMENT, body)).status, 503, target);
        assert.equal(await tokens(), before);
        assert.equal((await call(server, "GET", "/v1/connect/ca/deny", MANAGEMENT)).text, "[]");
      } finally {
        await server.stop();
      }
    }));
});

describe("MESHCA_AUDIT within a limit of its size", () => {
  // A file that would grow beyond the limit is refused with EFBIG, as on a full disk with ENOSPC.
  const LIMIT = 2 * 1024 * 1024;
  const LIMITED: Command = [
    "sh",
    "-c",
    `trap '' XFSZ; ulimit -f ${LIMIT / 512}; exec "$@"`,
    "sh",
    process.execPath,
  ];
  const change = (server: ServerProcess, ttl: string) =>
    send(server.port, put({ Provider: "consul", Config: { LeafCertTTL: ttl } }));
  const actions = (path: string) =>
    parse(readFileSync(path, "utf8")).map(({ action, code }) => `${action} ${code}`);

  it("changes go on in the reserve, and their lines are in the log once there is room again", () =>
    inFolderAsync(async (folder) => {
      const path = join(folder, "audit.jsonl");
      const settings = { MESHCA_AUDIT: path, MESHCA_DATA_DIR: folder };
      await (await startServer(settings)).stop();
      const whole = readFileSync(path, "utf8");
      writeFileSync(path, `${whole}${"\n".repeat(LIMIT - whole.length)}`);
      const server = await startServer(settings, [], LIMITED);
      for (const ttl of ["50h", "51h"]) assert.equal((await change(server, ttl))?.status, 200);
      const ready = await send(server.port, { method: "GET", target: "/readyz" });
      assert.match(
        ready?.body ?? "",
        /^audit: cannot be written \(EFBIG\), \d+ octets of reserve left for changes$/m,
      );
      assert.doesNotMatch(ready?.body ?? "", /^changes: not possible/m);
      server.kill("SIGKILL");
      await server.ended.catch(() => undefined);
      assert.deepEqual(actions(`${path}.reserve`), ["configure null", "configure null"]);
      assert.equal(statSync(`${path}.reserve`).mode & 0o777, 0o600);
      const again = await startServer(settings);
      assert.equal((await change(again, "52h"))?.status, 200);
      await again.stop();
      assert.deepEqual(actions(path), [
        "bootstrap null",
        "configure null",
        "configure null",
        "configure null",
      ]);
      assert.equal(readFileSync(`${path}.reserve`, "utf8").trim(), "");
    }));

  it("a symbolic link in place of the reserve is not followed, and the log has the reason", () =>
    inFolderAsync(async (folder) => {
      const [path, other] = [join(folder, "audit.jsonl"), join(folder, "other")];
      writeFileSync(other, "precious");
      symlinkSync(other, `${path}.reserve`);
      const server = await startServer({ MESHCA_AUDIT: path, MESHCA_STORE: "memory:" });
      const { stdout } = await server.stop();
      assert.match(
        stdout,
        /"Cannot create the reserve of the audit log: changes are refused whenever the log cannot be written".*ELOOP/,
      );
      assert.equal(readFileSync(other, "utf8"), "precious");
    }));
});

describe("MESHCA_AUDIT on a full disk", () => {
  /** A server over a CA that is there, so that the start needs no change. */
  const withFull = (onFailure: string, work: (server: ServerProcess) => Promise<void>) =>
    inFolderAsync(async (dataDir) => {
      await (await startServer({ MESHCA_DATA_DIR: dataDir })).stop();
      const server = await startServer({
        MESHCA_DATA_DIR: dataDir,
        MESHCA_AUDIT: "/dev/full",
        MESHCA_AUDIT_FAILURE: onFailure,
      });
      try {
        await work(server);
      } finally {
        await server.stop();
      }
    });
  const change = (server: ServerProcess) =>
    send(server.port, put({ Provider: "consul", Config: { LeafCertTTL: "50h" } }));
  const get = async (server: ServerProcess, target: string) => {
    const answer = await send(server.port, { method: "GET", target });
    return `${answer?.status} ${answer?.body}`;
  };

  it("stop-changes: changes answer 503 and change nothing, leaves are signed, /readyz and /metrics say so", () =>
    withFull("stop-changes", async (server) => {
      const before = await get(server, "/v1/connect/ca/configuration");
      const answer = await change(server);
      assert.deepEqual(
        [answer?.status, answer?.body],
        [503, "Cannot change the CA: the audit log cannot be written (ENOSPC)"],
      );
      assert.equal(answer?.header("Retry-After"), "1");
      assert.equal(await get(server, "/v1/connect/ca/configuration"), before);
      assert.equal((await send(server.port, sign(csrOf(server))))?.status, 200);
      assert.match(
        await get(server, "/readyz"),
        /^200 ok\n[\s\S]*^audit: cannot be written \(ENOSPC\)$/m,
      );
      assert.match(await get(server, "/metrics"), /^meshca_audit_failing 1$/m);
      assert.match(await get(server, "/metrics"), /^meshca_ready 1$/m);
    }));

  it("stop-all: leaves are refused with 503 as well, and /readyz answers 503", () =>
    withFull("stop-all", async (server) => {
      assert.equal((await change(server))?.status, 503);
      const answer = await send(server.port, sign(csrOf(server)));
      assert.deepEqual(
        [answer?.status, answer?.body],
        [503, "Cannot sign leaf: the audit log cannot be written (ENOSPC)"],
      );
      assert.match(
        await get(server, "/readyz"),
        /^503 Cannot sign: the audit log cannot be written\n/,
      );
      assert.match(await get(server, "/metrics"), /^meshca_ready 0$/m);
      assert.match(await get(server, "/v1/connect/ca/roots"), /^200 /);
    }));

  it("go-on: changes are made", () =>
    withFull("go-on", async (server) => {
      assert.equal((await change(server))?.status, 200);
      assert.equal((await send(server.port, sign(csrOf(server))))?.status, 200);
    }));

  it("a reserve without room on the disk takes none, so that the log itself can be written", () => {
    const folder = mkdtempSync(join(tmpdir(), "meshca-reserve-"));
    try {
      const path = join(folder, "audit.jsonl");
      const script = `const { openAuditFile } = await import(${JSON.stringify(new URL("../../src/entry/audit-platform.ts", import.meta.url).href)});
        const log = { debug() {}, info() {}, warn: (text) => console.log(text), error() {} };
        const { reserve } = await openAuditFile(${JSON.stringify(path)}, null, log);
        console.log(reserve);`;
      // A limit of the size of files in blocks of 512 octets, in place of a full disk: half of what
      // the reserve needs.
      const limited = 'trap "" XFSZ; ulimit -f 1000; exec "$0" -e "$1"';
      const output = execFileSync("sh", ["-c", limited, process.execPath, script], {
        encoding: "utf8",
      });
      assert.match(
        output,
        /^Cannot create the reserve of the audit log: changes are refused whenever the log cannot be written\nnull\n$/,
      );
      assert.equal(statSync(`${path}.reserve`).size, 0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
