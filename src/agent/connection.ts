/**
 * The agent's connection to its servers: how it verifies them, authenticates to them, and what it
 * keeps over a restart.
 * @module
 */
import { Alarms } from "../client/alarms.ts";
import { CaApi } from "../client/ca-api.ts";
import type { Cache } from "../client/cache.ts";
import { type Credentials, LoginCredentials, TokenCredentials } from "../client/credentials.ts";
import { LeafSource } from "../client/leaf-source.ts";
import { FileCache } from "../client/node/file-cache.ts";
import { textFile } from "../client/node/read-text.ts";
import { NodeTransport } from "../client/node/transport.ts";
import { RootsSource } from "../client/roots-source.ts";
import { ServerPool } from "../client/server-pool.ts";
import { ServerTrust } from "../client/server-trust.ts";
import type { AgentSettings, IdentitySettings } from "../config/agent-types.ts";
import { ConfigError, FormatError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { ipOctets } from "../net/ip.ts";
import { leafOpener } from "./consul-api/open-leaf.ts";
import type { OpenLeafOf } from "./consul-api/options.ts";
import { currentAccount, FolderCheck } from "./safe-path.ts";

interface ConnectionOptions {
  readonly settings: AgentSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Null: nothing is kept over a restart. */
  readonly cache: Cache | null;
}

/** Opens the cache of the settings, or null. @throws {ConfigError} */
export async function openCache({ cacheDir }: AgentSettings, log: Log): Promise<Cache | null> {
  if (cacheDir === null) return null;
  // Whoever could replace the folder would choose the keys that are served.
  const rules = { what: "Cache folder", account: currentAccount(), isShared: false };
  await new FolderCheck(cacheDir, rules).run();
  try {
    return await FileCache.open(cacheDir, log);
  } catch (error) {
    if (error instanceof FormatError) throw new ConfigError(error.message);
    throw error;
  }
}

export class Connection {
  readonly pool: ServerPool;
  readonly api: CaApi;
  readonly roots: RootsSource;
  /** The agent's own; null if it has neither a token nor a login. */
  readonly credentials: Credentials | null;
  /** Whether every server proves by TLS that it is one. */
  readonly areVerified: boolean;
  readonly #options: ConnectionOptions;
  readonly #alarms: Alarms;

  /** @throws {FormatError} if a server's address or the pin is malformed */
  constructor(options: ConnectionOptions) {
    const { settings, clock, random, log, cache } = options;
    this.#options = options;
    this.#alarms = new Alarms(clock);
    const { servers, caFile, caPin, datacenter } = settings;
    const trust = new ServerTrust({
      readCaFile: caFile === null ? null : textFile(caFile, log, false),
      pin: caPin === null ? null : `sha256:${caPin}`,
      datacenter,
    });
    const areHttps = servers.every((server) => new URL(server).protocol === "https:");
    this.areVerified = trust.canVerify && areHttps;
    const transport = new NodeTransport();
    this.pool = new ServerPool({ servers, trust, transport, clock, random, log });
    this.api = new CaApi(this.pool);
    this.credentials = this.#ownCredentials();
    this.roots = new RootsSource({
      ...{ pool: this.pool, api: this.api, cache, clock, random, log },
    });
  }

  /** Keeps a leaf of an identity of the configuration, by the agent's own credentials. */
  leafOf({ service, dnsNames, ipAddresses, ttlMs }: IdentitySettings): LeafSource {
    const { datacenter } = this.#options.settings;
    const ips = ipAddresses.flatMap((text) => ipOctets(text) ?? []);
    return new LeafSource({
      ...this.#shared,
      identity: { service, dnsNames, ipAddresses: ips, ttlMs, datacenter },
      credentials: this.credentials,
      cache: this.#options.cache,
    });
  }

  /** Opens leaves for callers of the listener, by their tokens. */
  get openLeaf(): OpenLeafOf {
    return leafOpener(this.#shared);
  }

  /** What all leaves share. */
  get #shared() {
    const { clock, random, log } = this.#options;
    return {
      ...{ api: this.api, pool: this.pool, roots: this.roots, alarms: this.#alarms },
      ...{ clock, random, log },
    };
  }

  /** Logs out, and ends every request. */
  async close(): Promise<void> {
    await this.roots.close();
    await this.credentials?.close();
    this.pool.close();
  }

  #ownCredentials(): Credentials | null {
    const { settings, clock, log } = this.#options;
    const { token, tokenFile, login } = settings;
    if (token !== null) return new TokenCredentials(async () => token);
    if (tokenFile !== null) return new TokenCredentials(textFile(tokenFile, log, true));
    if (login === null) return null;
    const { authMethod, tokenFile: jwtFile } = login;
    return new LoginCredentials({
      ...{ api: this.api, authMethod, clock, log },
      readJwt: textFile(jwtFile, log, true),
    });
  }
}
