/**
 * The data folder and its files on a real file system: modes, owners, links, and the errors for a
 * folder or file that cannot be used.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { ConfigError, StoreError } from "../../src/core/errors.ts";
import { makeDataDir, prepareData } from "../../src/entry/data-platform.ts";
import {
  persistentFile,
  readPrivate,
  readSecretFile,
} from "../../src/entry/private-file-platform.ts";

describe("the data folder", () => {
  let top: string;
  let umask: number;
  let count = 0;
  const at = (name: string) => join(top, name);
  const mode = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);
  const fresh = (permissions = 0o700): string => {
    const path = at(`folder-${++count}`);
    mkdirSync(path);
    chmodSync(path, permissions);
    return path;
  };
  const refusal = (act: () => unknown): string => {
    try {
      act();
    } catch (error) {
      assert.ok(error instanceof ConfigError, String(error));
      return error.message;
    }
    throw new assert.AssertionError({ message: "It was taken" });
  };
  before(() => {
    umask = process.umask(0o022);
    top = mkdtempSync(join(tmpdir(), "meshca-data-platform-"));
  });
  after(() => {
    process.umask(umask);
    rmSync(top, { recursive: true, force: true });
  });

  it("makeDataDir() creates the folder and its parents for this user only", () => {
    makeDataDir(at("a/b/c"));
    assert.deepEqual([mode(at("a")), mode(at("a/b/c"))], ["700", "700"]);
    makeDataDir(at("a/b/c"));
  });

  it("makeDataDir() accepts a folder that its group may read, and one of its own that others may enter, whose mode it restricts", () => {
    const group = fresh(0o750);
    makeDataDir(group);
    assert.equal(mode(group), "750");
    const open = fresh(0o755);
    for (const name of [
      "kek",
      "meshca.db",
      "meshca.db-wal",
      "seen-sqlite.json",
      "acl-bootstrap-secret",
      "tls-emergency.pem",
    ])
      writeFileSync(join(open, name), "");
    makeDataDir(open);
    assert.equal(mode(open), "700");
  });

  it("makeDataDir() refuses a folder that others may write into, or that has files of other users, and changes nothing", () => {
    for (const permissions of [0o777, 0o770, 0o1777, 0o702]) {
      const path = fresh(permissions);
      const text = refusal(() => makeDataDir(path));
      assert.match(
        text,
        /^MESHCA_DATA_DIR: ".*" can be written by other users \(mode \d{4}\): run chmod 700 on it, or name a new folder below it/,
      );
      assert.ok(text.includes(JSON.stringify(path)));
      assert.equal(mode(path), permissions.toString(8));
    }
    const foreign = fresh(0o755);
    writeFileSync(join(foreign, "passwd"), "");
    assert.match(
      refusal(() => makeDataDir(foreign)),
      /can be entered by other users \(mode 0755\)/,
    );
    assert.equal(mode(foreign), "755");
  });

  it("makeDataDir() refuses a folder of another user, a link, a file, and a path at which no folder can be created", () => {
    const path = fresh();
    const { uid } = lstatSync(path);
    // Files of root are accepted from every user, so root changes the owner of the folder first.
    const owner = uid === 0 ? 12_345 : uid;
    if (uid === 0) chownSync(path, owner, -1);
    assert.match(
      refusal(() => makeDataDir(path, owner + 1)),
      new RegExp(
        `belongs to user ${owner}, and meshca runs as user ${owner + 1}: run chown ${owner + 1} on it, or set MESHCA_DATA_DIR to a path of that user`,
      ),
    );
    makeDataDir(path, owner);
    if (uid === 0) chownSync(path, 0, -1);
    symlinkSync(path, at("link"));
    assert.match(
      refusal(() => makeDataDir(at("link"))),
      /is a symbolic link: name the folder that it leads to/,
    );
    for (const end of ["/", "//", "/.", "/./"])
      assert.match(
        refusal(() => makeDataDir(`${at("link")}${end}`)),
        /is a symbolic link: name the folder that it leads to/,
        end,
      );
    symlinkSync(at("nowhere"), at("dangling"));
    assert.match(
      refusal(() => makeDataDir(at("dangling"))),
      /is a symbolic link/,
    );
    writeFileSync(at("file"), "");
    assert.match(
      refusal(() => makeDataDir(at("file"))),
      /is not a folder/,
    );
    const below = refusal(() => makeDataDir(at("file/below")));
    assert.match(
      below,
      /^MESHCA_DATA_DIR: ".*\/file\/below" cannot be made: ".*\/file" is not a folder$/,
    );
    assert.match(
      refusal(() => makeDataDir(at("file/below/and/further"))),
      /\/further" cannot be made: ".*\/file" is not a folder$/,
    );
    assert.match(
      refusal(() => makeDataDir("/proc/meshca")),
      /"\/proc\/meshca" cannot be made: no folder can be made in "\/proc"$/,
    );
  });

  it("readSecretFile() creates a file for this user only, once, and leaves no temporary file", () => {
    const folder = fresh();
    const path = join(folder, "kek");
    assert.equal(
      readSecretFile(path, () => "one"),
      "one\n",
    );
    assert.equal(
      readSecretFile(path, () => "two"),
      "one\n",
    );
    assert.equal(mode(path), "600");
    assert.deepEqual(readdirSync(folder), ["kek"]);
    assert.match(
      refusal(() => readSecretFile(join(folder, "missing/kek"), () => "x")),
      /missing\/kek" cannot be made: there is no such file/,
    );
  });

  it("readSecretFile() refuses a link, a file that others may read, a folder and a FIFO, and names the remedy", () => {
    const folder = fresh();
    const path = (name: string) => join(folder, name);
    writeFileSync(path("open"), "secret", { mode: 0o644 });
    const text = refusal(() => readSecretFile(path("open"), () => "x"));
    assert.match(text, /^MESHCA_DATA_DIR: /);
    assert.match(text, /is open to other users \(mode 0644\): run chmod 600 on it/);
    assert.ok(!text.includes("secret"));
    writeFileSync(path("target"), "secret", { mode: 0o600 });
    symlinkSync("target", path("link"));
    assert.match(
      refusal(() => readSecretFile(path("link"), () => "x")),
      /is a symbolic link, which is not followed/,
    );
    symlinkSync("nowhere", path("dangling"));
    assert.match(
      refusal(() => readSecretFile(path("dangling"), () => "x")),
      /is a symbolic link, which is not followed/,
    );
    mkdirSync(path("folder"));
    assert.match(
      refusal(() => readSecretFile(path("folder"), () => "x")),
      /is not a regular file/,
    );
    execFileSync("mkfifo", ["-m", "600", path("fifo")]);
    assert.match(
      refusal(() => readSecretFile(path("fifo"), () => "x")),
      /is not a regular file/,
    );
  });

  it("persistentFile() reads a file of the operator, but no link and no file that others may write", async () => {
    const folder = fresh();
    const kept = persistentFile(folder, "seen.json");
    assert.ok(kept !== null);
    assert.equal(kept.read(), null);
    await kept.write("text");
    assert.deepEqual([kept.read(), mode(kept.name)], ["text", "600"]);
    writeFileSync(join(folder, "reset"), "5", { mode: 0o644 });
    assert.equal(persistentFile(folder, "reset")?.read(), "5");
    chmodSync(join(folder, "reset"), 0o666);
    assert.match(
      refusal(() => persistentFile(folder, "reset")?.read()),
      /is open to other users \(mode 0666\)/,
    );
    symlinkSync("seen.json", join(folder, "link"));
    const link = persistentFile(folder, "link");
    assert.match(
      refusal(() => link?.read()),
      /is a symbolic link/,
    );
    await link?.write("other");
    assert.deepEqual(
      [lstatSync(join(folder, "link")).isFile(), kept.read()],
      [true, "text"],
      "the link is replaced, not followed",
    );
    assert.equal(persistentFile(at("absent"), "x"), null);
    assert.equal(readPrivate(at("absent")), null);
  });

  it("persistentFile() names the path and the reason of a file that cannot be written, and leaves no temporary file", async () => {
    const folder = fresh();
    mkdirSync(join(folder, "taken"));
    writeFileSync(join(folder, "taken/x"), "");
    const error = await persistentFile(folder, "taken")
      ?.write("text")
      .then(
        () => null,
        (reason: unknown) => reason,
      );
    assert.ok(error instanceof StoreError);
    assert.match(error.message, /^Cannot write ".*\/taken": /);
    assert.deepEqual(readdirSync(folder), ["taken"]);
  });

  it("prepareData() creates a database elsewhere for this user only, restricts the mode of an existing one, and follows no link", () => {
    const folder = fresh(0o755);
    const dataDir = fresh();
    const prepare = (name: string) =>
      prepareData({ dataDir, store: { kind: "sqlite", path: join(folder, name) } });
    prepare("new.db");
    assert.equal(mode(join(folder, "new.db")), "600");
    writeFileSync(join(folder, "old.db"), "kept", { mode: 0o644 });
    writeFileSync(join(folder, "old.db-wal"), "", { mode: 0o644 });
    chmodSync(join(folder, "old.db"), 0o664);
    prepare("old.db");
    assert.deepEqual(
      [mode(join(folder, "old.db")), mode(join(folder, "old.db-wal"))],
      ["600", "600"],
    );
    assert.equal(readFileSync(join(folder, "old.db"), "utf8"), "kept");
    symlinkSync("old.db", join(folder, "link.db"));
    assert.match(
      refusal(() => prepare("link.db")),
      /^MESHCA_STORE: ".*\/link\.db" is a symbolic link, which is not followed/,
    );
    mkdirSync(join(folder, "folder.db"));
    assert.match(
      refusal(() => prepare("folder.db")),
      /^MESHCA_STORE: ".*\/folder\.db" is not a regular file$/,
    );
    linkSync(join(folder, "old.db"), join(folder, "hard.db"));
    prepare("hard.db");
    if (!("deno" in process.versions))
      assert.equal(process.umask(), 0o077, "what is made from now on is for this user only");
  });
});
