/**
 * Builds what the npm package ships into `dist`: a JavaScript module and its types for each module of
 * `src` and `providers`, and the `.proto` files. `npm run build`.
 * @module
 */
import { execFileSync } from "node:child_process";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import about from "../package.json" with { type: "json" };

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
const TSC = join(ROOT, "node_modules/typescript/bin/tsc");

rmSync(DIST, { recursive: true, force: true });
execFileSync(process.execPath, [TSC, "-p", join(ROOT, "tsconfig.build.json")], {
  stdio: ["ignore", 2, 2],
});
// src/version.ts reads it; the package's own is one folder above, not where the sources expect it.
const { version, type } = about;
writeFileSync(join(DIST, "package.json"), `${JSON.stringify({ version, type })}\n`);
cpSync(join(ROOT, "src/agent/proto"), join(DIST, "src/agent/proto"), { recursive: true });
