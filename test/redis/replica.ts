/**
 * A whole replica in this process over a real Redis: what `meshca serve` composes, without a socket
 * of its own, on a clock that may be set wrong.
 * @module
 */

import { openBackend } from "../../src/compose/backend.ts";
import type { Platform } from "../../src/compose/platform.ts";
import { composeOver, type Meshca } from "../../src/compose/process.ts";
import type { Settings } from "../../src/config/settings.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import type { PersistentFile } from "../../src/core/ports/persistent-file.ts";
import { systemClock, systemRandom } from "../../src/entry/platform.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { settingsWith } from "../fixtures/settings.ts";
import { redisUrl } from "./server.ts";

export const KEK = makeKek();

export interface Line {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: LogFields;
}

export interface TestReplica {
  readonly meshca: Meshca;
  readonly clock: ShiftedClock;
  readonly lines: readonly Line[];
  call(
    method: "GET" | "PUT",
    path: string,
    body?: string,
    token?: string,
  ): Promise<{ status: number; text: string; headers: Headers }>;
  close(): Promise<void>;
}

/** The system's clock, some milliseconds ahead. */
export interface ShiftedClock extends Clock {
  aheadMs: number;
}

export interface ReplicaOptions {
  readonly port?: number;
  readonly settings?: Partial<Settings>;
  readonly aheadMs?: number;
  /** What is kept over a restart, by name: hand in the same map again. */
  readonly folder?: Map<string, string>;
  /** False: no background task runs, and the server is not started. */
  readonly running?: boolean;
}

let addresses = 0;

/** Settings of a replica over the Redis on a port of loopback. */
export function testSettings(port: number, overrides: Partial<Settings> = {}): Settings {
  return settingsWith({
    listen: { host: "127.0.0.1", port: 10_000 + ++addresses },
    dataDir: "/nowhere",
    store: redisUrl(port),
    kek: KEK,
    // More rotations than an operator makes while a leaf lives.
    maxChainLength: 32,
    ...overrides,
  });
}

/** What a process with a data folder has, the folder being a map. */
export function testPlatform(
  clock: Clock,
  folder: Map<string, string>,
  lines: Line[] = [],
): Platform {
  const write =
    (level: Line["level"]) =>
    (message: string, fields: LogFields = {}) =>
      void lines.push({ level, message, fields });
  const persistentFile = (name: string): PersistentFile => ({
    name,
    read: () => folder.get(name) ?? null,
    write: async (text) => void folder.set(name, text),
  });
  return {
    clock,
    random: systemRandom,
    log: {
      debug: write("debug"),
      info: write("info"),
      warn: write("warn"),
      error: write("error"),
      inRequest: (_requestId, work) => work(),
    },
    readSecretFile: (_name, make) => make(),
    persistentFile,
    readFile: (path) => folder.get(path) ?? "",
    listFolder: () => [],
    fileExists: (path) => folder.has(path),
    providerFiles: { readFile: (path) => folder.get(path) ?? "", listFolder: () => [] },
    fetchKeys: () => Promise.reject(new Error("There is no network")),
    resolve: () => Promise.reject(new Error("There is no network")),
    openAuditSink: () => Promise.reject(new TypeError("No audit log here")),
  };
}

export function shiftedClock(aheadMs = 0): ShiftedClock {
  const clock: ShiftedClock = {
    aheadMs,
    now: () => new Date(systemClock.now().getTime() + clock.aheadMs),
    sleep: systemClock.sleep,
  };
  return clock;
}

export async function startReplica({
  port = 0,
  settings = {},
  aheadMs = 0,
  folder = new Map(),
  running = true,
}: ReplicaOptions): Promise<TestReplica> {
  const lines: Line[] = [];
  const clock = shiftedClock(aheadMs);
  const whole = testSettings(port, settings);
  const platform = testPlatform(clock, folder, lines);
  const backend = await openBackend(whole, platform, folder.has("seen-redis.json"));
  let meshca: Meshca;
  try {
    meshca = await composeOver(backend, whole, platform);
    if (running) await meshca.start();
  } catch (error) {
    backend.close();
    throw error;
  }
  const loops = running ? meshca.run() : Promise.resolve();
  return {
    meshca,
    clock,
    lines,
    async call(method, path, body, token) {
      const request = new Request(`http://127.0.0.1${path}`, {
        method,
        headers: { Host: "127.0.0.1", ...(token === undefined ? {} : { "X-Consul-Token": token }) },
        ...(body === undefined ? {} : { body }),
      });
      const answer = await meshca.fetch(request);
      return { status: answer.status, text: await answer.text(), headers: answer.headers };
    },
    async close() {
      meshca.drain();
      await meshca.close();
      await loops;
    },
  };
}

export const leafTtl = (ttl: string): string =>
  JSON.stringify({
    Provider: "consul",
    Config: { IntermediateCertTTL: "8760h", LeafCertTTL: ttl, RootCertTTL: "87600h" },
  });
