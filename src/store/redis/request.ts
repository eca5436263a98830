/**
 * Redis for one request: a connection that is made when something is asked for, and is gone with
 * the request. On Workers a socket belongs to the request that opened it; another one that waited
 * for its answer would wait for ever.
 * @module
 */

import type { Clock } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import type { CaState } from "../../core/state.ts";
import type { Backend } from "../backend.ts";
import {
  checkRedis,
  createConfirmation,
  openPorts,
  type RedisCalls,
  redisKeys,
  scriptsOf,
} from "./ports.ts";
import type { RedisSettings } from "./settings.ts";
import { connectWire, type Wire } from "./wire.ts";

/** How often whoever watches looks, in milliseconds: nothing tells of a change here. */
const LOOK_MS = 1000;

/** What stays over requests: data alone. */
export interface RedisMemory {
  /** Whether a Redis was found that can be relied on. */
  checked: boolean;
  /** What was read last. */
  known: { readonly state: CaState; readonly kek: string } | null;
}

export function createRedisMemory(): RedisMemory {
  return { checked: false, known: null };
}

export interface RequestRedisOptions {
  readonly settings: RedisSettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly memory: RedisMemory;
}

/**
 * Makes a backend that has no connection yet. Its ports throw StoreError where none can be made.
 */
export function openRequestRedis({ settings, clock, log, memory }: RequestRedisOptions): Backend {
  const keys = redisKeys(settings.prefix);
  let connecting: Promise<Wire> | null = null;
  let silence: unknown = null;
  let closed = false;

  const connect = async (): Promise<Wire> => {
    try {
      const wire = await connectWire(settings, clock);
      silence = null;
      if (closed) wire.close();
      return wire;
    } catch (error) {
      silence = error;
      // The next who asks tries again.
      connecting = null;
      throw error;
    }
  };
  /**
   * The connection of this request: another one where the last one ended, as in a query that was
   * blocked over a restart.
   */
  const connected = async (): Promise<Wire> => {
    connecting ??= connect();
    const wire = await connecting;
    if (!wire.ended || closed) return wire;
    connecting = connect();
    return connecting;
  };
  const calls: RedisCalls = {
    eval: async (script, names, args) =>
      (await connected()).send("EVAL", script, String(names.length), ...names, ...args),
    info: async (section) => (await connected()).send("INFO", section),
    wait: async (copies, ms) => (await connected()).send("WAIT", String(copies), String(ms)),
    get silence() {
      return silence;
    },
  };
  const checked = async (): Promise<void> => {
    if (!memory.checked) await checkRedis(calls, keys, log);
    memory.checked = true;
  };
  const scripts = scriptsOf(calls);
  const wait = (signal: AbortSignal) => clock.sleep(LOOK_MS, signal);

  return {
    open: (codec, holder) =>
      openPorts({
        async run(script, answer, names, args) {
          await checked();
          return scripts(script, answer, names, args);
        },
        keys,
        codec,
        clock,
        confirm: createConfirmation(calls, settings, log),
        wait,
        accessWait: wait,
        holder,
        memory,
      }),
    close() {
      closed = true;
      connecting?.then((wire) => wire.close()).catch(() => undefined);
    },
  };
}
