/**
 * Unix sockets of workloads: who may connect, which folders and paths are refused, what happens to
 * a socket that is there already, and what is removed at the end.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { UnixListener } from "../../src/agent/socket/unix-listener.ts";
import { WorkloadSocket } from "../../src/agent/workload-socket.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { TestClient } from "./grpc-client.ts";
import { CountingMetrics, createTestSet, KeepingLog } from "./workload-set.ts";

const isRoot = process.getuid?.() === 0;

function makeFolder(): string {
  return mkdtempSync(join(tmpdir(), "meshca-unix-"));
}

/** Runs with a folder of its own. */
async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = makeFolder();
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const closed = (server: Server) => new Promise<void>((resolve) => server.close(() => resolve()));

function listenerAt(
  path: string,
  more: { mode?: number; group?: number; isShared?: boolean } = {},
) {
  const server = createServer((socket) => socket.on("error", () => undefined).end("hello"));
  const { mode = 0o600, group = null, isShared = false } = more;
  return { server, listener: new UnixListener(server, { path, mode, group, isShared }) };
}

/** Listens, and closes again. */
async function listenAt(path: string, more: Parameters<typeof listenerAt>[1] = {}): Promise<void> {
  const { server, listener } = listenerAt(path, more);
  try {
    await listener.listen();
    listener.remove();
  } finally {
    await closed(server);
  }
}

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

/** What a client reads, or the code of the error. */
function read(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("data", (data) => resolve(data.toString()));
    socket.on("error", (error) => resolve("code" in error ? String(error.code) : error.message));
  });
}

/** A socket that an agent left behind: bound, and nobody listens. */
async function leaveStaleSocket(path: string): Promise<void> {
  execFileSync("python3", [
    "-c",
    "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])",
    path,
  ]);
  assert.equal(await read(path), "ECONNREFUSED");
}

const refusal = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ConfigError, String(error));
  assert.match(error.message, pattern);
  return true;
};

describe("a socket", () => {
  it("is the agent's own with mode 0600, before anybody can connect", () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      const umask = process.umask();
      const { server, listener } = listenerAt(path, { mode: 0o666 });
      // The first moment in which a connection would be accepted.
      let [names, mode]: [string[], number | null] = [[], null];
      server.once("listening", () => {
        names = readdirSync(folder);
        mode = modeOf(join(folder, names[0] ?? ""));
      });
      await listener.listen();
      assert.equal(mode, 0o600);
      assert.notDeepEqual(names, ["s"]);
      assert.equal(modeOf(path), 0o666);
      assert.deepEqual(readdirSync(folder), ["s"]);
      assert.equal(process.umask(), umask);
      assert.equal(await read(path), "hello");
      listener.remove();
      await closed(server);
      assert.deepEqual(readdirSync(folder), []);
    }));

  it("has the mode and the group that are configured", { skip: !isRoot && "needs root" }, () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      const { server, listener } = listenerAt(path, { mode: 0o660, group: 4321 });
      await listener.listen();
      const { gid, uid } = lstatSync(path);
      assert.deepEqual([modeOf(path), gid, uid], [0o660, 4321, process.getuid?.()]);
      listener.remove();
      await closed(server);
    }),
  );

  it("may have a path of 107 octets", () =>
    inFolder(async (folder) => {
      for (const length of [107, 106]) {
        const short = join(folder, "x".repeat(length - folder.length - 1));
        await listenAt(short);
        // A folder whose files have names of one octet.
        const deep = join(folder, "d".repeat(length - folder.length - 3));
        await listenAt(join(deep, "s"));
        assert.equal(join(deep, "s").length, length);
        assert.deepEqual(readdirSync(deep), []);
      }
    }));

  it("gets a folder that does not exist yet, which lets in those who may connect", () =>
    inFolder(async (folder) => {
      for (const [mode, expected] of [
        [0o600, 0o700],
        [0o660, 0o710],
        [0o666, 0o711],
      ] as const) {
        const path = join(folder, `new${mode}`, "s");
        await listenAt(path, { mode });
        assert.equal(modeOf(dirname(path)), expected);
      }
    }));

  it("may lie in a folder that a link leads to", () =>
    inFolder(async (folder) => {
      mkdirSync(join(folder, "run"));
      symlinkSync("run", join(folder, "link"));
      const { server, listener } = listenerAt(join(folder, "link", "s"));
      await listener.listen();
      assert.deepEqual(readdirSync(join(folder, "run")), ["s"]);
      listener.remove();
      await closed(server);
    }));
});

describe("the folder of a socket", () => {
  for (const [mode, writers] of [
    [0o777, "other users"],
    [0o1777, "other users"],
    [0o702, "other users"],
  ] as const)
    it(`is refused with mode 0${mode.toString(8)}`, () =>
      inFolder(async (folder) => {
        const inner = join(folder, "inner");
        mkdirSync(inner);
        chmodSync(inner, mode);
        await assert.rejects(
          listenAt(join(inner, "s")),
          refusal(new RegExp(`^Socket folder ".*inner" can be replaced by ${writers} with mode`)),
        );
        assert.deepEqual(readdirSync(inner), []);
        // In a volume of one pod it is taken.
        await listenAt(join(inner, "s"), { isShared: true });
        chmodSync(inner, 0o700);
      }));

  it("is refused if another group can write to it", { skip: !isRoot && "needs root" }, () =>
    inFolder(async (folder) => {
      chmodSync(folder, 0o770);
      chownSync(folder, 0, 4321);
      await assert.rejects(
        listenAt(join(folder, "s")),
        refusal(/can be replaced by group 4321 with mode 0770: run chmod go-w on it/),
      );
    }),
  );

  it("is refused if it is of another user", { skip: !isRoot && "needs root" }, () =>
    inFolder(async (folder) => {
      chownSync(folder, 4321, 0);
      await assert.rejects(listenAt(join(folder, "s")), refusal(/belongs to user 4321/));
    }),
  );

  it("is refused if a folder above it can be replaced, or a link to it", () =>
    inFolder(async (folder) => {
      const outer = join(folder, "outer");
      mkdirSync(join(outer, "inner"), { recursive: true });
      mkdirSync(join(folder, "safe"));
      symlinkSync(join(folder, "safe"), join(outer, "link"));
      chmodSync(outer, 0o777);
      for (const name of ["inner", "link"])
        await assert.rejects(
          listenAt(join(outer, name, "s")),
          refusal(/can be replaced by other users/),
        );
    }));

  it("is refused if it is a file", () =>
    inFolder(async (folder) => {
      writeFileSync(join(folder, "file"), "");
      await assert.rejects(listenAt(join(folder, "file", "s")), refusal(/is not a folder/));
    }));
});

describe("a path that is taken", () => {
  it("by a socket of the agent's user that nobody answers on is used", () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      await leaveStaleSocket(path);
      const { server, listener } = listenerAt(path);
      await listener.listen();
      assert.equal(await read(path), "hello");
      listener.remove();
      await closed(server);
    }));

  it("by a socket that somebody answers on is refused, and stays", () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      const first = listenerAt(path);
      await first.listener.listen();
      await assert.rejects(
        listenAt(path),
        refusal(
          /^Cannot serve the socket .*\/s: it is in use by another process \(it accepts conn/,
        ),
      );
      assert.equal(await read(path), "hello");
      assert.deepEqual(readdirSync(folder), ["s"]);
      first.listener.remove();
      await closed(first.server);
    }));

  it("by a stale socket of another user is refused", { skip: !isRoot && "needs root" }, () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      await leaveStaleSocket(path);
      chownSync(path, 4321, 0);
      await assert.rejects(
        listenAt(path),
        refusal(/there is a socket of the user 4321, not of 0, who runs the agent; remove it/),
      );
      assert.equal(existsSync(path), true);
    }),
  );

  for (const [what, create, text] of [
    [
      "a file",
      (path: string) => writeFileSync(path, "mine"),
      /there is a file that is not a socket/,
    ],
    ["a folder", (path: string) => mkdirSync(path), /there is a folder; remove it/],
    ["a link", (path: string) => symlinkSync("elsewhere", path), /there is a link; remove it/],
  ] as const)
    it(`by ${what} is refused, and stays`, () =>
      inFolder(async (folder) => {
        const path = join(folder, "s");
        create(path);
        const before = lstatSync(path).ino;
        await assert.rejects(listenAt(path), refusal(text));
        assert.equal(lstatSync(path).ino, before);
      }));

  it("by two agents at once is given to one of them", () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      await leaveStaleSocket(path);
      const both = [listenerAt(path), listenerAt(path)];
      const results = await Promise.allSettled(both.map(({ listener }) => listener.listen()));
      assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
      assert.equal(await read(path), "hello");
      for (const { server, listener } of both) {
        listener.remove();
        await closed(server);
      }
      assert.deepEqual(readdirSync(folder), []);
    }));
});

describe("at its end, a socket", () => {
  it("is removed", () =>
    inFolder(async (folder) => {
      await listenAt(join(folder, "s"));
      assert.deepEqual(readdirSync(folder), []);
    }));

  it("is not removed if another one, or a file, has its name by now", () =>
    inFolder(async (folder) => {
      const path = join(folder, "s");
      const { server, listener } = listenerAt(path);
      await listener.listen();
      unlinkSync(path);
      writeFileSync(path, "mine");
      listener.remove();
      await closed(server);
      assert.equal(statSync(path).size, 4);
    }));
});

describe("an endpoint", () => {
  const make = async (path: string) => {
    const [metrics, log, set] = [
      new CountingMetrics(),
      new KeepingLog(),
      await createTestSet(["web"]),
    ];
    return { log, socket: new WorkloadSocket({ path, set, metrics, log, clock: set.ca.clock }) };
  };

  for (const [path, text] of [
    ["web.sock", /the path must be absolute/],
    ["/run/web/", /must name a file in a folder/],
    ["/run/web/..", /must name a file in a folder/],
    ["/run/a\nb", /has a control character/],
    ["/run/a\0b", /has a control character/],
    [`/${"ü".repeat(54)}`, /the path has 109 octets, and that of a Unix socket may have 107/],
    [`/${"x".repeat(107)}`, /the path has 108 octets, and that of a Unix socket may have 107/],
    ["tcp://0.0.0.0:8081", /only a loopback address/],
    ["tcp://[::]:8081", /only a loopback address/],
    ["tcp://192.0.2.1:8081", /only a loopback address/],
    ["tcp://mesh.example:8081", /only a loopback address/],
    ["tcp://127.0.0.1", /the form must be tcp:\/\/ADDRESS:PORT/],
    ["tcp://127.0.0.1:70000", /the form must be tcp:\/\/ADDRESS:PORT/],
  ] as const)
    it(`is refused at ${JSON.stringify(path.slice(0, 30))}`, async () => {
      await assert.rejects(make(path), refusal(text));
    });

  it("on a loopback address warns that every local user gets the keys", async () => {
    const { log, socket } = await make("tcp://127.0.0.1:0");
    await socket.listen();
    const { uri } = socket;
    assert.match(uri, /^tcp:\/\/127\.0\.0\.1:[1-9]\d+$/);
    assert.deepEqual(
      log.lines.filter(({ level }) => level === "warn"),
      [
        {
          level: "warn",
          message:
            "A loopback address serves private keys to every local user; use a Unix socket instead",
          fields: { address: uri },
        },
      ],
    );
    const client = new TestClient(uri.slice("tcp://".length));
    assert.equal((await client.svids().reader.next()).svids.length, 1);
    const { socket: second } = await make(uri);
    await assert.rejects(second.listen(), refusal(/the address is in use; choose another port/));
    await second.close();
    client.close();
    await socket.close();
  });

  it("closes also if it never listened, or could not", () =>
    inFolder(async (folder) => {
      const { socket } = await make(join(folder, "s"));
      await socket.close();
      await socket.close();
      writeFileSync(join(folder, "s"), "");
      const { socket: failing } = await make(join(folder, "s"));
      await assert.rejects(failing.listen(), ConfigError);
      await failing.close();
    }));
});
