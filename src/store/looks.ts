/**
 * Looks at the clock in their stored form, `[[reached, since], …]` in JSON, and the stores of one
 * machine for them.
 * @module
 */
import * as v from "valibot";
import { type Look, type Looks, MAX_LOOKS } from "../core/deletion-time.ts";
import { reasonOf } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { LookStore, StoredLooks } from "../core/ports/looks.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";

const instant = v.pipe(v.number(), v.finite());
const StoredText = v.pipe(
  v.string(),
  v.parseJson(),
  v.pipe(v.array(v.tuple([instant, instant])), v.maxLength(MAX_LOOKS)),
  v.transform((pairs) => pairs.map(([reached, since]): Look => ({ reached, since }))),
  // Anything else was not written by this program: no look is taken from it.
  v.check((looks) =>
    looks.every(({ reached, since }, i) => i === 0 || isAfter(looks[i - 1], { reached, since })),
  ),
);

function isAfter(before: Look | undefined, { reached, since }: Look): boolean {
  return before !== undefined && reached > before.reached && since > before.since;
}

/** The looks in a text; no looks if it is empty or malformed, so that every span begins again. */
export function readLooks(text: string): StoredLooks {
  const read = v.safeParse(StoredText, text);
  return { looks: read.success ? read.output : [], version: text };
}

export function writeLooks(looks: Looks): string {
  return JSON.stringify(looks.map(({ reached, since }) => [reached, since]));
}

/** Looks that end with the process. */
export class MemoryLooks implements LookStore {
  #text = "";

  async load(): Promise<StoredLooks> {
    return readLooks(this.#text);
  }

  async save(looks: Looks, version: string): Promise<boolean> {
    if (this.#text !== version) return false;
    this.#text = writeLooks(looks);
    return true;
  }
}

/** Looks in a file of the data folder, and in memory while the file cannot be used. */
export class FileLooks implements LookStore {
  readonly #file: PersistentFile;
  readonly #log: Log;
  /** What could not be written. */
  #unwritten: string | null = null;
  #failing = false;

  constructor(file: PersistentFile, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  async load(): Promise<StoredLooks> {
    return readLooks(this.#read());
  }

  async save(looks: Looks, version: string): Promise<boolean> {
    if (this.#read() !== version) return false;
    const text = writeLooks(looks);
    try {
      await this.#file.write(text);
      this.#unwritten = null;
      this.#failing = false;
    } catch (error) {
      this.#warn(error);
      this.#unwritten = text;
    }
    return true;
  }

  #read(): string {
    if (this.#unwritten !== null) return this.#unwritten;
    try {
      return this.#file.read() ?? "";
    } catch (error) {
      this.#warn(error);
      return "";
    }
  }

  #warn(error: unknown): void {
    if (!this.#failing)
      this.#log.warn(
        "Failed to use the file of clock readings: they stay in memory, and a restart delays the deletion of retired roots and denylist entries",
        { file: this.#file.name, reason: reasonOf(error) },
      );
    this.#failing = true;
  }
}
