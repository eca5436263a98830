/**
 * The banner that a terminal shows, whose commands work as they are pasted.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { freePort, until } from "../redis/server.ts";

/**
 * Runs a server with a terminal as its output, by util-linux's script(1), and shows `work` what it
 * printed.
 */
async function onTerminal(
  environment: Readonly<Record<string, string>>,
  work: (output: string, folder: string) => void,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-banner-"));
  const { PATH = "" } = process.env;
  const env = {
    PATH,
    HOME: folder,
    MESHCA_LISTEN: `127.0.0.1:${await freePort()}`,
    MESHCA_DATA_DIR: join(folder, "the data"),
    ...environment,
  };
  const child = spawn(
    "script",
    ["-qefc", `exec '${process.execPath}' src/cli/main.ts serve`, "/dev/null"],
    { cwd: ROOT, env },
  );
  try {
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk.replaceAll("\r", "");
    });
    await until(() => /meshca listens on [\s\S]*\n\n[\s\S]*\n\n/.test(output));
    work(output, folder);
  } finally {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The command below a line of the banner. */
function commandAfter(output: string, title: string): string {
  const command = output.split(`${title}\n  `)[1]?.split("\n")[0];
  assert.ok(command !== undefined, `${title} is not in ${output}`);
  return command;
}

const sh = (command: string, folder: string, env: Readonly<Record<string, string>> = {}): string =>
  execFileSync("sh", ["-c", command], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, ...env },
  });

describe("the banner", () => {
  it("is not printed if standard output is no terminal: each line is JSON", async () => {
    const server = await startServer({ MESHCA_STORE: "memory:" });
    const { stdout } = await server.stop();
    for (const line of stdout.trimEnd().split("\n"))
      assert.doesNotThrow(() => JSON.parse(line), line);
  });

  it("has a command that gets a leaf", () =>
    onTerminal({}, (output, folder) => {
      assert.match(sh(commandAfter(output, "Get a leaf:"), folder), /"CertPEM"/);
    }));

  it("has commands that work with a certificate of its own CA", () =>
    onTerminal({ MESHCA_TLS: "self" }, (output, folder) => {
      sh(commandAfter(output, "Fetch the roots, to verify this server by:"), folder);
      assert.match(sh(commandAfter(output, "Get a leaf:"), folder), /"CertPEM"/);
    }));

  for (const host of ["0.0.0.0", "[::]"])
    it(`has commands that work for a server on ${host}, by an address that its certificate has`, async () => {
      const environment = { MESHCA_TLS: "self", MESHCA_LISTEN: `${host}:${await freePort()}` };
      await onTerminal(environment, (output, folder) => {
        sh(commandAfter(output, "Fetch the roots, to verify this server by:"), folder);
        assert.match(sh(commandAfter(output, "Make the first token:"), folder), /"SecretID"/);
      });
    });

  it("has no URL that a shell expands as a pattern", () =>
    onTerminal({ MESHCA_TLS: "self", MESHCA_ACL: "deny", MESHCA_LISTEN: "[::1]:0" }, (output) => {
      const commands = output.split("\n").filter((line) => line.startsWith("  "));
      assert.equal(commands.length, 3);
      for (const command of commands) assert.match(command, /"https:\/\/\[::1\]:\d+\/v1\/[^"]*"/);
    }));

  it("has commands that work with access control: the first token, and a leaf by it", () =>
    onTerminal({ MESHCA_ACL: "deny" }, (output, folder) => {
      const made = JSON.parse(sh(commandAfter(output, "Make the first token:"), folder)) as {
        SecretID: string;
      };
      assert.match(
        sh(commandAfter(output, "Get a leaf:"), folder, { CONSUL_HTTP_TOKEN: made.SecretID }),
        /"CertPEM"/,
      );
    }));
});
