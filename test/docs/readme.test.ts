/**
 * The shell blocks of README.md and docs/ can be pasted into sh, bash and zsh, and the first ones do
 * what the text describes.
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ROOT } from "../fixtures/root.ts";
import { freePort, noRedis, startRedis, until } from "../redis/server.ts";

const FILES = [
  "README.md",
  ...readdirSync(join(ROOT, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];
const blocksOf = (file: string): string[] =>
  // A block in a list is indented as the list is.
  [...readFileSync(join(ROOT, file), "utf8").matchAll(/^( *)```sh\n(.*?)^\1```$/gms)].map(
    ([, indent = "", block = ""]) => block.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  );

const isInstalled = (shell: string): boolean => {
  try {
    execFileSync(shell, ["-c", "true"]);
    return true;
  } catch {
    return false;
  }
};
const SHELLS = ["sh", "bash", "zsh"].filter(isInstalled);

describe("shell blocks", () => {
  for (const file of FILES)
    it(`in ${file} have no comment, no unquoted URL with "?", and a curl that fails with the server's text`, () => {
      for (const block of blocksOf(file)) {
        for (const shell of SHELLS) execFileSync(shell, ["-n"], { input: block });
        // An interactive zsh takes `#` for an argument, and `?` for a pattern that matches no file.
        assert.doesNotMatch(block, /(^|\s)#/m, block);
        // It would stay for the blocks of other sections, which are pasted into the same shell.
        assert.doesNotMatch(block, /\bexport MESHCA_/, block);
        assert.doesNotMatch(block.replaceAll(/"[^"]*"|'[^']*'/g, ""), /https?:\S*\?/, block);
        for (const [command] of block.matchAll(/\bcurl (?:[^|\n]|\\\n)*/g))
          assert.match(command, /--fail-with-body|-s?k?f -o \/dev\/null|\/readyz"?\s*$/, command);
      }
    });
});

/**
 * Runs blocks, as they are but for the port, the data folder and the set-up, which is done already.
 */
async function paste(
  shell: string,
  blocks: readonly string[],
  {
    port,
    folder,
    more = {},
  }: {
    readonly port: number;
    readonly folder: string;
    readonly more?: Readonly<Record<string, string>>;
  },
): Promise<string> {
  const { PATH = "" } = process.env;
  const script = blocks
    .join("\n")
    .replaceAll("127.0.0.1:8500", `127.0.0.1:${port}`)
    .replaceAll("localhost:8500", `localhost:${port}`)
    .replaceAll("npm run setup", "true")
    .replaceAll("npm start", `npm --prefix '${ROOT}' --silent --ignore-scripts start`)
    .replaceAll("node bin/meshca.mjs", `node '${ROOT}bin/meshca.mjs'`);
  const env = {
    ...{
      PATH: `${ROOT}node_modules/.bin:${PATH}`,
      HOME: folder,
      MESHCA_LISTEN: `127.0.0.1:${port}`,
    },
    ...{ MESHCA_DATA_DIR: join(folder, "data"), ...more },
  };
  const child: ChildProcess = spawn(shell, ["-e"], {
    cwd: folder,
    env,
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    output += chunk;
  });
  const ended = new Promise<number | null>((resolve) =>
    child.once("exit", (code) => resolve(code)),
  );
  child.stdin?.end(script);
  try {
    assert.equal(await ended, 0, `${script}\n${output}`);
    return output;
  } finally {
    // The servers that the blocks started.
    try {
      process.kill(-(child.pid ?? 0), "SIGTERM");
    } catch {
      // There are none.
    }
    await until(
      async () =>
        !(await fetch(`http://127.0.0.1:${port}/healthz`).then(
          () => true,
          () => false,
        )),
    );
    rmSync(folder, { recursive: true, force: true });
  }
}

const newFolder = () => mkdtempSync(join(tmpdir(), "meshca-readme-"));
const README = blocksOf("README.md");
const blockWith = (file: string, text: string): string => {
  const found = blocksOf(file).find((block) => block.includes(text));
  assert.ok(found !== undefined, `${file} has no block with ${text}`);
  return found;
};

for (const shell of SHELLS)
  describe(`README.md and docs/ in ${shell}`, () => {
    it("gets roots and leaves, keeps them fresh, connects clients to servers with them, rotates and changes the key type", {
      timeout: 120_000,
    }, async () => {
      const [start = "", ...next] = README;
      const port = await freePort();
      // The servers, and the agent.
      const others = ["8443", "8444", "8502"];
      const ports = await Promise.all(others.map(() => freePort()));
      const pasted = [
        `${start.trim()} &\n`,
        ...next.map((block) =>
          others.reduce((text, other, i) => text.replaceAll(other, String(ports[i])), block),
        ),
        blockWith("docs/configuration.md", "PrivateKeyBits: 2048"),
      ];
      // A file of its own: the servers log to the shell's output.
      const answers = newFolder();
      const answer = join(answers, "configuration.json");
      const read = `curl -sS -o '${answer}' "http://127.0.0.1:${port}/v1/connect/ca/configuration"\n`;
      const output = await paste(shell, [...pasted, read], { port, folder: newFolder() });
      assert.match(output, /"TrustDomain"/);
      assert.match(output, /"CertPEM":/);
      assert.match(output, /DNS:web\.service\.consul, URI:spiffe:\/\/\S+\/svc\/web$/m);
      assert.match(output, /^hello$/m);
      assert.match(output, /hello URI:spiffe:\/\/\S+\.consul\/ns\/default\/dc\/dc1\/svc\/api$/m);
      assert.match(output, /"ActiveRootID"/);
      const { Config } = JSON.parse(readFileSync(answer, "utf8")) as {
        Config: Record<string, unknown>;
      };
      rmSync(answers, { recursive: true });
      assert.deepEqual(Config, {
        ...{ IntermediateCertTTL: "8760h", LeafCertTTL: "72h", RootCertTTL: "87600h" },
        ...{ PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
      });
    });

    it("starts an agent, which becomes ready", { timeout: 120_000 }, async () => {
      const port = await freePort();
      const own = String(await freePort());
      const wait = `until curl -sf -o /dev/null "http://127.0.0.1:${port}/readyz"; do sleep 1; done\n`;
      const blocks = ["bin/meshca.mjs agent", "openssl dgst -sha256", "CONSUL_HTTP_ADDR"].map(
        (text) => blockWith("docs/workloads.md", text).replaceAll("8502", own),
      );
      const output = await paste(shell, ["npm start &\n", wait, ...blocks], {
        port,
        folder: newFolder(),
      });
      assert.match(output, /^ok\nserver: last contact /m);
      assert.match(output, /^[0-9a-f]{64}$/m);
      assert.match(output, /"PrivateKeyPEM": "-----BEGIN EC PRIVATE KEY-----/);
    });

    it("serves TLS with a certificate of its own CA", { timeout: 120_000 }, async () => {
      const output = await paste(shell, [blockWith("docs/tls.md", "MESHCA_TLS=self npm start")], {
        port: await freePort(),
        folder: newFolder(),
      });
      assert.match(output, /"TrustDomain"/);
    });

    it("takes over a root of Consul", { timeout: 120_000 }, async () => {
      const output = await paste(shell, blocksOf("docs/consul-migration.md"), {
        port: await freePort(),
        folder: newFolder(),
      });
      assert.match(output, /"TrustDomain": "11111111-2222-3333-4444-555555555555\.consul"/);
      assert.match(output, /"RootCert": "-----BEGIN CERTIFICATE-----/);
    });

    it("makes a token with access control", { timeout: 120_000 }, async () => {
      const output = await paste(shell, [blockWith("docs/access-control.md", "MESHCA_ACL=deny")], {
        port: await freePort(),
        folder: newFolder(),
      });
      assert.match(output, /"SecretID"/);
    });

    it("starts three replicas over one Redis, each with a data folder of its own", {
      timeout: 120_000,
      skip: noRedis,
    }, async () => {
      const redis = await startRedis();
      try {
        const block = blockWith("docs/operations.md", "MESHCA_STORE=redis://").replaceAll(
          "127.0.0.1:6379",
          `127.0.0.1:${redis.port}`,
        );
        const ports = [await freePort(), await freePort(), await freePort()];
        // The loops count 1 to 3 behind a common beginning.
        const other = ports.reduce(
          (text, port, i) => text.replaceAll(`:850${i + 1}`, `:${port}`),
          block.replaceAll("850$N", "$(port $N)"),
        );
        const define = `port() { case $1 in 1) echo ${ports[0]};; 2) echo ${ports[1]};; *) echo ${ports[2]};; esac; }\n`;
        const output = await paste(shell, [define, other], {
          port: ports[0] ?? 0,
          folder: newFolder(),
        });
        assert.match(output, /^\["127\.0\.0\.1:\d+"/m);
        assert.match(output, /ok\nrole: /);
      } finally {
        await redis.stop();
      }
    });
  });
