/**
 * The platform of a process on Bun, Node and Deno: clock, randomness, files, network and standard
 * output.
 * @module
 */
import { lookup } from "node:dns/promises";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { request } from "node:https";
import type { LookupFunction } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { Platform } from "../compose/platform.ts";
import type { NamedFile } from "../config/named-files.ts";
import type { Settings } from "../config/settings.ts";
import type { AuditSink } from "../telemetry/audit.ts";
import { Logger } from "../telemetry/logger.ts";
import type { ProcessUsage } from "../telemetry/series.ts";
import { openAuditFile } from "./audit-platform.ts";
import { fileFacts } from "./file-facts.ts";
import { ProviderFiles } from "./files-platform.ts";
import { persistentFile, readSecretFile } from "./private-file-platform.ts";
import { processClock as systemClock, systemRandom } from "./system.ts";

export { systemClock, systemRandom };

const stdoutSink: AuditSink = {
  write: (bytes) =>
    new Promise((resolve, reject) => {
      process.stdout.write(bytes, (error) => (error ? reject(error) : resolve(bytes.length)));
    }),
  sync: async () => undefined,
  close: async () => undefined,
  reserve: null,
};

/** A platform whose log level can be changed while it runs. */
export interface ProcessPlatform extends Platform {
  readonly log: Logger;
  /** Takes the files that settings name since they were reloaded. */
  useNamedFiles(files: readonly NamedFile[]): void;
}

/** The platform of a process with a file system. */
export function createPlatform(settings: Settings): ProcessPlatform {
  const log = new Logger({
    level: settings.logLevel,
    clock: systemClock,
    write: (line) => process.stdout.write(line),
    format: process.stdout.isTTY ? "text" : "json",
  });
  const providerFiles = new ProviderFiles({
    folders: settings.secretDirs,
    named: settings.namedFiles,
    dataDir: settings.dataDir,
  });
  let { namedFiles } = settings;
  return {
    clock: systemClock,
    random: systemRandom,
    log,
    readSecretFile: (name, make) => readSecretFile(join(settings.dataDir, name), make),
    persistentFile: (name, access) => persistentFile(settings.dataDir, name, access),
    readFile: (path) => readFileSync(path, "utf8"),
    listFolder: (path) => readdirSync(path),
    fileExists: existsSync,
    providerFiles,
    fetchKeys,
    resolve: async (host) => (await lookup(host, { all: true })).map(({ address }) => address),
    process: {
      runtime: runtimeText(),
      hostName: hostNameOrNull(),
      addresses: interfaceAddresses,
      usage: processUsage,
    },
    fileFacts: () => fileFacts({ ...settings, namedFiles }),
    useNamedFiles(files) {
      providerFiles.addNamed(files);
      namedFiles = [...files];
    },
    openAuditSink: async (target) =>
      target.kind === "stdout" ? stdoutSink : openAuditFile(target.path, settings.worker, log),
  };
}

/** Null if Deno has no --allow-sys=hostname, which a server does not need. */
function hostNameOrNull(): string | null {
  try {
    return hostname();
  } catch {
    return null;
  }
}

/** Empty if Deno has no --allow-sys=networkInterfaces. IPv6 addresses have no zone. */
function interfaceAddresses(): readonly string[] {
  try {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal }) => !internal)
      .map(({ address }) => address.replace(/%.*$/, ""));
  } catch {
    return [];
  }
}

/** One request over TLS to a checked address, whatever the host resolves to by then. */
const fetchKeys: Platform["fetchKeys"] = (url, { addresses, method, headers, body, ca, signal }) =>
  new Promise((resolve, reject) => {
    const [address = ""] = addresses;
    const pinned: LookupFunction = (_host, { all }, found) => {
      const family = address.includes(":") ? 6 : 4;
      if (all) found(null, [{ address, family }]);
      else found(null, address, family);
    };
    const options = {
      method,
      headers,
      signal,
      lookup: pinned,
      ...(ca === null ? {} : { ca }),
      agent: false as const,
    };
    const outgoing = request(url, options, (answer) => {
      const type = answer.headers["content-type"] ?? "";
      const stream = Readable.toWeb(answer) as ReadableStream<Uint8Array>;
      resolve(
        new Response(stream, {
          status: answer.statusCode ?? 502,
          headers: { "Content-Type": type },
        }),
      );
    });
    outgoing.on("error", reject);
    outgoing.end(body ?? undefined);
  });

/** The runtime and its version, as `process.versions` has them. */
export function runtimeText(): string {
  const { bun, deno, node } = process.versions as Readonly<Record<string, string | undefined>>;
  return bun !== undefined ? `bun ${bun}` : deno !== undefined ? `deno ${deno}` : `node ${node}`;
}

/** The resource usage of this process, without what the runtime or system does not report. */
export function processUsage(): ProcessUsage {
  const tried = <T>(read: () => T): T | undefined => {
    try {
      return read();
    } catch {
      return undefined;
    }
  };
  const cpu = tried(() => process.cpuUsage());
  // proc(5): field 23 of stat is the size of virtual memory; field 2, a name, may contain blanks.
  const stat = tried(() => readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)?.split(" "));
  const limit = tried(
    () => /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1],
  );
  const facts = {
    cpuUserSeconds: cpu === undefined ? undefined : cpu.user / 1e6,
    cpuSystemSeconds: cpu === undefined ? undefined : cpu.system / 1e6,
    startTime: STARTED,
    residentBytes: tried(() => process.memoryUsage().rss),
    virtualBytes: stat?.[20] === undefined ? undefined : Number(stat[20]),
    openFiles: tried(() => readdirSync("/proc/self/fd").length),
    maxFiles: limit === undefined ? undefined : Number(limit),
  };
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined));
}

/** Seconds since 1970. */
const STARTED = Date.now() / 1000 - process.uptime();
