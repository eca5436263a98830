/**
 * Leaves with DNS names, verified by ordinary TLS clients that check the host name: curl, Node's
 * https, the JDK's HttpsURLConnection, Go, rustls and OpenSSL. Each takes a name of the leaf, refuses
 * another one, and takes the name that a wildcard covers.
 * @module
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { systemClock } from "../../src/entry/platform.ts";
import { configuration, createTestCa, opensslCsr, serviceUri } from "../fakes/ca.ts";
import type { FakeClock } from "../fakes/clock.ts";
import { createTestApp } from "../fixtures/app.ts";
import { ROOT } from "../fixtures/root.ts";
import { noPeer, peerCommand, verdicts } from "./peers.ts";

const TEMPLATES = ["{service}", "{service}.service.consul", "*.{service}.mesh.example"];
const TAKEN = ["web", "web.service.consul", "v1.web.mesh.example"];
const REFUSED = ["api", "api.service.consul", "web.mesh.example", "a.b.web.mesh.example"];
const running = promisify(execFile);

/** What a command prints on either stream, whether it fails or not. */
async function outcomeOf(command: string, args: readonly string[], more = {}) {
  try {
    const { stdout } = await running(command, [...args], { timeout: 60_000, ...more });
    return { ok: true, text: stdout };
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    return { ok: false, text: stdout + stderr };
  }
}

describe("clients that check a host name", () => {
  let folder: string;
  let server: Server;
  let port = 0;
  const file = (name: string) => join(folder, name);
  const url = (host: string) => `https://${host}:${port}/`;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-hosts-"));
    // Clients verify by the real time.
    const clock: FakeClock = { ...systemClock, advance() {}, jump() {}, sleepers: 0 };
    const test = await createTestApp({}, await createTestCa({ clock }));
    await test.manager.configure(
      configuration({ ServiceDNSNames: TEMPLATES, ServiceIPRanges: ["10.0.0.0/8"] }),
    );
    const names = "DNS:web,DNS:web.service.consul,DNS:*.web.mesh.example,IP:10.1.2.3";
    const { csr, key } = opensslCsr(`URI:${serviceUri(test.manager, "web")},${names}`);
    const { certificatePem } = await test.manager.sign(csr);
    writeFileSync(file("chain.pem"), certificatePem);
    writeFileSync(file("key.pem"), key);
    const roots = await test.fetch("/v1/connect/ca/roots?pem=true");
    writeFileSync(file("roots.pem"), await roots.text());
    const hosts = [...TAKEN, ...REFUSED].map((host) => `127.0.0.1 ${host}\n`);
    writeFileSync(file("hosts"), hosts.join(""));
    server = createServer({ cert: certificatePem, key }, (request, response) =>
      response.end(`hello ${request.headers.host?.split(":")[0]}`),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ({ port } = server.address() as AddressInfo);
  });
  after(() => {
    server?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("curl", async () => {
    const get = (host: string) =>
      outcomeOf("curl", [
        ...["-sS", "--noproxy", "*", "--cacert", file("roots.pem")],
        ...["--resolve", `${host}:${port}:127.0.0.1`, url(host)],
      ]);
    for (const host of TAKEN)
      assert.deepEqual(await get(host), { ok: true, text: `hello ${host}` });
    for (const host of REFUSED) {
      const { ok, text } = await get(host);
      assert.equal(ok, false);
      assert.match(text, /no alternative certificate subject name matches/, host);
    }
  });

  it("https of Node", async () => {
    const program = `
      const { readFileSync } = require("node:fs");
      const lookup = (host, options, done) =>
        options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
      const options = { ca: readFileSync(process.argv[1]), lookup };
      require("node:https").get(process.argv[2], options, (response) => response.pipe(process.stdout))
        .on("error", (error) => { console.error(error.code); process.exitCode = 1; });`;
    const get = (host: string) =>
      outcomeOf(join(ROOT, "node_modules/.bin/node"), [
        "-e",
        program,
        file("roots.pem"),
        url(host),
      ]);
    for (const host of TAKEN)
      assert.deepEqual(await get(host), { ok: true, text: `hello ${host}` });
    for (const host of REFUSED) {
      const { ok, text } = await get(host);
      assert.deepEqual([ok, text.trim()], [false, "ERR_TLS_CERT_ALTNAME_INVALID"], host);
    }
  });

  it("HttpsURLConnection of the JDK", { skip: noPeer("JDK") }, async () => {
    const { text } = await outcomeOf("java", [
      ...["-XX:TieredStopAtLevel=1", `-Djdk.net.hosts.file=${file("hosts")}`],
      ...[join(import.meta.dirname, "HttpsGet.java"), file("roots.pem")],
      ...[...TAKEN, ...REFUSED].map(url),
    ]);
    const lines = text.trim().split("\n");
    assert.deepEqual(
      lines.slice(0, TAKEN.length),
      TAKEN.map((host) => `hello ${host}`),
      text,
    );
    assert.equal(lines.length, TAKEN.length + REFUSED.length, text);
    for (const line of lines.slice(TAKEN.length))
      assert.match(line, /No subject alternative DNS name matching .* found/);
  });

  for (const library of ["Go", "rustls"] as const)
    describe(library, { skip: noPeer(library) }, () => {
      before(() => peerCommand(library).then(() => undefined), { timeout: 600_000 });
      it(`${library} verifies the chain and the host name`, async () => {
        const files = {
          chain: file("chain.pem"),
          key: file("key.pem"),
          roots: [file("roots.pem")],
        };
        for (const host of TAKEN)
          assert.deepEqual(await verdicts(library, files, host), [{ client: null, server: null }]);
        for (const host of REFUSED) {
          const [verdict] = await verdicts(library, files, host);
          assert.match(verdict?.client ?? "", /valid for|NotValidForName|not valid for name/, host);
        }
      });
    });

  it("OpenSSL, IP addresses too", () => {
    const verify = (...check: string[]) =>
      execFileSync(
        "openssl",
        [
          ...["verify", "-x509_strict", "-purpose", "sslserver", ...check],
          ...["-CAfile", file("roots.pem"), "-untrusted", file("chain.pem"), file("chain.pem")],
        ],
        { encoding: "utf8", stdio: "pipe" },
      );
    for (const host of TAKEN) assert.match(verify("-verify_hostname", host), /: OK/);
    assert.match(verify("-verify_ip", "10.1.2.3"), /: OK/);
    for (const host of REFUSED)
      assert.throws(() => verify("-verify_hostname", host), /hostname mismatch/);
    assert.throws(() => verify("-verify_ip", "10.1.2.4"), /IP address mismatch/);
  });
});
