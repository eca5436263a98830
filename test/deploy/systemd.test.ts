/**
 * The units of deploy/systemd: well-formed, and exposed no more than the threshold, by systemd's own
 * programs.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ROOT } from "../fixtures/root.ts";

const FOLDER = join(ROOT, "deploy/systemd");
const UNITS = readdirSync(FOLDER).filter((name) => name.endsWith(".service"));
/**
 * Tenths of the exposure of `systemd-analyze security`, where 100 is a service without any
 * restriction, and network access alone costs 9.
 */
const THRESHOLDS: Readonly<Record<string, number>> = {
  "meshca.service": 12,
  "meshca-agent.service": 20,
};

/** Why systemd's programs cannot be used, or false. With CI=true nothing is skipped. */
const noSystemd: string | false = (() => {
  if (process.env.CI === "true") return false;
  const { status } = spawnSync("systemd-analyze", ["--version"]);
  return status === 0 ? false : "systemd-analyze is not installed";
})();

const readUnit = (name: string) => readFileSync(join(FOLDER, name), "utf8");
/** The values of a key; a key may occur several times. */
const valuesOf = (unit: string, key: string) =>
  [...unit.matchAll(new RegExp(`^${key}=(.*)$`, "gm"))].map(([, value = ""]) => value);

describe("units of systemd", { skip: noSystemd }, () => {
  it("are those that have a threshold", () => {
    assert.deepEqual(new Set(UNITS), new Set(Object.keys(THRESHOLDS)));
  });

  for (const name of UNITS) {
    it(`${name} is well-formed`, () => {
      const folder = mkdtempSync(join(tmpdir(), "meshca-units-"));
      try {
        // The program and the users of the installation are not on this machine.
        const unit = readUnit(name)
          .replace(/^(ExecStart=)\S+/m, "$1/bin/true")
          .replace(/^(User|Group)=.*$/gm, "$1=root");
        writeFileSync(join(folder, name), unit);
        const { status, stderr } = spawnSync("systemd-analyze", ["verify", join(folder, name)], {
          encoding: "utf8",
          env: { ...process.env, SYSTEMD_LOG_LEVEL: "warning" },
        });
        const about = stderr.split("\n").filter((line) => line.includes(name));
        assert.deepEqual([status, about], [0, []], stderr);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });

    it(`${name} is exposed no more than its threshold`, () => {
      const { status, stdout } = spawnSync(
        "systemd-analyze",
        [
          ...["security", "--offline=true", "--no-pager"],
          ...[`--threshold=${THRESHOLDS[name]}`, join(FOLDER, name)],
        ],
        { encoding: "utf8" },
      );
      assert.equal(status, 0, stdout.split("\n").slice(-3).join("\n"));
    });

    it(`${name} is not restarted for a wrong command line or setting, and leaves no core dump`, () => {
      const unit = readUnit(name);
      assert.deepEqual(valuesOf(unit, "RestartPreventExitStatus"), ["64 78"]);
      assert.deepEqual(valuesOf(unit, "LimitCORE"), ["0"]);
      assert.notDeepEqual(valuesOf(unit, "User"), ["root"]);
    });
  }

  it("leave /etc/meshca, which the two have in common, to root", () => {
    // With ConfigurationDirectory it would belong to the user of the unit that starts first.
    for (const name of UNITS) {
      assert.deepEqual(valuesOf(readUnit(name), "ConfigurationDirectory"), [], name);
      assert.match(readUnit(name), /\/etc\/meshca\//);
    }
    const page = readFileSync(join(ROOT, "docs/install.md"), "utf8");
    assert.match(page, /^install -d -m 755 \/etc\/meshca$/m);
  });

  it("name users that meshca.sysusers makes, with the folders of the units as their home", () => {
    const made = [...readUnit("meshca.sysusers").matchAll(/^u (\S+) .* (\S+)$/gm)];
    assert.deepEqual(
      made.map(([, user = "", home = ""]) => [user, home]),
      UNITS.toSorted((a, b) => a.length - b.length).map((name) => [
        valuesOf(readUnit(name), "User")[0],
        `/var/lib/${valuesOf(readUnit(name), "StateDirectory")[0]}`,
      ]),
    );
  });

  it("refuse system calls with an error, and let the agent set the group of files and sockets", () => {
    for (const name of UNITS) {
      const unit = readUnit(name);
      assert.deepEqual(valuesOf(unit, "SystemCallFilter").slice(0, 2), [
        "@system-service",
        "~@privileged @resources",
      ]);
      assert.deepEqual(valuesOf(unit, "SystemCallErrorNumber"), ["EPERM"]);
    }
    assert.ok(valuesOf(readUnit("meshca-agent.service"), "SystemCallFilter").includes("@chown"));
  });
});
