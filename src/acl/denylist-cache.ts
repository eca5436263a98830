/**
 * The denylist as this replica saw it last, kept in its data folder: a replica that starts while
 * the store is away renews leaves without tokens, and must not renew what it knew to be denied.
 * @module
 */
import * as v from "valibot";
import type { LeafSubject } from "../core/acl/admin.ts";
import type { DenylistEntry, Entry } from "../core/acl/types.ts";
import { NotReadyError } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import { type DenylistIndex, indexDenylist } from "./denylist.ts";

/** The file in the data folder. */
export const DENYLIST_FILE = "seen-denials.json";

/** A text that is kept over a restart. */
interface Kept {
  /** Null if nothing was written yet. @throws {Error} */
  read(): string | null;
  /** Replaces it as a whole. @throws {Error} */
  write(text: string): Promise<void>;
  readonly name: string;
}

const instant = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);
const Seen = v.pipe(
  v.string(),
  v.parseJson(),
  v.array(
    v.strictObject({
      id: v.string(),
      kind: v.picklist(["spiffe-id", "key-id", "serial"]),
      value: v.string(),
      reason: v.string(),
      createTime: instant,
      expirationTime: instant,
    }),
  ),
);

/** Denials that outlive a restart. */
export class DenylistCache {
  readonly #kept: Kept | null;
  readonly #log: Log;
  #index: DenylistIndex | null = null;
  #written = "";
  /** Settles when the last write has ended; it never rejects. */
  #writing: Promise<void> = Promise.resolve();

  /** @param kept null if there is nothing to keep them in. */
  constructor(kept: Kept | null, log: Log) {
    this.#kept = kept;
    this.#log = log;
  }

  /** Keeps what is in force now, one write after the other. It never rejects. */
  keep(denials: ReadonlyMap<string, Entry<DenylistEntry>>): Promise<void> {
    const kept = this.#kept;
    if (kept === null) return Promise.resolve();
    this.#writing = this.#writing.then(async () => {
      const text = JSON.stringify([...denials.values()].map(({ value }) => value));
      if (text === this.#written) return;
      try {
        await kept.write(text);
        this.#written = text;
      } catch (error) {
        this.#log.warn(
          "Failed to persist the denylist; a restart while the store is away would not know it",
          {
            file: kept.name,
            reason: error instanceof Error && "code" in error ? String(error.code) : "unknown",
          },
        );
      }
    });
    return this.#writing;
  }

  /**
   * What denies a leaf, by the file.
   * @throws {NotReadyError} `state_stale` if there is no file, or if it cannot be read
   */
  entryOf(subject: LeafSubject): DenylistEntry | null {
    this.#index ??= indexDenylist(this.#read());
    return this.#index(subject)[0] ?? null;
  }

  #read(): readonly DenylistEntry[] {
    const refuse = () =>
      new NotReadyError(
        "state_stale",
        "Cannot renew: the denylist is not loaded, and there is no copy of it in the data folder that can be read",
        {
          retryAfterMs: 3000,
        },
      );
    let text: string | null;
    try {
      text = this.#kept?.read() ?? null;
    } catch {
      throw refuse();
    }
    // Written as soon as a denylist is loaded, an empty one too: without it anything may be denied.
    if (text === null) throw refuse();
    const seen = v.safeParse(Seen, text);
    if (!seen.success) throw refuse();
    return seen.output;
  }
}
