/**
 * The writes of a replica: one at a time, those that wait together as one.
 * @module
 */
import { ConflictError } from "../core/errors.ts";
import type { RecordChange } from "../core/ports/record-store.ts";
import type { AclKey } from "./acl-key.ts";

/** Records in writes that are sent as one: a write of so many does not hold up a store for long. */
const MAX_BATCH = 200;

interface Waiting {
  readonly changes: readonly RecordChange[];
  readonly key: AclKey;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Sends changes as one write. @throws {ConflictError} if nothing is written */
type Send = (changes: readonly RecordChange[], key: AclKey) => Promise<void>;

export class WriteQueue {
  readonly #send: Send;
  readonly #waiting: Waiting[] = [];
  #running = false;

  constructor(send: Send) {
    this.#send = send;
  }

  /** Sends changes after those that wait already. @throws what sending throws */
  add(changes: readonly RecordChange[], key: AclKey): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ changes, key, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let batch = takeBatch(this.#waiting); batch.length > 0; batch = takeBatch(this.#waiting)) {
      const refused = await this.#sendAll(batch);
      // Sent one by one, only the changes that conflict fail.
      if (refused && batch.length > 1) for (const one of batch) await this.#sendAll([one]);
    }
    this.#running = false;
  }

  /**
   * Sends a batch as one write.
   * @returns whether records conflict. Then nothing is written, and a batch of several stays open.
   */
  async #sendAll(batch: readonly Waiting[]): Promise<boolean> {
    const [first] = batch;
    if (first === undefined) return false;
    try {
      await this.#send(
        batch.flatMap(({ changes }) => changes),
        first.key,
      );
      for (const { resolve } of batch) resolve();
      return false;
    } catch (error) {
      const refused = error instanceof ConflictError;
      if (!refused || batch.length === 1) for (const { reject } of batch) reject(error);
      return refused;
    }
  }
}

/**
 * Takes the changes that can be sent as one write from the front of a queue: those in which no
 * record and no key occurs twice.
 */
function takeBatch(waiting: Waiting[]): Waiting[] {
  const [taken, batch] = [new Set<string>(), [] as Waiting[]];
  for (const one of waiting) {
    const names = one.changes.flatMap(({ kind, id, next }) => [
      `${kind}/${id}`,
      ...(next?.key ? [`${kind} ${next.key}`] : []),
    ]);
    const goes =
      one.key === waiting[0]?.key &&
      taken.size + names.length <= MAX_BATCH &&
      !names.some((name) => taken.has(name));
    if (batch.length > 0 && !goes) break;
    batch.push(one);
    for (const name of names) taken.add(name);
  }
  waiting.splice(0, batch.length);
  return batch;
}
