/**
 * The servers of other datacenters, as the settings in use have them: verified as at a first
 * contact, one after the other until one answers.
 * @module
 */
import { ClientError } from "../client/errors.ts";
import { NextServer } from "../client/server-answer.ts";
import { ServerConnection } from "../client/server-connection.ts";
import { ServerTrust } from "../client/server-trust.ts";
import { type Transport, TransportError } from "../client/transport.ts";
import type { DatacenterServers, DatacenterSettings } from "../config/datacenters.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import { NotReadyError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { ForwardedRequest, ForwardedResponse, OtherDatacenters } from "../http/forwarding.ts";

/** More than the largest response: 64 KiB of roots, a configuration of 64 KiB. In octets. */
const MAX_BYTES = 1024 * 1024;
/** How long a server that could not be reached is not asked again, in milliseconds. */
const COOLDOWN_MS = 500;
/** Of system calls that fail before anything is sent. */
const UNSENT = /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL)$/;
/** Statuses that are passed on, besides errors. */
const PASSED: readonly number[] = [200, 304];

interface ForwardingOptions {
  readonly settings: { readonly current: DatacenterSettings };
  /** Makes a transport with connections of its own. */
  readonly openTransport: () => Transport;
  /** Whether the platform verifies servers by itself. */
  readonly isVerifiedByPlatform: boolean;
  /** The state in use, with whose roots servers of the same mesh are verified; null without one. */
  readonly snapshot: () => Snapshot | null;
  readonly countForwarded: (datacenter: string, outcome: ForwardedOutcome) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** `answered`: with any status. */
export type ForwardedOutcome = "answered" | "unavailable";

interface Server {
  readonly connection: ServerConnection;
  /** Not asked before, in milliseconds since 1970. */
  notBefore: number;
  /** Why, as a predicate. */
  lastReason: string;
}

interface Datacenter {
  /** The settings that it was made of. */
  readonly settings: DatacenterServers;
  readonly servers: readonly Server[];
  readonly trust: ServerTrust;
  /** Whether the last request got no answer. */
  isLost: boolean;
}

export class ConfiguredDatacenters implements OtherDatacenters {
  readonly #options: ForwardingOptions;
  readonly #transport: Transport;
  readonly #datacenters = new Map<string, Datacenter>();

  constructor(options: ForwardingOptions) {
    this.#options = options;
    this.#transport = options.openTransport();
  }

  get names(): readonly string[] {
    return [...this.#options.settings.current.datacenters.keys()];
  }

  async send(name: string, request: ForwardedRequest): Promise<ForwardedResponse> {
    const { countForwarded, log } = this.#options;
    const datacenter = this.#datacenterOf(name);
    this.#trustOwnRoots(datacenter.trust);
    try {
      const response = await this.#ask(name, datacenter, request);
      countForwarded(name, "answered");
      if (datacenter.isLost) log.info("Another datacenter answers again", { datacenter: name });
      datacenter.isLost = false;
      return response;
    } catch (error) {
      if (!(error instanceof NotReadyError)) throw error;
      countForwarded(name, "unavailable");
      if (!datacenter.isLost)
        log.warn(
          "No server of another datacenter answered; requests for it are answered with 503 until one does",
          { datacenter: name, reason: error.logged },
        );
      datacenter.isLost = true;
      throw error;
    }
  }

  /** Ends every request. */
  close(): void {
    this.#transport.close();
  }

  /** The servers of a datacenter; new ones if its settings changed. */
  #datacenterOf(name: string): Datacenter {
    const settings = this.#options.settings.current.datacenters.get(name);
    if (settings === undefined)
      throw new NotReadyError(
        "datacenter_unavailable",
        `Cannot forward request: datacenter ${JSON.stringify(name)} was removed from the configuration`,
      );
    const known = this.#datacenters.get(name);
    if (known !== undefined && isSame(known.settings, settings)) return known;
    const { isVerifiedByPlatform } = this.#options;
    const { servers, caPem, caPin } = settings;
    const trust = new ServerTrust({
      readCaFile: caPem === null ? null : () => Promise.resolve(caPem),
      pin: caPin,
      datacenter: name,
      isVerifiedByPlatform,
      isReadAgain: false,
    });
    const made: Datacenter = {
      ...{ settings, trust, isLost: false },
      servers: servers.map((url) => ({
        connection: new ServerConnection(url, this.#transport, trust),
        notBefore: 0,
        lastReason: "",
      })),
    };
    this.#datacenters.set(name, made);
    return made;
  }

  /** Datacenters of one mesh have its roots, also after a rotation. */
  #trustOwnRoots(trust: ServerTrust): void {
    const state = this.#options.snapshot()?.state;
    if (state === undefined) return;
    const { trustDomain } = state;
    trust.trustRoots({ roots: state.roots.map(({ certificate }) => certificate.der), trustDomain });
  }

  /** @throws {NotReadyError} @throws {TransportError} `aborted` */
  async #ask(
    name: string,
    { servers, trust }: Datacenter,
    request: ForwardedRequest,
  ): Promise<ForwardedResponse> {
    const { clock } = this.#options;
    const faults: { readonly address: string; readonly reason: string }[] = [];
    let last: ForwardedResponse | null = null;
    for (const server of this.#inOrder(servers)) {
      const address = server.connection.url.origin;
      if (this.#waitFor(server) > 0) {
        faults.push({ address, reason: `was not reached a moment ago: it ${server.lastReason}` });
        continue;
      }
      try {
        const response =
          request.method === "GET"
            ? await exchange(server.connection, request)
            : await this.#change(server.connection.url, trust, request);
        // A replica that is not ready is answered by the next one; a change is not made twice.
        if (response.status < 500 || request.method !== "GET") return response;
        last = response;
      } catch (error) {
        const reason = reasonToContinue(error);
        if (reason === null) throw error;
        faults.push({ address, reason });
        server.lastReason = reason;
        server.notBefore = clock.now().getTime() + COOLDOWN_MS;
        if (request.method !== "GET" && !isNotMade(error)) throw unknownOutcome(name, reason);
      }
    }
    if (last !== null) return last;
    throw unavailable(name, faults);
  }

  /**
   * A change has a connection of its own: one that was used before may have been closed by the
   * server at the same moment, and the request would be sent again.
   */
  async #change(
    url: URL,
    trust: ServerTrust,
    request: ForwardedRequest,
  ): Promise<ForwardedResponse> {
    const transport = this.#options.openTransport();
    try {
      return await exchange(new ServerConnection(url, transport, trust), request);
    } finally {
      transport.close();
    }
  }

  /** Those that were reached last time first. */
  #inOrder(servers: readonly Server[]): readonly Server[] {
    return servers.toSorted((a, b) => Number(a.notBefore > 0) - Number(b.notBefore > 0));
  }

  /** Until a server is asked again, in milliseconds; a clock that was set back does not prolong it. */
  #waitFor({ notBefore }: Server): number {
    const wait = notBefore - this.#options.clock.now().getTime();
    return wait <= 0 || wait > COOLDOWN_MS ? 0 : wait;
  }
}

/** @throws {NextServer} @throws {TransportError} @throws {ClientError} */
async function exchange(
  connection: ServerConnection,
  { method, path, headers, body, timeoutMs, signal }: ForwardedRequest,
): Promise<ForwardedResponse> {
  const response = await connection.exchange(
    { method, path, headers, body, timeoutMs, maxBytes: MAX_BYTES },
    signal,
  );
  const { status } = response;
  if (status >= 300 && status < 400 && status !== 304)
    throw new NextServer(`answered ${status}, a redirect, which is not followed`);
  if (status < 400 && !PASSED.includes(status))
    throw new TransportError("malformed", `answered ${status}, which no CA server does`);
  if (status === 400 && response.body === NO_PATH)
    throw new NextServer("is a server of another datacenter than the configuration names");
  return response;
}

/** Consul's text for a datacenter that is not known (http/query.ts). */
const NO_PATH = "No path to datacenter";

function isSame(a: DatacenterServers, b: DatacenterServers): boolean {
  const hrefs = ({ servers }: DatacenterServers) => servers.map(({ href }) => href).join(" ");
  return a === b || (hrefs(a) === hrefs(b) && a.caPem === b.caPem && a.caPin === b.caPin);
}

/** Why the next server is asked; null if the request has ended or the error is not one of a server. */
function reasonToContinue(error: unknown): string | null {
  if (error instanceof TransportError) return error.fault === "aborted" ? null : error.message;
  return error instanceof NextServer || error instanceof ClientError ? error.message : null;
}

/** Whether a change was certainly not made: it was not sent, or the server refused it. */
function isNotMade(error: unknown): boolean {
  if (error instanceof ClientError || error instanceof NextServer) return true;
  if (!(error instanceof TransportError)) return false;
  if (error.fault === "tls") return true;
  const { cause } = error;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return error.fault === "connect" && UNSENT.test(code);
}

function unavailable(
  name: string,
  faults: readonly { readonly address: string; readonly reason: string }[],
): NotReadyError {
  const text = `Cannot reach datacenter ${JSON.stringify(name)}`;
  // Callers need no token and must not learn the addresses.
  const reasons = faults.map(({ reason }, i) => `server ${i + 1} ${reason}`).join("; ");
  const logged = faults.map(({ address, reason }) => `${address} ${reason}`).join("; ");
  return new NotReadyError("datacenter_unavailable", `${text}: ${reasons}`, {
    retryAfterMs: 1000,
    logged: `${text}: ${logged}`,
  });
}

function unknownOutcome(name: string, reason: string): NotReadyError {
  return new NotReadyError(
    "outcome_unknown",
    `Cannot tell whether the change was made in datacenter ${JSON.stringify(name)}: its server ${reason}. Read its configuration before a retry`,
  );
}
