/**
 * `meshca doctor` and what ends: certificates of TLS, roots, chains that grow too long, the disk, the
 * audit log.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { makeExpiredFolder, pinIn, TOKEN, WITH_ACL } from "../recovery/expired.ts";
import { selfSigned } from "../tls/harness.ts";
import { doctor } from "./doctor.ts";
import { meshca } from "./run.ts";

const OPTIONS = { timeout: 180_000 };
const DAY_MS = 86_400_000;
const SHIFTED = [process.execPath, "--preload", join(ROOT, "test/recovery/shifted-clock.ts")];

describe("meshca doctor and TLS", () => {
  let folder: string;
  let server: ServerProcess;
  let other: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    const made = selfSigned("server");
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text, { mode: 0o600 });
      return join(folder, name);
    };
    other = file("other.pem", selfSigned("other").cert);
    server = await startServer({
      MESHCA_TLS_CERT_FILE: file("cert.pem", made.cert),
      MESHCA_TLS_KEY_FILE: file("key.pem", made.key),
    });
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const at = (more: Readonly<Record<string, string>> = {}) => ({
    MESHCA_HTTP_ADDR: server.url,
    MESHCA_CACERT: join(folder, "cert.pem"),
    ...more,
  });

  it("finds nothing wrong with a server that is verified", OPTIONS, async () => {
    const found = await doctor(at());
    for (const id of ["server.tls", "server.tls_expiry", "server.anchors"] as const)
      assert.equal(found.of(id).outcome, "ok", id);
    assert.equal(
      (await doctor(at({ MESHCA_SERVER_PIN: pinIn(server.dataDir) }))).of("server.tls").detail,
      "verified by the pin",
    );
  });

  it("server.tls: another CA, another pin: nothing else is checked", OPTIONS, async () => {
    for (const wrong of [
      { MESHCA_CACERT: other },
      { MESHCA_SERVER_PIN: `sha256:${"0".repeat(64)}` },
    ]) {
      const found = await doctor(at(wrong));
      const { severity, fix } = found.finding("server.tls");
      assert.equal(severity, "critical");
      // The way out is for after the comparison.
      assert.ok(fix.includes(`--server-pin ${pinIn(server.dataDir)}, after comparing`), fix);
      const rest = found.results.filter(({ outcome }) => outcome === "ok").map(({ id }) => id);
      assert.deepEqual(
        rest.filter(
          (id) => !["server.reachable", "server.tls_expiry", "server.anchors"].includes(id),
        ),
        [],
      );
    }
  });

  it(
    "sends no request to a server that is not verified, and no token to a foreign one",
    OPTIONS,
    async () => {
      const made = selfSigned("imposter");
      const seen: (string | undefined)[] = [];
      const imposter = createServer(made, (request, response) => {
        seen.push(request.headers["x-consul-token"]?.toString());
        response.end("ok\n\n");
      });
      await new Promise<void>((resolve) => imposter.listen(0, "127.0.0.1", resolve));
      const { port } = imposter.address() as AddressInfo;
      const environment = {
        ...{ MESHCA_HTTP_ADDR: `https://127.0.0.1:${port}`, MESHCA_HTTP_TOKEN: TOKEN },
        MESHCA_CACERT: join(folder, "cert.pem"),
      };
      assert.equal((await doctor(environment)).of("server.tls").outcome, "found");
      assert.deepEqual(seen, []);
      writeFileSync(join(folder, "imposter.pem"), made.cert);
      const trusted = { ...environment, MESHCA_CACERT: join(folder, "imposter.pem") };
      assert.equal((await doctor(trusted)).of("server.api").outcome, "found");
      imposter.close();
      assert.deepEqual(seen, [undefined]);
    },
  );

  it("server.tls: not verified at all", OPTIONS, async () => {
    const { MESHCA_CACERT: _, ...environment } = at({ CONSUL_HTTP_SSL_VERIFY: "false" });
    const { severity, what } = (await doctor(environment)).finding("server.tls");
    assert.equal(severity, "warning");
    assert.match(what, /is not verified \(HTTP_SSL_VERIFY=false\)$/);
  });

  it("server.tls_expiry, server.anchors: thirty days, of which few are left", OPTIONS, async () => {
    const inDays = (days: number) =>
      doctor(at({ TEST_CLOCK_SHIFT_MS: String(days * DAY_MS) }), [], SHIFTED);
    const soon = await inDays(20);
    assert.equal(soon.finding("server.tls_expiry").severity, "warning");
    assert.equal(soon.finding("server.anchors").severity, "warning");
    const late = await inDays(27);
    assert.equal(late.finding("server.tls_expiry").severity, "critical");
    assert.match(late.finding("server.anchors").what, /^The certificate in the CA file .* left$/);
  });
});

describe("meshca doctor and a CA in which everything has expired", () => {
  it("says what has, with the commands that help", OPTIONS, async () => {
    const dataDir = await makeExpiredFolder({ ...WITH_ACL, MESHCA_TLS: "self" });
    const server = await startServer({ ...WITH_ACL, MESHCA_TLS: "self", MESHCA_DATA_DIR: dataDir });
    const url = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN };
    try {
      const unverified = await doctor(url);
      const { fix } = unverified.finding("server.tls");
      assert.ok(fix.includes(`--server-pin ${pinIn(dataDir)}`), fix);
      assert.equal(unverified.of("ca.signing").outcome, "unchecked");
      // As the fix says.
      const found = await doctor({ ...url, MESHCA_SERVER_PIN: pinIn(dataDir) });
      assert.equal(found.of("server.tls").outcome, "ok");
      for (const id of ["ca.signing", "root.expiry"] as const) {
        const { severity, fix: remedy } = found.finding(id);
        assert.equal(severity, "critical");
        // As /readyz and the log have it.
        assert.match(
          remedy,
          /^No leaf can be signed; run meshca recover on a machine of the server/,
        );
      }
      const fallback = found.finding("server.tls_expiry");
      assert.match(
        fallback.what,
        /^The server serves TLS with its self-signed fallback certificate/,
      );
      assert.equal(found.exit, 2);
      // The store is as it should be.
      assert.equal(found.of("store.durability").outcome, "ok");
    } finally {
      await server.stop();
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});

describe("meshca doctor and RootAutoRotate", () => {
  it("root.expiry: a root that an operator made is not rotated by itself", OPTIONS, async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    const server = await startServer({});
    const environment = { MESHCA_HTTP_ADDR: server.url };
    const run = async (...args: readonly string[]) => {
      const ran = await meshca(args, environment, "", [process.execPath], folder);
      assert.equal(ran.code, 0, ran.stderr);
    };
    const configure = async (config: object) => {
      writeFileSync(
        join(folder, "config.json"),
        JSON.stringify({ Provider: "consul", Config: config }),
      );
      await run("connect", "ca", "set-config", "-config-file", "config.json");
    };
    await configure({ RootAutoRotate: 0.8 });
    assert.equal((await doctor(environment)).of("root.expiry").outcome, "ok");
    await run("tls", "ca", "create", "-trust-domain", server.trustDomain, "-days", "365");
    const read = (end: string) =>
      readFileSync(
        join(folder, readdirSync(folder).find((name) => name.endsWith(end)) ?? ""),
        "utf8",
      );
    await configure({
      RootAutoRotate: 0.8,
      RootCert: read("-ca.pem"),
      PrivateKey: read("-ca-key.pem"),
    });
    const { severity, what } = (await doctor(environment)).finding("root.expiry");
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
    assert.equal(severity, "warning");
    assert.match(what, /^RootAutoRotate does not rotate the root: not at \S+Z: /);
  });
});

describe("meshca doctor and limits", () => {
  it("chain.limits: rotated more often than some verifiers follow", OPTIONS, async () => {
    const server = await startServer({ MESHCA_MAX_CHAIN_LENGTH: "12" });
    const environment = { MESHCA_HTTP_ADDR: server.url };
    for (let i = 0; i < 8; i++) {
      if (i === 2) assert.equal((await doctor(environment)).of("chain.limits").outcome, "ok");
      const { code, stderr } = await meshca(["rotate", "--yes"], environment);
      assert.equal(code, 0, stderr);
    }
    const found = await doctor(environment);
    await server.stop();
    assert.deepEqual(
      found.of("chain.limits").findings.map(({ what }) => what.split(" ")[0]),
      ["jdk", "rustls"],
    );
    // The cross-signed certificates that end soon are no issuers.
    assert.equal(found.of("issuer.expiry").outcome, "skipped");
  });

  it("audit.log: a disk that is full, and one that is not", OPTIONS, async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    const well = await startServer({ MESHCA_AUDIT: join(folder, "audit.jsonl") });
    assert.equal((await doctor({ MESHCA_HTTP_ADDR: well.url })).of("audit.log").outcome, "ok");
    await well.stop();
    const dataDir = join(folder, "data");
    await (await startServer({ MESHCA_DATA_DIR: dataDir })).stop();
    const full = await startServer({ MESHCA_DATA_DIR: dataDir, MESHCA_AUDIT: "/dev/full" });
    const environment = { MESHCA_HTTP_ADDR: full.url };
    assert.notEqual((await meshca(["rotate", "--yes"], environment)).code, 0);
    const found = await doctor(environment);
    await full.stop();
    rmSync(folder, { recursive: true, force: true });
    assert.match(found.finding("audit.log").what, /^The audit log: cannot be written \(ENOSPC\)/);
    assert.match(found.finding("ca.changes").what, /the audit log cannot be written \(ENOSPC\)/);
  });

  // A file system of its own needs root, as containers of CI have it.
  const isRoot = process.geteuid?.() === 0;
  it("store.disk: a file system that is nearly full", {
    ...OPTIONS,
    skip: !isRoot && "mount needs root",
  }, async () => {
    const dataDir = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    const { status, stderr } = spawnSync(
      "mount",
      ["-t", "tmpfs", "-o", "size=20m,mode=0700", "tmpfs", dataDir],
      { encoding: "utf8" },
    );
    assert.equal(status, 0, stderr);
    try {
      const server = await startServer({ MESHCA_DATA_DIR: dataDir });
      const { severity, what } = (await doctor({ MESHCA_HTTP_ADDR: server.url })).finding(
        "store.disk",
      );
      await server.stop();
      assert.equal(severity, "critical");
      assert.match(what, /nearly full: 1\d MiB free at /);
    } finally {
      spawnSync("umount", [dataDir]);
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});
