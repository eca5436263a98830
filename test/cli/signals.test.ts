/**
 * Signals of an operator and a supervisor: SIGHUP reloads and ends no process, SIGTERM ends
 * the server, also through npm and a shell.
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { promisify } from "node:util";
import { linesOf, makeDataDir, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { freePort, until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { get, inNewFolder, selfSigned } from "../tls/harness.ts";

describe("SIGHUP", () => {
  for (const name of ["bun", "node", "deno"] as const)
    it(`ends nothing on ${name}, a hundred times`, { timeout: 60_000 }, async () => {
      const dataDir = makeDataDir();
      const server = await startServer({ MESHCA_DATA_DIR: dataDir }, [], COMMANDS[name](dataDir));
      const reloaded = () =>
        linesOf(server.stdout()).filter(({ message }) =>
          String(message).startsWith("Reloaded the TLS files"),
        ).length;
      for (let i = 0; i < 100; i++) process.kill(server.pid, "SIGHUP");
      // Signals of one kind that are pending are one (signal(7)).
      await until(() => reloaded() > 0);
      assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
      assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
      rmSync(dataDir, { recursive: true, force: true });
    });

  it(
    "re-reads the files for TLS and the log level, and names what needs a restart",
    { timeout: 60_000 },
    () =>
      inNewFolder(async (folder) => {
        const [one, other] = [selfSigned("one"), selfSigned("other")];
        const [cert_file, key_file, config] = [
          join(folder, "cert.pem"),
          join(folder, "key.pem"),
          join(folder, "consul.json"),
        ];
        const write = (log_level: string, datacenter: string) =>
          writeFileSync(
            config,
            JSON.stringify({
              datacenter,
              log_level,
              ports: { http: -1, https: 0 },
              tls: { https: { cert_file, key_file } },
            }),
          );
        const pair = ({ cert, key }: typeof one) => {
          writeFileSync(cert_file, cert);
          writeFileSync(key_file, key);
        };
        pair(one);
        write("info", "dc1");
        const server = await startServer({
          MESHCA_CONFIG: config,
          MESHCA_LISTEN: "127.0.0.1:0",
          // Its parsed form must be comparable: BigInts once made every SIGHUP fail.
          MESHCA_VAULT_ALLOW: "vault.example,10.0.0.0/8",
        });
        try {
          const last = () =>
            linesOf(server.stdout()).findLast(({ message }) =>
              String(message).includes("after SIGHUP"),
            );
          pair(other);
          write("debug", "dc2");
          process.kill(server.pid, "SIGHUP");
          await until(() => last() !== undefined);
          assert.deepEqual([last()?.logLevel, last()?.needRestart], ["debug", ["datacenter"]]);
          await until(
            async () =>
              (await get(server.port, "/healthz")).serial ===
              new X509Certificate(other.cert).serialNumber,
          );
          await until(() => server.stdout().includes('"level":"DEBUG"'));
          // A file that cannot be used changes nothing.
          writeFileSync(cert_file, "x");
          writeFileSync(config, "{");
          process.kill(server.pid, "SIGHUP");
          await until(() => last()?.level === "ERROR");
          assert.equal(
            (await get(server.port, "/healthz")).serial,
            new X509Certificate(other.cert).serialNumber,
          );
        } finally {
          assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
        }
      }),
  );

  it(
    "re-reads the servers of other datacenters, but not the role of this one",
    { timeout: 60_000 },
    () =>
      inNewFolder(async (folder) => {
        const config = join(folder, "meshca.json");
        const server = (port: number) => ({ servers: [`http://127.0.0.1:${port}`] });
        const write = (file: object) => writeFileSync(config, JSON.stringify(file));
        write({ datacenters: { dc2: server(1) } });
        const started = await startServer({ MESHCA_CONFIG: config });
        try {
          const reloads = () =>
            linesOf(started.stdout()).filter(({ message }) =>
              String(message).includes("after SIGHUP"),
            );
          const reload = async (file: object) => {
            write(file);
            const before = reloads().length;
            process.kill(started.pid, "SIGHUP");
            await until(() => reloads().length > before);
            return reloads().at(-1);
          };
          const ca_file = join(folder, "roots.pem");
          writeFileSync(ca_file, selfSigned("ca").cert);
          const secure = { servers: ["https://127.0.0.1:3"], ca_file };
          const others = await reload({ datacenters: { dc2: server(2), dc3: secure } });
          assert.deepEqual([others?.level, others?.needRestart], ["INFO", undefined]);
          const primary = { primary_datacenter: "dc2", primary_servers: ["http://127.0.0.1:1"] };
          assert.deepEqual((await reload(primary))?.needRestart, ["primaryDatacenter"]);
          const faulty = await reload({ primary_datacenter: "dc2" });
          assert.equal(faulty?.level, "ERROR");
          assert.match(String(faulty?.reason), /MESHCA_PRIMARY_SERVERS: is required/);
        } finally {
          assert.deepEqual([(await started.stop()).code, started.stderr()], [0, ""]);
        }
      }),
  );

  it("does not end a worker that is still starting", { timeout: 60_000 }, async () => {
    const starting = startServer({}, ["--workers", "2"]);
    const parent = async (): Promise<number> => {
      const { stdout } = await promisify(execFile)("pgrep", [
        "-P",
        String(process.pid),
        "-f",
        "main.ts serve --workers 2",
      ]).catch(() => ({
        stdout: "",
      }));
      return Number(stdout.trim().split("\n")[0]);
    };
    let pid = 0;
    await until(async () => {
      pid = await parent();
      return pid > 0;
    });
    // Its own modules are loaded, and those of its workers are not, once the first of them is
    // there.
    await until(
      async () =>
        (await promisify(execFile)("pgrep", ["-P", String(pid)]).catch(() => null)) !== null,
    );
    for (let i = 0; i < 20; i++) {
      process.kill(pid, "SIGHUP");
      await new Promise((resolve) => setImmediate(resolve));
    }
    const server = await starting;
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
    assert.equal((await server.stop()).code, 0);
  });

  it("reaches every worker", { timeout: 60_000 }, async () => {
    const server = await startServer({}, ["--workers", "2"]);
    process.kill(server.pid, "SIGHUP");
    const reloaded = () =>
      linesOf(server.stdout()).filter(({ message }) =>
        String(message).startsWith("Reloaded the TLS files"),
      ).length;
    await until(() => reloaded() === 2);
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
    assert.equal((await server.stop()).code, 0);
  });
});

describe("SIGTERM", () => {
  const scripts = [
    ["start", "npm run --silent --ignore-scripts start"],
    [
      "start through a shell that goes on",
      "sh -c 'npm run --silent --ignore-scripts start; exit 0'",
    ],
    ["start:node", "npm run --silent --ignore-scripts start:node"],
    ["start:deno", "npm run --silent --ignore-scripts start:deno"],
    ["bin/meshca.mjs", "node bin/meshca.mjs serve"],
  ] as const;
  for (const [name, command] of scripts)
    it(`to the process of ${name} leaves no server running`, { timeout: 60_000 }, async () => {
      const [port, dataDir] = [await freePort(), makeDataDir()];
      const { PATH = "", HOME = "" } = process.env;
      const env = {
        PATH: `${ROOT}node_modules/.bin:${PATH}`,
        HOME,
        MESHCA_LISTEN: `127.0.0.1:${port}`,
        MESHCA_DATA_DIR: dataDir,
      };
      const isThere = () =>
        fetch(`http://127.0.0.1:${port}/readyz`).then(
          (answer) => answer.ok,
          () => false,
        );
      const child: ChildProcess = spawn("sh", ["-c", `exec ${command}`], {
        cwd: ROOT,
        env,
        stdio: "ignore",
        detached: true,
      });
      try {
        await until(isThere);
        // A shell that waits for npm has to be signalled with its group, as a terminal or a
        // supervisor does.
        process.kill(name.includes("shell") ? -(child.pid ?? 0) : (child.pid ?? 0), "SIGTERM");
        await until(async () => !(await isThere()));
      } finally {
        try {
          process.kill(-(child.pid ?? 0), "SIGKILL");
        } catch {
          // All processes of the group have ended, as they should.
        }
        rmSync(dataDir, { recursive: true, force: true });
      }
    });
});

/** The process that another one has started, or 0. */
async function childOf(pid = 0): Promise<number> {
  const found = promisify(execFile)("pgrep", ["-P", String(pid)]);
  // It ends with 1 if there is no such process.
  const { stdout } = await found.catch(() => ({ stdout: "" }));
  return Number(stdout.trim().split("\n")[0]);
}

describe("a terminal", () => {
  for (const [name, command] of [
    ["start", "npm run --silent --ignore-scripts start"],
    ["start with workers", "npm run --silent --ignore-scripts start -- --workers 2"],
    ["start:node", "npm run --silent --ignore-scripts start:node"],
  ] as const)
    it(`that is closed ends the server of ${name}, and SIGHUP in one that is open does not`, {
      timeout: 60_000,
    }, async () => {
      const [port, dataDir] = [await freePort(), makeDataDir()];
      const { PATH = "", HOME = "" } = process.env;
      const env = {
        PATH: `${ROOT}node_modules/.bin:${PATH}`,
        HOME,
        MESHCA_LISTEN: `127.0.0.1:${port}`,
        MESHCA_DATA_DIR: dataDir,
      };
      const isThere = () =>
        fetch(`http://127.0.0.1:${port}/readyz`).then(
          (answer) => answer.ok,
          () => false,
        );
      const child = spawn("script", ["-qefc", command, "/dev/null"], { cwd: ROOT, env });
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        output += chunk;
      });
      const gone = new Promise((resolve) => child.once("exit", resolve));
      // The session that script(1) makes for its terminal, once it has made the process.
      let session = 0;
      try {
        await until(async () => {
          session = await childOf(child.pid);
          return session > 0;
        });
        await until(isThere);
        // A worker that is still starting has no handler for the signal.
        await until(() =>
          output.includes(command.includes("--workers") ? " workers=2" : " Ready url="),
        );
        await promisify(execFile)("pkill", ["-HUP", "-s", String(session), "-f", " serve"]);
        await until(() => output.includes("after SIGHUP"));
        assert.equal(await isThere(), true);
        child.kill("SIGKILL");
        await gone;
        await until(async () => !(await isThere()));
      } finally {
        child.kill("SIGKILL");
        if (session > 0)
          await promisify(execFile)("pkill", ["-KILL", "-s", String(session)]).catch(
            () => undefined,
          );
        rmSync(dataDir, { recursive: true, force: true });
      }
    });
});
