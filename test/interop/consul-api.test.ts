/**
 * Consul's own Go API client against a server with access control on.
 * @module
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { startServer } from "../fixtures/process.ts";

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

describe("Consul's Go API client", { skip: noGo }, () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-interop-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  it("reads and changes another datacenter through a server of this one", {
    timeout: 300_000,
  }, async () => {
    const run = promisify(execFile);
    const program = join(folder, "interop");
    await run("go", ["build", "-o", program, "."], { cwd: import.meta.dirname });
    const token = "5d6f0a52-2c53-4c1e-9c6d-0b7c8a4f1e22";
    const second = await startServer({
      ...{ MESHCA_DATACENTER: "dc2", MESHCA_ACL: "deny" },
      MESHCA_INITIAL_MANAGEMENT_TOKEN: token,
    });
    const first = await startServer({
      MESHCA_DATACENTERS: JSON.stringify({ dc2: { servers: [second.url] } }),
    });
    try {
      const { stdout } = await run(program, ["datacenters", new URL(first.url).host, token]).catch(
        (error: unknown) => {
          throw new Error(
            error instanceof Error && "stdout" in error ? String(error.stdout) : String(error),
          );
        },
      );
      assert.match(stdout, /^done$/m);
    } finally {
      await first.stop();
      await second.stop();
    }
  });

  it("bootstraps, creates policies, tokens and logins, and gets the expected refusals", {
    timeout: 300_000,
  }, async () => {
    const run = promisify(execFile);
    const program = join(folder, "interop");
    await run("go", ["build", "-o", program, "."], { cwd: import.meta.dirname });
    const server = await startServer({ MESHCA_ACL: "deny" });
    try {
      const secret = readFileSync(join(server.dataDir, "acl-bootstrap-secret"), "utf8").trim();
      const { stdout } = await run(program, [new URL(server.url).host, secret]).catch(
        (error: unknown) => {
          throw new Error(
            error instanceof Error && "stdout" in error ? String(error.stdout) : String(error),
          );
        },
      );
      assert.match(stdout, /^done$/m);
    } finally {
      await server.stop();
    }
  });
});
