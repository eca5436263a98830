/**
 * The part of the composition root that gets the key-encryption keys: as they are given, from the
 * data folder, and from Vault where they are wrapped.
 * @module
 */

import type { VaultClient } from "../../providers/vault/client.ts";
import { parseTransitConfig, type VaultConnection } from "../../providers/vault/config.ts";
import { createAllowList } from "../../providers/vault/egress-allowlist.ts";
import { createVaultClient } from "../../providers/vault/pki-api.ts";
import { createTransitWrapper } from "../../providers/vault/transit.ts";
import { isLoopback, type Settings } from "../config/settings.ts";
import { ConfigError } from "../core/errors.ts";
import { makeKek } from "../seal/kek.ts";
import {
  hasWrapped,
  type KeyWrapper,
  makeWrapped,
  openWrapped,
  renewWrapped,
} from "../seal/wrapped.ts";
import type { Platform } from "./platform.ts";

/** The file in the data folder with the key-encryption keys of an embedded store. */
const FILE = "kek";

/** The file in the data folder with the last-seen state. */
export const lastSeenFile = (kind: Settings["store"]["kind"]): string => `seen-${kind}.json`;

export interface KeptKeks {
  /** As `readKeks` reads them, opened. */
  readonly text: string;
  /** Opens others. @throws {CaError} */
  open(text: string): Promise<string>;
}

/** Makes clients of Vault for the provider, within what the settings allow. */
export function vaultConnector(
  settings: Settings,
  platform: Platform,
): (connection: VaultConnection) => VaultClient {
  const { clock, random, log, resolve, providerFiles } = platform;
  // With access control on, a caller who may change the configuration is another one than the user
  // of this machine.
  const loopback = settings.acl === "off" && isLoopback(settings.listen.host);
  const allow = createAllowList({ ...settings.vaultAllow, loopback });
  const readFile = (path: string) => providerFiles.readFile(path);
  const listFolder = (path: string) => providerFiles.listFolder(path);
  return (connection) =>
    createVaultClient({ clock, readFile, listFolder, resolve, allow, connection, random, log });
}

/**
 * The key-encryption keys.
 * @throws {ConfigError}
 * @throws {SealError}
 * @throws {ProviderError} where Vault cannot be asked
 */
export async function readKekText(settings: Settings, platform: Platform): Promise<KeptKeks> {
  const open = (text: string) =>
    hasWrapped(text)
      ? withWrapper(settings, platform, (wrapper) => openWrapped(text, wrapper))
      : Promise.resolve(text);
  if (settings.kek !== null) {
    const given = settings.kek;
    if (settings.kekVault === null || !hasWrapped(given)) return { text: await open(given), open };
    const text = await withWrapper(settings, platform, async (wrapper) => {
      if (wrapper !== null && (await renewWrapped(given, wrapper)) !== null)
        platform.log.warn(
          "A key-encryption key is wrapped by an old version of its Transit key: wrap it anew with transit/rewrap",
        );
      return openWrapped(given, wrapper);
    });
    return { text, open };
  }
  if (settings.store.kind === "memory") return { text: makeKek(), open };
  requireKept(settings, platform);
  if (settings.kekVault === null)
    return { text: await open(platform.readSecretFile(FILE, makeKek)), open };
  const text = await withWrapper(settings, platform, (wrapper) =>
    readOwnFile(wrapper as KeyWrapper, platform),
  );
  return { text, open };
}

/**
 * Another key than the one that is lost opens nothing, and would be in the way of a backup of it.
 * @throws {ConfigError} if the data folder has a CA, and not its key
 */
function requireKept({ store }: Settings, platform: Platform): void {
  const [keks, seen] = [
    platform.persistentFile(FILE),
    platform.persistentFile(lastSeenFile(store.kind)),
  ];
  if (keks === null || seen === null || keks.read() !== null || seen.read() === null) return;
  throw new ConfigError(
    `The key-encryption key ${JSON.stringify(keks.name)} is missing, and the CA of this data folder cannot be used without it: put the file back from a backup, or name an empty folder in MESHCA_DATA_DIR for a new CA`,
  );
}

/**
 * The data folder's own keys, wrapped: made, wrapped anew where the Transit key has a newer
 * version, and opened.
 */
async function readOwnFile(wrapper: KeyWrapper, platform: Platform): Promise<string> {
  const kept = platform.persistentFile(FILE);
  const before = kept?.read() ?? null;
  if (before === null) {
    const made = await makeWrapped(wrapper);
    return openWrapped(
      platform.readSecretFile(FILE, () => made),
      wrapper,
    );
  }
  if (!hasWrapped(before)) {
    // What lies there in the open still opens what it sealed.
    const next = `${await makeWrapped(wrapper)}\n${before}`;
    await kept?.write(next);
    platform.log.warn(
      "The key-encryption key in the data folder was not wrapped: a wrapped one seals from now on. Seal everything anew, then remove the other line",
      { file: FILE },
    );
    return openWrapped(next, wrapper);
  }
  const renewed = await renewWrapped(before, wrapper);
  if (renewed !== null) {
    await kept?.write(`${renewed}\n`);
    platform.log.info(
      "The key-encryption keys in the data folder were wrapped anew by the latest version of the Transit key",
      {
        file: FILE,
      },
    );
  }
  return openWrapped(renewed ?? before, wrapper);
}

/** Talks to Vault for as long as it takes, and no longer. */
async function withWrapper<T>(
  settings: Settings,
  platform: Platform,
  use: (wrapper: KeyWrapper | null) => Promise<T>,
): Promise<T> {
  if (settings.kekVault === null) return use(null);
  const { connection, mount, key } = parseTransitConfig(settings.kekVault);
  const { clock, readFile, listFolder, resolve, random, log } = platform;
  // The operator of this machine wrote the file that names this Vault, so loopback and any file may
  // be named there.
  const allow = createAllowList({ ...settings.vaultAllow, loopback: true });
  const client = createVaultClient({
    clock,
    readFile,
    listFolder,
    resolve,
    allow,
    connection,
    random,
    log,
  });
  try {
    const result = await use(createTransitWrapper(client, mount, key));
    await client
      .revoke()
      .catch(() =>
        log.warn("Vault: the token of the login for Transit could not be revoked; it will expire"),
      );
    return result;
  } finally {
    client.close();
  }
}
