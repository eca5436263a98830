/**
 * What an agent keeps over a restart: whose folder and files are used, which entries are ignored and
 * why, and that a server's roots come first.
 * @module
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, it } from "node:test";
import { leafKey, ROOTS_KEY } from "../../src/client/cached-entries.ts";
import type { LeafIdentity } from "../../src/client/leaf-check.ts";
import { FileCache } from "../../src/client/node/file-cache.ts";
import { FormatError } from "../../src/core/errors.ts";
import { createTestCa, DEFAULT_BOOTSTRAP } from "../fakes/ca.ts";
import { createSeededRandom } from "../fakes/clock.ts";
import { createTestApp, settle } from "../fixtures/app.ts";
import { bundleOf, makeSvid } from "../fixtures/svid.ts";
import { eventually, LogBook, Parts, pass, until } from "./agent-parts.ts";
import { ScriptedServer } from "./scripted-server.ts";

const IS_ROOT = process.geteuid?.() === 0;
const ROOTS = "/v1/connect/ca/roots";
const SIGN = "/v1/connect/ca/sign";
const HOUR = 3_600_000;

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function makeFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "meshca-cache-")));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

describe("the folder of a cache", () => {
  const refuse = (path: string, reason: RegExp) =>
    assert.rejects(FileCache.open(path, new LogBook()), (error) => {
      assert.ok(error instanceof FormatError, String(error));
      assert.ok(error.message.startsWith(`The cache folder ${JSON.stringify(path)} `));
      assert.match(error.message, reason);
      return true;
    });

  it("is made for this user only, whatever the umask is", async () => {
    const path = join(makeFolder(), "a/cache");
    const before = process.umask(0);
    try {
      const cache = await FileCache.open(path, new LogBook());
      await cache.write("a", "text");
    } finally {
      process.umask(before);
    }
    assert.equal(statSync(path).mode & 0o7777, 0o700);
    const [file = ""] = readdirSync(path);
    assert.equal(statSync(join(path, file)).mode & 0o7777, 0o600);
  });

  for (const mode of [0o701, 0o710, 0o720, 0o702, 0o740, 0o704, 0o777, 0o1777])
    it(`with mode ${mode.toString(8)} is refused`, async () => {
      const path = makeFolder();
      chmodSync(path, mode);
      await refuse(
        path,
        new RegExp(`is open to other users \\(mode ${mode.toString(8)}\\); run chmod 700`),
      );
    });

  it("that is a link, or no folder, is refused", async () => {
    const folder = makeFolder();
    const target = join(folder, "target");
    mkdirSync(target, { mode: 0o700 });
    symlinkSync(target, join(folder, "link"));
    await refuse(join(folder, "link"), /is a symbolic link, which is not followed/);
    symlinkSync(join(folder, "nowhere"), join(folder, "dangling"));
    await refuse(join(folder, "dangling"), /is a symbolic link|cannot be used: (EEXIST|ENOENT)/);
    writeFileSync(join(folder, "file"), "");
    await refuse(join(folder, "file"), /is not a folder|cannot be used: EEXIST/);
    await refuse(join(folder, "file/below"), /cannot be used: ENOTDIR/);
  });

  it("of another user is refused", async () => {
    const path = IS_ROOT ? makeFolder() : "/";
    if (IS_ROOT) chownSync(path, 12_345, 12_345);
    await refuse(
      path,
      IS_ROOT ? /belongs to user 12345, and the agent runs as user 0$/ : /belongs to user 0/,
    );
  });

  it("loses what a process left that was killed while it wrote", async () => {
    const path = makeFolder();
    const log = new LogBook();
    await (await FileCache.open(path, log)).write("a", "text");
    const [file = ""] = readdirSync(path);
    const draft = join(path, `${file}.${crypto.randomUUID()}`);
    writeFileSync(draft, "half of a key", { mode: 0o600 });
    writeFileSync(join(path, "notes.txt"), "of the operator");
    const cache = await FileCache.open(path, log);
    assert.deepEqual(new Set(readdirSync(path)), new Set([file, "notes.txt"]));
    assert.equal(await cache.read("a"), "text");
  });
});

describe("a file of a cache", () => {
  async function cacheWith(text: string) {
    const path = makeFolder();
    const log = new LogBook();
    const cache = await FileCache.open(path, log);
    await cache.write("a", text);
    const [name = ""] = readdirSync(path);
    return { cache, log, folder: path, file: join(path, name) };
  }

  it("is replaced as a whole, in the order of the calls", async () => {
    const { cache, folder } = await cacheWith("first");
    await Promise.all(Array.from({ length: 50 }, (_, i) => cache.write("a", `text ${i}`)));
    assert.equal(await cache.read("a"), "text 49");
    assert.equal(readdirSync(folder).length, 1);
    assert.equal(await cache.read("b"), null);
  });

  it("has a name that tells nothing, and another one for each key", async () => {
    const { cache, folder } = await cacheWith("text");
    await cache.write("leaf ../../etc/passwd", "text");
    await cache.write("b", "other");
    assert.equal(readdirSync(folder).length, 3);
    for (const name of readdirSync(folder)) assert.match(name, /^[0-9a-f]{64}\.json$/);
    assert.equal(await cache.read("b"), "other");
  });

  for (const [what, change, reason] of [
    ["others may read", (file: string) => chmodSync(file, 0o604), /it is open to other users/],
    ["others may write", (file: string) => chmodSync(file, 0o602), /it is open to other users/],
    ["a group may read", (file: string) => chmodSync(file, 0o640), /it is open to other users/],
    [
      "is a link",
      (file: string) => {
        renameSync(file, `${file}.target`);
        symlinkSync(`${file}.target`, file);
      },
      /it is not a regular file/,
    ],
    [
      "is a folder",
      (file: string) => {
        rmSync(file);
        mkdirSync(file);
      },
      /it is not a regular file/,
    ],
    [
      "is too large",
      (file: string) => writeFileSync(file, "x".repeat(2 * 1024 * 1024 + 1)),
      /it is too large/,
    ],
  ] as const)
    it(`that ${what} is ignored, and the log has why`, async () => {
      const { cache, log, file } = await cacheWith("text");
      change(file);
      assert.equal(await cache.read("a"), null);
      const [line] = log.lines;
      assert.equal(line?.message, "Ignoring a file of the cache");
      assert.equal(line.fields?.file, file);
      assert.match(String(line.fields?.reason), reason);
    });

  it("of another user is ignored", { skip: !IS_ROOT }, async () => {
    const { cache, log, file } = await cacheWith("text");
    chownSync(file, 12_345, 12_345);
    assert.equal(await cache.read("a"), null);
    assert.match(log.text, /it is not a regular file of this user/);
  });

  it("that cannot be written is logged, and nothing is left", async () => {
    const { cache, log, folder, file } = await cacheWith("text");
    rmSync(file);
    mkdirSync(join(file, "in the way"), { recursive: true });
    await cache.write("a", "text");
    assert.deepEqual(
      log.lines.map(({ message }) => message),
      [
        "Failed to write a file of the cache; a restart during an outage would not find the newest one",
      ],
    );
    assert.equal(readdirSync(folder).length, 1);
    rmSync(folder, { recursive: true });
    await cache.write("a", "text");
    assert.equal(log.lines.at(-1)?.fields?.reason, "ENOENT");
    assert.equal(await cache.read("a"), null);
    assert.ok(!existsSync(folder));
  });
});

const IDENTITY: LeafIdentity = {
  service: "web",
  dnsNames: [],
  ipAddresses: [],
  ttlMs: null,
  datacenter: "dc1",
};

interface Cached {
  version: number;
  key: string;
  index: number;
  chain: string[];
  privateKey: string;
  renewAfter: string | null;
}

/** An agent whose cache has its roots and a leaf, and its CA. */
async function cached() {
  const app = await createTestApp();
  const server = await new ScriptedServer(app).start();
  ends.push(() => server.stop());
  const cache = await FileCache.open(makeFolder(), new LogBook());
  const start = () => {
    const parts = new Parts({
      servers: [server.url],
      clock: app.clock,
      random: createSeededRandom(1),
      cache,
    });
    ends.push(() => parts.close());
    return parts;
  };
  const first = start();
  await first.roots.start();
  const leaf = first.leaf({});
  await leaf.start();
  const svid = await until(leaf);
  await first.close();
  // Closed, the parts have written what they received.
  const entry = JSON.parse((await cache.read(leafKey(IDENTITY))) ?? "null") as Cached;
  assert.notEqual(await cache.read(ROOTS_KEY), null);
  return { app, server, cache, start, svid, entry };
}

const other = async () => {
  const { manager } = await createTestCa();
  const svid = await makeSvid(manager, "web");
  return { manager, svid };
};
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

describe("a leaf in the cache", () => {
  it("is served again after a restart, and no other one is requested", async () => {
    const { server, start, svid } = await cached();
    const before = server.count(SIGN);
    const parts = start();
    await parts.roots.start();
    const leaf = parts.leaf({});
    await leaf.start();
    assert.deepEqual(leaf.current, svid);
    assert.match(parts.log.text, /Using the leaf in the cache/);
    assert.equal(server.count(SIGN), before);
  });

  const CASES: readonly (readonly [
    what: string,
    change: (entry: Cached, made: Awaited<ReturnType<typeof cached>>) => unknown,
    reason: RegExp,
  ])[] = [
    ["is no JSON", () => "{", /^it is not JSON$/],
    ["is empty", () => "", /^it is not JSON$/],
    ["is null", () => null, /is invalid$/],
    ["is of another version", (entry) => ({ ...entry, version: 2 }), /field version is invalid/],
    ["has no chain", (entry) => ({ ...entry, chain: [] }), /field chain is invalid/],
    [
      "has a chain that is too long",
      (entry) => ({ ...entry, chain: Array(33).fill(entry.chain[0]) }),
      /field chain is invalid/,
    ],
    [
      "has a chain in other text",
      (entry) => ({ ...entry, chain: ["?"] }),
      /field chain\.0 is invalid/,
    ],
    ["has a damaged leaf", (entry) => ({ ...entry, chain: ["MAA="] }), /./],
    ["has a negative index", (entry) => ({ ...entry, index: -1 }), /field index is invalid/],
    [
      "has a time that is none",
      (entry) => ({ ...entry, renewAfter: "soon" }),
      /field renewAfter is invalid/,
    ],
    [
      "is of another identity",
      (entry) => ({ ...entry, key: leafKey({ ...IDENTITY, service: "api" }) }),
      /^it is of another identity$/,
    ],
    [
      "has a key that cannot be read",
      (entry) => ({ ...entry, privateKey: "MAA=" }),
      /^its private key cannot be read$/,
    ],
    [
      "has the key of another leaf",
      async (entry, { app }) => ({
        ...entry,
        privateKey: base64((await makeSvid(app.manager, "web")).privateKey),
      }),
      /^its private key is not that of its leaf$/,
    ],
    [
      "has the leaf of another service",
      async (entry, { app }) => {
        const { chain, privateKey } = await makeSvid(app.manager, "api");
        return { ...entry, chain: chain.map(base64), privateKey: base64(privateKey) };
      },
      /it is for the identity "spiffe:.*\/svc\/api"/,
    ],
    [
      "has a leaf of another trust domain",
      async (entry) => {
        const { chain, privateKey } = (await other()).svid;
        return { ...entry, chain: chain.map(base64), privateKey: base64(privateKey) };
      },
      /^The certificate is of the trust domain/,
    ],
    [
      "has a leaf of other roots of this trust domain",
      async (entry, { app }) => {
        const { clusterId } = app.manager.require().state;
        const bootstrap = { ...DEFAULT_BOOTSTRAP, clusterId };
        const { manager } = await createTestCa({ bootstrap, clock: app.clock });
        const { chain, privateKey } = await makeSvid(manager, "web");
        return { ...entry, chain: chain.map(base64), privateKey: base64(privateKey) };
      },
      /^it verifies under no published root$/,
    ],
  ];
  for (const [what, change, reason] of CASES)
    it(`that ${what} is ignored, and another one is requested`, async () => {
      const made = await cached();
      const entry = await change(made.entry, made);
      await made.cache.write(
        leafKey(IDENTITY),
        typeof entry === "string" ? entry : JSON.stringify(entry),
      );
      const before = made.server.count(SIGN);
      const parts = made.start();
      await parts.roots.start();
      const leaf = parts.leaf({});
      await leaf.start();
      const line = parts.log.lines.find(
        ({ message }) => message === "Ignoring a leaf in the cache",
      );
      assert.match(String(line?.fields?.reason), reason);
      await until(leaf);
      assert.equal(made.server.count(SIGN), before + 1);
      assert.notEqual(leaf.current?.serialNumber, made.svid?.serialNumber);
      assert.ok(!parts.log.text.includes(made.entry.privateKey), "a key is in the log");
    });

  it("that expired or is not valid yet is ignored", async () => {
    for (const jump of [100 * HOUR, -HOUR / 6]) {
      const { app, start, svid } = await cached();
      app.clock.jump(jump);
      const parts = start();
      await parts.roots.start();
      const leaf = parts.leaf({});
      await leaf.start();
      const line = parts.log.lines.find(
        ({ message }) => message === "Ignoring a leaf in the cache",
      );
      assert.match(
        String(line?.fields?.reason),
        jump > 0 ? /it expired at/ : /it is not valid before/,
      );
      assert.notEqual((await until(leaf))?.serialNumber, svid?.serialNumber);
    }
  });

  it("with other names than are configured now is ignored", async () => {
    const { cache, start, entry } = await cached();
    const dnsNames = ["web.service.consul"];
    const identity = { ...IDENTITY, dnsNames };
    await cache.write(leafKey(identity), JSON.stringify({ ...entry, key: leafKey(identity) }));
    const parts = start();
    await parts.roots.start();
    const leaf = parts.leaf({ dnsNames });
    await leaf.start();
    const line = parts.log.lines.find(({ message }) => message === "Ignoring a leaf in the cache");
    assert.match(String(line?.fields?.reason), /its DNS names are not the requested ones/);
  });
});

describe("roots in the cache", () => {
  it("wait for those of a server, and are not used if it answers in time", async () => {
    const { app, server, start, cache } = await cached();
    await app.manager.configure({
      provider: "consul",
      config: { PrivateKeyType: "ec", PrivateKeyBits: 384 },
      state: null,
      forceWithoutCrossSigning: false,
      modifyIndex: null,
    });
    const { promise: answer, resolve: give } = Promise.withResolvers<"pass">();
    server.script = ({ path }) => (path.startsWith(ROOTS) ? answer : "pass");
    const parts = start();
    const current = () => parts.roots.current;
    const ready = parts.roots.start();
    await eventually(() => server.asked.at(-1)?.path.startsWith(ROOTS) === true);
    app.clock.advance(2900);
    await settle();
    assert.equal(current(), null);
    give("pass");
    await ready;
    assert.equal(current()?.roots.length, 2);
    assert.equal(current()?.activeRootId, bundleOf(app.manager).activeRootId);
    assert.doesNotMatch(parts.log.text, /of the cache/);
    await parts.close();
    assert.ok((await cache.read(ROOTS_KEY))?.includes(bundleOf(app.manager).activeRootId));
  });

  it("are used if no server answers, and replaced as soon as one does", async () => {
    const { app, server, start, svid } = await cached();
    await server.stop();
    const parts = start();
    const ready = parts.roots.start();
    const leaf = parts.leaf({});
    await leaf.start();
    await eventually(() => parts.roots.problem !== null);
    app.clock.advance(1000);
    await settle();
    assert.equal(parts.roots.current, null);
    assert.equal(leaf.current, null);
    await pass(app, () => parts.roots.current !== null);
    await ready;
    assert.deepEqual(await until(leaf), svid);
    assert.match(parts.log.text, /No CA server answered; using the roots in the cache/);
    assert.match(parts.roots.problem ?? "", /No CA server answered/);
    assert.equal(parts.roots.lastContact, null);
    await server.start();
    await pass(app, () => parts.roots.lastContact !== null);
    assert.equal(parts.roots.problem, null);
    assert.deepEqual(leaf.current, svid);
  });

  for (const [what, text, reason] of [
    ["are no JSON", "x", /^it is not JSON$/],
    ["are of another version", '{"version":9,"index":1,"json":"{}"}', /field version is invalid/],
    ["have no root", '{"version":1,"index":1,"json":"{}"}', /has no valid/],
    ["are damaged", '{"version":1,"index":1,"json":"{"}', /is not JSON/],
  ] as const)
    it(`that ${what} are ignored`, async () => {
      const { app, cache, server, start } = await cached();
      await cache.write(ROOTS_KEY, text);
      await server.stop();
      const parts = start();
      const ready = parts.roots.start();
      await pass(app, () => parts.roots.problem !== null);
      app.clock.advance(10_000);
      await settle();
      assert.equal(parts.roots.current, null);
      const line = parts.log.lines.find(
        ({ message }) => message === "Ignoring the roots in the cache",
      );
      assert.match(String(line?.fields?.reason), reason);
      await server.start();
      await pass(app, () => parts.roots.current !== null);
      await ready;
    });

  it("of another trust domain than a server's are replaced by nothing of it", async () => {
    const { app, cache, server, start } = await cached();
    const stranger = await createTestApp({}, await createTestCa({ clock: app.clock }));
    const strange = await new ScriptedServer(stranger).start();
    ends.push(() => strange.stop());
    await server.stop();
    const parts = start();
    const ready = parts.roots.start();
    await pass(app, () => parts.roots.current !== null);
    await ready;
    const before = parts.roots.current;
    // Another CA listens where the server was.
    server.script = (asked) => strange.pass(asked);
    await server.start();
    await pass(app, () => /is of the trust domain/.test(parts.roots.problem ?? ""));
    assert.equal(parts.roots.current, before);
    assert.ok((await cache.read(ROOTS_KEY))?.includes(before?.trustDomain ?? "?"));
  });
});
