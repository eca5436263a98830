/**
 * Detects the server runtime, requires a supported version, and serves by its entry.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { ConfigError } from "../core/errors.ts";
import type { Served } from "./serve.ts";

/** The oldest supported versions, and how to get a newer one. */
const RUNTIMES = {
  bun: { name: "Bun", least: [1, 3], way: "npm start brings Bun 1.4.5" },
  deno: { name: "Deno", least: [2, 9], way: "npm run start:deno brings Deno 2.9.6" },
  // Node 24 runs TypeScript as it is, has node:sqlite, Ed25519 in WebCrypto and `reusePort`.
  node: { name: "Node", least: [24, 0], way: "npm run start:node brings Node 24.21.0" },
} as const;

type RuntimeId = keyof typeof RUNTIMES;

/**
 * The runtime. Bun and Deno report a version of Node, too.
 * @param versions `process.versions`.
 * @throws {ConfigError} if it is too old, with what to do
 */
export function runtimeOf(versions: Readonly<Record<string, string | undefined>>): RuntimeId {
  const id: RuntimeId =
    versions.bun !== undefined ? "bun" : versions.deno !== undefined ? "deno" : "node";
  const { name, least, way } = RUNTIMES[id];
  const version = versions[id] ?? "";
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major < least[0] || (major === least[0] && minor < least[1]))
    throw new ConfigError(
      `Cannot run on ${name} ${version}: it must be ${name} ${least.join(".")} or newer; ${way}`,
    );
  return id;
}

/** Starts serving. @throws {CaError} @throws {Error} if the address is in use */
export async function serve(settings: Settings): Promise<Served> {
  switch (runtimeOf(process.versions)) {
    case "bun":
      return (await import("./bun.ts")).serve(settings);
    case "deno":
    case "node":
      return (await import("./node.ts")).serve(settings);
  }
}
