/**
 * compose.yaml as Compose v2 loads it, without any variable.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { ROOT } from "../fixtures/root.ts";
import { kubernetesTools } from "../kubernetes/build.ts";

/** How long building the loader may take, in milliseconds. */
const BUILD_MS = 900_000;

/** Why the loader cannot be built, or false. With CI=true nothing is skipped. */
const noGo: string | false =
  process.env.CI === "true" || spawnSync("go", ["version"]).status === 0
    ? false
    : "Go is not installed";

interface Service {
  readonly image: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly ports?: readonly { readonly host_ip?: string; readonly published: string }[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly profiles?: readonly string[];
  readonly command?: readonly string[];
  readonly volumes?: readonly { readonly target: string; readonly read_only?: boolean }[];
}

describe("compose.yaml by Compose v2", { skip: noGo }, () => {
  let services: Readonly<Record<string, Service>> = {};
  before(
    async () => {
      const { compose } = await kubernetesTools();
      const { PATH = "", HOME = "" } = process.env;
      const text = execFileSync(compose, [join(ROOT, "compose.yaml")], {
        encoding: "utf8",
        env: { PATH, HOME },
      });
      services = (JSON.parse(text) as { services: Readonly<Record<string, Service>> }).services;
    },
    { timeout: BUILD_MS },
  );

  it("has Redis, three replicas, an agent, two services and the Vault tests by profile", () => {
    const byProfile = (name?: string) =>
      Object.entries(services)
        .filter(([, { profiles }]) => profiles?.[0] === name)
        .map(([service]) => service)
        .toSorted((a, b) => a.localeCompare(b));
    assert.deepEqual(byProfile(), [
      ...["agent", "api", "redis", "replica-1", "replica-2", "replica-3"],
      ...["secrets", "setup", "web"],
    ]);
    assert.deepEqual(byProfile("vault"), ["vault", "vault-tests"]);
    assert.deepEqual(byProfile("openbao"), ["openbao", "openbao-tests"]);
  });

  it("gives every container of ours a read-only file system and no capability", () => {
    const ours = Object.entries(services).filter(([, { image }]) => image === "meshca");
    assert.equal(ours.length, 8);
    for (const [name, { read_only, cap_drop, security_opt }] of ours) {
      assert.equal(read_only, true, name);
      assert.deepEqual(cap_drop, ["ALL"], name);
      assert.deepEqual(security_opt, ["no-new-privileges:true"], name);
    }
  });

  it("publishes ports on loopback only, and names no secret but by its file", () => {
    for (const [name, { ports = [], environment = {} }] of Object.entries(services)) {
      for (const { host_ip } of ports) assert.equal(host_ip, "127.0.0.1", name);
      for (const [variable, value] of Object.entries(environment))
        if (/STORE|KEK|MANAGEMENT_TOKEN/.test(variable))
          assert.match(`${variable} ${value}`, /_FILE \/secrets\//, name);
    }
  });

  it("mounts the clone for the Vault tests, which cannot write to it", () => {
    for (const name of ["vault-tests", "openbao-tests"]) {
      const { volumes } = services[name] ?? {};
      assert.deepEqual(
        volumes?.map(({ target, read_only }) => [target, read_only]),
        [["/source", true]],
      );
    }
  });

  for (const installed of [true, false])
    it(`runs the Vault tests in a clone ${installed ? "with" : "without"} its packages, and leaves it as it was`, {
      timeout: BUILD_MS,
    }, () => {
      const folder = mkdtempSync(join(tmpdir(), "meshca-compose-"));
      const [source, work] = [join(folder, "source"), join(folder, "work")];
      try {
        mkdirSync(work);
        for (const name of [
          ...["package.json", "bun.lock", "bunfig.toml", "bin", "src", "providers", "test"],
          ...["tsconfig.json", "tsconfig.base.json", "tsconfig.build.json"],
        ])
          cpSync(join(ROOT, name), join(source, name), { recursive: true });
        const packages = join(source, "node_modules");
        if (installed) symlinkSync(join(ROOT, "node_modules"), packages);
        const [shell = "", ...args] = services["openbao-tests"]?.command ?? [];
        const script = args.map((arg) =>
          arg
            // As Compose and the image have them.
            .replaceAll("/source", source)
            .replaceAll("$$", "$")
            .replace("test/vault", "test/config/settings.test.ts"),
        );
        const { status, stdout, stderr } = spawnSync(shell, script, {
          cwd: work,
          encoding: "utf8",
          env: { ...process.env, PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}` },
        });
        assert.equal(status, 0, `${stdout}${stderr}`);
        assert.match(stderr, /^ *[1-9]\d* pass$/m);
        assert.equal(existsSync(packages), installed);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
});
