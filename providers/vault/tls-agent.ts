/**
 * The HTTP agent of a connection to Vault: it keeps connections, and is replaced when a TLS file of
 * the configuration changes.
 * @module
 */
import http from "node:http";
import https from "node:https";
import { ConfigError } from "../../src/core/errors.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import type { VaultConnection } from "./config.ts";
import { VaultError } from "./errors.ts";
import { type FileReader, fileFault } from "./files.ts";

/** How long the files of a connection are used before they are read again, in milliseconds. */
const REREAD_MS = 10_000;
/** The most that the certificates of a folder may have together, in UTF-16 units. */
const MAX_FOLDER_LENGTH = 8 * 1024 * 1024;
const CONNECTIONS = { keepAlive: true, maxSockets: 64 };

type Agent = http.Agent | https.Agent;

export class TlsAgent {
  readonly #isTls: boolean;
  readonly #tls: VaultConnection["tls"];
  readonly #files: FileReader;
  readonly #clock: Clock;
  #agent: Agent | null = null;
  /** The contents of the files that the agent was made with. */
  #contents = "";
  #readAt = Number.NEGATIVE_INFINITY;

  constructor({ address, tls }: VaultConnection, files: FileReader, clock: Clock) {
    this.#isTls = address.startsWith("https:");
    this.#tls = tls;
    this.#files = files;
    this.#clock = clock;
  }

  /** @throws {VaultError} `tls` if a file cannot be read, `not_allowed` if it must not be */
  current(): Agent {
    const now = this.#clock.now().getTime();
    if (this.#agent !== null && now - this.#readAt < REREAD_MS) return this.#agent;
    const { certFile, keyFile, serverName, skipVerify } = this.#tls;
    const ca = this.#authorities();
    const pair =
      certFile === ""
        ? {}
        : { cert: this.#read("CertFile", certFile), key: this.#read("KeyFile", keyFile) };
    const contents = JSON.stringify([ca, pair]);
    this.#readAt = now;
    if (this.#agent !== null && contents === this.#contents) return this.#agent;
    if (this.#agent !== null) retire(this.#agent);
    this.#contents = contents;
    this.#agent = this.#isTls
      ? new https.Agent({
          ...CONNECTIONS,
          rejectUnauthorized: !skipVerify,
          ...(ca.length === 0 ? {} : { ca }),
          ...pair,
          ...(serverName === "" ? {} : { servername: serverName }),
        })
      : new http.Agent(CONNECTIONS);
    return this.#agent;
  }

  /** Has the files read again for the next request. */
  expire(): void {
    this.#readAt = Number.NEGATIVE_INFINITY;
  }

  destroy(): void {
    this.#agent?.destroy();
    this.#agent = null;
  }

  /** The certificates of CAs, as PEM; none for those that the runtime trusts. */
  #authorities(): string[] {
    const { caFile, caPath } = this.#tls;
    if (caFile !== "") return [this.#read("CAFile", caFile)];
    if (caPath === "") return [];
    const found: string[] = [];
    let length = 0;
    for (const name of usable("CAPath", caPath, () => this.#files.listFolder(caPath))) {
      const text = this.#read("CAPath", `${caPath}/${name}`);
      length += text.length;
      if (length > MAX_FOLDER_LENGTH)
        throw new VaultError(
          "tls",
          `Vault: CAPath: the files of ${JSON.stringify(caPath)} have more than ${MAX_FOLDER_LENGTH} characters together; name a folder that has CA certificates only`,
        );
      found.push(text);
    }
    return found;
  }

  #read(field: string, path: string): string {
    return usable(field, path, () => this.#files.readFile(path));
  }
}

/** What `read` gives of a file or folder. @throws {VaultError} */
function usable<T>(field: string, path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const reason = error instanceof ConfigError ? "not_allowed" : "tls";
    throw new VaultError(reason, `Vault: ${fileFault(field, path, error)}`, null, error);
  }
}

/** Lets running requests end, and closes idle connections. */
function retire(agent: Agent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? []))
    socket.destroy();
}
