/**
 * Redis for one request: a connection that is made at the first call and ends with the request. On
 * Workers a socket belongs to the request that opened it; another request that waited for a reply
 * on it would wait for ever.
 * @module
 */

import type { Clock, Random } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import type { Backend, Ports } from "../backend.ts";
import type { Codec } from "../state-document.ts";
import { type CheckMemory, RedisCalls, type RedisConnection } from "./calls.ts";
import { ChangePoll } from "./change-poll.ts";
import { redisPorts } from "./ports.ts";
import type { RedisSettings } from "./settings.ts";
import type { StateMemory } from "./store.ts";
import { Wire } from "./wire.ts";

/** How often a watch reads, in milliseconds: no notice of a change comes here. */
const WATCH_MS = 1000;

/** What the requests of an isolate share: plain data. */
export interface RedisMemory extends CheckMemory, StateMemory {}

interface RequestRedisOptions {
  readonly settings: RedisSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly memory: RedisMemory;
}

/** Its ports throw StoreError if no connection can be made. */
export class RequestRedis implements Backend, RedisConnection {
  readonly #options: RequestRedisOptions;
  #connecting: Promise<Wire> | null = null;
  #connectError: unknown = null;
  #closed = false;

  constructor(options: RequestRedisOptions) {
    this.#options = options;
  }

  open(codec: Codec, holder: string): Ports {
    const { settings, clock, random, log, memory } = this.#options;
    const calls = new RedisCalls(this, settings, log, memory);
    const notices = { wait: (signal: AbortSignal) => clock.sleep(WATCH_MS, signal) };
    const changes = new ChangePoll(notices, clock, random);
    return redisPorts({ calls, changes, accessChanges: changes, memory }, codec, holder);
  }

  /** Nothing subscribes to a channel here. */
  keysChanged(): void {}

  close(): void {
    this.#closed = true;
    this.#connecting?.then((wire) => wire.close()).catch(() => undefined);
  }

  get connectError(): unknown {
    return this.#connectError;
  }

  async eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return (await this.#wire()).send("EVAL", script, String(keys.length), ...keys, ...args);
  }

  async info(section: string): Promise<unknown> {
    return (await this.#wire()).send("INFO", section);
  }

  async wait(replicas: number, ms: number): Promise<unknown> {
    return (await this.#wire()).send("WAIT", String(replicas), String(ms));
  }

  /** The connection; a new one if the last one ended, as in a blocking query during a restart. */
  async #wire(): Promise<Wire> {
    this.#connecting ??= this.#connect();
    const wire = await this.#connecting;
    if (!wire.ended || this.#closed) return wire;
    this.#connecting = this.#connect();
    return this.#connecting;
  }

  async #connect(): Promise<Wire> {
    const { settings, clock } = this.#options;
    try {
      const wire = await Wire.connect(settings, clock);
      this.#connectError = null;
      if (this.#closed) wire.close();
      return wire;
    } catch (error) {
      this.#connectError = error;
      // The next call tries again.
      this.#connecting = null;
      throw error;
    }
  }
}
