/**
 * A server always has a certificate: what is shown while the CA cannot issue one for its own
 * server, how an operator recognises it, and how soon it is replaced.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, it } from "node:test";
import { settingsOf } from "../../src/cli/commands/serve.ts";
import { compose } from "../../src/compose/process.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { createPlatform } from "../../src/entry/platform.ts";
import { TlsCertificates } from "../../src/tls/certificates.ts";
import { FallbackCertificate, fingerprintOf } from "../../src/tls/fallback-certificate.ts";
import { listenTls, type TlsServer } from "../../src/tls/server.ts";
import { createTestCa, silentLog, type TestCa } from "../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../fakes/clock.ts";
import { linesOf, makeDataDir, startServer } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { get, inNewFolder, opensslHandshake } from "./harness.ts";

const NAMES = {
  dnsNames: ["localhost"],
  ipAddresses: [Uint8Array.of(127, 0, 0, 1), new Uint8Array([...Array<number>(15).fill(0), 1])],
};
const YEAR = 365 * 86_400_000;
const CLIENT = { clientCa: null, clientCertificate: "optional" } as const;
const FORCE = { forceWithoutCrossSigning: true, modifyIndex: null };

/** A text that is kept in a map. */
const keptIn = (folder: Map<string, string>) => (name: string) => ({
  name,
  read: () => folder.get(name) ?? null,
  write: async (text: string) => void folder.set(name, text),
});

describe("the self-signed fallback certificate of the server", () => {
  const endings: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of endings.splice(0).toReversed()) await end();
  });

  /** TLS with a certificate of its own CA, over a real socket. */
  async function open(ca: TestCa, folder = new Map<string, string>(), hasWorkers = false) {
    const lines: { message: string; fields: LogFields }[] = [];
    const note = (message: string, fields: LogFields = {}) => void lines.push({ message, fields });
    const server: TlsServer = await listenTls({
      ...{
        host: "127.0.0.1",
        port: 0,
        shared: false,
        client: CLIENT,
        minVersion: "TLSv1.2",
        idleMs: 30_000,
      },
      fetch: () => new Response("here"),
    });
    const tls = new TlsCertificates(
      { ...CLIENT, source: { kind: "self", names: NAMES }, minVersion: "TLSv1.2" },
      "dc1",
      () => "",
      {
        clock: ca.clock,
        random: systemRandom,
        persistentFile: keptIn(folder),
        log: { ...silentLog, info: note, warn: note, error: note },
      },
      { file: keptIn(folder)("tls-fingerprint"), hasWorkers },
    );
    await tls.open(server);
    const stopping = new AbortController();
    const loop = tls.run(stopping.signal);
    endings.push(async () => {
      stopping.abort();
      await server.close(true);
      await loop;
    });
    return { tls, lines, folder, port: server.port };
  }

  const serverCa = () => createTestCa({ clock: createFakeClock(new Date()), serverNames: NAMES });

  it("is shown before the CA is loaded, and gives way to one of the CA without a pause", async () => {
    const ca = await serverCa();
    const { tls, port, lines } = await open(ca);
    assert.equal(tls.shown?.fallback, "the CA is not loaded yet");
    assert.equal((await get(port, "/")).body, "here");
    await tls.start(ca.manager);
    assert.equal(tls.shown?.fallback, null);
    assert.deepEqual(
      lines.map(({ message }) => message),
      [
        "The TLS certificate of this server has this SHA-256 fingerprint",
        "Renewed the TLS certificate of this server",
        "The TLS certificate of this server has this SHA-256 fingerprint",
      ],
    );
  });

  it("is shown after a restart with an expired root, and named in the log with its fingerprint and its file", async () => {
    const ca = await serverCa();
    ca.clock.advance(11 * YEAR);
    const { tls, port, lines, folder } = await open(ca);
    await tls.start(ca.manager);
    const { serial } = await get(port, "/");
    const text = folder.get("tls-emergency.pem") ?? "";
    assert.equal(serial, new X509Certificate(text).serialNumber);
    const line = lines.find(({ message }) =>
      message.startsWith(
        "Serving TLS with the self-signed fallback certificate: the CA cannot issue a certificate for its own server",
      ),
    );
    assert.match(String(line?.fields.reason), /expired.*\S$/);
    assert.equal(line?.fields.fingerprint, fingerprintOf(text));
    assert.equal(line?.fields.file, "tls-emergency.pem");
    assert.equal(tls.shown?.fingerprint, fingerprintOf(text));
    assert.match(
      text,
      new RegExp(`^Fingerprint ${fingerprintOf(text)}\n-----BEGIN CERTIFICATE-----`),
    );
  });

  it("is the only one whose fingerprint is stored if workers have certificates of their own", async () => {
    for (const hasWorkers of [true, false]) {
      const ca = await serverCa();
      const { tls, lines, folder } = await open(ca, new Map(), hasWorkers);
      const fallback = tls.shown?.fingerprint;
      assert.equal(folder.get("tls-fingerprint"), `${fallback}\n`);
      await tls.start(ca.manager);
      const own = tls.shown?.fingerprint;
      assert.notEqual(own, fallback);
      assert.equal(folder.get("tls-fingerprint"), `${hasWorkers ? fallback : own}\n`);
      const last = lines.findLast(({ message }) => message.startsWith("The TLS certificate of"));
      assert.deepEqual(last?.fields, {
        fingerprint: own,
        ...(hasWorkers ? {} : { file: "tls-fingerprint" }),
      });
    }
  });

  it("gives way to a certificate of a new root at once, without waiting for the next timer", async () => {
    const ca = await serverCa();
    ca.clock.advance(11 * YEAR);
    const { tls, port } = await open(ca);
    await tls.start(ca.manager);
    const before = (await get(port, "/")).serial;
    // The clock stands still: only the change itself can wake the loop.
    await ca.manager.rotate(FORCE);
    await until(() => tls.shown?.fallback === null);
    assert.notEqual((await get(port, "/")).serial, before);
  });

  it("gives way at once also if the last renewal failed a moment ago", async () => {
    const ca = await serverCa();
    const { tls } = await open(ca);
    await tls.start(ca.manager);
    const first = tls.shown?.fingerprint;
    // Half of the leaf's life is over and the root has expired: the renewal fails, and is due again
    // in 30 s.
    ca.clock.advance(11 * YEAR);
    await until(() => tls.shown?.fallback !== null);
    await ca.manager.rotate(FORCE);
    await until(() => tls.shown?.fallback === null);
    assert.notEqual(tls.shown?.fingerprint, first);
  });

  it("is not shown while the last certificate of the CA is in force, and is once it has expired", async () => {
    const ca = await serverCa();
    const { tls } = await open(ca);
    await tls.start(ca.manager);
    const first = tls.shown?.fingerprint;
    const hour = 3_600_000;
    ca.clock.advance(10 * YEAR - 10 * hour);
    await until(() => tls.shown?.fingerprint !== first);
    const last = tls.shown?.fingerprint;
    assert.equal(tls.shown?.fallback, null);
    ca.clock.advance(11 * hour);
    await until(() => tls.shown?.fingerprint !== last);
    assert.match(tls.shown?.fallback ?? "", /expired/);
  });

  it("gives way again when a clock that was far ahead is right again", async () => {
    const ca = await serverCa();
    let ahead = 0;
    const clock = { ...ca.clock, now: () => new Date(ca.clock.now().getTime() + ahead) };
    const { tls } = await open({ ...ca, clock: clock as TestCa["clock"] });
    await tls.start(ca.manager);
    const first = tls.shown?.fingerprint;
    ahead = 400 * 86_400_000;
    tls.reload();
    await until(() => tls.shown?.fingerprint !== first);
    ahead = 0;
    tls.reload();
    await until(
      () => tls.shown?.fallback === null && (tls.shown?.notBefore ?? new Date()) <= ca.clock.now(),
    );
  });

  it("verifies by its own file for a client that pins it, with its names", () =>
    inNewFolder(async (folder) => {
      const ca = await createTestCa({ started: false, clock: createFakeClock(new Date()) });
      const { port, folder: kept } = await open(ca);
      const file = join(folder, "pinned.pem");
      writeFileSync(file, kept.get("tls-emergency.pem") ?? "");
      assert.match(await opensslHandshake(port, file), /^serial=/);
      // A client that pins it trusts one server, and no certificate signed by its key.
      assert.equal(new X509Certificate(kept.get("tls-emergency.pem") ?? "").ca, false);
    }));

  it("is the same over a restart and for all workers, and is replaced once it has expired, is malformed or lacks a name", async () => {
    const folder = new Map<string, string>();
    const clock = createFakeClock(new Date());
    const make = (names = NAMES) =>
      new FallbackCertificate(keptIn(folder)("tls-emergency.pem"), names, {
        clock,
        random: systemRandom,
        log: silentLog,
      });
    const [one, other] = [make(), make()];
    const first = await one.pair();
    assert.deepEqual(await other.pair(), first);
    assert.deepEqual(await make().pair(), first);
    folder.set("tls-emergency.pem", first.cert);
    const second = await make().pair();
    assert.notEqual(second.cert, first.cert);
    // The other worker uses the file's certificate.
    assert.deepEqual(await one.pair(), second);
    clock.advance(366 * 86_400_000);
    const third = await one.pair();
    assert.notEqual(third.cert, second.cert);
    assert.notEqual(
      (await make({ ...NAMES, dnsNames: ["localhost", "ca.example"] }).pair()).cert,
      third.cert,
    );
  });

  it("is kept in memory if the data folder cannot be written, and the log says so", async () => {
    const lines: string[] = [];
    const kept = {
      name: "/full/tls-emergency.pem",
      read: () => null,
      write: () => Promise.reject(Object.assign(new Error("x"), { code: "ENOSPC" })),
    };
    const log = {
      ...silentLog,
      warn: (message: string, fields?: LogFields) =>
        void lines.push(`${message}: ${fields?.reason}`),
    };
    const fallback = new FallbackCertificate(kept, NAMES, {
      clock: createFakeClock(new Date()),
      random: systemRandom,
      log,
    });
    assert.deepEqual(await fallback.pair(), await fallback.pair());
    assert.deepEqual(lines, [
      "Failed to write the self-signed fallback certificate to the data folder; keeping it in memory: ENOSPC",
    ]);
  });

  for (const name of ["bun", "node", "deno"] as const)
    it(`lets an operator of a server with an expired root reach /readyz and the repairing PUT on ${name}`, {
      timeout: 60_000,
    }, async () => {
      const dataDir = makeDataDir();
      const environment = {
        MESHCA_DATA_DIR: dataDir,
        MESHCA_TLS: "self",
        MESHCA_LISTEN: "127.0.0.1:0",
      };
      try {
        const settings = settingsOf(environment);
        const past = {
          now: () => new Date(Date.now() - 11 * YEAR),
          sleep: () => new Promise<void>(() => undefined),
        };
        const old = await compose(settings, { ...createPlatform(settings), clock: past });
        await old.start();
        await old.close();
        const server = await startServer(environment, [], COMMANDS[name](dataDir));
        try {
          const pinned = {
            ca: readFileSync(join(dataDir, "tls-emergency.pem"), "utf8"),
            rejectUnauthorized: true,
          };
          const ready = await get(server.port, "/readyz", pinned);
          assert.equal(ready.status, 503);
          assert.ok(
            linesOf(server.stdout()).some(
              ({ fingerprint }) => fingerprint === fingerprintOf(pinned.ca),
            ),
          );
          assert.ok(ready.body.includes(`fingerprint ${fingerprintOf(pinned.ca)}`), ready.body);
          const response = await fetch(`${server.url}/v1/connect/ca/rotate`, {
            method: "PUT",
            body: JSON.stringify({ ForceWithoutCrossSigning: true }),
            tls: { ca: pinned.ca },
          } as RequestInit);
          assert.equal(response.status, 200, await response.text());
          await until(async () => (await get(server.port, "/readyz")).status === 200);
          const roots = await get(server.port, "/v1/connect/ca/roots?pem=true");
          assert.equal(
            (await get(server.port, "/healthz", { ca: roots.body, rejectUnauthorized: true }))
              .status,
            200,
          );
        } finally {
          assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
        }
      } finally {
        rmSync(dataDir, { recursive: true, force: true });
      }
    });
});
