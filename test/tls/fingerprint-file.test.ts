/**
 * The fingerprint of the certificate that the server shows, in the log and in the data folder: by
 * it a command on that machine pins the server.
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { connect } from "node:tls";
import { StoreError } from "../../src/core/errors.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { FingerprintFile } from "../../src/tls/fingerprint-file.ts";
import { silentLog } from "../fakes/ca.ts";
import { linesOf, makeDataDir, startServer } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { inNewFolder, selfSigned } from "./harness.ts";

const LOGGED = "The TLS certificate of this server has this SHA-256 fingerprint";

/** The pin of the certificate that a server sends, computed from its DER. */
function sentPin(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      resolve(`sha256:${createHash("sha256").update(raw).digest("hex")}`);
    });
    socket.once("error", reject);
  });
}

describe("the fingerprint of the server's TLS certificate", () => {
  for (const name of ["bun", "node", "deno"] as const)
    it(`is that of the certificate that the server sends, in the log and in a file of mode 0644, on ${name}`, async () => {
      const dataDir = makeDataDir();
      const environment = {
        MESHCA_DATA_DIR: dataDir,
        MESHCA_TLS: "self",
        MESHCA_LISTEN: "127.0.0.1:0",
      };
      const file = join(dataDir, "tls-fingerprint");
      try {
        const server = await startServer(environment, [], COMMANDS[name](dataDir));
        try {
          const pin = await sentPin(server.port);
          await until(() => readFileSync(file, "utf8") === `${pin}\n`);
          assert.equal(statSync(file).mode & 0o777, 0o644);
          const last = linesOf(server.stdout()).findLast(({ message }) => message === LOGGED);
          assert.deepEqual([last?.fingerprint, last?.file], [pin, file]);
        } finally {
          assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
        }
      } finally {
        rmSync(dataDir, { recursive: true, force: true });
      }
    });

  it("changes with the certificate file of an operator", () =>
    inNewFolder(async (folder) => {
      const dataDir = makeDataDir();
      const [cert, key] = [join(folder, "server.pem"), join(folder, "server.key")];
      const use = (made: { readonly cert: string; readonly key: string }) => {
        writeFileSync(key, made.key, { mode: 0o600 });
        writeFileSync(cert, made.cert);
      };
      const pinOf = () => readFileSync(join(dataDir, "tls-fingerprint"), "utf8").trim();
      use(selfSigned("one"));
      const server = await startServer({
        MESHCA_DATA_DIR: dataDir,
        MESHCA_TLS_CERT_FILE: cert,
        MESHCA_TLS_KEY_FILE: key,
        MESHCA_LISTEN: "127.0.0.1:0",
      });
      try {
        const first = pinOf();
        assert.equal(first, await sentPin(server.port));
        use(selfSigned("other"));
        await until(() => pinOf() !== first);
        assert.equal(pinOf(), await sentPin(server.port));
      } finally {
        await server.stop();
        rmSync(dataDir, { recursive: true, force: true });
      }
    }));

  it("is logged and written once for each certificate, and a failed write is logged once and retried", async () => {
    const written: string[] = [];
    const lines: { message: string; fields: LogFields }[] = [];
    const note = (message: string, fields: LogFields = {}) => void lines.push({ message, fields });
    let fails = true;
    const shown = new FingerprintFile(
      {
        name: "/full/tls-fingerprint",
        read: () => null,
        write: (text) =>
          fails
            ? Promise.reject(new StoreError("store_unavailable", "the disk is full"))
            : void written.push(text),
      } as ConstructorParameters<typeof FingerprintFile>[0],
      { ...silentLog, info: note, warn: note },
    );
    const { cert } = selfSigned("one");
    await shown.show(cert, true);
    await shown.show(cert, true);
    const warning =
      "Failed to write the fingerprint of the TLS certificate to the data folder; will retry, and TLS is served";
    assert.deepEqual(
      lines.map(({ message }) => message),
      [LOGGED, warning],
    );
    assert.equal(lines[1]?.fields.reason, "the disk is full");
    fails = false;
    await shown.show(cert, true);
    await shown.show(cert, true);
    assert.deepEqual(written, [`${String(lines[0]?.fields.fingerprint)}\n`]);
    assert.equal(lines.length, 2);
  });
});
