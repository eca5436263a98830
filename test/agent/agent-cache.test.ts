/**
 * The cache of an agent with the real processes: a restart in an outage, roots that a server has in
 * the meantime, and folders that are refused.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { AGENT_RUNTIMES, inAgentFolder, runAgent, startAgent } from "../fixtures/agent.ts";
import { makeDataDir, startServer } from "../fixtures/process.ts";
import { freePort, until } from "../redis/server.ts";

const serialOf = (folder: string) =>
  new X509Certificate(readFileSync(join(folder, "tls.crt"))).serialNumber;
const rootsIn = (folder: string) =>
  readFileSync(join(folder, "ca.crt"), "utf8").split("-----BEGIN").length - 1;

for (const runtime of AGENT_RUNTIMES)
  describe(`the cache of an agent on ${runtime}`, () => {
    it(
      "serves after server and agent were killed, until a server is back",
      {
        timeout: 120_000,
      },
      () =>
        inAgentFolder(async (folder) => {
          const [cache, web] = [join(folder, "cache"), join(folder, "web")];
          const environment = {
            MESHCA_LISTEN: `127.0.0.1:${await freePort()}`,
            MESHCA_DATA_DIR: makeDataDir(),
          };
          const server = await startServer(environment);
          const flags = [
            ...["--server", server.url, "--service", "web", "--dir", web, "--cache-dir", cache],
            ...["--listen", "127.0.0.1:0"],
          ];
          const first = await startAgent(flags, { runtime });
          const serial = serialOf(web);
          await until(() => readdirSync(cache).length === 2);
          server.kill("SIGKILL");
          first.kill("SIGKILL");
          await Promise.all([server.ended, first.ended]);
          assert.equal(statSync(cache).mode & 0o777, 0o700);
          for (const name of readdirSync(cache))
            assert.equal(statSync(join(cache, name)).mode & 0o777, 0o600);

          const second = await startAgent(flags, { runtime });
          const readyz = async () => (await fetch(`${second.url()}/readyz`)).text();
          assert.match(await readyz(), /^ok\nserver: last contact never: No CA server answered/);
          assert.equal(serialOf(web), serial);
          await second.logged("Using the leaf in the cache");
          const again = await startServer(environment);
          await until(async () => !(await readyz()).includes("last contact never"));
          assert.equal(serialOf(web), serial);
          assert.equal((await second.stop()).code, 0);

          // The active root changes while no agent runs.
          const response = await fetch(`${again.url}/v1/connect/ca/configuration`, {
            method: "PUT",
            body: JSON.stringify({
              Provider: "consul",
              Config: { PrivateKeyType: "ec", PrivateKeyBits: 384 },
            }),
          });
          assert.equal(response.status, 200, await response.text());
          const third = await startAgent(flags, { runtime });
          assert.equal(rootsIn(web), 2);
          assert.ok(
            third.lines().every(({ message }) => !String(message).includes("roots; using those")),
          );
          await third.stop();
          await again.stop();
        }),
    );
  });

describe("the folder of a cache", () => {
  const refused = async (cache: string, reason: RegExp) => {
    const { code, stderr, stdout } = await runAgent([
      ...["--server", "http://127.0.0.1:1", "--service", "web", "--listen", "127.0.0.1:0"],
      ...["--cache-dir", cache],
    ]);
    assert.equal(code, 78, stdout);
    assert.match(stderr, reason);
  };

  it("that others can write to, read or replace is refused", { timeout: 60_000 }, () =>
    inAgentFolder(async (folder) => {
      const at = (name: string) => join(folder, name);
      mkdirSync(at("open"));
      chmodSync(at("open"), 0o755);
      await refused(at("open"), /^The cache folder .* is open to other users \(mode 755\)/);
      chmodSync(at("open"), 0o777);
      await refused(
        at("open"),
        /^Cache folder .*open" can be replaced by other users with mode 0777/,
      );
      await refused(
        at("open/cache"),
        /^Cache folder .*cache" can be replaced by other users at ".*open" with mode 0777/,
      );
      mkdirSync(at("own"), { mode: 0o700 });
      symlinkSync(at("own"), at("link"));
      await refused(at("link"), /^Cache folder .*link" is a symbolic link/);
      writeFileSync(at("file"), "");
      await refused(at("file"), /^Cache folder .*file" is not a folder/);
    }),
  );
});
