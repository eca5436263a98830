/**
 * The connection to several servers of one CA: stays with the one that works, and moves on when it
 * fails.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { readServerAddress } from "../net/server-address.ts";
import { ClientError } from "./errors.ts";
import { NextServer, readAnswer } from "./server-answer.ts";
import { ServerClock } from "./server-clock.ts";
import { ServerConnection } from "./server-connection.ts";
import type { ServerTrust } from "./server-trust.ts";
import { MutableSource } from "./source.ts";
import type { TrustBundle } from "./svid.ts";
import { type Transport, TransportError, type TransportResponse } from "./transport.ts";

/**
 * The delay before a server that could not be reached is tried again, in milliseconds. The longest
 * keeps the promise that everything is fresh within a second after a server is back.
 */
const BACKOFF_MS = { first: 100, most: 500 };

interface ServerPoolOptions {
  /** http or https URLs, the preferred one first. */
  readonly servers: readonly string[];
  readonly trust: ServerTrust;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface PoolRequest<T> {
  readonly method: "GET" | "PUT" | "POST";
  /** With its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For each server, in milliseconds. */
  readonly timeoutMs: number;
  /** The longest body of a response, in octets. */
  readonly maxBytes: number;
  /** Whether the server holds the response back until something changes. */
  readonly blocking?: boolean;
  readonly signal?: AbortSignal | undefined;
  /**
   * Reads a response of status 200 or 304.
   * @throws {FormatError} if it is not that of a CA server: the next server is asked
   */
  readonly read: (response: TransportResponse) => T;
}

/** A server and its state. */
interface Member {
  readonly connection: ServerConnection;
  readonly origin: string;
  failures: number;
  /** Not asked before, in milliseconds since 1970. */
  notBefore: number;
  /** Requests that wait for a change. */
  readonly waiting: Set<AbortController>;
}

export class ServerPool {
  readonly #options: ServerPoolOptions;
  readonly #members: readonly Member[];
  readonly #clock: ServerClock;
  readonly #recovery = new MutableSource<true>();
  readonly #end = new AbortController();
  #preferred: Member;
  #reachable: boolean | null = null;
  #lastContact: Date | null = null;
  #lostAt: Date | null = null;
  #problem: string | null = null;

  /** @throws {FormatError} if an address is malformed, or needs a CA file or a pin */
  constructor(options: ServerPoolOptions) {
    this.#options = options;
    this.#clock = new ServerClock(options.log);
    this.#members = options.servers.map((text) => memberOf(text, options));
    const [first] = this.#members;
    if (first === undefined) throw new FormatError("There must be at least one server address");
    this.#preferred = first;
  }

  /** When a server answered last. */
  get lastContact(): Date | null {
    return this.#lastContact;
  }

  /** Whether the last request got an answer; null before the first. */
  get reachable(): boolean | null {
    return this.#reachable;
  }

  /** Since when no server answers; null if one does, and before the first answer. */
  get lostAt(): Date | null {
    return this.#lostAt;
  }

  /** Why no server can be used, or null. */
  get problem(): string | null {
    return this.#problem;
  }

  /** A sentence if the clocks differ too much, or null. */
  get clockProblem(): string | null {
    return this.#clock.problem;
  }

  /** How far the clock of the last server is ahead of this one, in milliseconds; null: not known. */
  get clockOffsetMs(): number | null {
    return this.#clock.offsetMs;
  }

  /** When the last root expired that verifies servers; null if one is valid, or none is known. */
  get trustExpiredAt(): Date | null {
    const { trust, clock } = this.#options;
    return trust.expiredAt(clock.now());
  }

  /** Calls `listener` when a server answers again after none did. @returns ends it */
  onRecovery(listener: () => void): () => void {
    return this.#recovery.subscribe(listener);
  }

  /** The mesh's roots, which servers are verified by from now on. */
  trustRoots(bundle: Pick<TrustBundle, "roots" | "trustDomain">): void {
    this.#options.trust.trustRoots(bundle);
  }

  /**
   * Asks the servers one after the other until one gives an answer.
   * @throws {ClientError}
   */
  async request<T>(request: PoolRequest<T>): Promise<T> {
    const faults: NextServer[] = [];
    let asked = false;
    for (const member of this.#inOrder()) {
      const wait = this.#waitFor(member);
      if (wait > 0) {
        faults.push(new NextServer(`${member.origin} was not reached`, { retryAfterMs: wait }));
        continue;
      }
      asked = true;
      try {
        return await this.#ask(member, request);
      } catch (error) {
        if (request.signal?.aborted === true || this.#end.signal.aborted)
          throw new ClientError("unreachable", "The request was cancelled", { cause: error });
        if (!(error instanceof NextServer)) throw error;
        const { untrusted, retryAfterMs } = error;
        faults.push(
          new NextServer(`${member.origin} ${error.message}`, { untrusted, retryAfterMs }),
        );
      }
    }
    throw this.#noAnswer(faults, asked);
  }

  /** Ends every request. */
  close(): void {
    this.#end.abort();
    this.#options.transport.close();
  }

  /** The preferred server, then the others from its place on; those that wait for a retry last. */
  #inOrder(): Member[] {
    const at = this.#members.indexOf(this.#preferred);
    const all = [...this.#members.slice(at), ...this.#members.slice(0, at)];
    return [
      ...all.filter((member) => this.#waitFor(member) === 0),
      ...all.filter((member) => this.#waitFor(member) > 0),
    ];
  }

  /** Until a server is asked again, in milliseconds; a clock that was set back does not prolong it. */
  #waitFor({ notBefore }: Member): number {
    const wait = notBefore - this.#options.clock.now().getTime();
    return wait <= 0 || wait > BACKOFF_MS.most ? 0 : wait;
  }

  /** @throws {ClientError} for a refusal @throws {NextServer} */
  async #ask<T>(member: Member, request: PoolRequest<T>): Promise<T> {
    const response = await this.#exchange(member, request);
    const now = this.#options.clock.now();
    const serverNow = this.#clock.note(response, now);
    const { origin } = member;
    try {
      const answered = { origin, method: request.method, now, serverNow };
      const value = readAnswer(response, answered, request.read);
      this.#succeeded(member);
      return value;
    } catch (error) {
      // A server that refuses works.
      if (error instanceof ClientError) this.#succeeded(member);
      throw error;
    }
  }

  /** @throws {NextServer} */
  async #exchange(member: Member, request: PoolRequest<unknown>): Promise<TransportResponse> {
    const { method, path, headers = {}, body = null, timeoutMs, maxBytes, signal } = request;
    const over = new AbortController();
    if (request.blocking === true) member.waiting.add(over);
    // By listeners: on Deno a signal of AbortSignal.any that depends on another such one never fires.
    const end = () => over.abort();
    const signals = [this.#end.signal, ...(signal === undefined ? [] : [signal])];
    for (const each of signals) each.addEventListener("abort", end);
    if (signals.some(({ aborted }) => aborted)) end();
    try {
      return await member.connection.exchange(
        { method, path, headers, body, timeoutMs, maxBytes },
        over.signal,
      );
    } catch (error) {
      if (error instanceof ClientError) throw new NextServer(error.message, { untrusted: true });
      if (!(error instanceof TransportError)) throw error;
      // An abort came from the caller, or from another request that found the server away.
      if (error.fault !== "aborted") this.#setAside(member);
      throw new NextServer(error.message, { untrusted: error.fault === "tls" });
    } finally {
      member.waiting.delete(over);
      for (const each of signals) each.removeEventListener("abort", end);
    }
  }

  #setAside(member: Member): void {
    const { clock, random } = this.#options;
    const most = Math.min(BACKOFF_MS.first * 2 ** Math.min(member.failures, 16), BACKOFF_MS.most);
    member.failures++;
    member.notBefore = clock.now().getTime() + Math.ceil(most * (0.5 + random.fraction() / 2));
    for (const waiting of member.waiting) waiting.abort();
  }

  #succeeded(member: Member): void {
    const { clock, log } = this.#options;
    member.failures = 0;
    member.notBefore = 0;
    if (this.#preferred !== member) log.info("Using another CA server", { server: member.origin });
    this.#preferred = member;
    const recovered = this.#reachable === false;
    this.#reachable = true;
    this.#lostAt = null;
    this.#problem = null;
    this.#lastContact = clock.now();
    if (!recovered) return;
    log.info("A CA server answers again", { server: member.origin });
    this.#recovery.set(true);
  }

  #noAnswer(faults: readonly NextServer[], asked: boolean): ClientError {
    const reasons = faults.map(({ message }) => message).join("; ");
    // That nobody is asked again yet is no new reason.
    const problem = (asked ? null : this.#problem) ?? `No CA server answered: ${reasons}`;
    if (this.#reachable !== false)
      this.#options.log.warn(
        "No CA server answered; certificates and roots stay in use, will retry",
        {
          reason: reasons,
        },
      );
    this.#reachable = false;
    this.#lostAt ??= this.#options.clock.now();
    this.#problem = problem;
    const waits = faults.flatMap(({ retryAfterMs }) => retryAfterMs ?? []);
    const untrusted = faults.some((fault) => fault.untrusted);
    return new ClientError(untrusted ? "untrusted" : "unreachable", problem, {
      retryAfterMs: waits.length === 0 ? undefined : Math.min(...waits),
    });
  }
}

function memberOf(text: string, { trust, transport }: ServerPoolOptions): Member {
  try {
    const url = readServerAddress(text, trust.canVerify);
    const connection = new ServerConnection(url, transport, trust);
    return { connection, origin: url.origin, failures: 0, notBefore: 0, waiting: new Set() };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`Server address ${JSON.stringify(text)} ${error.message}`);
  }
}
