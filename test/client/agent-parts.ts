/**
 * The parts of an agent, composed as the agent composes them, against servers on real sockets.
 * @module
 */
import { Alarms } from "../../src/client/alarms.ts";
import { CaApi } from "../../src/client/ca-api.ts";
import type { Cache } from "../../src/client/cache.ts";
import type { Credentials } from "../../src/client/credentials.ts";
import type { LeafIdentity } from "../../src/client/leaf-check.ts";
import { LeafSource } from "../../src/client/leaf-source.ts";
import { NodeTransport } from "../../src/client/node/transport.ts";
import { RootsSource } from "../../src/client/roots-source.ts";
import { ServerPool } from "../../src/client/server-pool.ts";
import { ServerTrust, type ServerTrustOptions } from "../../src/client/server-trust.ts";
import type { Source } from "../../src/client/source.ts";
import type { Transport, TransportRequest } from "../../src/client/transport.ts";
import type { Clock, Random } from "../../src/core/ports/clock.ts";
import type { Log, LogFields } from "../../src/core/ports/log.ts";
import { processClock, systemRandom } from "../../src/entry/system.ts";
import type { FakeClock } from "../fakes/clock.ts";
import { settle } from "../fixtures/app.ts";

/** A log that keeps its lines. */
export class LogBook implements Log {
  readonly lines: { readonly message: string; readonly fields: LogFields | undefined }[] = [];
  readonly debug = this.#write.bind(this);
  readonly info = this.#write.bind(this);
  readonly warn = this.#write.bind(this);
  readonly error = this.#write.bind(this);

  #write(message: string, fields?: LogFields): void {
    this.lines.push({ message, fields });
  }

  /** Everything that was logged. */
  get text(): string {
    return this.lines.map((line) => JSON.stringify(line)).join("\n");
  }
}

export interface PartsOptions extends Partial<ServerTrustOptions> {
  readonly servers: readonly string[];
  readonly cache?: Cache;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly credentials?: (api: CaApi, clock: Clock, log: Log) => Credentials;
  /** Whether the servers hold blocking queries back, by default true. */
  readonly holdsBack?: boolean;
}

/** A transport that counts the exchanges that are open. */
class CountingTransport implements Transport {
  readonly #transport = new NodeTransport();
  readonly #holdsBack: boolean;
  /** Without blocking queries that wait for a change. */
  open = 0;

  constructor(holdsBack: boolean) {
    this.#holdsBack = holdsBack;
  }

  async send(request: TransportRequest) {
    if (this.#holdsBack && request.url.searchParams.has("index"))
      return this.#transport.send(request);
    this.open++;
    try {
      return await this.#transport.send(request);
    } finally {
      this.open--;
    }
  }

  close(): void {
    this.#transport.close();
  }
}

/** Those that are not closed. */
const allParts = new Set<Parts>();

/** The parts that the identities of one agent share. */
export class Parts {
  readonly log = new LogBook();
  readonly pool: ServerPool;
  readonly api: CaApi;
  readonly roots: RootsSource;
  readonly alarms: Alarms;
  readonly clock: Clock;
  readonly credentials: Credentials | null;
  readonly #options: PartsOptions;
  readonly #leaves: LeafSource[] = [];
  readonly #transport: CountingTransport;

  constructor(options: PartsOptions) {
    const { clock = processClock, random = systemRandom, cache = null } = options;
    const { readCaFile = null, pin = null, datacenter = null, servers } = options;
    const { log } = this;
    this.#options = options;
    this.clock = clock;
    this.alarms = new Alarms(clock);
    const trust = new ServerTrust({ readCaFile, pin, datacenter });
    const transport = new CountingTransport(options.holdsBack ?? true);
    this.#transport = transport;
    this.pool = new ServerPool({ servers, trust, transport, clock, random, log });
    this.api = new CaApi(this.pool);
    this.roots = new RootsSource({ pool: this.pool, api: this.api, cache, clock, random, log });
    this.credentials = options.credentials?.(this.api, clock, log) ?? null;
    allParts.add(this);
  }

  /** Whether no exchange is open and no leaf is being made or checked. */
  get isAtRest(): boolean {
    if (this.#transport.open > 0) return false;
    return this.roots.current === null || this.#leaves.every((leaf) => leaf.nextAttempt !== null);
  }

  leaf(identity: Partial<LeafIdentity>, credentials = this.credentials): LeafSource {
    const { random = systemRandom, cache = null } = this.#options;
    const { api, pool, roots, alarms, clock, log } = this;
    const source = new LeafSource({
      identity: {
        service: "web",
        dnsNames: [],
        ipAddresses: [],
        ttlMs: null,
        datacenter: "dc1",
        ...identity,
      },
      ...{ api, pool, roots, credentials, cache, alarms, clock, random, log },
    });
    this.#leaves.push(source);
    return source;
  }

  async close(): Promise<void> {
    allParts.delete(this);
    for (const leaf of this.#leaves) await leaf.close();
    await this.roots.close();
    await this.credentials?.close();
    this.pool.close();
  }
}

/** Waits until a source has a value that fits. */
export function until<T>(
  source: Source<T>,
  fits: (value: T | null) => boolean = (value) => value !== null,
): Promise<T | null> {
  return new Promise((resolve) => {
    const look = () => {
      if (!fits(source.current)) return;
      end();
      resolve(source.current);
    };
    const end = source.subscribe(look);
    look();
  });
}

/** Waits until a condition holds, which is looked at every few milliseconds. */
export async function eventually(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}

/**
 * Moves a clock in steps until a condition holds. While an exchange is open or a leaf is being made, it
 * stands still: how far it gets does not depend on how fast the machine is. What a blocking query
 * brings must be waited for before time passes: it is open all the time.
 */
export async function pass(
  { clock }: { readonly clock: FakeClock },
  holds: () => boolean,
  stepMs = 1000,
  isAtRest = areAtRest,
): Promise<void> {
  while (!holds()) {
    if (isAtRest()) clock.advance(stepMs);
    await settle();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Lets time pass in steps, and waits until all that it began is over. */
export async function passFor(
  on: { readonly clock: FakeClock },
  ms: number,
  stepMs = 1000,
): Promise<void> {
  const end = on.clock.now().getTime() + ms;
  await pass(on, () => on.clock.now().getTime() >= end, stepMs);
  await eventually(areAtRest);
}

/** Whether all parts that are not closed are at rest. */
function areAtRest(): boolean {
  return [...allParts].every((parts) => parts.isAtRest);
}
