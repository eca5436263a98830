/**
 * Consul's own Go API client and command line with three datacenters that forward requests to each
 * other: a primary and two that follow it.
 * @module
 */

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { meshca } from "../cli/run.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { freePort, until } from "../redis/server.ts";
import { clientCommand, noClient } from "./clients.ts";
import { runConsul } from "./consul-command.ts";

const OPTIONS = { timeout: 300_000 };
const TOKEN = "5d6f0a52-2c53-4c1e-9c6d-0b7c8a4f1e22";
const NAMES = ["dc1", "dc2", "dc3"] as const;

/** The LeafCertTTL by which the configuration of a datacenter is known. */
const leafTtlOf = (i: number): string => `${71 - i}h`;

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

describe("three datacenters that forward requests to each other", () => {
  let folder: string;
  const servers: ServerProcess[] = [];
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-interop-"));
    const ports = await Promise.all(NAMES.map(() => freePort()));
    const urls = ports.map((port) => `http://127.0.0.1:${port}`);
    const all = Object.fromEntries(NAMES.map((name, i) => [name, { servers: [urls[i]] }]));
    for (const [i, name] of NAMES.entries())
      servers.push(
        await startServer({
          ...{ MESHCA_DATACENTER: name, MESHCA_LISTEN: `127.0.0.1:${ports[i]}` },
          ...{ MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN },
          ...{ MESHCA_PRIMARY_DATACENTER: "dc1", MESHCA_PRIMARY_SERVERS: String(urls[0]) },
          ...{ MESHCA_REPLICATION_TOKEN: TOKEN, MESHCA_DATACENTERS: JSON.stringify(all) },
        }),
      );
    // 503 while the CA does another change by itself.
    for (const [i, { url }] of servers.entries())
      await until(async () => {
        const answer = await fetch(`${url}/v1/connect/ca/configuration`, {
          method: "PUT",
          headers: { "X-Consul-Token": TOKEN },
          body: JSON.stringify({ Provider: "consul", Config: { LeafCertTTL: leafTtlOf(i) } }),
        });
        assert.ok([200, 503].includes(answer.status), await answer.text());
        return answer.status === 200;
      });
  }, OPTIONS);
  after(async () => {
    for (const server of servers.toReversed()) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it("consul -datacenter reads each of them by a server of each, as meshca does", {
    ...OPTIONS,
    skip: noClient("consul-cli"),
  }, async () => {
    const consul = await clientCommand("consul-cli");
    for (const { url } of servers) {
      const environment = { CONSUL_HTTP_ADDR: url, CONSUL_HTTP_TOKEN: TOKEN };
      for (const [i, name] of NAMES.entries()) {
        const args = ["connect", "ca", "get-config", "-datacenter", name];
        const theirs = await runConsul(consul, args, environment);
        const ours = await meshca(args, environment);
        assert.deepEqual([theirs.code, theirs.stderr], [0, ""]);
        assert.deepEqual([ours.stdout, ours.code], [theirs.stdout, 0]);
        assert.match(theirs.stdout, new RegExp(`"LeafCertTTL": "${leafTtlOf(i)}"`), name);
      }
    }
  });

  it("the Go client reads the roots of each by a server of each, and waits for a rotation", {
    ...OPTIONS,
    skip: noGo,
  }, async () => {
    const run = promisify(execFile);
    const program = join(folder, "interop");
    await run("go", ["build", "-o", program, "."], { cwd: import.meta.dirname });
    const addresses = servers.map(({ url }) => new URL(url).host);
    const { stdout } = await run(program, ["three-datacenters", TOKEN, ...addresses]).catch(
      (error: unknown) => {
        throw new Error(
          error instanceof Error && "stdout" in error ? String(error.stdout) : String(error),
        );
      },
    );
    assert.match(stdout, /^done$/m);
    assert.equal(stdout.match(/^ok roots of dc[123] by dc[123]$/gm)?.length, 10);
  });
});
