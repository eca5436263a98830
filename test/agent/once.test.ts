/**
 * `meshca agent --once` as a process: what it writes, when it ends, and its exit codes.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { AGENT_RUNTIMES, inAgentFolder, runAgent } from "../fixtures/agent.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";

const MANAGEMENT = "management-token-of-this-test";

let server: ServerProcess;
let guarded: ServerProcess;
before(async () => {
  server = await startServer();
  guarded = await startServer({
    MESHCA_ACL: "deny",
    MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
  });
});
after(async () => {
  await server.stop();
  await guarded.stop();
});

/** The secret of a token for some services. */
async function tokenFor(...services: string[]): Promise<string> {
  const response = await fetch(`${guarded.url}/v1/acl/token`, {
    method: "PUT",
    headers: { "X-Consul-Token": MANAGEMENT },
    body: JSON.stringify({
      ServiceIdentities: services.map((ServiceName) => ({ ServiceName })),
    }),
  });
  assert.equal(response.status, 200);
  return ((await response.json()) as { SecretID: string }).SecretID;
}

const uriOf = (folder: string) =>
  new X509Certificate(readFileSync(join(folder, "tls.crt"))).subjectAltName?.replace(
    /.*URI:spiffe:\/\/[^/]+/,
    "",
  );

for (const runtime of AGENT_RUNTIMES)
  describe(`meshca agent --once on ${runtime}`, () => {
    it("writes every folder, runs its command, and exits with 0", { timeout: 60_000 }, () =>
      inAgentFolder(async (folder) => {
        const config = join(folder, "agent.json");
        writeFileSync(
          config,
          JSON.stringify({
            servers: [server.url],
            identities: [{ service: "web" }, { service: "api" }],
            // No socket is opened, though it could not be.
            sockets: [{ path: join(folder, "missing/deeper/s") }],
            folders: ["web", "api"].map((name) => ({
              path: join(folder, name),
              identity: name,
              on_change: { command: ["touch", join(folder, `${name}.ran`)] },
            })),
          }),
        );
        const { code, stderr } = await runAgent(["--once", "--config", config], { runtime });
        assert.deepEqual([code, stderr], [0, ""]);
        for (const name of ["web", "api"]) {
          assert.equal(uriOf(join(folder, name)), `/ns/default/dc/dc1/svc/${name}`);
          assert.ok(existsSync(join(folder, `${name}.ran`)));
        }
      }),
    );

    it("writes a folder that others may write to only if it is shared", { timeout: 60_000 }, () =>
      inAgentFolder(async (folder) => {
        const volume = join(folder, "volume");
        mkdirSync(volume);
        chmodSync(volume, 0o777);
        const config = join(folder, "agent.json");
        const once = (shared: boolean) => {
          writeFileSync(
            config,
            JSON.stringify({
              servers: [server.url],
              identities: [{ service: "web" }],
              folders: [{ path: volume, shared }],
            }),
          );
          return runAgent(["--once", "--config", config], { runtime });
        };
        const refused = await once(false);
        assert.equal(refused.code, 78);
        assert.match(refused.stderr, /^Credential folder .*volume" can be replaced by other users/);
        const { code, stderr } = await once(true);
        assert.deepEqual([code, stderr], [0, ""]);
        assert.equal(uriOf(volume), "/ns/default/dc/dc1/svc/web");
      }),
    );

    it("gives up at its time limit if no server answers, with 75", { timeout: 60_000 }, () =>
      inAgentFolder(async (folder) => {
        const flags = ["--once", "--once-timeout", "5s", "--server", "http://127.0.0.1:1"];
        const { code, stderr } = await runAgent(
          [...flags, "--service", "web", "--dir", join(folder, "web")],
          { runtime },
        );
        assert.equal(code, 75);
        assert.match(
          stderr,
          /^Failed to get the certificates:\n {2}.*No CA server answered: http:\/\/127\.0\.0\.1:1 /,
        );
        assert.deepEqual(
          readdirSync(join(folder, "web")).filter((name) => !name.startsWith("..")),
          [],
        );
      }),
    );

    it(
      "exits with 77 if a server refuses the token, without the token in a text",
      {
        timeout: 60_000,
      },
      () =>
        inAgentFolder(async (folder) => {
          const token = await tokenFor("api");
          const { code, stdout, stderr } = await runAgent(
            ["--once", "--server", guarded.url, "--service", "web", "--dir", join(folder, "web")],
            { runtime, environment: { MESHCA_AGENT_TOKEN: token } },
          );
          assert.equal(code, 77, stderr);
          assert.match(
            stderr,
            /^Failed to get the certificates:\n {2}.*\(403\).*Permission denied/,
          );
          assert.ok(!`${stdout}${stderr}`.includes(token));
        }),
    );
  });

describe("meshca agent --once", () => {
  it("takes the service of a token with one identity, and refuses one with several", () =>
    inAgentFolder(async (folder) => {
      const file = join(folder, "token");
      const dir = join(folder, "web");
      const flags = ["--once", "--server", guarded.url, "--dir", dir, "--token-file", file];
      writeFileSync(file, await tokenFor("web", "api"), { mode: 0o600 });
      const several = await runAgent(flags);
      assert.equal(several.code, 78, several.stderr);
      assert.match(several.stderr, /web/);
      writeFileSync(file, await tokenFor("web"), { mode: 0o600 });
      const one = await runAgent(flags);
      assert.deepEqual([one.code, one.stderr], [0, ""]);
      assert.equal(uriOf(dir), "/ns/default/dc/dc1/svc/web");
    }));

  const inFolder = (name: string, ...flags: string[]) =>
    inAgentFolder((folder) =>
      runAgent([
        ...["--once", "--server", server.url, "--service", "web"],
        ...["--dir", join(folder, name), ...flags],
      ]),
    );

  it("exits with 78 if the server rejects a name", async () => {
    const { code, stderr } = await inFolder("web", "--dns-name", "other.example");
    assert.equal(code, 78);
    assert.match(stderr, /is not allowed to have the DNS name "other\.example"/);
  });

  it("exits with 69 if the command fails, after the files were written", async () => {
    const { code, stderr } = await inFolder("web", "--on-change", "false");
    assert.equal(code, 69, stderr);
    assert.match(stderr, /^The certificates were written, and a command after it failed:\n {2}/);
  });

  it("exits with 75 if the command does not end in time", async () => {
    const { code, stderr } = await inFolder(
      ...(["web", "--on-change", "sleep 60", "--once-timeout", "3s"] as const),
    );
    assert.equal(code, 75, stderr);
    assert.match(stderr, /A command after a change did not end in time/);
  });

  it("exits with 75 if the server answers with HTML, and names the server", () =>
    inAgentFolder(async (folder) => {
      const odd = createServer((_request, response) => {
        response.setHeader("Content-Type", "text/html").end("<html>secret</html>");
      });
      await new Promise<void>((resolve) => odd.listen(0, "127.0.0.1", resolve));
      const { port } = odd.address() as AddressInfo;
      try {
        const { code, stderr } = await runAgent([
          ...["--once", "--once-timeout", "5s", "--server", `http://127.0.0.1:${port}`],
          ...["--service", "web", "--dir", join(folder, "web")],
        ]);
        assert.equal(code, 75);
        assert.ok(stderr.includes(`http://127.0.0.1:${port} `), stderr);
        assert.doesNotMatch(stderr, /secret/);
      } finally {
        odd.close();
        odd.closeAllConnections();
      }
    }));

  it("exits with 78 if there is nothing to write", async () => {
    const { code, stderr } = await runAgent([
      "--once",
      "--server",
      server.url,
      "--listen",
      "127.0.0.1:0",
    ]);
    assert.equal(code, 78);
    assert.match(stderr, /^Cannot get certificates once: there is no folder to write;/);
  });

  it("names a folder that cannot be used", () =>
    inAgentFolder(async (folder) => {
      writeFileSync(join(folder, "file"), "");
      const { code, stderr } = await runAgent([
        ...["--once", "--server", server.url, "--service", "web", "--dir", join(folder, "file")],
      ]);
      assert.equal(code, 78);
      assert.ok(stderr.includes(join(folder, "file")), stderr);
    }));
});
