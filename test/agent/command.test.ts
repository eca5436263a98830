/**
 * `meshca agent` as a process, on each runtime, against a real server: it serves, waits for a server,
 * stops in order, reloads, and refuses to start twice on one socket.
 * @module
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  AGENT_RUNTIMES,
  type AgentProcess,
  inAgentFolder,
  runAgent,
  startAgent,
} from "../fixtures/agent.ts";
import { linesOf, type ServerProcess, startServer } from "../fixtures/process.ts";
import { freePort, until } from "../redis/server.ts";

const readyz = async (agent: AgentProcess) => {
  const response = await fetch(`${agent.url()}/readyz`);
  return { status: response.status, text: await response.text() };
};

let server: ServerProcess;
before(async () => {
  server = await startServer();
});
after(() => server.stop());

for (const runtime of AGENT_RUNTIMES)
  describe(`meshca agent on ${runtime}`, () => {
    it(
      "serves on a socket, in a folder and by HTTP, and stops in order",
      {
        timeout: 60_000,
      },
      () =>
        inAgentFolder(async (folder) => {
          const [socket, dir, ran] = ["web.sock", "web", "ran"].map((name) => join(folder, name));
          const agent = await startAgent(
            [
              ...["--server", server.url, "--service", "web", "--socket", socket, "--dir", dir],
              ...["--listen", "127.0.0.1:0", "--on-change", `touch ${ran}`],
            ] as string[],
            { runtime },
          );
          const { status, text } = await readyz(agent);
          assert.equal(status, 200, text);
          assert.match(
            text,
            /^ok\nserver: last contact .*\nroots: index 1\nidentity: web: valid until /,
          );
          const leaf = new X509Certificate(readFileSync(join(String(dir), "tls.crt")));
          assert.equal(
            leaf.subjectAltName,
            `URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`,
          );
          assert.equal(statSync(String(socket)).mode & 0o777, 0o600);
          await until(() => existsSync(String(ran)));
          const { code, stderr, stdout } = await agent.stop();
          assert.deepEqual([code, stderr], [0, ""]);
          assert.equal(existsSync(String(socket)), false);
          assert.equal(linesOf(stdout).at(-1)?.message, "Stopped");
          assert.doesNotMatch(stdout, /PRIVATE KEY/);
        }),
    );

    it("sends a signal to the service of a folder", { timeout: 60_000 }, () =>
      inAgentFolder(async (folder) => {
        const [pid = "", got = "", config = ""] = ["pid", "got", "agent.json"].map((name) =>
          join(folder, name),
        );
        const script = `trap 'touch ${got}' HUP; echo $$ > ${pid}; while :; do sleep 0.05; done`;
        const service = spawn("sh", ["-c", script], { stdio: "ignore" });
        await until(() => existsSync(pid) && readFileSync(pid, "utf8").endsWith("\n"));
        const on_change = { signal: "HUP", pid_file: pid };
        writeFileSync(
          config,
          JSON.stringify({
            servers: [server.url],
            identities: [{ service: "web" }],
            folders: [{ path: join(folder, "web"), identity: "web", on_change }],
          }),
        );
        const agent = await startAgent(["--config", config], { runtime });
        await agent.logged("Notified the service of new files");
        await until(() => existsSync(got));
        service.kill("SIGKILL");
        assert.equal((await agent.stop()).code, 0);
      }),
    );

    it("waits for a server that is away, and says so", { timeout: 60_000 }, () =>
      inAgentFolder(async (folder) => {
        const port = await freePort();
        const flags = ["--server", `http://127.0.0.1:${port}`, "--service", "web"];
        const agent = await startAgent(
          [...flags, "--socket", join(folder, "s"), "--listen", "127.0.0.1:0"],
          { runtime, until: "open" },
        );
        await until(async () => (await readyz(agent)).text.includes("No CA server answered"));
        const { status, text } = await readyz(agent);
        assert.equal(status, 503);
        assert.match(text, /^not ready\n/);
        assert.match(
          text,
          /^roots: not known yet: .*No CA server answered: http:\/\/127\.0\.0\.1:/m,
        );
        assert.match(text, /^identity: web: no certificate/m);
        const late = await startServer({ MESHCA_LISTEN: `127.0.0.1:${port}` });
        await agent.logged("Ready");
        assert.equal((await readyz(agent)).status, 200);
        await late.stop();
        await until(async () => /^server: .*No CA server/m.test((await readyz(agent)).text));
        assert.equal((await readyz(agent)).status, 200);
        assert.equal((await agent.stop()).code, 0);
      }),
    );
  });

describe("meshca agent", () => {
  const flags = () => ["--server", server.url, "--service", "web"];

  it("stops while it waits for a server", () =>
    inAgentFolder(async (folder) => {
      const agent = await startAgent(
        ["--server", "http://127.0.0.1:1", "--service", "web", "--socket", join(folder, "s")],
        { until: "open" },
      );
      assert.equal((await agent.stop()).code, 0);
    }));

  it("names the socket that another agent serves, and leaves it alone", () =>
    inAgentFolder(async (folder) => {
      const socket = join(folder, "s");
      const first = await startAgent([...flags(), "--socket", socket]);
      const { code, stderr } = await runAgent([...flags(), "--socket", socket]);
      assert.equal(code, 69, stderr);
      assert.ok(stderr.includes(`${socket}: it is in use by another process`), stderr);
      assert.ok(existsSync(socket));
      await first.stop();
    }));

  it("names the address that another process listens on", async () => {
    const first = await startAgent(["--server", server.url, "--listen", "127.0.0.1:0"]);
    const { host } = new URL(first.url());
    const { code, stderr } = await runAgent(["--server", server.url, "--listen", host]);
    // A service manager starts it again: see RestartPreventExitStatus of the unit.
    assert.equal(code, 69, stderr);
    assert.ok(stderr.startsWith(`Cannot listen on http://${host}: the address is in use;`), stderr);
    await first.stop();
  });

  it("takes over the socket of an agent that was killed", () =>
    inAgentFolder(async (folder) => {
      const socket = join(folder, "s");
      const first = await startAgent([...flags(), "--socket", socket]);
      first.kill("SIGKILL");
      await first.ended;
      assert.ok(existsSync(socket));
      const second = await startAgent([...flags(), "--socket", socket]);
      assert.equal((await second.stop()).code, 0);
    }));

  it("reads the log level again after SIGHUP, and names what needs a restart", () =>
    inAgentFolder(async (folder) => {
      const config = join(folder, "agent.json");
      const write = (more: object) =>
        writeFileSync(
          config,
          JSON.stringify({
            ...{ servers: [server.url], identities: [{ service: "web" }] },
            ...{ sockets: [{ path: join(folder, "s") }], ...more },
          }),
        );
      write({});
      const agent = await startAgent(["--config", config]);
      const answers = () =>
        agent.lines().filter(({ message }) => String(message).includes("after SIGHUP"));
      write({ log_level: "debug" });
      agent.kill("SIGHUP");
      await until(() => answers().some(({ logLevel }) => logLevel === "debug"));
      assert.equal(answers().at(-1)?.needRestart, undefined);
      write({ log_level: "info", listen: "127.0.0.1:0" });
      agent.kill("SIGHUP");
      await until(() => answers().some(({ needRestart }) => needRestart !== undefined));
      assert.deepEqual(answers().at(-1)?.needRestart, ["listen"]);
      writeFileSync(config, "{");
      agent.kill("SIGHUP");
      await until(() => answers().some(({ level }) => level === "ERROR"));
      assert.match(String(answers().at(-1)?.reason), /invalid JSON/);
      assert.equal((await agent.stop()).code, 0);
    }));
});

describe("meshca", () => {
  for (const [what, args, first] of [
    [
      "an unknown flag",
      ["--sockt", "/s"],
      "--sockt is not a flag of meshca agent; did you mean --socket?",
    ],
    ["an argument", ["web"], '"web" does not belong to a flag of meshca agent'],
  ] as const)
    it(`refuses ${what} of the agent`, async () => {
      const { code, stderr } = await runAgent(args);
      assert.equal(code, 64);
      assert.equal(stderr, `${first}\nmeshca agent --help shows all flags\n`);
    });

  it("refuses settings with all their faults", async () => {
    const { code, stderr } = await runAgent(["--socket", "/s", "--ttl", "1s"], {
      environment: { MESHCA_AGENT_LISTN: "x" },
    });
    assert.equal(code, 78);
    assert.equal(
      stderr,
      [
        "Cannot start the agent:",
        "  MESHCA_AGENT_LISTN: is not a setting of the agent; did you mean MESHCA_AGENT_LISTEN?",
        "  --ttl: must be a duration from 1m to 8760h, for example 1h",
        "",
      ].join("\n"),
    );
  });

  it("prints the help of the agent", async () => {
    const { code, stdout, stderr } = await runAgent(["--help"]);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^Usage: meshca agent \[options\]\n/);
  });
});
