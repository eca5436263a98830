/**
 * `meshca doctor --agent`: an agent that is well, one without a login, one whose roots have expired, one
 * that cannot be reached or serves nothing, and paths that others may enter.
 * @module
 */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { CHECK_IDS } from "../../src/cli/doctor/types.ts";
import { inAgentFolder, startAgent } from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import {
  callUnverified,
  makeExpiredFolder,
  serviceToken,
  TOKEN,
  WITH_ACL,
} from "../recovery/expired.ts";
import { until } from "../redis/server.ts";
import { doctor } from "./doctor.ts";

const OPTIONS = { timeout: 180_000 };
const TLS = { ...WITH_ACL, MESHCA_TLS: "self" };
const AGENT_IDS = CHECK_IDS.filter((id) => id.startsWith("agent."));

describe("meshca doctor and an agent", () => {
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    server = await startServer(TLS);
    const write = (name: string, text: string) =>
      writeFileSync(join(folder, name), text, { mode: 0o600 });
    write("roots.pem", await callUnverified(`${server.url}/v1/connect/ca/roots?pem=true`));
    write("web", await serviceToken(server.url, "web"));
    environment = {
      ...{ MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN },
      MESHCA_CACERT: join(folder, "roots.pem"),
    };
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const flags = (more: readonly string[]) => [
    ...["--server", server.url, "--ca-file", join(folder, "roots.pem"), "--service", "web"],
    ...more,
  ];
  const withToken = (at: string) =>
    flags([
      ...["--token-file", join(folder, "web"), "--listen", "127.0.0.1:0"],
      ...["--dir", join(at, "web"), "--socket", join(at, "run/agent.sock")],
    ]);
  const look = (url: string) => doctor(environment, ["--agent", new URL(url).host]);

  it(
    "makes every check of it, and finds nothing wrong; then its paths are open to others",
    OPTIONS,
    () =>
      inAgentFolder(async (at) => {
        mkdirSync(join(at, "run"), { mode: 0o755 });
        const agent = await startAgent(withToken(at));
        const found = await look(agent.url());
        const ofAgent = found.results.filter(({ subject }) => subject !== null);
        assert.deepEqual(
          ofAgent.map(({ id, subject, outcome }) => [id, subject, outcome]),
          AGENT_IDS.map((id) => [id, new URL(agent.url()).host, "ok"]),
        );
        chmodSync(join(at, "web/tls.key"), 0o644);
        const { what } = (await look(agent.url())).finding("agent.paths");
        assert.match(what, /\/web\/tls\.key is open to other users \(mode 0644\)$/);
        chmodSync(join(at, "web/tls.key"), 0o600);
        chmodSync(join(at, "web"), 0o777);
        const folderFix = (await look(agent.url())).finding("agent.paths").fix;
        assert.equal(folderFix, `chmod o-w ${join(at, "web")}`);
        chmodSync(join(at, "web"), 0o700);
        chmodSync(join(at, "run"), 0o777);
        const writable = (await look(agent.url())).finding("agent.paths");
        assert.deepEqual(
          [writable.severity, writable.fix],
          ["critical", `chmod o-w ${join(at, "run")}`],
        );
        chmodSync(join(at, "run"), 0o755);
        assert.equal((await look(agent.url())).of("agent.paths").outcome, "ok");
        await agent.stop();
      }),
  );

  it(
    "agent.login, agent.ready: neither a token nor a login, long before it is too late",
    OPTIONS,
    () =>
      inAgentFolder(async (at) => {
        const agent = await startAgent(
          flags(["--dir", join(at, "web"), "--listen", "127.0.0.1:0"]),
          {
            until: "open",
          },
        );
        await until(async () => (await look(agent.url())).of("agent.login").outcome === "found");
        const found = await look(agent.url());
        const { severity, what, fix } = found.finding("agent.login");
        assert.equal(severity, "warning");
        assert.match(what, /^The agent has neither a token nor a login: /);
        assert.match(fix, /--token-file/);
        assert.ok(
          found.of("agent.ready").findings.some(({ severity: worst }) => worst === "critical"),
        );
        await agent.stop();
      }),
  );

  it("agent.clock: the clock of its machine", OPTIONS, () =>
    inAgentFolder(async (at) => {
      mkdirSync(join(at, "run"), { mode: 0o755 });
      const agent = await startAgent(withToken(at), {
        environment: {
          TEST_CLOCK_SHIFT_MS: String(1_800_000),
          BUN_OPTIONS: `--preload=${join(ROOT, "test/recovery/shifted-clock.ts")}`,
        },
        until: "open",
      });
      await until(async () => (await look(agent.url())).of("agent.clock").outcome === "found");
      assert.match((await look(agent.url())).finding("agent.clock").fix, /timedatectl/);
      await agent.stop();
    }),
  );

  it("agent.reachable: no agent, a server in its place, another program", OPTIONS, async () => {
    const gone = await doctor(environment, ["--agent", "127.0.0.1:1"]);
    assert.match(gone.finding("agent.reachable").what, /cannot be reached \(ECONNREFUSED\)$/);
    for (const id of AGENT_IDS.filter((one) => one !== "agent.reachable"))
      assert.equal(gone.of(id).outcome, "unchecked", id);
    const plain = await startServer({ MESHCA_STORE: "memory:" });
    const wrong = await look(plain.url);
    await plain.stop();
    assert.match(
      wrong.finding("agent.reachable").what,
      /it is a server of meshca, and not an agent$/,
    );
    const other = createServer((_, response) => response.end("hello"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    const foreign = await look(`http://127.0.0.1:${port}`);
    other.close();
    assert.match(
      foreign.finding("agent.reachable").what,
      /with 200, and not as an agent of meshca$/,
    );
  });
});

describe("meshca doctor and an agent whose roots have expired", () => {
  it("agent.trust: says so, with the command", OPTIONS, () =>
    inAgentFolder(async (at) => {
      let roots = "";
      const dataDir = await makeExpiredFolder(TLS, async ({ url }) => {
        roots = await callUnverified(`${url}/v1/connect/ca/roots?pem=true`);
      });
      writeFileSync(join(at, "roots.pem"), roots);
      writeFileSync(join(at, "token"), crypto.randomUUID(), { mode: 0o600 });
      const server = await startServer({ ...TLS, MESHCA_DATA_DIR: dataDir });
      const agent = await startAgent(
        [
          ...["--server", server.url, "--ca-file", join(at, "roots.pem"), "--service", "web"],
          ...["--token-file", join(at, "token"), "--dir", join(at, "web")],
          ...["--listen", "127.0.0.1:0"],
        ],
        { until: "open" },
      );
      const environment = { MESHCA_HTTP_ADDR: server.url };
      const look = () => doctor(environment, ["--agent", new URL(agent.url()).host]);
      await until(async () => (await look()).of("agent.trust").outcome === "found");
      const { severity, what, fix } = (await look()).finding("agent.trust");
      assert.equal(severity, "critical");
      assert.match(what, /^Every root that verifies a server has expired/);
      assert.match(fix, /^meshca roots/);
      await agent.stop();
      await server.stop();
      rmSync(dataDir, { recursive: true, force: true });
    }),
  );
});
