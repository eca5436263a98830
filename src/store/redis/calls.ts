/**
 * Calls to Redis over any connection: scripts, WAIT, and the check that the server is reliable
 * before the first script runs.
 * @module
 */
import * as v from "valibot";
import { StoreError } from "../../core/errors.ts";
import type { Log } from "../../core/ports/log.ts";
import type { StoreFacts } from "../../core/ports/store-facts.ts";
import { deniesNames, redisError } from "./error.ts";
import { FACT_SECTIONS, redisFacts } from "./facts.ts";
import type { RedisKeys } from "./keys.ts";
import { type Held, KeyPrefix, type PrefixMemory } from "./prefix.ts";
import { SCRIPTS } from "./scripts.ts";
import type { RedisSettings } from "./settings.ts";

const HeldAnswer = v.tuple([v.string(), v.string()]);

/** The oldest major version that the tests run on. */
const OLDEST_REDIS = 7;

/** A connection. It rejects with errors that `redisError` translates. */
export interface RedisConnection {
  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** INFO of the server, or of every master of a Cluster. */
  info(section: string): Promise<unknown>;
  /** WAIT. @returns how many replicas have acknowledged all writes. */
  wait(replicas: number, ms: number): Promise<unknown>;
  /** Why connecting failed last; null while connected. */
  readonly connectError: unknown;
  /** Called when the keys in use are others than before. */
  keysChanged(): void;
}

/** The keys of a script, and its arguments. */
type Arguments = readonly [keys: readonly string[], args?: readonly string[]];

/** Survives the connection: plain data. */
export interface CheckMemory extends PrefixMemory {
  /** Whether the server was found reliable, with the keys in use. */
  checked: boolean;
}

export class RedisCalls {
  readonly #prefix: KeyPrefix;
  readonly #connection: RedisConnection;
  readonly #settings: RedisSettings;
  readonly #log: Log;
  readonly #memory: CheckMemory;
  #checking: Promise<void> | null = null;

  constructor(
    connection: RedisConnection,
    settings: RedisSettings,
    log: Log,
    memory: CheckMemory = { checked: false, prefix: null },
  ) {
    this.#prefix = new KeyPrefix(settings, log, memory);
    this.#connection = connection;
    this.#settings = settings;
    this.#log = log;
    this.#memory = memory;
  }

  /**
   * Runs a script, atomically.
   * @param argumentsOf gets the keys in use.
   * @throws {StoreError}
   */
  async run<T>(
    script: keyof typeof SCRIPTS,
    answer: v.GenericSchema<unknown, T>,
    argumentsOf: (keys: RedisKeys) => Arguments,
  ): Promise<T> {
    if (!this.#memory.checked) await this.check();
    return this.#eval(script, answer, argumentsOf(await this.keys()));
  }

  /** The keys in use, which Redis is asked for at the first use. @throws {StoreError} */
  keys(): Promise<RedisKeys> {
    return this.#prefix.keys((keys, wantsDocument) => this.#held(keys, wantsDocument));
  }

  /**
   * Decides again which keys are in use, after nothing was found under the present ones.
   * @returns whether they are others now. @throws {StoreError}
   */
  async reconsiderKeys(): Promise<boolean> {
    if (!this.#prefix.isChosen) return false;
    const before = await this.keys();
    this.#prefix.forget();
    if ((await this.keys()).prefix === before.prefix) return false;
    this.#memory.checked = false;
    this.#connection.keysChanged();
    return true;
  }

  /**
   * Checks the server, unless it was found reliable before. Single-flight.
   * @throws {StoreError} for a Redis that is too old, may evict keys, or does not allow what is
   * needed
   */
  async check(): Promise<void> {
    if (this.#memory.checked) return;
    this.#checking ??= this.#check().finally(() => {
      this.#checking = null;
    });
    await this.#checking;
    this.#memory.checked = true;
  }

  /**
   * Waits until as many Redis replicas as the settings require have acknowledged the last write.
   * The write stands also if they have not.
   */
  async awaitReplicas(): Promise<void> {
    const { waitReplicas, commandTimeoutMs } = this.#settings;
    if (waitReplicas === 0) return;
    const acknowledged = Number(
      await this.#connection.wait(waitReplicas, Math.floor(commandTimeoutMs / 2)).catch(() => 0),
    );
    if (acknowledged < waitReplicas)
      this.#log.warn("Commit acknowledged by fewer Redis replicas than required", {
        acknowledged,
        required: waitReplicas,
      });
  }

  /** The settings of the servers, as they are now. @throws {StoreError} */
  async facts(): Promise<StoreFacts> {
    const sections: string[] = [];
    for (const section of FACT_SECTIONS)
      sections.push(await this.answer(v.string(), () => this.#connection.info(section)));
    const { mode, waitReplicas } = this.#settings;
    const { prefix } = await this.keys();
    return { kind: "redis", mode, prefix, waitReplicas, servers: redisFacts(sections) };
  }

  /** @throws {StoreError} what `call` rejects with, or the reply is malformed */
  async answer<T>(schema: v.GenericSchema<unknown, T>, call: () => Promise<unknown>): Promise<T> {
    try {
      return v.parse(schema, await call());
    } catch (error) {
      throw redisError(error, this.#connection.connectError);
    }
  }

  #eval<T>(
    script: keyof typeof SCRIPTS,
    schema: v.GenericSchema<unknown, T>,
    [keys, args = []]: Arguments,
  ): Promise<T> {
    return this.answer(schema, () => this.#connection.eval(SCRIPTS[script], keys, args));
  }

  async #check(): Promise<void> {
    await this.#requireReliable();
    const { prefix, probe, changed } = await this.keys();
    try {
      const [command, fault] = await this.#eval("probe", v.array(v.string()), [[probe], [changed]]);
      if (command !== undefined)
        throw redisError(new Error(fault), this.#connection.connectError, command);
    } catch (error) {
      if (!(error instanceof StoreError) || !deniesNames(error)) throw error;
      const { code, cause, retryAfterMs } = error;
      throw new StoreError(code, `${error.message}: ~{${prefix}}:* &{${prefix}}:*`, {
        cause,
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      });
    }
  }

  /** What is stored under some keys. @throws {StoreError} */
  async #held({ state, stop }: RedisKeys, wantsDocument: boolean): Promise<Held> {
    try {
      const wanted = [wantsDocument ? "1" : ""];
      const [holds, document] = await this.#eval("held", HeldAnswer, [[state, stop], wanted]);
      return holds === "" ? null : { document };
    } catch (error) {
      // Keys that the user may not read cannot be in use. A key of another type is refused in use.
      if (deniesNames(error)) return null;
      if (error instanceof StoreError && error.code === "state_corrupt") return { document: "" };
      throw error;
    }
  }

  /** @throws {StoreError} `store_refused` for a Redis that is too old or may evict keys */
  async #requireReliable(): Promise<void> {
    const read = async (section: string, name: string): Promise<string[]> => {
      const text = await this.answer(v.string(), () => this.#connection.info(section));
      return [...text.matchAll(new RegExp(`^${name}:(.*?)\r?$`, "gm"))].map(
        ([, value = ""]) => value,
      );
    };
    for (const version of await read("server", "redis_version"))
      if (Number.parseInt(version, 10) < OLDEST_REDIS)
        throw new StoreError(
          "store_refused",
          `Redis is too old: it is ${version}, meshca needs ${OLDEST_REDIS}.0 or newer`,
        );
    for (const policy of await read("memory", "maxmemory_policy"))
      if (policy !== "noeviction")
        throw new StoreError(
          "store_refused",
          `Redis may evict the CA: its maxmemory-policy is ${policy}; set it to noeviction`,
        );
    if ((await read("persistence", "aof_enabled")).includes("0"))
      this.#log.warn(
        "Redis has no append-only file: it loses changes when it restarts; set appendonly yes and appendfsync always",
      );
  }
}
