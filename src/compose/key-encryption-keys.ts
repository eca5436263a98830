/**
 * Gets the key-encryption keys: from the settings, from the data folder, and from Vault Transit if
 * they are wrapped. It also makes the clients of Vault.
 * @module
 */
import { VaultClient, type VaultPlatform } from "../../providers/vault/client.ts";
import { parseTransitConfig } from "../../providers/vault/config.ts";
import { type Connect, createConnect } from "../../providers/vault/context.ts";
import { EgressAllowlist } from "../../providers/vault/egress-allowlist.ts";
import { TransitWrapper } from "../../providers/vault/transit.ts";
import { isLoopback } from "../config/addresses.ts";
import type { Settings } from "../config/settings.ts";
import { ConfigError } from "../core/errors.ts";
import { makeKek } from "../seal/kek.ts";
import {
  hasWrapped,
  type KeyWrapper,
  makeWrapped,
  openWrapped,
  renewWrapped,
} from "../seal/wrapped.ts";
import type { Platform, ProviderFileReader } from "./platform.ts";

/** The file in the data folder with the key-encryption keys of an embedded store. */
const FILE = "kek";

/** The file in the data folder with the last-seen state of the CA. */
export const lastSeenFile = (kind: Settings["store"]["kind"]): string => `seen-${kind}.json`;

export interface Keks {
  /** Unwrapped keys in the form that `readKeks` reads. */
  readonly text: string;
  /** Unwraps other keys. @throws {CaError} */
  open(text: string): Promise<string>;
}

/** Where an operator finds the key-encryption keys. */
export const kekSource = ({ kek }: Pick<Settings, "kek">): string =>
  kek === null ? "the file kek in the data folder" : "MESHCA_KEK or the file of MESHCA_KEK_FILE";

/** Makes clients of Vault for the provider, which may connect and read as the settings allow. */
export function vaultConnector(settings: Settings, platform: Platform): Connect {
  // With access control, a caller who may change the configuration is not the user of this machine.
  const loopback = settings.acl === "off" && isLoopback(settings.listen.host);
  return createConnect(vaultPlatform(settings, loopback, platform.providerFiles, platform));
}

function vaultPlatform(
  { vaultAllow }: Settings,
  loopback: boolean,
  files: ProviderFileReader,
  { clock, random, log, resolve }: Platform,
): VaultPlatform {
  return {
    clock,
    random,
    log,
    resolve,
    readFile: (path) => files.readFile(path),
    listFolder: (path) => files.listFolder(path),
    allow: new EgressAllowlist({ ...vaultAllow, loopback }),
  };
}

/**
 * Reads the key-encryption keys, and creates those of the data folder if there are none.
 * @throws {ConfigError}
 * @throws {SealError}
 * @throws {ProviderError} if Vault does not answer
 */
export async function readKekText(settings: Settings, platform: Platform): Promise<Keks> {
  const { kekVault } = settings;
  const open = async (text: string) => {
    if (!hasWrapped(text)) return text;
    return kekVault === null
      ? openWrapped(text, null)
      : withTransit(kekVault, settings, platform, (transit) => openWrapped(text, transit));
  };
  if (settings.kek !== null) {
    const given = settings.kek;
    if (kekVault === null || !hasWrapped(given)) return { text: await open(given), open };
    const text = await withTransit(kekVault, settings, platform, async (transit) => {
      if ((await renewWrapped(given, transit)) !== null)
        platform.log.warn(
          "A configured key-encryption key is wrapped by an old version of its Transit key: rewrap it with transit/rewrap and replace it in MESHCA_KEK or the file of MESHCA_KEK_FILE",
        );
      return openWrapped(given, transit);
    });
    return { text, open };
  }
  if (settings.store.kind === "memory") return { text: makeKek(), open };
  requireKek(settings, platform);
  const text =
    kekVault === null
      ? await open(platform.readSecretFile(FILE, makeKek))
      : await withTransit(kekVault, settings, platform, (transit) =>
          readWrappedFile(transit, platform),
        );
  return { text, open };
}

/**
 * A new key could not decrypt the CA of the data folder, and would hinder a restore of the lost key.
 * @throws {ConfigError} if the data folder contains a CA and not its key
 */
function requireKek({ store }: Settings, platform: Platform): void {
  const file = platform.persistentFile(FILE);
  const seen = platform.persistentFile(lastSeenFile(store.kind));
  if (file === null || seen === null || file.read() !== null || seen.read() === null) return;
  throw new ConfigError(
    `The key-encryption key ${JSON.stringify(file.name)} is missing, and the CA of this data folder cannot be used without it: restore the file from a backup, or set MESHCA_DATA_DIR to an empty folder for a new CA`,
  );
}

/**
 * The keys of the data folder, unwrapped. They are created if there are none, and rewrapped if the
 * Transit key has a newer version.
 */
async function readWrappedFile(transit: KeyWrapper, platform: Platform): Promise<string> {
  const file = platform.persistentFile(FILE);
  const before = file?.read() ?? null;
  if (before === null) {
    const created = await makeWrapped(transit);
    return openWrapped(
      platform.readSecretFile(FILE, () => created),
      transit,
    );
  }
  if (!hasWrapped(before)) {
    // The unwrapped key still decrypts what it encrypted.
    const next = `${await makeWrapped(transit)}\n${before}`;
    await file?.write(next);
    platform.log.warn(
      'The key-encryption key in the data folder was not wrapped: a key wrapped by Vault was added to its file and encrypts from now on. Re-encrypt everything with PUT /v1/connect/ca/rewrap, and only then delete the line without ":vault:" from that file; the line with ":vault:" must stay',
      { file: file?.name },
    );
    return openWrapped(next, transit);
  }
  const renewed = await renewWrapped(before, transit);
  if (renewed !== null) {
    await file?.write(`${renewed}\n`);
    platform.log.info(
      "Rewrapped the key-encryption keys in the data folder with the latest version of the Transit key",
      { file: file?.name },
    );
  }
  return openWrapped(renewed ?? before, transit);
}

/** Logs in to Vault for the duration of `use`, and revokes the token after it. */
async function withTransit<T>(
  kekVault: NonNullable<Settings["kekVault"]>,
  settings: Settings,
  platform: Platform,
  use: (transit: KeyWrapper) => Promise<T>,
): Promise<T> {
  const { connection, mount, key } = parseTransitConfig(kekVault);
  // The operator of this machine wrote the file that names this Vault: it may name loopback and any
  // file.
  const client = new VaultClient(connection, vaultPlatform(settings, true, platform, platform));
  try {
    const result = await use(new TransitWrapper(client, mount, key));
    await client
      .revoke()
      .catch(() =>
        platform.log.warn(
          "Failed to revoke the Vault token of the Transit login; it stays valid until it expires",
        ),
      );
    return result;
  } finally {
    client.close();
  }
}
