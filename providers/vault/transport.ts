/**
 * One request to Vault over a socket of our own: to an address that was checked, within a time
 * limit, without proxies, cookies or anything else of the environment.
 * @module
 */
import http from "node:http";
import https from "node:https";
import { concat, fromUtf8 } from "../../src/core/bytes.ts";
import { CaError, ConfigError, FormatError } from "../../src/core/errors.ts";
import type { Clock } from "../../src/core/ports/clock.ts";
import type { VaultConnection } from "./config.ts";
import { type AllowList, literalOf } from "./egress-allowlist.ts";
import { VaultError } from "./errors.ts";
import { fileFault, MAX_FOLDER_LENGTH } from "./files.ts";

/** A listing of some thousand issuers has less. */
const MAX_BYTES = 8 * 1024 * 1024;
/** How many redirects are followed: from a standby to the active node is one. */
const MAX_REDIRECTS = 2;
/**
 * How long addresses of a name are used, and files of a connection, before they are read again, in
 * milliseconds.
 */
const REREAD_MS = 10_000;

/** What a client of Vault needs of its surroundings. */
export interface VaultPlatform {
  readonly clock: Clock;
  /**
   * The text of a file.
   * @throws {ConfigError} if it must not be read
   * @throws {Error} if it cannot be read
   */
  readFile(path: string): string;
  /** The names in a folder. @throws {ConfigError} @throws {Error} as `readFile` does */
  listFolder(path: string): readonly string[];
  /** All addresses of a host. @throws {Error} */
  resolve(host: string): Promise<readonly string[]>;
  readonly allow: AllowList;
}

export interface TransportRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly timeoutMs: number;
}

export interface TransportAnswer {
  readonly status: number;
  readonly text: string;
  readonly isJson: boolean;
  readonly retryAfterMs: number | null;
}

/**
 * Why an exchange is ended that is over, or late: without a reason an error with a trace is made of
 * it, each time.
 */
const OVER = "over";

/** Of a socket that was never connected. Bun has a name of its own for it. */
const NOT_CONNECTED = [
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EADDRNOTAVAIL",
  "ConnectionRefused",
];

export interface Transport {
  /** @throws {VaultError} `unreachable`, `timeout`, `tls`, `not_allowed`, `answer` */
  send(request: TransportRequest): Promise<TransportAnswer>;
  /** Reads the TLS files anew for the next request. */
  reload(): void;
  close(): void;
}

type Agent = http.Agent | https.Agent;

interface Place {
  readonly url: URL;
  readonly addresses: readonly string[];
}

export function createTransport(
  { address, tls }: VaultConnection,
  { clock, readFile, listFolder, resolve, allow }: VaultPlatform,
): Transport {
  const base = new URL(address);
  let agent: { readonly made: Agent; readonly of: string; readAt: number } | null = null;
  let places = new Map<string, { readonly addresses: readonly string[]; readonly at: number }>();
  const now = () => clock.now().getTime();

  const file = (name: string, path: string): string => {
    try {
      return readFile(path);
    } catch (error) {
      throw fileError(name, path, error);
    }
  };
  const authorities = (): string[] => {
    if (tls.caFile !== "") return [file("CAFile", tls.caFile)];
    if (tls.caPath === "") return [];
    try {
      const found: string[] = [];
      let length = 0;
      for (const name of listFolder(tls.caPath)) {
        const text = file("CAPath", `${tls.caPath}/${name}`);
        length += text.length;
        if (length > MAX_FOLDER_LENGTH)
          throw new VaultError("tls", "Vault: CAPath: its files are too large together");
        found.push(text);
      }
      return found;
    } catch (error) {
      if (error instanceof VaultError) throw error;
      throw fileError("CAPath", tls.caPath, error);
    }
  };

  /** One whose connections are kept for as long as the files of the connection stay as they are. */
  const agentNow = (): Agent => {
    if (agent !== null && now() - agent.readAt < REREAD_MS) return agent.made;
    const ca = authorities();
    const [cert, key] =
      tls.certFile === "" ? [] : [file("CertFile", tls.certFile), file("KeyFile", tls.keyFile)];
    const of = JSON.stringify([ca, cert, key]);
    if (agent?.of === of) {
      agent.readAt = now();
      return agent.made;
    }
    if (agent !== null) retire(agent.made);
    const kept = { keepAlive: true, maxSockets: 64 };
    const options = {
      ...kept,
      rejectUnauthorized: !tls.skipVerify,
      ...(ca.length === 0 ? {} : { ca }),
      ...(cert === undefined ? {} : { cert, key }),
      ...(tls.serverName === "" ? {} : { servername: tls.serverName }),
    };
    agent = {
      made: base.protocol === "https:" ? new https.Agent(options) : new http.Agent(kept),
      of,
      readAt: now(),
    };
    return agent.made;
  };

  const placeOf = async (url: URL): Promise<Place> => {
    allow.check(url);
    const literal = literalOf(url);
    const before = places.get(url.hostname);
    let addresses =
      literal === null
        ? before !== undefined && now() - before.at < REREAD_MS
          ? before.addresses
          : null
        : [literal];
    if (addresses === null) {
      addresses = await resolve(url.hostname).catch((error: unknown) => {
        throw new VaultError(
          "unreachable",
          `Vault: host ${JSON.stringify(url.hostname)} has no address`,
          null,
          error,
        );
      });
      places.set(url.hostname, { addresses, at: now() });
    }
    allow.checkAddresses(url, addresses);
    return { url, addresses };
  };

  /** Where nobody listens at one address of a name, nothing was sent, and the next one is tried. */
  const sendTo = async (
    { url, addresses }: Place,
    request: TransportRequest,
    signal: AbortSignal,
  ) => {
    for (const [i, address] of addresses.entries())
      try {
        return await send(url, address, request, agentNow(), signal, tls.serverName);
      } catch (error) {
        const unheard =
          error instanceof Error && "code" in error && NOT_CONNECTED.includes(String(error.code));
        if (!unheard || i === addresses.length - 1) throw error;
      }
    throw new VaultError(
      "unreachable",
      `Vault: host ${JSON.stringify(url.hostname)} has no address`,
    );
  };

  const exchange = async (
    request: TransportRequest,
    signal: AbortSignal,
  ): Promise<TransportAnswer> => {
    let url = new URL(request.url);
    for (let hops = 0; ; hops++) {
      const place = await placeOf(url);
      signal.throwIfAborted();
      const answer = await sendTo(place, request, signal);
      if (answer.status !== 307) {
        if (answer.status >= 300 && answer.status < 400)
          throw new VaultError(
            "answer",
            `Vault answered a redirect of status ${answer.status}, which is not followed`,
            answer.status,
          );
        return answer;
      }
      const target =
        answer.location !== null && URL.canParse(answer.location, url)
          ? new URL(answer.location, url)
          : null;
      if (target === null || hops >= MAX_REDIRECTS)
        throw new VaultError("answer", "Vault answered a redirect that leads nowhere", 307);
      if (target.protocol !== url.protocol || target.username !== "" || target.password !== "")
        throw new VaultError(
          "not_allowed",
          "Vault answered a redirect to another scheme, or with a user in it",
          307,
        );
      url = target;
    }
  };

  return {
    async send(request) {
      const end = new AbortController();
      const late = clock.sleep(request.timeoutMs, end.signal).then((): null => {
        if (end.signal.aborted) return null;
        throw new VaultError(
          "timeout",
          `Vault did not answer within ${request.timeoutMs / 1000} s`,
        );
      });
      late.catch(() => end.abort(OVER));
      try {
        return (await Promise.race([exchange(request, end.signal), late])) as TransportAnswer;
      } catch (error) {
        throw transportError(error);
      } finally {
        end.abort(OVER);
      }
    },
    reload() {
      if (agent !== null) agent.readAt = Number.NEGATIVE_INFINITY;
      places = new Map();
    },
    close() {
      agent?.made.destroy();
      agent = null;
    },
  };
}

function fileError(field: string, path: string, error: unknown): VaultError {
  return new VaultError(
    error instanceof ConfigError ? "not_allowed" : "tls",
    `Vault: ${fileFault(field, path, error)}`,
    null,
    error,
  );
}

/** Lets what is under way end, and keeps no connection. */
function retire(agent: Agent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? []))
    socket.destroy();
}

function send(
  url: URL,
  address: string,
  { method, headers, body }: TransportRequest,
  agent: Agent,
  signal: AbortSignal,
  serverName: string,
): Promise<TransportAnswer & { readonly location: string | null }> {
  return new Promise((resolve, reject) => {
    const family = address.includes(":") ? 6 : 4;
    const lookup: NonNullable<http.RequestOptions["lookup"]> = (_host, { all }, found) => {
      if (all) found(null, [{ address, family }]);
      else found(null, address, family);
    };
    const secure = url.protocol === "https:";
    const options: https.RequestOptions = {
      method,
      headers:
        body === null
          ? { ...headers }
          : {
              ...headers,
              "Content-Type": "application/json",
              "Content-Length": String(new TextEncoder().encode(body).length),
            },
      agent,
      signal,
      lookup,
      ...(secure && serverName !== "" ? { servername: serverName } : {}),
    };
    const request = (secure ? https : http).request(url, options, (answer) => {
      readAll(answer).then((text) => {
        const { "retry-after": after, location = null, "content-type": type = "" } = answer.headers;
        const seconds = after !== undefined && /^\d{1,6}$/.test(after) ? Number(after) : null;
        resolve({
          status: answer.statusCode ?? 0,
          text,
          isJson: type.includes("json"),
          retryAfterMs: seconds === null ? null : seconds * 1000,
          location,
        });
      }, reject);
    });
    request.on("error", reject);
    request.end(body ?? undefined);
  });
}

async function readAll(answer: http.IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of answer as AsyncIterable<Uint8Array>) {
    total += chunk.length;
    if (total > MAX_BYTES) {
      answer.destroy();
      throw new VaultError("answer", "Vault's answer is too long");
    }
    chunks.push(chunk);
  }
  return fromUtf8(concat(...chunks));
}

/** Errors of verification have codes of OpenSSL's, those of handshakes Node's. */
const TLS_CODE =
  /^(?:CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|EPROTO|HOSTNAME_MISMATCH|INVALID_CA|CRL_|UNSPECIFIED)/;

function transportError(error: unknown): Error {
  if (error instanceof ConfigError) return new VaultError("not_allowed", error.message);
  if (error instanceof CaError) return error;
  if (error instanceof FormatError) return new VaultError("answer", "Vault's answer is not UTF-8");
  const code =
    error instanceof Error && "code" in error && typeof error.code === "string"
      ? error.code
      : "no code";
  if (TLS_CODE.test(code))
    return new VaultError("tls", `Vault: TLS cannot be established (${code})`, null, error);
  return new VaultError("unreachable", `Vault cannot be reached (${code})`, null, error);
}
