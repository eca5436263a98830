/**
 * Redis for a process: a connection that stays open, and a second one that subscribes to change
 * notices.
 * @module
 */
import * as v from "valibot";
import { StoreError } from "../../core/errors.ts";
import type { Clock, Random } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import type { Backend, Ports } from "../backend.ts";
import type { Codec } from "../state-document.ts";
import { Waiter } from "../waiter.ts";
import { RedisCalls, type RedisConnection } from "./calls.ts";
import { ChangePoll } from "./change-poll.ts";
import { type Client, createClient, keepConnecting } from "./connection.ts";
import { refusalOf } from "./error.ts";
import { redisPorts } from "./ports.ts";
import type { RedisSettings } from "./settings.ts";

export interface RedisOptions {
  readonly settings: RedisSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Whether to open a Redis that does not answer, and to go on connecting. @default false */
  readonly keepConnecting?: boolean;
}

/**
 * Connects to Redis and checks that it is reliable.
 * @throws {StoreError} if it refuses, is too old or may evict keys, and, without `keepConnecting`,
 * if it does not answer
 */
export async function openRedis(options: RedisOptions): Promise<Backend> {
  const redis = new ProcessRedis(options);
  try {
    await redis.connect();
  } catch (error) {
    redis.close();
    throw error;
  }
  return redis;
}

class ProcessRedis implements Backend, RedisConnection {
  readonly #options: RedisOptions;
  readonly #client: Client;
  readonly #subscriber: Client;
  readonly #calls: RedisCalls;
  readonly #changed = new Waiter();
  readonly #accessChanged = new Waiter();
  /** Nodes of the settings, never the user or the password that the URL has too. */
  readonly #hosts: string;
  readonly #stops: (() => void)[] = [];
  #connected = false;
  #connectError: unknown = null;

  constructor(options: RedisOptions) {
    const { settings, random, log } = options;
    this.#options = options;
    this.#hosts = settings.nodes
      .map(({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`)
      .join(", ");
    this.#client = createClient(settings, random);
    this.#subscriber = createClient(settings, random);
    this.#calls = new RedisCalls(this, settings, log);
    this.#listen();
  }

  /** @throws {StoreError} as `openRedis` */
  async connect(): Promise<void> {
    const { log, random } = this.#options;
    const [client, subscriber, calls] = [this.#client, this.#subscriber, this.#calls];
    try {
      await calls.answer(v.unknown(), () => this.#connectWithin(client));
      await calls.check();
      await calls.answer(v.unknown(), async () => {
        await this.#connectWithin(subscriber);
        await this.#subscribe();
      });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const { code, message, retryAfterMs } = error;
      if (this.#options.keepConnecting !== true || code !== "store_unavailable")
        throw new StoreError(code, `${message} (MESHCA_STORE: ${this.#hosts})`, {
          cause: error,
          ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
        });
      log.warn("Redis does not answer; will retry", { redis: this.#hosts, reason: message });
    }
    subscriber.on("ready", () => void this.#resubscribe());
    // ioredis reconnects after a failure, but does not make the first connection by itself.
    if (subscriber.status === "wait") subscriber.connect().catch(() => undefined);
    this.#stops.push(keepConnecting(client, random), keepConnecting(subscriber, random));
  }

  close(): void {
    this.#connected = false;
    for (const stop of this.#stops) stop();
    this.#client.disconnect();
    this.#subscriber.disconnect();
  }

  open(codec: Codec, holder: string): Ports {
    const { clock, random } = this.#options;
    const parts = {
      calls: this.#calls,
      changes: new ChangePoll(this.#changed, clock, random),
      accessChanges: new ChangePoll(this.#accessChanged, clock, random),
      memory: { known: null },
    };
    return redisPorts(parts, codec, holder);
  }

  get connectError(): unknown {
    return this.#connectError;
  }

  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.eval(script, keys.length, ...keys, ...args);
  }

  /** INFO of the server, or of every master of a Cluster. */
  async info(section: string): Promise<string> {
    const client = this.#client;
    if (!("nodes" in client)) return client.info(section);
    return (await Promise.all(client.nodes("master").map((node) => node.info(section)))).join("\n");
  }

  wait(replicas: number, ms: number): Promise<unknown> {
    return this.#client.wait(replicas, ms);
  }

  /** Follows what ioredis reports of both connections. */
  #listen(): void {
    const { log } = this.#options;
    for (const connection of [this.#client, this.#subscriber])
      connection.on("error", (error: unknown) => {
        // What fails after a refusal is less specific than the refusal.
        if (refusalOf(this.#connectError) === null || refusalOf(error) !== null)
          this.#connectError = error;
      });
    this.#client.on("close", () => {
      if (this.#connected)
        log.warn(
          "Lost the connection to Redis; reconnecting. Signing goes on from memory, changes fail",
          { redis: this.#hosts },
        );
      this.#connected = false;
    });
    this.#client.on("ready", () => {
      this.#connectError = null;
      this.#connected = true;
      log.info("Connected to Redis", { redis: this.#hosts });
    });
    this.#subscriber.on("message", (channel: string) => {
      const isAccess = channel.endsWith("}:access:changed");
      (isAccess ? this.#accessChanged : this.#changed).notify();
    });
  }

  /** The next poll notices what a subscription to other channels would have. */
  keysChanged(): void {
    void this.#resubscribe();
  }

  async #subscribe(): Promise<unknown> {
    const { changed, accessChanged } = await this.#calls.keys();
    return this.#subscriber.subscribe(changed, accessChanged);
  }

  /** If it fails, the polls go on, and the next connection subscribes again. */
  async #resubscribe(): Promise<void> {
    try {
      await this.#subscribe();
    } catch {
      return;
    }
    // Notices from before the subscription were missed.
    this.#changed.notify();
    this.#accessChanged.notify();
  }

  /** Connects. Sentinel and Cluster look for a master for ever; a start does not. */
  async #connectWithin(client: Client): Promise<void> {
    const { clock, settings } = this.#options;
    const connected = new AbortController();
    const late = clock.sleep(settings.connectTimeoutMs, connected.signal).then(() => {
      if (!connected.signal.aborted) throw new Error("Connecting timed out");
    });
    try {
      await Promise.race([client.connect(), late]);
    } finally {
      connected.abort();
    }
  }
}
