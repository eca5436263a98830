/**
 * Notifications to systemd, received on a real datagram socket, on each runtime.
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { notifierOf, ServiceNotifier } from "../../src/agent/sd-notify.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { silentLog } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { inAgentFolder, startAgent } from "../fixtures/agent.ts";
import { startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { until } from "../redis/server.ts";

const isInstalled = (program: string): boolean => {
  try {
    execFileSync(program, ["--version"]);
    return true;
  } catch {
    return false;
  }
};
const noPython = isInstalled("python3") ? false : "python3 is not installed";
const noTool = isInstalled("systemd-notify") ? noPython : "systemd-notify is not installed";

/** Receives datagrams while `work` runs. @returns them */
async function received(
  address: string,
  work: (soFar: readonly string[]) => Promise<unknown>,
): Promise<readonly string[]> {
  const receiver = spawn("python3", [join(ROOT, "test/agent/receive.py"), address]);
  const messages: string[] = [];
  let isListening = false;
  createInterface({ input: receiver.stdout }).on("line", (line) => {
    if (line === "listening") isListening = true;
    else messages.push(JSON.parse(line) as string);
  });
  try {
    await until(() => isListening);
    await work(messages);
    await until(() => messages.some((message) => message.startsWith("STOPPING=1")));
  } finally {
    receiver.kill("SIGKILL");
  }
  return messages;
}

const RUNTIMES = {
  bun: ["node_modules/.bin/bun"],
  node: ["node_modules/.bin/node"],
  deno: [
    ...["node_modules/deno/deno", "run", "--no-lock", "--no-prompt", "--allow-env"],
    "--allow-run=systemd-notify",
  ],
} as const;

function runChild(
  runtime: keyof typeof RUNTIMES,
  environment: Readonly<Record<string, string>>,
  ms = 0,
): ChildProcess {
  const [program, ...flags] = RUNTIMES[runtime];
  const { PATH = "" } = process.env;
  return spawn(program, [...flags, "test/agent/notify-child.ts", String(ms)], {
    cwd: ROOT,
    env: { PATH, ...environment },
    stdio: ["ignore", "inherit", "inherit"],
  });
}

const MESSAGES = [
  "STATUS=Not ready: roots: not known yet",
  "READY=1\nSTATUS=Serving 1 identity",
  "STATUS=Not ready: identity: web: no certificate",
  "STATUS=Serving 1 identity",
  "STOPPING=1\nSTATUS=Stopping",
];

for (const runtime of ["bun", "node", "deno"] as const)
  describe(`systemd on ${runtime}`, {
    skip: runtime === "bun" ? noPython : noTool,
  }, () => {
    for (const kind of ["a path", "an abstract name"])
      it(`gets each change of the state once, at ${kind}`, async () => {
        const folder = mkdtempSync(join(tmpdir(), "meshca-notify-"));
        const name = join(folder, "notify");
        const address = kind === "a path" ? name : `@${name}`;
        const messages = await received(address, async () => {
          const [code] = await once(runChild(runtime, { NOTIFY_SOCKET: address }), "exit");
          assert.equal(code, 0);
        });
        rmSync(folder, { recursive: true });
        assert.deepEqual(messages, MESSAGES);
      });

    it("gets signs of life as often as its watchdog asks for", async () => {
      const address = `@meshca-watchdog-${runtime}-${process.pid}`;
      const messages = await received(address, async (soFar) => {
        const environment = { NOTIFY_SOCKET: address, WATCHDOG_USEC: "20000" };
        // Its parent is this process, as the command is that of the agent.
        const child = runChild(
          runtime,
          { ...environment, WATCHDOG_PID: String(process.pid) },
          3000,
        );
        await until(() => soFar.filter((message) => message === "WATCHDOG=1").length >= 3);
        await once(child, "exit");
      });
      assert.deepEqual(
        messages.filter((message) => message !== "WATCHDOG=1"),
        MESSAGES,
      );
    });
  });

describe("systemd and an agent", { skip: noPython }, () => {
  it("is ready when everything is served, and stops", { timeout: 60_000 }, () =>
    inAgentFolder(async (folder) => {
      const server = await startServer();
      const address = join(folder, "notify");
      const messages = await received(address, async (soFar) => {
        const agent = await startAgent(
          ["--server", server.url, "--service", "web", "--socket", join(folder, "s")],
          { environment: { NOTIFY_SOCKET: address } },
        );
        await until(() => soFar.some((message) => message.startsWith("READY=1")));
        await agent.stop();
      });
      assert.match(messages[0] ?? "", /^STATUS=Not ready: agent: starting/);
      assert.equal(
        messages.filter((message) => message === "READY=1\nSTATUS=Serving 1 identity").length,
        1,
      );
      assert.equal(messages.at(-1), "STOPPING=1\nSTATUS=Stopping");
      await server.stop();
    }),
  );
});

describe("notifierOf()", () => {
  const ids = { pid: 10, ppid: 9, isBun: false };
  const around = { clock: createFakeClock(), log: silentLog };

  it("notifies nobody without NOTIFY_SOCKET", () => {
    assert.equal(notifierOf({}, ids, around), null);
    assert.equal(notifierOf({ NOTIFY_SOCKET: "" }, ids, around), null);
  });

  it("warns of a socket of another kind", () => {
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (message: string) => warnings.push(message) };
    assert.equal(notifierOf({ NOTIFY_SOCKET: "vsock:2:1" }, ids, { ...around, log }), null);
    assert.deepEqual(warnings, [
      "Not notifying systemd: NOTIFY_SOCKET is neither a path nor an abstract socket",
    ]);
  });

  for (const [what, environment, sleepers] of [
    ["of this process", { WATCHDOG_USEC: "1000000", WATCHDOG_PID: "10" }, 1],
    ["of its parent", { WATCHDOG_USEC: "1000000", WATCHDOG_PID: "9" }, 1],
    ["of any process", { WATCHDOG_USEC: "1000000" }, 1],
    ["of another process", { WATCHDOG_USEC: "1000000", WATCHDOG_PID: "8" }, 0],
    ["without an interval", { WATCHDOG_USEC: "x" }, 0],
  ] as const)
    it(`${sleepers === 1 ? "serves" : "ignores"} a watchdog ${what}`, async () => {
      const clock = createFakeClock();
      const notifier = notifierOf({ NOTIFY_SOCKET: "/none", PATH: "/none", ...environment }, ids, {
        ...around,
        clock,
      });
      assert.equal(clock.sleepers, sleepers);
      await notifier?.stop();
      assert.equal(clock.sleepers, 0);
    });
});

describe("ServiceNotifier", () => {
  it("warns once for each series of failures, and goes on", async () => {
    const warnings: (LogFields | undefined)[] = [];
    const log = {
      ...silentLog,
      warn: (_message: string, fields?: LogFields) => warnings.push(fields),
    };
    const sent: string[] = [];
    const notifier = new ServiceNotifier({
      send: async (message) => {
        if (message.includes("bad")) throw new Error("no space");
        sent.push(message);
      },
      watchdogMs: null,
      clock: createFakeClock(),
      log,
    });
    for (const status of ["bad 1", "bad 2", "good", "bad 3"]) notifier.report(false, status);
    await notifier.stop();
    assert.deepEqual(sent, ["STATUS=good", "STOPPING=1\nSTATUS=Stopping"]);
    assert.deepEqual(warnings, [{ reason: "no space" }, { reason: "no space" }]);
  });
});
