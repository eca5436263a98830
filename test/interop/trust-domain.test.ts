/**
 * Consul's own clients with a CA that has a trust domain of its own: they take it from the listing
 * of the roots.
 * @module
 */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { AgentListener } from "../../src/agent/listener.ts";
import { systemClock } from "../../src/entry/platform.ts";
import { consulAgent } from "../agent/consul-agent.ts";
import { createTestCa, DEFAULT_BOOTSTRAP, silentLog } from "../fakes/ca.ts";
import type { FakeClock } from "../fakes/clock.ts";
import { createTestApp } from "../fixtures/app.ts";
import { startServer } from "../fixtures/process.ts";
import { clientCommand, noClient } from "./clients.ts";

const DOMAIN = "mesh.example.com";
const run = promisify(execFile);

/** One side of the handshakes, whose standard output is JSON lines. */
async function start(...args: string[]) {
  const [program, ...first] = await clientCommand("consul-connect");
  const child = spawn(program, [...first, ...args], { stdio: ["pipe", "pipe", "pipe"] });
  const events: Record<string, unknown>[] = [];
  let complaints = "";
  child.stderr.on("data", (text: Buffer) => {
    complaints += text.toString();
  });
  createInterface({ input: child.stdout }).on("line", (line) =>
    events.push(JSON.parse(line) as Record<string, unknown>),
  );
  const exited = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const ended = { value: false };
  void exited.then(() => {
    ended.value = true;
  });
  const counted = () => Math.max(0, ...events.map((event) => Number(event.handshakes ?? 0)));
  return {
    /** Waits for at least ten handshakes from now on; each tenth is an event. */
    async more() {
      const least = counted() + 20;
      await this.event(() => counted() >= least);
    },
    /** The first event for which a condition holds. */
    async event(holds: (event: Record<string, unknown>) => boolean) {
      for (let turn = 0; turn < 2400; turn++) {
        const found = events.find(holds);
        if (found !== undefined) return found;
        if (ended.value) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      throw new Error(`The client did not get there: ${JSON.stringify(events)} ${complaints}`);
    },
    /** Ends it. @returns its summary */
    async stop() {
      child.stdin.end();
      await exited;
      return events.at(-1) ?? assert.fail(complaints);
    },
  };
}

describe("Consul's Go SDK and a trust domain of one's own", {
  skip: noClient("consul-connect"),
}, () => {
  it("a service and a client verify each other through a rotation", {
    timeout: 1_200_000,
  }, async () => {
    const clock: FakeClock = { ...systemClock, advance() {}, jump() {}, sleepers: 0 };
    const bootstrap = { ...DEFAULT_BOOTSTRAP, trustDomain: DOMAIN };
    const server = await createTestApp({}, await createTestCa({ clock, bootstrap }));
    const agent = await consulAgent(server);
    const listener = new AgentListener({
      listen: { host: "127.0.0.1", port: 0 },
      app: agent.app,
      mounted: [],
      log: silentLog,
      metrics: { refused: () => undefined },
    });
    await listener.listen();
    const address = new URL(listener.address).host;
    try {
      const serving = await start("serve", "-agent", address, "-service", "api");
      const { address: to } = await serving.event(({ event }) => event === "listening");
      const names = ["-agent", address, "-service", "web", "-target", "api"];
      const dialing = await start("dial", ...names, "-to", String(to));
      await Promise.all([dialing.more(), serving.more()]);
      await server.manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
      await Promise.all([dialing.more(), serving.more()]);
      const [dialed, served] = [await dialing.stop(), await serving.stop()];
      for (const { handshakes, failures } of [dialed, served]) {
        assert.ok(Number(handshakes) > 3, JSON.stringify([dialed, served]));
        assert.equal(failures, 0);
      }
    } finally {
      await listener.close();
      await agent.close();
    }
  });
});

describe("Consul's Go API client and a trust domain of one's own", {
  skip: noClient("consul-connect"),
}, () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-interop-domain-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  it("has leaves of the listing's trust domain signed", { timeout: 300_000 }, async () => {
    const program = join(folder, "interop");
    await run("go", ["build", "-o", program, "."], { cwd: import.meta.dirname });
    const file = join(folder, "meshca.json");
    writeFileSync(file, JSON.stringify({ connect: { ca_config: { trust_domain: DOMAIN } } }));
    const server = await startServer({ MESHCA_ACL: "deny", MESHCA_CONFIG: file });
    try {
      assert.equal(server.trustDomain, DOMAIN);
      const secret = readFileSync(join(server.dataDir, "acl-bootstrap-secret"), "utf8").trim();
      const { stdout } = await run(program, [new URL(server.url).host, secret]);
      assert.match(stdout, /^done$/m);
    } finally {
      await server.stop();
    }
  });
});
