/**
 * Builds meshca as one executable file for Linux, with Bun as its runtime: `npm run build:binary`
 * builds `dist-binary/meshca-linux-x64` and `meshca-linux-arm64`; `-- x64` and `-- arm64` build one.
 * @module
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Glob } from "bun";
import runtimePackage from "../bin/runtime/package.json" with { type: "json" };
import lock from "../bun.lock";

const ROOT = join(import.meta.dirname, "..");
const PROTO = join(ROOT, "src/agent/proto");
/** Bytes: what a binary is allowed to have. */
const LIMIT = 120_000_000;
const TARGETS = {
  x64: { target: "bun-linux-x64", runtime: "@oven/bun-linux-x64" },
  arm64: { target: "bun-linux-arm64", runtime: "@oven/bun-linux-aarch64" },
} as const;

/** Builds one binary. @returns its path */
export async function buildBinary(name: keyof typeof TARGETS, folder: string): Promise<string> {
  const { target, runtime } = TARGETS[name];
  const outfile = join(folder, `meshca-linux-${name}`);
  const scratch = mkdtempSync(join(tmpdir(), "meshca-binary-"));
  try {
    await Bun.build({
      entrypoints: [join(ROOT, "src/cli/main.ts")],
      minify: { syntax: true, whitespace: true, identifiers: false },
      plugins: [EMBEDDED_PROTO],
      compile: {
        target,
        outfile,
        executablePath: runtimeFile(runtime, scratch),
        // The binary takes its settings from MESHCA_* variables only.
        autoloadDotenv: false,
        autoloadBunfig: false,
      },
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const { size } = statSync(outfile);
  if (size > LIMIT) throw new Error(`${outfile} has ${size} bytes, more than ${LIMIT}`);
  return outfile;
}

/** `src/agent/proto-files.ts` reads files that a binary does not have. */
const EMBEDDED_PROTO: Bun.BunPlugin = {
  name: "embedded-proto",
  setup(build) {
    build.onLoad({ filter: /\/src\/agent\/proto-files\.ts$/ }, () => {
      const paths = [...new Glob("**/*.proto").scanSync(PROTO)];
      const texts = paths.map((path) => [path, readFileSync(join(PROTO, path), "utf8")]);
      return {
        contents: `const texts = new Map(${JSON.stringify(texts)});
export const protoText = (path) => texts.get(path);`,
        loader: "js",
      };
    });
  },
};

/**
 * The Bun of a platform: of `node_modules` if it is there, else its package of the npm registry, which
 * must have the hash of the lock file.
 */
function runtimeFile(name: string, scratch: string): string {
  const installed = join(ROOT, "node_modules", name, "bin/bun");
  if (existsSync(installed)) return installed;
  const version = runtimePackage.dependencies.bun;
  const [id, , , integrity] =
    (lock.packages as Readonly<Record<string, readonly unknown[]>>)[name] ?? [];
  if (id !== `${name}@${version}`) throw new Error(`bun.lock has no ${name}@${version}`);
  const npm = (...args: string[]) =>
    execFileSync("npm", args, { cwd: scratch, encoding: "utf8", stdio: ["ignore", "pipe", 2] });
  const archive = join(scratch, npm("pack", "--silent", `${name}@${version}`).trim());
  const hash = createHash("sha512").update(readFileSync(archive)).digest("base64");
  if (`sha512-${hash}` !== integrity)
    throw new Error(`The archive of ${name}@${version} does not have the hash of bun.lock`);
  execFileSync("tar", ["-xzf", archive, "-C", scratch, "package/bin/bun"]);
  return join(scratch, "package/bin/bun");
}

if (import.meta.main) {
  const folder = join(ROOT, "dist-binary");
  mkdirSync(folder, { recursive: true });
  const asked = process.argv.slice(2);
  const names = (Object.keys(TARGETS) as (keyof typeof TARGETS)[]).filter(
    (name) => asked.length === 0 || asked.includes(name),
  );
  for (const name of names) {
    const file = await buildBinary(name, folder);
    process.stdout.write(`${file} ${(statSync(file).size / 1_000_000).toFixed(1)} MB\n`);
  }
}
