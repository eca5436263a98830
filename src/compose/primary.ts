/**
 * The servers of the primary datacenter, as the settings in use have them.
 * @module
 */
import { ClientError } from "../client/errors.ts";
import { wholeNumber } from "../client/http-values.ts";
import {
  readAllowed,
  readPrimaryListing,
  readSignedIntermediate,
} from "../client/primary-listing.ts";
import { ServerPool } from "../client/server-pool.ts";
import { ServerTrust } from "../client/server-trust.ts";
import type { Transport } from "../client/transport.ts";
import type { DatacenterSettings, PrimarySettings } from "../config/datacenters.ts";
import { formatDuration } from "../consul/duration.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import { FormatError, PrimaryError, type PrimaryFault } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { PrimaryDatacenter, PrimaryListing } from "../core/ports/primary.ts";
import type { Certificate } from "../core/x509/certificate.ts";
import { readPrimacy } from "../net/primacy.ts";

/** How long the primary holds a blocking query, in milliseconds; it adds up to a sixteenth (Consul). */
const WAIT_MS = 60_000;
const READ_MS = 10_000;
/** A signature may wait for a lease and for Vault. */
const SIGN_MS = 20_000;
/** Ten times the largest listing and path of certificates, in octets. */
const MAX_BYTES = { roots: 1024 * 1024, intermediate: 256 * 1024 };

interface PrimaryOptions {
  readonly settings: { readonly current: DatacenterSettings };
  readonly openTransport: () => Transport;
  /** Whether the platform verifies servers by itself. */
  readonly isVerifiedByPlatform: boolean;
  /** The state in use, with whose roots the servers are verified; null without one. */
  readonly snapshot: () => Snapshot | null;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class PrimaryServers implements PrimaryDatacenter {
  readonly #options: PrimaryOptions;
  #settings: PrimarySettings;
  #pool: ServerPool;

  /** @param settings of the start @throws {FormatError} if an address or the pin is malformed */
  constructor(settings: PrimarySettings, options: PrimaryOptions) {
    this.#options = options;
    this.#settings = settings;
    this.#pool = this.#openPool(settings);
  }

  get name(): string {
    return this.#current.datacenter;
  }

  get isConfigured(): boolean {
    return this.#options.settings.current.primary !== null;
  }

  get clockOffsetMs(): number | null {
    return this.#pool.clockOffsetMs;
  }

  async roots(after: number | null, signal?: AbortSignal): Promise<PrimaryListing> {
    const settings = this.#current;
    try {
      return await this.#roots(after, signal);
    } catch (error) {
      // Other settings end the requests that began with the earlier ones: no fault of either primary.
      if (settings === this.#current || signal?.aborted === true) throw error;
      return this.#roots(null, signal);
    }
  }

  #roots(after: number | null, signal: AbortSignal | undefined): Promise<PrimaryListing> {
    const query = after === null ? "" : `?index=${after}&wait=${formatDuration(WAIT_MS)}`;
    return this.#ask((pool) =>
      pool.request({
        method: "GET",
        path: `/v1/connect/ca/roots${query}`,
        timeoutMs: after === null ? READ_MS : WAIT_MS + WAIT_MS / 16 + READ_MS,
        maxBytes: MAX_BYTES.roots,
        blocking: after !== null,
        signal,
        read: (response) => {
          const index = wholeNumber(response.header("x-consul-index"));
          if (index === null || response.status !== 200)
            throw new FormatError("the response of the roots has no X-Consul-Index");
          const primacy = readPrimacy((name) => response.header(name));
          return readPrimaryListing(response.body, index, primacy);
        },
      }),
    );
  }

  async signIntermediate(csr: string): Promise<readonly Certificate[]> {
    const { token } = this.#current;
    return this.#ask((pool) =>
      pool.request({
        method: "PUT",
        path: "/v1/connect/ca/sign-intermediate",
        headers: {
          "Content-Type": "application/json",
          ...(token === null ? {} : { "X-Consul-Token": token }),
        },
        body: JSON.stringify({ CSR: csr }),
        timeoutMs: SIGN_MS,
        maxBytes: MAX_BYTES.intermediate,
        read: ({ body }) => readSignedIntermediate(body),
      }),
    );
  }

  /** Uses the settings as they are now. If they are others, requests with the earlier ones end. */
  useSettings(): void {
    const settings = this.#current;
    if (settings === this.#settings) return;
    const pool = this.#openPool(settings);
    this.#pool.close();
    [this.#settings, this.#pool] = [settings, pool];
  }

  async maySign(): Promise<boolean> {
    const { token } = this.#current;
    try {
      const allowed = await this.#ask((pool) =>
        pool.request({
          method: "POST",
          path: "/v1/internal/acl/authorize",
          headers: {
            "Content-Type": "application/json",
            ...(token === null ? {} : { "X-Consul-Token": token }),
          },
          body: JSON.stringify([{ Resource: "intermediate", Access: "write" }]),
          timeoutMs: READ_MS,
          maxBytes: MAX_BYTES.intermediate,
          read: ({ body }) => readAllowed(body),
        }),
      );
      // The anonymous token never is, whatever its policies say.
      return token !== null && allowed;
    } catch (error) {
      if (!(error instanceof PrimaryError) || error.fault !== "refused") throw error;
      // Without access control there, 401: no token is needed.
      return error.cause instanceof ClientError && error.cause.status === 401;
    }
  }

  /** Ends every request. */
  close(): void {
    this.#pool.close();
  }

  /** The settings in use; those of before if this datacenter is to be the primary one. */
  get #current(): PrimarySettings {
    return this.#options.settings.current.primary ?? this.#settings;
  }

  async #ask<T>(work: (pool: ServerPool) => Promise<T>): Promise<T> {
    this.useSettings();
    const [settings, pool] = [this.#settings, this.#pool];
    try {
      const state = this.#options.snapshot()?.state;
      if (state !== undefined)
        pool.trustRoots({
          roots: state.roots.map(({ certificate }) => certificate.der),
          trustDomain: state.trustDomain,
        });
      return await work(pool);
    } catch (error) {
      throw asPrimaryError(error, settings, pool.trustExpiredAt);
    }
  }

  #openPool({ datacenter, servers, caPem, caPin }: PrimarySettings): ServerPool {
    const { openTransport, isVerifiedByPlatform, clock, random, log } = this.#options;
    const trust = new ServerTrust({
      readCaFile: caPem === null ? null : () => Promise.resolve(caPem),
      pin: caPin,
      datacenter,
      isVerifiedByPlatform,
      isReadAgain: false,
    });
    return new ServerPool({
      servers: servers.map(({ href }) => href),
      ...{ trust, transport: openTransport(), clock, random, log: withoutWarnings(log) },
    });
  }
}

/** The log of a pool without its warning of servers that do not answer, which the follower logs. */
function withoutWarnings(log: Log): Log {
  return {
    debug: (message, fields) => log.debug(message, fields),
    info: (message, fields) => log.info(message, fields),
    warn: (message, fields) => log.debug(message, fields),
    error: (message, fields) => log.error(message, fields),
  };
}

/**
 * A failure of the primary in the words of this CA.
 * @param expiredAt when the last root expired that verifies its servers; null if one is valid.
 */
function asPrimaryError(
  error: unknown,
  settings: PrimarySettings,
  expiredAt: Date | null,
): unknown {
  const { datacenter } = settings;
  const options = { cause: error };
  if (error instanceof FormatError)
    return new PrimaryError("unusable", `Datacenter ${datacenter}: ${error.message}`, options);
  if (!(error instanceof ClientError)) return error;
  const { message, retryAfterMs } = error;
  const fault = faultOf(error);
  const advice =
    fault === "refused"
      ? '; give the replication token (MESHCA_REPLICATION_TOKEN_FILE) intermediate = "write" there'
      : fault === "untrusted" && expiredAt !== null
        ? `; ${newRootAdvice(settings, expiredAt)}`
        : "";
  return new PrimaryError(fault, `Datacenter ${datacenter}: ${message}${advice}`, {
    ...options,
    retryAfterMs,
  });
}

function faultOf({ code, text = "" }: ClientError): PrimaryFault {
  switch (code) {
    case "untrusted":
    case "limited":
    case "refused":
      return code;
    case "rejected":
      // Consul's text (core/ca/intermediates.ts).
      return text.startsWith("not the primary datacenter") ? "not_primary" : "rejected";
    default:
      return "unreachable";
  }
}

/**
 * How an operator gives this datacenter the primary's new root: no root that it trusts vouches for
 * one, so that it cannot find it itself.
 */
function newRootAdvice({ servers, caPin }: PrimarySettings, expiredAt: Date): string {
  const [server] = servers;
  const fetchRoots = `run meshca roots --pem --http-addr ${server?.origin} --server-pin sha256:FINGERPRINT > FILE with the fingerprint in that server's log or in its data folder (tls-fingerprint)`;
  const how =
    caPin === null
      ? `${fetchRoots}, and FILE that of MESHCA_PRIMARY_CA_FILE`
      : "set MESHCA_PRIMARY_CA_PIN (primary_ca_pin) to the one of the new root, which meshca recover shows";
  return `every root that verifies its servers has expired, the last one at ${expiredAt.toISOString()}: once that datacenter has a new root, ${how}; then send SIGHUP to this server`;
}
