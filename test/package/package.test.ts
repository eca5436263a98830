/**
 * The npm package: it is packed, checked by publint and attw, installed into an empty folder, and run
 * on each runtime.
 * @module
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import about from "../../package.json" with { type: "json" };
import { inAgentFolder } from "../fixtures/agent.ts";
import { ROOT } from "../fixtures/root.ts";
import { dataIn, describeInstalled, getsLeaf, PATIENCE_MS } from "./contract.ts";
import { type Program, run, serve } from "./program.ts";

const BIN = join(ROOT, "node_modules/.bin");
const NODE = join(BIN, "node");
/** With Node 24 first, which npm and npx run on, too, and what they need to reach a registry. */
const ENVIRONMENT: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value === undefined || /^(?:MESHCA|CONSUL|npm)_/.test(name) ? [] : [[name, value]],
    ),
  ),
  PATH: `${BIN}:${process.env.PATH ?? ""}`,
  npm_config_audit: "false",
  npm_config_fund: "false",
  npm_config_prefer_offline: "true",
  npm_config_update_notifier: "false",
};
/** Bytes unpacked: the package has 2.6 MB, and its run-time dependencies are not in it. */
const MAX_UNPACKED = 4_000_000;

const scratch = mkdtempSync(join(tmpdir(), "meshca-package-"));
const [installed, empty] = [join(scratch, "installed"), join(scratch, "empty")];
const tarball = join(scratch, `meshca-${about.version}.tgz`);
let packed: { readonly files: readonly { readonly path: string }[]; readonly unpackedSize: number };

const execute = (program: string, args: readonly string[], cwd: string) =>
  promisify(execFile)(program, args, { cwd, env: ENVIRONMENT, maxBuffer: 16 << 20 });

before(
  async () => {
    await execute(join(BIN, "bun"), ["build/package.ts"], ROOT);
    // Without prepack, which installs packages in the tree before it builds.
    const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", scratch];
    const { stdout } = await execute("npm", pack, ROOT);
    packed = packedOf(stdout);
    for (const folder of [installed, empty]) mkdirSync(folder);
    writeFileSync(join(installed, "package.json"), '{ "type": "module" }');
    await execute("npm", ["install", tarball], installed);
  },
  { timeout: PATIENCE_MS },
);
after(() => rmSync(scratch, { recursive: true, force: true }));

/** What `npm pack --json` reports: an array, or from npm 12 on an object by the packages' names. */
function packedOf(json: string): typeof packed {
  const [first] = Object.values(JSON.parse(json) as Record<string, typeof packed>);
  assert.ok(first !== undefined);
  return first;
}

describe("the npm package", () => {
  it("has JavaScript, types and .proto files, and no source or test", () => {
    const paths = packed.files.map(({ path }) => path);
    const other = paths.filter(
      (path) => !/^dist\/(?:src|providers)\/.*\.(?:js|d\.ts|proto)$/.test(path),
    );
    assert.deepEqual(other.toSorted(), [
      "LICENSE",
      "README.md",
      "bin/meshca.mjs",
      "dist/package.json",
      "package.json",
    ]);
    assert.ok(packed.unpackedSize < MAX_UNPACKED, `${packed.unpackedSize} bytes`);
  });

  it("does not install a runtime", { timeout: PATIENCE_MS }, async () => {
    const { stdout } = await execute("npm", ["ls", "--all", "--parseable"], installed);
    const names = stdout.split("\n").map((path) => path.replace(/^.*node_modules\//, ""));
    for (const name of ["bun", "deno", "node", "meshca-runtime"])
      assert.ok(!names.includes(name), name);
  });

  it("passes publint", { timeout: PATIENCE_MS }, async () => {
    const { stdout } = await execute(NODE, [join(BIN, "publint"), "--strict", tarball], scratch);
    assert.match(stdout, /All good!/);
  });

  it("passes attw: its types are those of ES modules", { timeout: PATIENCE_MS }, async () => {
    const attw = [join(BIN, "attw"), "--profile", "esm-only", "--no-color", tarball];
    const { stdout } = await execute(NODE, attw, scratch);
    for (const name of ['"meshca"', '"meshca/worker"']) assert.ok(stdout.includes(name), stdout);
  });

  it("type-checks in a project that uses it, with the types of its dependencies", {
    timeout: PATIENCE_MS,
  }, async () => {
    writeFileSync(join(installed, "use.ts"), USE);
    const tsc = [join(BIN, "tsc"), "--noEmit", "--strict", "--target", "es2024"];
    const [node, bundler] = [
      ["--module", "nodenext"],
      ["--module", "esnext", "--moduleResolution", "bundler"],
    ];
    const noBrowser = ["--lib", "es2024", "--types", "node"];
    for (const options of [node, bundler, [...node, ...noBrowser], [...bundler, ...noBrowser]])
      await execute(NODE, [...tsc, ...options, "use.ts"], installed).catch(
        ({ stdout }: { stdout: string }) => assert.fail(`${options.join(" ")}: ${stdout}`),
      );
    writeFileSync(join(installed, "misuse.ts"), 'import { compose } from "meshca";\ncompose(1);\n');
    await assert.rejects(
      execute(NODE, [...tsc, "--module", "nodenext", "misuse.ts"], installed),
      ({ stdout }: { stdout: string }) => /misuse\.ts\(2,\d+\): error/.test(stdout),
    );
  });
});

const USE = `import { CaError, compose, type Meshca, readSettings, type Settings } from "meshca";
import worker from "meshca/worker";

const settings: Settings = readSettings({ MESHCA_STORE: "memory:" }, () => "", []);
const composed: (...args: Parameters<typeof compose>) => Promise<Meshca> = compose;
export const all = [settings, composed, CaError, worker.fetch];
`;

const IMPORTS = `import { CaError, compose, readSettings } from "meshca";
import worker from "meshca/worker";
const { store } = readSettings({ MESHCA_STORE: "memory:" }, () => "", []);
console.log([typeof compose, typeof CaError, typeof worker.fetch, store.kind].join());
`;

const DENO = [join(ROOT, "node_modules/deno/deno"), "run", "--no-lock", "--allow-all"] as const;
const UNSTABLE = "--unstable-no-legacy-abort";
const inFolder = (...command: Program["command"]): Program => ({
  ...{ command, cwd: installed, environment: ENVIRONMENT },
});
const RUNTIMES = {
  node: inFolder(NODE, "node_modules/meshca/bin/meshca.mjs"),
  bun: inFolder(join(BIN, "bun"), "node_modules/meshca/bin/meshca.mjs"),
  deno: inFolder(...DENO, UNSTABLE, "--node-modules-dir=manual", "npm:meshca"),
  npx: { ...inFolder("npx", "meshca"), starter: true },
  "bunx --bun": {
    ...inFolder(join(BIN, "bun"), "x", "--bun", "--no-install", "meshca"),
    starter: true,
  },
} as const;

for (const [name, program] of Object.entries(RUNTIMES))
  describe(`the npm package on ${name}`, () => {
    // Deno has no workers; npx and bunx run what the tests of node and bun run.
    describeInstalled(() => program, name === "node" || name === "bun");
  });

describe("the modules of the npm package", () => {
  const importing = {
    node: inFolder(NODE),
    bun: inFolder(join(BIN, "bun")),
    deno: inFolder(...DENO, "--node-modules-dir=manual"),
  };
  for (const [name, program] of Object.entries(importing))
    it(`can be imported on ${name}`, { timeout: PATIENCE_MS }, async () => {
      writeFileSync(join(installed, "imports.mjs"), IMPORTS);
      const { code, stdout, stderr } = await run(program, "imports.mjs");
      assert.deepEqual([code, stdout], [0, "function,function,function,memory\n"], stderr);
    });
});

describe("the npm package without an installation", () => {
  it("serves from an empty folder by npx and the package's file", { timeout: PATIENCE_MS }, () =>
    inAgentFolder(async (folder) => {
      copyFileSync(tarball, join(empty, "meshca.tgz"));
      const npx: Program = {
        command: ["npx", "--yes", "./meshca.tgz"],
        cwd: empty,
        environment: ENVIRONMENT,
      };
      const server = await serve(npx, dataIn(folder));
      try {
        await getsLeaf(npx, server.url, join(folder, "web"));
      } finally {
        await server.stop();
      }
    }),
  );

  it("names the way out on a Node that is too old", { timeout: PATIENCE_MS }, async () => {
    const script = `Object.defineProperty(process, "versions", { value: { node: "22.1.0" } });
await import(${JSON.stringify(`file://${installed}/node_modules/meshca/bin/meshca.mjs`)});`;
    const node = inFolder(NODE, "--input-type=module", "--eval", script);
    const { code, stdout, stderr } = await run(node);
    assert.deepEqual([code, stdout], [78, ""]);
    assert.match(
      stderr,
      /^Cannot run on Node 22\.1\.0: it must be Node 24\.0 or newer; install it, .*\n$/,
    );
  });
});
