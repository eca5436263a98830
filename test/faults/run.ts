/**
 * The full run: every scenario at least 20 times, each with the seed that makes the same choices
 * again.
 * @module
 */
import { fileURLToPath } from "node:url";

const rounds = process.env.MESHCA_FAULT_ROUNDS ?? "20";
const asked = process.argv.slice(2);
const child = Bun.spawn(
  [
    process.execPath,
    "test",
    "--timeout",
    "120000",
    ...(asked.length > 0 ? asked : ["test/faults"]),
  ],
  {
    cwd: fileURLToPath(new URL("../../", import.meta.url)),
    env: { ...process.env, MESHCA_FAULT_ROUNDS: rounds },
    stdio: ["ignore", "inherit", "inherit"],
  },
);
process.exit(await child.exited);
