/**
 * Folders that another user could replace or write into, files of others at the names of the agent,
 * owners and modes that cannot be set, and a second agent on one folder.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { CredentialFolderOptions } from "../../src/agent/credential-folder.ts";
import { resolveOwnership } from "../../src/agent/files/ownership.ts";
import { hasOtherMembers } from "../../src/agent/group-members.ts";
import { type Account, currentAccount, FolderCheck } from "../../src/agent/safe-path.ts";
import { createTestCa } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { createFolder, generationsIn, pass, privateFolder, until } from "../fixtures/folder.ts";
import { bundleOf, makeSvid } from "../fixtures/svid.ts";

const ME = currentAccount();
const USER = ME.user ?? assert.fail("the user is not known");
const GROUP = ME.group ?? assert.fail("the group is not known");
/** A user and a group that are neither this one nor root. */
const OTHER = { user: USER + 12_345, group: GROUP + 12_345 };

const check = (path: string, account: Account = ME, isShared = false) =>
  new FolderCheck(path, { what: "Folder", account, isShared }).run();

/** A folder below a private one, with a mode that the umask does not change. */
function folderWith(mode: number, ...names: string[]): string {
  const path = join(privateFolder(), ...names);
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
  return path;
}

describe("path of a folder", () => {
  it("is accepted if only root and the agent's user can change it", async () => {
    const path = folderWith(0o755, "a", "b");
    assert.equal((await check(path)).path, path);
    assert.equal((await check(`${path}/`)).path, path);
    assert.equal((await check(join(path, "..", "b", ".", "new", "er"))).stats, null);
  });

  it("may lead through links of root and of the agent's user", async () => {
    const top = folderWith(0o755, "a");
    mkdirSync(join(top, "real", "b"), { recursive: true });
    symlinkSync("real/../real", join(top, "link"));
    symlinkSync(join(top, "link"), join(top, "absolute"));
    assert.equal((await check(join(top, "absolute", "b"))).path, join(top, "real", "b"));
    assert.equal((await check(join(top, "link", "c"))).path, join(top, "real", "c"));
  });

  const top = folderWith(0o755, "top");
  writeFileSync(join(top, "file"), "");
  symlinkSync("nowhere", join(top, "dangling"));
  symlinkSync("loop", join(top, "loop"));
  mkdirSync(join(top, "real"));
  symlinkSync("real", join(top, "link"));
  const writable = folderWith(0o757, "top", "writable");
  mkdirSync(join(writable, "below"));
  const sticky = folderWith(0o1777, "sticky");
  mkdirSync(join(sticky, "below"));
  const ofGroup = folderWith(0o775, "group");

  for (const [what, path, reason] of [
    ["a link", join(top, "link"), /is a symbolic link: name the folder that it leads to$/],
    ["a link with a slash", join(top, "link/"), /is a symbolic link: name the folder/],
    ["a dangling link", join(top, "dangling"), /is a symbolic link: name the folder/],
    ["a loop of links", join(top, "loop", "a"), /has a loop of symbolic links in its path$/],
    ["a file", join(top, "file"), /is not a folder$/],
    ["below a file", join(top, "file", "a"), /is not a folder at ".*\/file"$/],
    ["the root", "/", /is the root of the file system$/],
    ["a path with a NUL", "/a\0b", /has a NUL in its path$/],
    ["a folder that all may write to", writable, /can be replaced by other users with mode 0757/],
    [
      "below a folder that all may write to",
      join(writable, "below"),
      /can be replaced by other users at ".*\/writable" with mode 0757: run chmod go-w on it/,
    ],
    ["to be made there", join(writable, "new"), /can be replaced by other users at/],
    ["a folder like /tmp itself", sticky, /can be replaced by other users with mode 1777/],
  ] as const)
    it(`is refused if it is ${what}`, async () => {
      await assert.rejects(check(path), reason);
    });

  it("is refused if a group may write to it that is neither the agent's nor root's", async () => {
    await check(ofGroup);
    if (GROUP === 0) chownSync(ofGroup, USER, OTHER.group);
    else await assert.rejects(check(ofGroup, { user: USER, group: OTHER.group }), /by group/);
    if (GROUP === 0) await assert.rejects(check(ofGroup), /can be replaced by group 12345 with/);
  });

  it("is refused if the agent's group may write to it and has other members", async (t) => {
    if (USER !== 0) return t.skip("needs root");
    const daemon = folderWith(0o775, "of-daemon");
    chownSync(daemon, USER, 1);
    // The group of daemon(1) has a user of that name in every Debian.
    await assert.rejects(
      check(daemon, { user: USER, group: 1 }),
      /can be replaced by group 1 with/,
    );
    chownSync(daemon, USER, OTHER.group);
    await check(daemon, { user: USER, group: OTHER.group });
  });

  it("is of a private group if only root and the agent's user are members", () => {
    const passwd = "root:x:0:0::/root:/bin/sh\nweb:x:10:100::/:/x\neve:x:11:200::/:/x\n";
    for (const [groups, other, isShared] of [
      ["users:x:100:\n", "", false],
      ["users:x:100:web,root\n", "", false],
      ["users:x:100:web,eve\n", "", true],
      ["users:x:100:unknown\n", "", true],
      ["users:x:100:\n", "mallory:x:12:100::/:/x\n", true],
      ["users:x:1000:eve\n", "mallory:x:12:1000::/:/x\n", false],
    ] as const)
      assert.equal(hasOtherMembers(100, 10, passwd + other, groups), isShared, groups + other);
    assert.equal(hasOtherMembers(100, 10, "", ""), false);
  });

  it("may be below a folder like /tmp, in which nobody renames what belongs to another", async () => {
    assert.equal((await check(join(sticky, "below"))).path, join(sticky, "below"));
  });

  it("is refused if a folder or a link of it belongs to another user", async () => {
    if (USER === 0) {
      const path = folderWith(0o755, "of-other", "b");
      chownSync(join(path, ".."), OTHER.user, 0);
      await assert.rejects(
        check(path),
        /belongs to user 12345 at ".*\/of-other", and meshca runs as user 0: use a folder of/,
      );
      symlinkSync(top, join(sticky, "planted"));
      spawnSync("chown", ["-h", String(OTHER.user), join(sticky, "planted")]);
      await assert.rejects(check(join(sticky, "planted", "real")), /belongs to user 12345 at/);
    } else
      await assert.rejects(
        check(top, { ...OTHER }),
        /belongs to user \d+ at .*, and meshca runs as/,
      );
  });

  it("may be writable for others if it is shared, but not a link", async () => {
    assert.equal((await check(writable, ME, true)).path, writable);
    assert.equal((await check(join(writable, "below"), OTHER, true)).stats?.isDirectory(), true);
    await assert.rejects(check(join(top, "link"), ME, true), /is a symbolic link/);
  });
});

describe("owner, group and mode of the files", () => {
  const resolve = (options: Parameters<typeof resolveOwnership>[1], account: Account = ME) =>
    resolveOwnership("Credential folder", options, account);

  it("are the agent's own by default", () => {
    assert.deepEqual(resolve({}), {
      ...{ user: null, group: null, secretMode: 0o600, publicMode: 0o644, folderMode: 0o700 },
    });
  });

  it("let a group read the key if there is one", () => {
    const { group, secretMode, folderMode } = resolve({ group: "12" });
    assert.deepEqual(
      { group, secretMode, folderMode },
      { group: 12, secretMode: 0o640, folderMode: 0o750 },
    );
  });

  it("resolve names, and let another owner through the folder, which stays the agent's", () => {
    const root: Account = { user: 0, group: 0 };
    const { user, group, secretMode, folderMode } = resolve(
      { owner: "daemon", group: "bin" },
      root,
    );
    const ids = readFileSync("/etc/passwd", "utf8").split("\n");
    const uid = ids.find((line) => line.startsWith("daemon:"))?.split(":")[2];
    assert.equal(user, Number(uid));
    assert.equal(typeof group, "number");
    assert.deepEqual([secretMode, folderMode], [0o640, 0o755]);
  });

  for (const [what, options, account, reason] of [
    ["a key for all", { mode: 0o644 }, ME, /mode 0644 is not allowed for private keys: use 0600/],
    ["a key that a group writes", { mode: 0o660 }, ME, /mode 0660 is not allowed/],
    ["a key that can be executed", { mode: 0o700 }, ME, /mode 0700 is not allowed/],
    ["a key that nobody reads", { mode: 0o200 }, ME, /mode 0200 is not allowed/],
    [
      "an unknown user",
      { owner: "no such" },
      ME,
      /user "no such" is not in \/etc\/passwd; the number/,
    ],
    ["an unknown group", { group: "no such" }, ME, /group "no such" is not in \/etc\/group; the/],
    ["a number that no user has", { owner: "4294967295" }, ME, /user "4294967295" is not in/],
    [
      "another user's, and the agent is not root",
      { owner: "1" },
      { user: 1000, group: 1000 },
      /owner "1" cannot be set: only root can give files to another user, and the agent runs as user 1000/,
    ],
  ] as const)
    it(`are refused: ${what}`, () => {
      assert.throws(() => resolve(options, account), reason);
    });
});

async function made(options: Partial<CredentialFolderOptions> = {}) {
  const { manager, clock } = await createTestCa();
  const folder = createFolder(createFakeClock(clock.now()), options);
  folder.bundle.set(bundleOf(manager));
  folder.svid.set(await makeSvid(manager, "web"));
  return folder;
}

describe("files that the agent did not make", () => {
  for (const [what, name, plant] of [
    ["a file", "tls.key", (path: string) => writeFileSync(path, "theirs")],
    ["a folder", "tls.pem", (path: string) => mkdirSync(path)],
    ["a link elsewhere", "ca.crt", (path: string) => symlinkSync("/etc/hostname", path)],
    [
      "a hard link",
      "tls.crt",
      (path: string) => {
        writeFileSync(`${path}.other`, "theirs");
        linkSync(`${path}.other`, path);
      },
    ],
    ["a folder", "..data", (path: string) => mkdirSync(path)],
    ["a link elsewhere", "..data", (path: string) => symlinkSync("..2026_01_01", path)],
    ["a link out of the folder", "..data", (path: string) => symlinkSync("/etc", path)],
  ] as const)
    it(`are not replaced: ${what} at ${name}`, async () => {
      const path = folderWith(0o700, "web");
      plant(join(path, name));
      const { folder } = await made({ path });
      await assert.rejects(
        folder.start(),
        new RegExp(`has a file "${name}" that meshca did not make: move it away`),
      );
      assert.deepEqual(generationsIn(path), []);
    });

  it("stop the next write if they are put there later, and the files before stay", async () => {
    const { folder, path, svid, clock } = await made();
    await folder.start();
    rmSync(join(path, "tls.key"));
    writeFileSync(join(path, "tls.key"), "theirs");
    svid.set({ ...(svid.current ?? assert.fail()), index: 99 });
    await pass(clock, 100);
    await until(() => folder.problem !== null);
    assert.match(folder.problem ?? "", /has a file "tls.key" that meshca did not make/);
    assert.equal(readFileSync(join(path, "tls.key"), "utf8"), "theirs");
    await folder.close();
  });
});

describe("folder that changes while the agent runs", () => {
  it("is refused if a link took its place, and nothing is written through it", async () => {
    const { folder, path, clock } = await made();
    await folder.start();
    const elsewhere = privateFolder();
    renameSync(path, `${path}.old`);
    symlinkSync(elsewhere, path);
    await pass(clock, 60_000);
    await until(() => folder.problem !== null);
    assert.match(folder.problem ?? "", /is a symbolic link/);
    assert.deepEqual(generationsIn(elsewhere), []);
    await folder.close();
  });

  it("is refused if others may write to it now", async () => {
    const { folder, path, clock } = await made();
    await folder.start();
    chmodSync(path, 0o777);
    await pass(clock, 60_000);
    await until(() => folder.problem !== null);
    assert.match(folder.problem ?? "", /can be replaced by other users with mode 0777/);
    chmodSync(path, 0o700);
    await pass(clock, 1000);
    await until(() => folder.problem === null);
    await folder.close();
  });
});

describe("lock of a folder", () => {
  it("refuses a second agent until the first one is closed", async () => {
    const first = await made();
    await first.folder.start();
    const second = await made({ path: first.path });
    const generation = generationsIn(first.path);
    await assert.rejects(second.folder.start(), /is in use by another meshca agent: stop it, or/);
    assert.deepEqual(generationsIn(first.path), generation);
    await first.folder.close();
    const third = await made({ path: first.path });
    await third.folder.start();
    assert.equal(third.folder.problem, null);
    await third.folder.close();
  });

  it("refuses a folder with a file of another kind at its name", async () => {
    const path = folderWith(0o700, "web");
    writeFileSync(join(path, "..lock"), "");
    const { folder } = await made({ path });
    await assert.rejects(folder.start(), /has a file \.\.lock that is not a socket: remove it$/);
  });

  it("is not taken from an agent whose folder another agent uses now", async () => {
    const { folder, path, clock, lines } = await made();
    await folder.start();
    rmSync(join(path, "..lock"));
    const other = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => other.listen(join(path, "..lock"), resolve));
    await pass(clock, 60_000);
    await until(() => folder.problem !== null);
    assert.match(folder.problem ?? "", /is in use by another meshca agent/);
    assert.equal(lines.filter((line) => line.startsWith("error")).length, 1);
    await folder.close();
    await new Promise((resolve) => other.close(resolve));
  });
});
