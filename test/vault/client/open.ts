/**
 * A client of Vault for tests, over the real clock, files and sockets.
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { type Mount, parseVaultConfig } from "../../../providers/vault/config.ts";
import { EgressAllowlist } from "../../../providers/vault/egress-allowlist.ts";
import { PkiApi } from "../../../providers/vault/pki-api.ts";
import type { TransportPlatform } from "../../../providers/vault/transport.ts";
import type { Log, LogFields } from "../../../src/core/ports/log.ts";
import type { ConfigMap } from "../../../src/core/state.ts";
import { systemClock, systemRandom } from "../../../src/entry/platform.ts";
import { readRange } from "../../../src/net/ip.ts";

/** What was logged, as text. */
export interface Logged extends Log {
  readonly lines: string[];
}

export function logged(): Logged {
  const lines: string[] = [];
  const write = (message: string, fields: LogFields = {}) =>
    void lines.push(`${message} ${JSON.stringify(fields)}`);
  return { lines, debug: write, info: write, warn: write, error: write };
}

/** The platform of a server that may ask loopback, whatever name leads there in `names`. */
export function vaultPlatform(
  names: Readonly<Record<string, readonly string[]>> = {},
): TransportPlatform {
  const ranges = ["127.0.0.1", "::1"].flatMap((text) => readRange(text) ?? []);
  return {
    clock: systemClock,
    readFile: (path) => readFileSync(path, "utf8"),
    listFolder: (path) => readdirSync(path),
    resolve: async (host) => names[host] ?? [],
    allow: new EgressAllowlist({ hosts: Object.keys(names), ranges, loopback: false }),
  };
}

/** A client by a configuration of the provider, whose paths do not matter here. */
export function openClient(
  config: ConfigMap,
  log: Log = logged(),
  platform: TransportPlatform = vaultPlatform(),
): PkiApi {
  const { connection } = parseVaultConfig({
    RootPKIPath: "unused-root",
    IntermediatePKIPath: "unused-int",
    ...config,
  });
  return new PkiApi(connection, { ...platform, random: systemRandom, log });
}

/** A mount that no other test has. */
export function freshMount(name = "pki", namespace = ""): Mount {
  return { path: `${name}-${crypto.randomUUID().slice(0, 8)}`, namespace };
}

/** @returns the reason of a rejection. @throws if the promise resolves */
export async function failure(act: Promise<unknown>): Promise<Error> {
  try {
    await act;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("It did not fail");
}
