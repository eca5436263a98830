/**
 * Agents when every root and leaf has expired: those that can verify the servers come back by
 * themselves once the CA has a new root, the others say which command brings them back.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { meshca } from "../cli/run.ts";
import { makeOtherCa } from "../client/tls-server.ts";
import {
  AGENT_RUNTIMES,
  type AgentProcess,
  inAgentFolder,
  runAgent,
  startAgent,
} from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { until } from "../redis/server.ts";
import {
  callUnverified,
  copyOf,
  makeExpiredFolder,
  pinIn,
  serviceToken,
  TOKEN,
  WITH_ACL,
} from "./expired.ts";

const OPTIONS = { timeout: 240_000 };
const TLS = { ...WITH_ACL, MESHCA_TLS: "self" };

describe("agents whose roots and leaves have expired", () => {
  let expired: string;
  let webToken = "";
  /** The roots of before, as an operator gave them to agents. */
  let oldRoots = "";
  before(async () => {
    expired = await makeExpiredFolder(TLS, async ({ url }) => {
      webToken = await serviceToken(url, "web");
      oldRoots = await callUnverified(`${url}/v1/connect/ca/roots?pem=true`);
    });
  });
  after(() => rmSync(expired, { recursive: true, force: true }));

  let folder: string;
  let dataDir: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-recovered-"));
    dataDir = copyOf(expired);
  });

  const serve = (environment: Readonly<Record<string, string>> = TLS): Promise<ServerProcess> =>
    startServer({ ...environment, MESHCA_DATA_DIR: dataDir });
  const recover = async (server: ServerProcess): Promise<{ readonly pin: string }> => {
    const environment = { MESHCA_HTTP_TOKEN: TOKEN, MESHCA_DATA_DIR: dataDir };
    const args = ["recover", "--yes", "--json", "--http-addr", server.url];
    const { code, stdout, stderr } = await meshca(args, environment, "", undefined, folder);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const readyz = async (agent: AgentProcess): Promise<string> =>
    (await fetch(`${agent.url()}/readyz`)).text();
  const file = (at: string, name: string, text: string): string => {
    writeFileSync(join(at, name), text, { mode: 0o600 });
    return join(at, name);
  };
  /** The leaf that was written, and the roots that it comes with. */
  const requireLeaf = (at: string): void => {
    const leaf = new X509Certificate(readFileSync(join(at, "tls.crt")));
    assert.match(leaf.subjectAltName ?? "", /\/svc\/web$/);
    assert.ok(Date.parse(leaf.validTo) > Date.now());
    assert.ok(
      leaf.verify(
        new X509Certificate(readFileSync(join(folder, "meshca-recovery-root.pem"))).publicKey,
      ),
    );
  };
  const end = async (agent: AgentProcess, server: ServerProcess): Promise<void> => {
    await agent.stop();
    await server.stop();
    for (const name of [folder, dataDir]) rmSync(name, { recursive: true, force: true });
  };

  for (const runtime of AGENT_RUNTIMES)
    it(
      `one that trusts only them shows the command that brings it back, without a restart, on ${runtime}`,
      OPTIONS,
      () =>
        inAgentFolder(async (at) => {
          const server = await serve();
          const caFile = file(at, "ca.pem", oldRoots);
          const agent = await startAgent(
            [
              ...["--server", server.url, "--ca-file", caFile, "--service", "web"],
              ...["--token-file", file(at, "token", webToken)],
              ...["--dir", join(at, "web"), "--listen", "127.0.0.1:0"],
            ],
            { runtime, until: "open" },
          );
          const { reason } = await agent.logged(
            "No new connection to a server can be verified any more: certificates in use stay in use until they expire",
          );
          await recover(server);
          // A new root alone does not bring it back.
          const [, command = ""] =
            /run (meshca .*) with the fingerprint in the server's log/.exec(String(reason)) ?? [];
          const line = (await readyz(agent)).split("\n").find((one) => one.startsWith("trust: "));
          assert.equal(line, `trust: ${reason}`);
          assert.ok(!existsSync(join(at, "web/tls.crt")));
          // As it is shown, with the fingerprint that the server has now.
          const program = `${process.execPath} ${join(ROOT, "src/cli/main.ts")}`;
          const typed = command
            .replace(/^meshca/, program)
            .replace("sha256:FINGERPRINT", pinIn(dataDir));
          assert.equal(spawnSync("sh", ["-c", typed]).status, 0, typed);
          await agent.logged("Servers can be verified again, by a root that is valid");
          await agent.logged("Ready");
          const text = await readyz(agent);
          assert.match(text, /^ok\n/);
          assert.doesNotMatch(text, /trust:|login:/);
          requireLeaf(join(at, "web"));
          await end(agent, server);
        }),
    );

  it("one that runs --once ends with the command", OPTIONS, () =>
    inAgentFolder(async (at) => {
      const server = await serve();
      const { code, stderr } = await runAgent([
        ...["--once", "--once-timeout", "3s", "--server", server.url, "--service", "web"],
        ...["--ca-file", file(at, "ca.pem", oldRoots), "--dir", join(at, "web")],
      ]);
      assert.equal(code, 75, stderr);
      assert.match(
        stderr,
        /every root that verifies a server has expired, .*; run meshca roots --pem /,
      );
      await server.stop();
      for (const name of [folder, dataDir]) rmSync(name, { recursive: true, force: true });
    }),
  );

  it(
    "one that verifies the servers by another CA needs nothing but the new root of the CA",
    OPTIONS,
    () =>
      inAgentFolder(async (at) => {
        const other = makeOtherCa(null);
        const { key, cert } = other.issue("DNS:localhost,IP:127.0.0.1");
        const server = await serve({
          ...WITH_ACL,
          MESHCA_TLS_CERT_FILE: file(at, "server.pem", cert),
          MESHCA_TLS_KEY_FILE: file(at, "server.key", key),
        });
        const agent = await startAgent(
          [
            ...["--server", server.url, "--ca-file", file(at, "ca.pem", other.pem)],
            ...["--service", "web", "--token-file", file(at, "token", webToken)],
            ...["--dir", join(at, "web"), "--listen", "127.0.0.1:0"],
          ],
          { until: "open" },
        );
        await until(async () =>
          /^identity: web: no certificate: .*expired/m.test(await readyz(agent)),
        );
        assert.doesNotMatch(await readyz(agent), /trust:|login:/);
        await recover(server);
        await agent.logged("Ready");
        requireLeaf(join(at, "web"));
        await end(agent, server);
      }),
  );

  it(
    "one with a pin of a root that has expired starts again with the pin that recover prints",
    OPTIONS,
    () =>
      inAgentFolder(async (at) => {
        const server = await serve();
        const { fingerprint256 } = new X509Certificate(oldRoots);
        const flags = (pin: string) => [
          ...["--server", server.url, "--ca-pin", pin, "--service", "web"],
          ...["--token-file", file(at, "token", webToken)],
          ...["--dir", join(at, "web"), "--listen", "127.0.0.1:0"],
        ];
        const old = await startAgent(flags(fingerprint256.replaceAll(":", "").toLowerCase()), {
          until: "open",
        });
        const { pin } = await recover(server);
        // A listing without the root matches no pin; one that still has it shows that it has expired.
        await until(async () =>
          /The pin matches none of the |^trust: every root .* has expired.*, or with --ca-pin of the new root$/m.test(
            await readyz(old),
          ),
        );
        await old.stop();
        const agent = await startAgent(flags(pin.replace(/^sha256:/, "")));
        requireLeaf(join(at, "web"));
        await end(agent, server);
      }),
  );

  it(
    "one without a token and without a login is warned of it, and stays without a leaf",
    OPTIONS,
    () =>
      inAgentFolder(async (at) => {
        const server = await serve();
        await recover(server);
        const caFile = join(folder, "meshca-recovery-root.pem");
        const agent = await startAgent(
          [
            ...["--server", server.url, "--ca-file", caFile, "--service", "web"],
            ...["--dir", join(at, "web"), "--listen", "127.0.0.1:0"],
          ],
          { until: "open" },
        );
        const { reason } = await agent.logged("A certificate that expires could not be replaced");
        await until(async () => /^identity: web: no certificate: .*403/m.test(await readyz(agent)));
        assert.ok((await readyz(agent)).includes(`\nlogin: ${reason}\n`));
        assert.ok(!existsSync(join(at, "web/tls.crt")));
        await end(agent, server);
      }),
  );
});
