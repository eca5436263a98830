/**
 * What the server runtimes have in common: the system's clock, randomness, files and standard output.
 * @module
 */
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Platform } from "../compose.ts";
import type { Settings } from "../config/settings.ts";
import type { Clock, Random } from "../core/clock.ts";
import { createLogger } from "../telemetry/logger.ts";

export const systemClock: Clock = {
  now: () => new Date(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done);
    }),
};

export const systemRandom: Random = {
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
  fraction: () => Math.random(),
};

/** The platform of a process with a file system. Makes the data folder, which nobody else may enter. */
export function createPlatform(settings: Settings): Platform {
  return {
    clock: systemClock,
    random: systemRandom,
    log: createLogger(settings.logLevel, (line) => process.stdout.write(line)),
    secretFile(name, make) {
      const path = join(settings.dataDir, name);
      try {
        return readFileSync(path, "utf8");
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
      }
      // Written whole beside its place and then linked there, so that a crash leaves no half key and no race two.
      const draft = `${path}.${crypto.randomUUID()}`;
      writeFileSync(draft, `${make()}\n`, { mode: 0o600, flag: "wx", flush: true });
      try {
        linkSync(draft, path);
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      } finally {
        rmSync(draft, { force: true });
      }
      return readFileSync(path, "utf8");
    },
    kept(name) {
      if (!existsSync(settings.dataDir)) return null;
      const path = join(settings.dataDir, name);
      return {
        name: path,
        read: () => (existsSync(path) ? readFileSync(path, "utf8") : null),
        // Beside all else: whoever waits for a change is being answered while this goes to the disk.
        async write(text) {
          const draft = `${path}.${crypto.randomUUID()}`;
          await writeFile(draft, text, { mode: 0o600, flag: "wx", flush: true });
          await rename(draft, path);
        },
      };
    },
    readFile: (path) => readFileSync(path, "utf8"),
    isThere: existsSync,
  };
}

/** Makes the folder that holds keys and state, for nobody else to enter. One that is there already stays as it is. */
export function makeDataDir(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}
