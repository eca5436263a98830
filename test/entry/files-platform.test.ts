/**
 * Which files a provider's configuration may read, on a real file system: links, hard links, FIFOs,
 * sockets, races.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { ConfigError } from "../../src/core/errors.ts";
import { ProviderFiles } from "../../src/entry/files-platform.ts";

describe("ProviderFiles", () => {
  let top: string;
  let listed: string;
  let files: ProviderFiles;
  const at = (...names: readonly string[]) => join(top, ...names);
  const refusal = (path: string, reader = files): string => {
    try {
      reader.readFile(path);
    } catch (error) {
      assert.ok(error instanceof ConfigError, `${path}: ${error}`);
      return error.message;
    }
    throw new assert.AssertionError({ message: `${path} was read` });
  };

  before(() => {
    top = realpathSync(mkdtempSync(join(tmpdir(), "meshca-files-")));
    listed = at("listed");
    for (const folder of ["listed", "listed/deep", "listed-too", "data", "elsewhere"])
      mkdirSync(at(folder));
    writeFileSync(at("listed/token"), "s.token\n");
    writeFileSync(at("listed/deep/token"), "deep");
    writeFileSync(at("listed-too/token"), "not listed");
    writeFileSync(at("elsewhere/secret"), "secret");
    writeFileSync(at("elsewhere/kek"), "kek");
    writeFileSync(at("data/kek"), "kek of the data folder");
    const named = [
      { setting: "MESHCA_KEK_FILE", path: at("elsewhere/kek") },
      { setting: "MESHCA_AUDIT", path: at("listed/audit.log") },
      { setting: "MESHCA_TLS_KEY_FILE", path: at("listed/missing.key") },
    ];
    files = new ProviderFiles({ folders: [listed, at("missing")], named, dataDir: at("data") });
  });
  after(() => rmSync(top, { recursive: true, force: true }));

  it("reads a file of a listed folder, at any depth, however the path is spelled", () => {
    assert.equal(files.readFile(at("listed/token")), "s.token\n");
    assert.equal(files.readFile(at("listed/deep/token")), "deep");
    assert.equal(files.readFile(`${listed}/deep/../token`), "s.token\n");
    assert.equal(files.readFile(`${top}//listed///token`), "s.token\n");
    assert.equal(files.readFile(`${top}/elsewhere/../listed/token`), "s.token\n");
  });

  it("refuses a file that settings name since a reload, and those that they named before", () => {
    const reader = new ProviderFiles({
      folders: [listed],
      named: [{ setting: "MESHCA_KEK_FILE", path: at("listed/deep/token") }],
      dataDir: at("data"),
    });
    assert.equal(reader.readFile(at("listed/token")), "s.token\n");
    const setting = "MESHCA_REPLICATION_TOKEN_FILE";
    reader.addNamed([{ setting, path: at("listed/token") }]);
    assert.match(refusal(at("listed/token"), reader), /MESHCA_REPLICATION_TOKEN_FILE/);
    assert.match(refusal(at("listed/deep/token"), reader), /MESHCA_KEK_FILE/);
  });

  it("reads a projected token, which is a link below ..data, in a folder whose own path has a link", () => {
    mkdirSync(at("run/secrets/pod/..2026_01"), { recursive: true });
    symlinkSync("..2026_01", at("run/secrets/pod/..data"));
    symlinkSync("..data/token", at("run/secrets/pod/token"));
    writeFileSync(at("run/secrets/pod/..2026_01/token"), "projected");
    mkdirSync(at("var"));
    symlinkSync(at("run"), at("var/run"));
    for (const folder of [
      at("var/run/secrets/pod"),
      at("run/secrets/pod"),
      `${at("var/run/secrets")}/`,
    ])
      for (const path of [at("var/run/secrets/pod/token"), at("run/secrets/pod/token")])
        assert.equal(
          new ProviderFiles({ folders: [folder], named: [], dataDir: at("data") }).readFile(path),
          "projected",
        );
    assert.match(
      refusal(at("var/run/secrets/pod/token")),
      /add ".*\/var\/run\/secrets\/pod" to MESHCA_SECRET_DIRS/,
    );
  });

  it("refuses a file in no listed folder, and names the folder to list", () => {
    const hint = (path: string, folder: string) =>
      `${JSON.stringify(path)} is in no folder that MESHCA_SECRET_DIRS lists: add ${JSON.stringify(folder)} to MESHCA_SECRET_DIRS, or move the file`;
    const outside = at("elsewhere/secret");
    assert.equal(refusal(outside), hint(outside, at("elsewhere")));
    assert.equal(
      refusal(at("listed-too/token")),
      hint(at("listed-too/token"), at("listed-too")),
      "a name that begins alike",
    );
    assert.equal(
      refusal(`${listed}/../elsewhere/secret`),
      hint(`${listed}/../elsewhere/secret`, at("elsewhere")),
    );
    assert.equal(
      refusal(at("elsewhere/missing")),
      hint(at("elsewhere/missing"), at("elsewhere")),
      "not whether it is there",
    );
    assert.equal(refusal("/etc/shadow"), hint("/etc/shadow", "/etc"));
    assert.match(refusal("package.json"), /is in no folder/, "a relative path");
    assert.match(refusal(`${at("listed/token")}\0.pem`), /NUL/);
  });

  it("refuses a link that leads out of the listed folders, at any place of the path", () => {
    symlinkSync(at("elsewhere/secret"), at("listed/link"));
    symlinkSync(at("elsewhere"), at("listed/folder"));
    symlinkSync("link", at("listed/second"));
    for (const name of ["link", "second", "folder/secret"])
      assert.match(refusal(at("listed", name)), /add ".*\/elsewhere" to MESHCA_SECRET_DIRS/, name);
  });

  it("reports a missing file as unreadable, only within a listed folder", () => {
    assert.throws(
      () => files.readFile(at("listed/absent")),
      (error: unknown) => !(error instanceof ConfigError),
    );
  });

  it("refuses /proc, /sys and /dev, even if they are listed, and does not reveal the targets of their links", () => {
    const all = new ProviderFiles({
      folders: ["/proc", "/sys", "/dev", top],
      named: [],
      dataDir: at("data"),
    });
    for (const path of [
      "/proc/self/environ",
      "/proc/1/environ",
      "/proc/self/cwd/package.json",
      "/proc/../proc/self/maps",
      "/dev/stdin",
      "/dev/zero",
      "/sys/power/state",
    ])
      for (const reader of [files, all])
        assert.match(refusal(path, reader), /is below \/(proc|dev|sys), which is never read/, path);
    symlinkSync("/proc/self/environ", at("listed/environ"));
    symlinkSync("/proc/self", at("listed/process"));
    for (const path of [at("listed/environ"), at("listed/process/environ")])
      assert.match(refusal(path, all), /is below \/proc/);
  });

  it("does not advise to list the target folder of a link, if files there are never read", () => {
    symlinkSync("/proc/self/environ", at("listed/to-environ"));
    symlinkSync("/dev/null", at("elsewhere/null"));
    symlinkSync(at("data"), at("listed/to-data"));
    assert.match(
      refusal(at("listed/to-environ")),
      /is below \/proc, which is never read: name another file$/,
    );
    assert.match(
      refusal(at("elsewhere/null")),
      /is below \/dev, which is never read: name another file$/,
    );
    for (const path of ["data/kek", "listed/to-data/kek"])
      assert.match(
        refusal(at(path)),
        /is below the data folder, which is never read: name another file$/,
      );
  });

  it("does not accept a link to the root as a listed folder", () => {
    symlinkSync("/", at("everything"));
    const reader = new ProviderFiles({
      folders: [at("everything"), "/"],
      named: [],
      dataDir: at("data"),
    });
    assert.match(refusal("/etc/passwd", reader), /is in no folder that MESHCA_SECRET_DIRS lists/);
  });

  it("refuses the data folder, even if it is listed, by any name and by a hard link", () => {
    const all = new ProviderFiles({ folders: [top], named: [], dataDir: at("data") });
    symlinkSync(at("data"), at("listed/data"));
    linkSync(at("data/kek"), at("listed/hard"));
    assert.match(refusal(at("data/kek"), all), /is below the data folder/);
    assert.match(refusal(at("listed/data/kek"), all), /is below the data folder/);
    assert.match(refusal(at("listed/hard"), all), /is a file of the data folder/);
    const byLink = new ProviderFiles({ folders: [top], named: [], dataDir: at("listed/data") });
    assert.match(refusal(at("data/kek"), byLink), /is below the data folder/);
  });

  it("refuses a file that a setting names, by its name, a link or a hard link, even if its folder is listed", () => {
    writeFileSync(at("listed/audit.log"), "{}");
    symlinkSync(at("listed/audit.log"), at("listed/log"));
    linkSync(at("elsewhere/kek"), at("listed/kek"));
    assert.match(refusal(at("listed/audit.log")), /is the file that MESHCA_AUDIT names/);
    assert.match(refusal(at("listed/log")), /is the file that MESHCA_AUDIT names/);
    assert.match(refusal(at("listed/kek")), /is the file that MESHCA_KEK_FILE names/);
  });

  it("refuses an irregular file without waiting for it", async () => {
    execFileSync("mkfifo", [at("listed/fifo")]);
    const socket = createServer().listen(at("listed/socket"));
    await new Promise((resolve) => socket.once("listening", resolve));
    symlinkSync("fifo", at("listed/to-fifo"));
    for (const name of ["fifo", "to-fifo", "deep", "socket"])
      assert.match(refusal(at("listed", name)), /is not a regular file/, name);
    await new Promise((resolve) => socket.close(resolve));
  });

  it("refuses a file of more than 1 MiB, also one without end", () => {
    writeFileSync(at("listed/large"), "");
    truncateSync(at("listed/large"), 1024 * 1024);
    assert.equal(files.readFile(at("listed/large")).length, 1024 * 1024);
    truncateSync(at("listed/large"), 1024 * 1024 + 1);
    assert.match(refusal(at("listed/large")), /is larger than 1048576 bytes/);
    truncateSync(at("listed/large"), 2 ** 40);
    assert.match(refusal(at("listed/large")), /is larger than 1048576 bytes/);
  });

  it("lists a folder of certificates without the folders in it, and no other folder", () => {
    mkdirSync(at("listed/cas/..2026"), { recursive: true });
    symlinkSync("..2026", at("listed/cas/..data"));
    writeFileSync(at("listed/cas/..2026/a.pem"), "a");
    symlinkSync("..data/a.pem", at("listed/cas/a.pem"));
    assert.deepEqual(files.listFolder(at("listed/cas")), ["a.pem"]);
    assert.throws(() => files.listFolder(at("elsewhere")), /MESHCA_SECRET_DIRS/);
    assert.throws(() => files.listFolder(at("data")), /is below the data folder/);
    assert.throws(() => files.listFolder("/proc/self"), /is below \/proc/);
    assert.throws(() => files.listFolder(at("listed/token")), /is not a folder/);
    mkdirSync(at("listed/many"));
    for (let i = 0; i < 501; i++) writeFileSync(at("listed/many", `${i}`), "");
    assert.throws(() => files.listFolder(at("listed/many")), /has more than 500 files/);
  });

  it("never reads the new target of a link that is changed between the check and the read", async () => {
    mkdirSync(at("listed/turn"));
    writeFileSync(at("listed/turn/good"), "good");
    writeFileSync(at("elsewhere/good"), "evil");
    // Another thread puts a link in the place of a folder and the folder back, as fast as it can.
    const code = `
      const { symlinkSync, renameSync, unlinkSync } = require("node:fs");
      const { parentPort, workerData: [folder, evil] } = require("node:worker_threads");
      let on = true;
      parentPort.on("message", () => { on = false; });
      const turn = () => {
        for (let i = 0; i < 200; i++) {
          renameSync(folder, folder + "-away");
          symlinkSync(evil, folder);
          unlinkSync(folder);
          renameSync(folder + "-away", folder);
        }
        if (on) setImmediate(turn); else parentPort.close();
      };
      turn();
    `;
    const worker = new Worker(code, {
      eval: true,
      workerData: [at("listed/turn"), at("elsewhere")],
    });
    await new Promise((resolve) => worker.once("online", resolve));
    const seen = new Set<string>();
    for (let i = 0; i < 5000; i++) {
      try {
        seen.add(files.readFile(at("listed/turn/good")));
      } catch {
        seen.add("refused");
      }
    }
    worker.postMessage("end");
    await worker.terminate();
    assert.ok(!seen.has("evil"), [...seen].join());
  });

  it("reads a file again after it was replaced", () => {
    writeFileSync(at("listed/next"), "second");
    assert.equal(files.readFile(at("listed/token")), "s.token\n");
    unlinkSync(at("listed/token"));
    renameSync(at("listed/next"), at("listed/token"));
    assert.equal(files.readFile(at("listed/token")), "second");
  });
});
