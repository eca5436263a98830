/**
 * What a Worker has: the runtime's clock, randomness and console, and no files.
 * @module
 */
import type { Platform } from "../compose/platform.ts";
import type { Settings } from "../config/settings.ts";
import { ConfigError, ProviderError } from "../core/errors.ts";
import type { AuditSink } from "../telemetry/audit.ts";
import { Logger } from "../telemetry/logger.ts";
import { systemClock, systemRandom } from "./system.ts";

/** The console takes whole lines and ends them itself. */
// biome-ignore lint/suspicious/noConsole: it is the standard output of a Worker.
const writeLine = (line: string) => console.log(line.trimEnd());

const consoleSink: AuditSink = {
  async write(bytes) {
    writeLine(new TextDecoder().decode(bytes));
    return bytes.length;
  },
  sync: async () => undefined,
  close: async () => undefined,
  reserve: null,
};

const noFile = (): never => {
  throw new ConfigError("A Worker has no files");
};

export function createWorkerPlatform({ logLevel }: Pick<Settings, "logLevel">): Platform {
  return {
    clock: systemClock,
    random: systemRandom,
    log: new Logger({ level: logLevel, clock: systemClock, write: writeLine }),
    readSecretFile: noFile,
    persistentFile: () => null,
    readFile: noFile,
    listFolder: noFile,
    fileExists: () => false,
    providerFiles: { readFile: noFile, listFolder: noFile },
    // The runtime connects by name only, and never to an address of a private network.
    async fetchKeys(url, { ca, addresses: _, ...init }) {
      if (ca !== null)
        throw new ProviderError(
          "provider_rejected",
          "A Worker trusts public CA certificates only: CACert and JWKSCACert cannot be used",
        );
      return fetch(url, init);
    },
    async resolve(host) {
      const { resolve4, resolve6 } = await import("node:dns/promises");
      const answers = await Promise.allSettled([resolve4(host), resolve6(host)]);
      return answers.flatMap((answer) => ("value" in answer ? answer.value : []));
    },
    openAuditSink: async () => consoleSink,
  };
}
