/**
 * Looks at the clock in their stored form, `[[reached, since], …]` in JSON, and where a store of
 * one machine keeps them.
 * @module
 */
import * as v from "valibot";
import { type Look, type Looks, MAX_LOOKS } from "../core/deletion-time.ts";
import type { Log } from "../core/ports/log.ts";
import type { LookStore, StoredLooks } from "../core/ports/looks.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";

const instant = v.pipe(v.number(), v.finite());
const Stored = v.pipe(
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

/** The looks in a text; none if it is empty or not ours, so that every span begins again. */
export function readLooks(text: string): StoredLooks {
  const read = v.safeParse(Stored, text);
  return { looks: read.success ? read.output : [], version: text };
}

export function writeLooks(looks: Looks): string {
  return JSON.stringify(looks.map(({ reached, since }) => [reached, since]));
}

/** Looks that end with the process. */
export function createMemoryLooks(): LookStore {
  let text = "";
  return {
    load: async () => readLooks(text),
    async save(looks, version) {
      if (text !== version) return false;
      text = writeLooks(looks);
      return true;
    },
  };
}

/**
 * Looks in a file beside the last-seen state. While the file cannot be used they are remembered in
 * memory.
 */
export function createFileLooks(kept: PersistentFile, log: Log): LookStore {
  /** What could not be written. */
  let unwritten: string | null = null;
  let failing = false;
  const failed = (error: unknown) => {
    if (!failing)
      log.warn(
        "Failed to use the file with the looks at the clock; they are lost with this process",
        {
          file: kept.name,
          reason: error instanceof Error ? error.name : "unknown",
        },
      );
    failing = true;
  };
  const read = (): string => {
    if (unwritten !== null) return unwritten;
    try {
      return kept.read() ?? "";
    } catch (error) {
      failed(error);
      return "";
    }
  };
  return {
    load: async () => readLooks(read()),
    async save(looks, version) {
      if (read() !== version) return false;
      const text = writeLooks(looks);
      try {
        await kept.write(text);
        unwritten = null;
        failing = false;
      } catch (error) {
        failed(error);
        unwritten = text;
      }
      return true;
    },
  };
}
