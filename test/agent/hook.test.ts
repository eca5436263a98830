/**
 * Hooks: commands and signals with real processes, and when they run.
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { Delivered, Hook, HookOutcome } from "../../src/agent/hook.ts";
import { HookRunner } from "../../src/agent/hook.ts";
import { HookCommand } from "../../src/agent/hook-command.ts";
import { OutputTail } from "../../src/agent/hook-output.ts";
import { HookSignal } from "../../src/agent/hook-signal.ts";
import { createTestCa } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { collectingLog, createFolder, pass, privateFolder, until } from "../fixtures/folder.ts";
import { bundleOf, makeSvid } from "../fixtures/svid.ts";

const FOLDER = privateFolder();
const DELIVERED: Delivered = {
  folder: "/run/web",
  spiffeId: "spiffe://mesh.example/ns/default/dc/dc1/svc/web",
  service: "web",
  files: {
    ...{ bundle: "/run/web/b", chain: "/run/web/tls.crt", key: "/run/web/tls.key" },
    ...{ roots: "/run/web/ca.crt", combined: "/run/web/tls.pem", trustBundle: "/run/web/t" },
  },
};
const OPEN = new AbortController().signal;

/** An executable file with a text. */
function program(name: string, text: string, mode = 0o755): string {
  const path = join(FOLDER, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** Runs a shell script as a hook. */
const runScript = (script: string, clock = createFakeClock(), closing = OPEN) =>
  new HookCommand({ words: ["sh", "-c", script], clock }).run(DELIVERED, closing);

describe("hook command", () => {
  it("gets paths and the identity, and nothing of the agent's environment", async () => {
    process.env.MESHCA_AGENT_TOKEN = "a-secret-token";
    const out = join(FOLDER, "environment");
    const outcome = await runScript(`/usr/bin/env > '${out}'`).finally(() => {
      delete process.env.MESHCA_AGENT_TOKEN;
    });
    assert.deepEqual(outcome, { kind: "ok" });
    const lines = readFileSync(out, "utf8").trim().split("\n");
    // A shell sets these itself.
    const own = lines.filter((line) => !/^(PWD|OLDPWD|SHLVL|_)=/.test(line));
    assert.deepEqual(own.toSorted(), [
      "MESHCA_HOOK_CA_FILE=/run/web/ca.crt",
      "MESHCA_HOOK_CERT_FILE=/run/web/tls.crt",
      "MESHCA_HOOK_KEY_FILE=/run/web/tls.key",
      "MESHCA_HOOK_PEM_FILE=/run/web/tls.pem",
      "MESHCA_HOOK_SERVICE=web",
      "MESHCA_HOOK_SPIFFE_ID=spiffe://mesh.example/ns/default/dc/dc1/svc/web",
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "SPIFFE_CREDENTIAL_FOLDER=/run/web",
    ]);
  });

  it("runs without a shell, in the root folder, with an empty input", async () => {
    const out = join(FOLDER, "words");
    const script = program("words", '#!/bin/sh\nprintf "%s|" "$@" "$(pwd)" "$(cat)" > "$0.out"\n');
    const words = [script, "a b", "$HOME", "*", "; exit 1"];
    const command = new HookCommand({ words, clock: createFakeClock() });
    assert.deepEqual(await command.run(DELIVERED, OPEN), { kind: "ok" });
    assert.equal(readFileSync(`${out}.out`, "utf8"), "a b|$HOME|*|; exit 1|/||");
  });

  for (const [what, words, reason] of [
    ["does not exist", ["/no/such"], /^"\/no\/such": there is no such file$/],
    ["is not in the PATH", ["no-such-program"], /^there is no program "no-such-program" in \/usr/],
    ["is a folder", ["/usr/bin"], /^"\/usr\/bin": it is not a file$/],
    ["cannot be executed", [program("plain", "x", 0o644)], /user is not permitted to execute it$/],
    ["fails", ["sh", "-c", "exit 3"], /^it ended with exit code 3$/],
    ["dies by a signal", ["sh", "-c", "kill -SEGV $$"], /^it ended with signal SIGSEGV$/],
    [
      "is of an unknown format",
      [program("binary", "\x7fELFxx")],
      /^it ended with exit code 12[67]$|it is not a program$|ENOEXEC/,
    ],
  ] as const)
    it(`says so if it ${what}`, async () => {
      const outcome = await new HookCommand({ words, clock: createFakeClock() }).run(
        DELIVERED,
        OPEN,
      );
      assert.equal(outcome.kind, "failed");
      assert.match("reason" in outcome ? outcome.reason : "", reason);
    });

  for (const [what, words, reason] of [
    ["no word", [], /has no program$/],
    ["an empty word", ["", "x"], /has no program$/],
    ["a relative path", ["bin/reload"], /"bin\/reload" is a relative path: use an absolute path/],
    ["a NUL", ["sh", "a\0b"], /has a word with a NUL$/],
  ] as const)
    it(`is refused with ${what}`, () => {
      assert.throws(() => new HookCommand({ words, clock: createFakeClock() }), reason);
    });

  it("does not have its arguments in the log", () => {
    const { name } = new HookCommand({
      words: ["curl", "--user=secret"],
      clock: createFakeClock(),
    });
    assert.equal(name, "command curl");
  });

  it("logs its last lines, without keys", async () => {
    const key =
      "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\n-----END PRIVATE KEY-----";
    const outcome = await runScript(`echo out; echo '${key}' >&2; echo last >&2; exit 1`);
    assert.equal(outcome.kind, "failed");
    const lines = "output" in outcome ? outcome.output.split("\n") : [];
    assert.deepEqual(new Set(lines), new Set(["out", "[base64 removed]", "last"]));
  });

  it("is read to the end of a large output, of which the end is kept", async () => {
    const outcome = await runScript("yes 0123456789 | head -n 200000; echo last; exit 1");
    assert.ok("output" in outcome && outcome.output.endsWith("0123456789\nlast"));
    assert.ok(outcome.output.length <= 1000);
  });

  it("is not waited for after its end if it leaves a process with its output behind", async () => {
    const clock = createFakeClock();
    const out = join(FOLDER, "left-behind");
    const run = runScript(`sleep 300 & echo $! > '${out}'`, clock);
    await until(() => existsSync(out) && readFileSync(out, "utf8").endsWith("\n"));
    let isOver = false;
    void run.then(() => {
      isOver = true;
    });
    while (!isOver) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      clock.advance(1);
    }
    assert.deepEqual(await run, { kind: "ok" });
    // It was not killed: a reload may start the new process of a service.
    process.kill(Number(readFileSync(out, "utf8")), "SIGKILL");
  });

  it("is ended with all of its processes after the time limit", async () => {
    const clock = createFakeClock();
    const out = join(FOLDER, "late");
    const run = runScript(`trap '' TERM; sleep 300 & echo $! > '${out}'; wait; sleep 300`, clock);
    await until(() => existsSync(out) && readFileSync(out, "utf8").endsWith("\n"));
    await pass(clock, 29_999);
    await pass(clock, 1);
    await pass(clock, 5000);
    const outcome = await run;
    assert.deepEqual(outcome, {
      ...{ kind: "failed", reason: "it did not end within 30 s and was killed", output: "" },
    });
    const child = Number(readFileSync(out, "utf8"));
    await until(() => !isAlive(child));
  });

  it("is ended if the agent stops", async () => {
    const clock = createFakeClock();
    const closing = new AbortController();
    const run = runScript("sleep 300", clock, closing.signal);
    await until(() => clock.sleepers > 0);
    closing.abort();
    const outcome = await run;
    assert.equal("reason" in outcome && outcome.reason, "it was ended, because the agent stops");
  });
});

/** Whether a process runs; one that nobody waited for does not. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe("output of a command", () => {
  const textOf = (...chunks: string[]) => {
    const tail = new OutputTail();
    for (const chunk of chunks) tail.add(Buffer.from(chunk));
    return tail.text();
  };
  const line = "A".repeat(64);

  it("has no PEM, whole or cut at either end", () => {
    assert.equal(
      textOf(`a\n-----BEGIN X-----\n${line}\nQQ==\n-----END X-----\nb`),
      "a\n[base64 removed]\nb",
    );
    assert.equal(textOf(`a\n-----BEGIN X-----\n${line}\nrest`), "a\n[base64 removed]");
    assert.equal(textOf(`${line}\n${line}\n-----END X-----\nb`), "[base64 removed]\nb");
    assert.equal(textOf(`key: -----BEGIN X-----`, `\n${line}`), "[base64 removed]");
  });

  it("has whole lines only, ten at most", () => {
    assert.equal(textOf(`secret${"x".repeat(4100)}\n1\n2`), "1\n2");
    assert.equal(textOf("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\r\n\n").split("\n")[0], "2");
  });
});

describe("hook signal", () => {
  /** A process that writes a line for each signal. */
  async function service(): Promise<{ child: ChildProcess; output: () => string }> {
    const script =
      "trap 'echo hup' HUP; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    const child = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    await until(() => output.includes("ready"));
    return { child, output: () => output };
  }
  const pidFile = (name: string, text: string, mode = 0o644) => program(`${name}.pid`, text, mode);
  const send = (
    path: string,
    signal: "HUP" | "USR1" | "USR2" = "HUP",
    account?: { user: number; group: number },
  ) => new HookSignal(path, signal, account).run(DELIVERED, OPEN);

  it("is sent to the process of the pid file", async () => {
    const { child, output } = await service();
    const path = pidFile("service", `${child.pid}\n`);
    assert.deepEqual(await send(path), { kind: "ok" });
    await until(() => output().includes("hup"));
    assert.deepEqual(await send(path, "USR1"), { kind: "ok" });
    await until(() => output().includes("usr1"));
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    const outcome = await send(path);
    assert.equal(outcome.kind, "not_running");
    assert.match("reason" in outcome ? outcome.reason : "", /names process \d+, which has ended$/);
  });

  it("waits for a service that does not run yet", async () => {
    const outcome = await send(join(FOLDER, "no.pid"));
    assert.equal(outcome.kind, "not_running");
    assert.match("reason" in outcome ? outcome.reason : "", /no\.pid" does not exist$/);
    assert.equal((await send(pidFile("empty", ""))).kind, "not_running");
  });

  it("is not sent to a process of another user", async () => {
    const { child } = await service();
    const user = (process.geteuid?.() ?? 0) + 777;
    const path = pidFile("other-user", `${child.pid}`);
    // As if the agent ran as another user: the file is of root if this is root, else it is refused.
    const outcome = await send(path, "HUP", { user, group: user });
    child.kill("SIGKILL");
    assert.equal(outcome.kind, "failed");
    assert.match(
      "reason" in outcome ? outcome.reason : "",
      process.geteuid?.() === 0
        ? /names process \d+ of user 0, and the agent runs as user 777$/
        : /belongs to user \d+, who is neither root nor the agent's user$/,
    );
  });

  const target = pidFile("target", "123456\n");
  symlinkSync(target, join(FOLDER, "link.pid"));
  linkSync(pidFile("hard", "123456\n"), join(FOLDER, "hard2.pid"));
  mkdirSync(join(FOLDER, "folder.pid"));
  const fifo = join(FOLDER, "fifo.pid");
  it("does not wait for a FIFO", async () => {
    await new Promise((resolve) => spawn("mkfifo", [fifo]).once("exit", resolve));
    const outcome = await send(fifo);
    assert.match("reason" in outcome ? outcome.reason : "", /is not a regular file$/);
  });

  for (const [what, path, reason] of [
    ["a link", join(FOLDER, "link.pid"), /is a symbolic link$/],
    ["a hard link", join(FOLDER, "hard2.pid"), /has another name \(a hard link\)$/],
    ["a folder", join(FOLDER, "folder.pid"), /is not a regular file$/],
    [
      "writable for a group",
      pidFile("group", "123456", 0o664),
      /can be written by other users \(mode 0664\)$/,
    ],
    [
      "writable for all",
      pidFile("all", "123456", 0o646),
      /can be written by other users \(mode 0646\)$/,
    ],
    ["process 1", pidFile("one", "1\n"), /names process 1, which is init$/],
    [
      "the agent itself",
      pidFile("self", `${process.pid}`),
      /names process \d+, which is the agent$/,
    ],
    [
      "a process group",
      pidFile("negative", "-4711"),
      /must have one decimal number and nothing else$/,
    ],
    ["zero", pidFile("zero", "0"), /must have one decimal number/],
    ["two numbers", pidFile("two", "4711 4712"), /must have one decimal number/],
    ["two lines", pidFile("lines", "4711\n4712\n"), /must have one decimal number/],
    ["hexadecimal", pidFile("hex", "0x1267"), /must have one decimal number/],
    ["a fraction", pidFile("fraction", "4711.0"), /must have one decimal number/],
    ["text", pidFile("text", "pid"), /must have one decimal number/],
    ["large", pidFile("large", "1".repeat(100)), /must have one decimal number/],
  ] as const)
    it(`is refused if the pid file is or names ${what}`, async () => {
      const outcome = await send(path);
      assert.equal(outcome.kind, "failed", JSON.stringify(outcome));
      assert.match("reason" in outcome ? outcome.reason : "", reason);
    });
});

describe("hook of a folder", () => {
  /** A hook whose runs the test ends. */
  function controlled() {
    const runs: { delivered: Delivered; end: (outcome: HookOutcome) => void }[] = [];
    const hook: Hook = {
      name: "test",
      run: (delivered) =>
        new Promise((end) => {
          runs.push({ delivered, end });
        }),
    };
    return { hook, runs };
  }
  const runner = (hook: Hook) => {
    const clock = createFakeClock();
    const { log, lines } = collectingLog();
    const counts = { ok: 0, failed: 0 };
    const metrics = {
      streams: () => undefined,
      refused: () => undefined,
      delivered: (_: string, outcome: "ok" | "failed") => {
        counts[outcome] += 1;
      },
    };
    return {
      clock,
      lines,
      counts,
      runner: new HookRunner({ hook, folder: "/f", log, metrics, clock }),
    };
  };
  const never = async () => assert.fail("onSuccess was called");
  const FAILED: HookOutcome = {
    kind: "failed",
    reason: "it ended with exit code 1",
    output: "why",
  };

  it("runs once more after changes during a run, with the newest files", async () => {
    const { hook, runs } = controlled();
    const { runner: hooks, counts } = runner(hook);
    const done: string[] = [];
    const request = (service: string) =>
      hooks.request({ ...DELIVERED, service }, async () => {
        done.push(service);
      });
    request("a");
    request("b");
    request("c");
    assert.equal(runs.length, 1);
    runs[0]?.end({ kind: "ok" });
    await until(() => runs.length === 2);
    assert.equal(runs[1]?.delivered.service, "c");
    let isAttempted = false;
    void hooks.attempted.then(() => {
      isAttempted = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isAttempted, false);
    runs[1]?.end({ kind: "ok" });
    await hooks.attempted;
    assert.deepEqual(done, ["a", "c"]);
    assert.deepEqual(counts, { ok: 2, failed: 0 });
  });

  it("is retried with backoff until it succeeds, and at once for newer files", async () => {
    const { hook, runs } = controlled();
    const { runner: hooks, clock, counts, lines } = runner(hook);
    hooks.request(DELIVERED, never);
    for (const [i, seconds] of [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].entries()) {
      runs[i]?.end(FAILED);
      await pass(clock, seconds * 1000 - 1);
      assert.equal(runs.length, i + 1);
      assert.equal(hooks.problem, "test: it ended with exit code 1");
      await pass(clock, 1);
      await until(() => runs.length === i + 2);
    }
    runs.at(-1)?.end(FAILED);
    await until(() => clock.sleepers > 0);
    let isDone = false;
    hooks.request({ ...DELIVERED, service: "new" }, async () => {
      isDone = true;
    });
    await until(() => runs.length === 13);
    runs.at(-1)?.end({ kind: "ok" });
    await until(() => isDone);
    assert.equal(hooks.problem, null);
    assert.deepEqual(counts, { ok: 1, failed: 12 });
    assert.equal(lines.filter((line) => line.startsWith("error Failed to notify")).length, 12);
  });

  it("logs once that a service does not run, and goes on", async () => {
    const { hook, runs } = controlled();
    const { runner: hooks, clock, counts, lines } = runner(hook);
    let isDone = false;
    hooks.request(DELIVERED, async () => {
      isDone = true;
    });
    for (const i of [0, 1, 2]) {
      runs[i]?.end({ kind: "not_running", reason: "no pid file" });
      await pass(clock, 1000 * 2 ** i);
      await until(() => runs.length === i + 2);
      assert.equal(hooks.problem, null);
    }
    runs.at(-1)?.end({ kind: "ok" });
    await until(() => isDone);
    assert.deepEqual(counts, { ok: 1, failed: 0 });
    assert.equal(lines.filter((line) => !line.startsWith("debug")).length, 2);
  });

  it("does not stop writes while it hangs, and runs again after a restart until it succeeded", async () => {
    const { manager, clock: caClock } = await createTestCa();
    const { hook, runs } = controlled();
    const made = createFolder(createFakeClock(caClock.now()), { onChange: hook });
    const { folder, path, svid, bundle, counts, clock } = made;
    bundle.set(bundleOf(manager));
    svid.set(await makeSvid(manager, "web"));
    await folder.start();
    assert.equal(runs[0]?.delivered.files.key, join(path, "tls.key"));
    svid.set(await makeSvid(manager, "web"));
    await pass(clock, 100);
    await until(() => counts.ok === 2);
    assert.equal(folder.problem, null);
    runs[0]?.end(FAILED);
    await until(() => runs.length === 2);
    runs[1]?.end(FAILED);
    await folder.settled();
    assert.equal(folder.hookProblem, "test: it ended with exit code 1");
    // The files are good, and a service may need them to start.
    assert.equal(folder.problem, null);
    await folder.close();

    const restart = () => {
      const again = controlled();
      const next = createFolder(createFakeClock(caClock.now()), { path, onChange: again.hook });
      next.bundle.set(bundle.current);
      next.svid.set(svid.current);
      return { ...next, runs: again.runs };
    };
    const second = restart();
    await second.folder.start();
    assert.equal(second.runs.length, 1);
    second.runs[0]?.end({ kind: "ok" });
    await second.folder.settled();
    await second.folder.close();
    const third = restart();
    await third.folder.start();
    assert.equal(third.runs.length, 0);
    await third.folder.close();
  });
});
