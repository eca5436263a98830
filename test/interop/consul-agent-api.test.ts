/**
 * Consul's own Go API client against the agent's routes: of the agent on each runtime, with access
 * control, and of a server without it.
 * @module
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { AGENT_RUNTIMES, startAgent } from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";

/** Why this cannot run here, or false. With CI=true nothing is skipped. */
const noGo: string | false = (() => {
  if (process.env.CI === "true") return false;
  try {
    execFileSync("go", ["version"]);
    return false;
  } catch {
    return "Go is not installed";
  }
})();

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
const run = promisify(execFile);

describe("Consul's Go API client at an agent", { skip: noGo }, () => {
  let folder: string;
  let program: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-interop-"));
    program = join(folder, "interop");
    await run("go", ["build", "-o", program, "."], { cwd: import.meta.dirname });
  });
  after(() => rmSync(folder, { recursive: true }));

  const ask = async (url: string, token: string) => {
    const { stdout } = await run(program, ["agent", new URL(url).host, token]).catch(
      (error: unknown) => {
        throw new Error(
          error instanceof Error && "stdout" in error ? String(error.stdout) : String(error),
        );
      },
    );
    assert.match(stdout, /^done$/m);
  };

  it("reads roots, leaves and authorizations from a server of one machine", async () => {
    const server = await startServer();
    try {
      await ask(server.url, "");
    } finally {
      await server.stop();
    }
  });

  describe("with access control", () => {
    let server: ServerProcess;
    let token: string;
    const make = async (path: string, body: unknown) => {
      const response = await fetch(`${server.url}${path}`, {
        method: "PUT",
        headers: { "X-Consul-Token": MANAGEMENT },
        body: JSON.stringify(body),
      });
      const text = await response.text();
      assert.equal(response.status, 200, text);
      return JSON.parse(text) as { readonly ID: string; readonly SecretID: string };
    };
    before(async () => {
      server = await startServer({
        MESHCA_ACL: "deny",
        MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      });
      const Rules = 'service "web" { policy = "write" } agent_prefix "" { policy = "read" }';
      const { ID } = await make("/v1/acl/policy", { Name: "web", Rules });
      token = (await make("/v1/acl/token", { Policies: [{ ID }] })).SecretID;
    });
    after(() => server?.stop());

    for (const runtime of AGENT_RUNTIMES)
      it(`reads roots, leaves and authorizations from an agent on ${runtime}`, async () => {
        const flags = ["--server", server.url, "--listen", "127.0.0.1:0"];
        const agent = await startAgent(flags, { runtime });
        try {
          await ask(agent.url(), token);
        } finally {
          await agent.stop();
        }
      });
  });
});
