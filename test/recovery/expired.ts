/**
 * Data folders of a real server that ran years ago: everything that it made has expired by now.
 * @module
 */
import { cpSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";

const DAY_MS = 86_400_000;
/** Longer ago than the default life of a root, 87600h, which is 3650 days. */
const AGO_MS = 3700 * DAY_MS;

export const TOKEN = "2b9f1c6e-7d4a-4a51-9a0e-3f6d8c1b2a90";
/** Access control is on, with one management token. */
export const WITH_ACL = { MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN };

/** Bun with a clock that is behind by the age of the folder. */
const LONG_AGO: Command = [
  process.execPath,
  "--preload",
  join(ROOT, "test/recovery/shifted-clock.ts"),
];

/**
 * Runs a server whose clock is ten years behind, does something with it, and ends it.
 * @param environment as of `startServer` @returns its data folder, in which all has expired
 */
export async function makeExpiredFolder(
  environment: Readonly<Record<string, string>>,
  work: (server: ServerProcess) => Promise<void> = async () => undefined,
): Promise<string> {
  const dataDir = mkdtempSync(join(tmpdir(), "meshca-expired-"));
  const server = await startServer(
    {
      ...environment,
      MESHCA_DATA_DIR: dataDir,
      TEST_CLOCK_SHIFT_MS: String(-AGO_MS),
    },
    [],
    LONG_AGO,
  );
  try {
    await work(server);
  } finally {
    await server.stop();
  }
  return dataDir;
}

/** A copy of a data folder, for one more server. */
export function copyOf(dataDir: string): string {
  const copy = mkdtempSync(join(tmpdir(), "meshca-expired-"));
  cpSync(dataDir, copy, { recursive: true, preserveTimestamps: true });
  return copy;
}
