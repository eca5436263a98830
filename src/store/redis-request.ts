/**
 * Redis for one request: a connection that is made when something is asked for, and is gone with the request. On Workers a
 * socket belongs to the request that opened it; another one that waited for its answer would wait for ever.
 * @module
 */
import type { CaState } from "../core/ca/state.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Backend } from "./backend.ts";
import { checkRedis, connectWithin, createConfirmation, openPorts, type Redis, redisKeys, scriptsOf } from "./redis.ts";
import { createClient } from "./redis-connection.ts";
import type { RedisSettings } from "./redis-settings.ts";

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

/** Makes a backend that has no connection yet. Its ports throw StoreError where none can be made. */
export function openRequestRedis({ settings, clock, log, memory }: RequestRedisOptions): Backend {
  const keys = redisKeys(settings.prefix);
  let connecting: Promise<Redis> | null = null;
  let closed = false;

  const connect = async (): Promise<Redis> => {
    const client = createClient(settings);
    const redis: Redis = { client, silence: null };
    client.on("error", (error: unknown) => {
      redis.silence = error;
    });
    client.on("ready", () => {
      redis.silence = null;
    });
    try {
      await connectWithin(redis, settings.connectTimeoutMs, clock);
      if (!memory.checked) await checkRedis(redis, keys, log);
      memory.checked = true;
      if (closed) client.disconnect();
      return redis;
    } catch (error) {
      client.disconnect();
      // The next who asks tries again.
      connecting = null;
      throw error;
    }
  };
  const connected = () => {
    connecting ??= connect();
    return connecting;
  };
  const wait = (signal: AbortSignal) => clock.sleep(LOOK_MS, signal);

  return {
    open: (codec, holder) =>
      openPorts({
        run: async (script, answer, names, args) => scriptsOf(await connected())(script, answer, names, args),
        keys,
        codec,
        clock,
        confirm: async () => createConfirmation((await connected()).client, settings, log)(),
        wait,
        accessWait: wait,
        holder,
        memory,
      }),
    close() {
      closed = true;
      connecting?.then(({ client }) => client.disconnect()).catch(() => undefined);
    },
  };
}
