/**
 * Which prefix the keys have. Several datacenters may be given the same Redis: unless its URL has a
 * prefix, each has its keys under one with its name. A datacenter that has its state under the plain
 * prefix, from before there were several, goes on with that one.
 *
 * Nothing that is stored is trusted for this: the state that is then read is verified as always, and
 * refused if it is not authentic or of another datacenter.
 * @module
 */
import type { Log } from "../../core/ports/log.ts";
import { claimedDatacenter } from "../state-document.ts";
import { type RedisKeys, redisKeys } from "./keys.ts";
import type { RedisSettings } from "./settings.ts";

/** Survives the connection: plain data. */
export interface PrefixMemory {
  /** The prefix in use; null before it is decided. */
  prefix: string | null;
}

/** The document of the state, or of the stop mark, under some keys; null if there is neither. */
export type Held = { readonly document: string } | null;

/** Reads what is stored under some keys. @param wantsDocument else the document is empty. */
type ReadHeld = (keys: RedisKeys, wantsDocument: boolean) => Promise<Held>;

export class KeyPrefix {
  readonly #plain: RedisKeys;
  /** Under the prefix with the datacenter's name; null if only the plain one is used. */
  readonly #own: RedisKeys | null;
  readonly #datacenter: string;
  readonly #log: Log;
  readonly #memory: PrefixMemory;

  constructor(
    { prefix, datacenterPrefix }: Pick<RedisSettings, "prefix" | "datacenterPrefix">,
    log: Log,
    memory: PrefixMemory,
  ) {
    this.#plain = redisKeys(prefix);
    this.#own = datacenterPrefix === null ? null : redisKeys(datacenterPrefix);
    this.#datacenter = datacenterPrefix?.slice(prefix.length + 1) ?? "";
    this.#log = log;
    this.#memory = memory;
  }

  /** Whether what is stored decides which prefix is used. */
  get isChosen(): boolean {
    return this.#own !== null;
  }

  /**
   * The keys in use. Once decided they stay, until `forget` is called.
   * @throws {unknown} what `read` rejects with
   */
  async keys(read: ReadHeld): Promise<RedisKeys> {
    const [own, memory] = [this.#own, this.#memory];
    if (own === null) return this.#plain;
    if (memory.prefix !== null) return memory.prefix === own.prefix ? own : this.#plain;
    const keys = await this.#decide(own, read);
    memory.prefix = keys.prefix;
    return keys;
  }

  /** Decides again at the next use: nothing is stored under the keys in use. */
  forget(): void {
    this.#memory.prefix = null;
  }

  async #decide(own: RedisKeys, read: ReadHeld): Promise<RedisKeys> {
    const plain = this.#plain;
    // On a Cluster they are in different slots: two scripts.
    const [named, unnamed] = await Promise.all([read(own, false), read(plain, true)]);
    // It is null also of a document that cannot be read: it is refused when it is used.
    const claimed = unnamed === null ? null : claimedDatacenter(unnamed.document);
    if (named !== null && claimed === this.#datacenter)
      this.#log.error(
        "Redis has a CA state of this datacenter under two prefixes, and the one with its name is used; stop all replicas of older versions, which use the other one, then delete its keys",
        { used: own.prefix, other: plain.prefix },
      );
    const isPlain =
      named === null && unnamed !== null && (claimed === null || claimed === this.#datacenter);
    if (isPlain)
      this.#log.info(
        "The CA state stays under the prefix without the name of the datacenter, where it was before there were several",
        { prefix: plain.prefix },
      );
    return isPlain ? plain : own;
  }
}
