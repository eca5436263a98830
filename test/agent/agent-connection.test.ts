/**
 * The agent and its servers, with the real processes: how it verifies a server, what it does with a
 * token that is refused, failover, and a restart in an outage.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Connection } from "../../src/agent/connection.ts";
import { readAgentSettings } from "../../src/config/agent-settings.ts";
import { systemClock } from "../../src/entry/system.ts";
import { silentLog } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { type AgentProcess, inAgentFolder, runAgent, startAgent } from "../fixtures/agent.ts";
import { startServer } from "../fixtures/process.ts";
import { freePort, until } from "../redis/server.ts";

const MANAGEMENT = "management-token-of-this-test";

/** A body from a server that nobody verified yet. */
function unverified(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { rejectUnauthorized: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve(text));
    });
    sent.on("error", reject).end();
  });
}

const readyz = async (agent: AgentProcess) => (await fetch(`${agent.url()}/readyz`)).text();
const serialOf = (folder: string) =>
  new X509Certificate(readFileSync(join(folder, "tls.crt"))).serialNumber;

describe("the servers of an agent", () => {
  it(
    "are verified by a pin or by a file with the mesh's root, and refused by another pin",
    {
      timeout: 60_000,
    },
    () =>
      inAgentFolder(async (folder) => {
        const server = await startServer({ MESHCA_TLS: "self" });
        const pem = await unverified(`${server.url}/v1/connect/ca/roots?pem=true`);
        const pin = createHash("sha256").update(new X509Certificate(pem).raw).digest("hex");
        const file = join(folder, "roots.pem");
        writeFileSync(file, pem);
        const once = (name: string, ...flags: string[]) =>
          runAgent([
            ...["--once", "--once-timeout", "10s", "--server", server.url, "--service", "web"],
            ...["--dir", join(folder, name), ...flags],
          ]);
        for (const [name, ...flags] of [
          ["pin", "--ca-pin", pin],
          ["file", "--ca-file", file],
        ] as const) {
          const { code, stderr } = await once(name, ...flags);
          assert.deepEqual([code, stderr], [0, ""]);
        }
        const { code, stderr } = await once("other", "--ca-pin", "0".repeat(64));
        assert.equal(code, 75);
        assert.match(stderr, /The pin matches none of the 1 roots/);
        await server.stop();
      }),
  );

  it("count as verified only if TLS proves each of them", async () => {
    for (const [servers, pin, areVerified] of [
      ["https://127.0.0.1:1 https://localhost:2", "0".repeat(64), true],
      ["https://127.0.0.1:1 http://localhost:2", "0".repeat(64), false],
      ["https://127.0.0.1:1", "", false],
      ["http://127.0.0.1:1", "", false],
    ] as const) {
      const environment = { MESHCA_AGENT_SERVERS: servers, MESHCA_AGENT_CA_PIN: pin };
      const settings = readAgentSettings(
        {},
        { ...environment, MESHCA_AGENT_LISTEN: "127.0.0.1:0" },
        { readFile: () => "", resolve: (path) => path },
      );
      const shared = { clock: systemClock, random: systemRandom, log: silentLog };
      const connection = new Connection({ settings, cache: null, ...shared });
      assert.equal(connection.areVerified, areVerified, servers);
      await connection.close();
    }
  });

  it("are asked one after the other", { timeout: 60_000 }, () =>
    inAgentFolder(async (folder) => {
      const server = await startServer();
      const { code, stderr, stdout } = await runAgent([
        ...["--once", "--server", "http://127.0.0.1:1", "--server", server.url],
        ...["--service", "web", "--dir", join(folder, "web")],
      ]);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(stdout, /Using another CA server/);
      await server.stop();
    }),
  );

  it(
    "refuse a token: the agent says so once, and is ready with another one in the file",
    {
      timeout: 60_000,
    },
    () =>
      inAgentFolder(async (folder) => {
        const server = await startServer({
          MESHCA_ACL: "deny",
          MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
        });
        const token = join(folder, "token");
        writeFileSync(token, "a-token-that-is-not-known", { mode: 0o600 });
        const agent = await startAgent(
          [
            ...["--server", server.url, "--service", "web", "--token-file", token],
            ...["--dir", join(folder, "web"), "--listen", "127.0.0.1:0"],
          ],
          { until: "open" },
        );
        await until(async () =>
          /^identity: web: no certificate: .*\(403\)/m.test(await readyz(agent)),
        );
        const metrics = async () => (await fetch(`${agent.url()}/metrics`)).text();
        const refused = /meshca_agent_renewals_total\{outcome="refused"\} ([2-9]|\d\d)/;
        await until(async () => refused.test(await metrics()));
        const warnings = agent
          .lines()
          .filter(({ message }) => String(message).startsWith("Failed to obtain a leaf"));
        assert.equal(warnings.length, 1);
        writeFileSync(token, MANAGEMENT);
        await agent.logged("Ready");
        assert.match(await metrics(), /meshca_agent_renewals_total\{outcome="ok"\} 1/);
        const { stdout } = await agent.stop();
        assert.doesNotMatch(stdout, /a-token-that-is-not-known|management-token/);
        await server.stop();
      }),
  );
});

describe("the cache of an agent", () => {
  it("serves over a restart in an outage, and only to this user", { timeout: 60_000 }, () =>
    inAgentFolder(async (folder) => {
      const port = await freePort();
      const server = await startServer({ MESHCA_LISTEN: `127.0.0.1:${port}` });
      const [cache, web] = [join(folder, "cache"), join(folder, "web")];
      const flags = [
        ...["--server", server.url, "--service", "web", "--dir", web, "--cache-dir", cache],
        ...["--listen", "127.0.0.1:0"],
      ];
      const first = await startAgent(flags);
      const serial = serialOf(web);
      await first.stop();
      await server.stop();
      assert.equal(statSync(cache).mode & 0o777, 0o700);
      const second = await startAgent(flags);
      const text = await readyz(second);
      assert.match(text, /^ok\nserver: last contact never: No CA server answered/);
      assert.equal(serialOf(web), serial);
      assert.equal((await second.stop()).code, 0);
    }),
  );
});
