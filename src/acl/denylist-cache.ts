/**
 * The last denylist that this replica saw, in its data folder. A replica that starts while the store
 * is away renews leaves without tokens, and must not renew those that were on the denylist.
 * @module
 */
import * as v from "valibot";
import type { LeafSubject } from "../core/acl/admin.ts";
import type { DenylistEntry, Entry } from "../core/acl/types.ts";
import { NotReadyError, reasonOf } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";
import { type DenylistIndex, indexDenylist } from "./denylist.ts";
import { DenylistEntrySchema } from "./record-codec.ts";

/** The file in the data folder. */
export const DENYLIST_FILE = "seen-denials.json";

const Entries = v.pipe(v.string(), v.parseJson(), v.array(DenylistEntrySchema));

export class DenylistCache {
  readonly #file: PersistentFile | null;
  readonly #log: Log;
  #index: DenylistIndex | null = null;
  #written = "";
  /** Settles when the last write has ended; it never rejects. */
  #writing: Promise<void> = Promise.resolve();

  /** @param file null: nothing survives a restart. */
  constructor(file: PersistentFile | null, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  /** Persists the denylist that is in force, one write after the other. It never rejects. */
  save(denylist: ReadonlyMap<string, Entry<DenylistEntry>>): Promise<void> {
    const file = this.#file;
    if (file === null) return Promise.resolve();
    this.#writing = this.#writing.then(async () => {
      const text = JSON.stringify([...denylist.values()].map(({ value }) => value));
      if (text === this.#written) return;
      try {
        await file.write(text);
        this.#written = text;
      } catch (error) {
        this.#log.warn(
          "Failed to persist the denylist: after a restart without the store, renewals by proof go by the last one that was persisted",
          { file: file.name, reason: reasonOf(error) },
        );
      }
    });
    return this.#writing;
  }

  /**
   * The entry of the persisted denylist that names a leaf, or null.
   * @throws {NotReadyError} `state_stale` if there is no file, or if it cannot be read
   */
  entryOf(subject: LeafSubject): DenylistEntry | null {
    this.#index ??= indexDenylist(this.#read());
    return this.#index(subject)[0] ?? null;
  }

  #read(): readonly DenylistEntry[] {
    let text: string | null;
    try {
      text = this.#file?.read() ?? null;
    } catch {
      throw unreadable();
    }
    // It is written as soon as a denylist is loaded, also an empty one.
    if (text === null) throw unreadable();
    const entries = v.safeParse(Entries, text);
    if (!entries.success) throw unreadable();
    return entries.output;
  }
}

function unreadable(): NotReadyError {
  return new NotReadyError(
    "state_stale",
    "Cannot renew leaf: the denylist is not loaded, and the data folder has no copy of it that can be read",
    { retryAfterMs: 3000 },
  );
}
