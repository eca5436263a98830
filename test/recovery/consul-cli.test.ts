/**
 * Consul's recovery procedure, with Consul's own command line, against a server whose CA has expired,
 * its TLS certificate included: tls ca create, then connect ca set-config.
 * @module
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { opensslCsr } from "../fakes/ca.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { clientCommand, noClient, type ProgramCommand } from "../interop/clients.ts";
import { until } from "../redis/server.ts";
import { callUnverified, makeExpiredFolder, TOKEN, WITH_ACL } from "./expired.ts";

const OPTIONS = { timeout: 300_000 };
const TLS = { ...WITH_ACL, MESHCA_TLS: "self" };

describe("Consul's procedure with Consul's command line", { skip: noClient("consul-cli") }, () => {
  let consul: ProgramCommand;
  let dataDir: string;
  let folder: string;
  let server: ServerProcess;
  before(async () => {
    consul = await clientCommand("consul-cli");
    dataDir = await makeExpiredFolder(TLS);
    server = await startServer({ ...TLS, MESHCA_DATA_DIR: dataDir });
    folder = mkdtempSync(join(tmpdir(), "meshca-consul-"));
  });
  after(async () => {
    await server?.stop();
    for (const name of [dataDir, folder]) if (name) rmSync(name, { recursive: true, force: true });
  });

  /** Runs it in the folder, with the server's self-signed certificate as its CA. */
  function run(args: readonly string[]): Promise<{ readonly code: number; readonly text: string }> {
    const [program, ...first] = consul;
    const env = {
      ...{ PATH: process.env.PATH ?? "", CONSUL_HTTP_ADDR: server.url, CONSUL_HTTP_TOKEN: TOKEN },
      CONSUL_CACERT: join(folder, "server.pem"),
    };
    return new Promise((resolve) =>
      execFile(program, [...first, ...args], { env, cwd: folder }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), text: stdout + stderr }),
      ),
    );
  }
  const read = (name: string) => readFileSync(join(folder, name), "utf8");

  it("gives the CA a root, and leaves are signed again", OPTIONS, async () => {
    const sign = async () => {
      const uri = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`;
      const body = { CSR: opensslCsr(`URI:${uri}`).csr };
      return JSON.parse(await callUnverified(`${server.url}/v1/connect/ca/sign`, "POST", body));
    };
    await assert.rejects(sign(), /root expired: certificate expired/);
    const [fallback = ""] =
      /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----\n/.exec(
        readFileSync(join(dataDir, "tls-emergency.pem"), "utf8"),
      ) ?? [];
    writeFileSync(join(folder, "server.pem"), fallback);

    const [clusterId = ""] = server.trustDomain.split(".");
    const create = [
      "tls",
      "ca",
      "create",
      "-cluster-id",
      clusterId,
      "-days=365",
      "-domain",
      "consul",
    ];
    const created = await run([...create, "-common-name", "Recovery Root"]);
    assert.deepEqual(created, {
      code: 0,
      text: "==> Saved consul-agent-ca.pem\n==> Saved consul-agent-ca-key.pem\n",
    });
    const config = JSON.parse((await run(["connect", "ca", "get-config"])).text);
    config.Config = {
      ...config.Config,
      RootCert: read("consul-agent-ca.pem"),
      PrivateKey: read("consul-agent-ca-key.pem"),
    };
    writeFileSync(join(folder, "ca.json"), JSON.stringify(config), { mode: 0o600 });
    const set = await run(["connect", "ca", "set-config", "-config-file", "ca.json"]);
    assert.deepEqual(set, { code: 0, text: "Configuration updated!\n" });

    const { CertPEM } = await sign();
    const root = new X509Certificate(read("consul-agent-ca.pem"));
    assert.match(root.subject, /^CN=Recovery Root$/m);
    assert.ok(new X509Certificate(CertPEM).verify(root.publicKey));
    // And the server has a certificate of the mesh again.
    await until(() => server.stdout().includes("Serving TLS with a certificate of this CA again"));
  });
});
