/**
 * Alarms by the wall clock, many over one timer. After a suspension of the machine, or a change of its
 * clock, they are due by the time that the clock shows then.
 * @module
 */
import type { Clock } from "../core/ports/clock.ts";

/**
 * How often the wall clock is compared, in milliseconds: timers do not count the time of a
 * suspension.
 */
const LOOK_MS = 1000;
/** A step back of the clock that is a change by hand or by NTP, in milliseconds. */
const BACK_MS = 2000;

/** One alarm, which can be cancelled. */
export interface Alarm {
  cancel(): void;
}

interface Entry extends Alarm {
  readonly at: number;
  act: (() => void) | null;
}

export class Alarms {
  readonly #clock: Clock;
  /** A binary heap by `at`; cancelled entries stay in it until they are due or are half of it. */
  #heap: Entry[] = [];
  #cancelled = 0;
  #wake: AbortController | null = null;
  /** Until when the running sleep lasts, by the wall clock. */
  #sleepsUntil = 0;
  readonly #onBack = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many alarms are set. */
  get size(): number {
    return this.#heap.length - this.#cancelled;
  }

  /** Calls `act` at an instant, or at once if it has passed, but never within this call. */
  at(instant: Date, act: () => void): Alarm {
    const entry: Entry = {
      at: instant.getTime(),
      act,
      cancel: () => {
        if (entry.act === null) return;
        entry.act = null;
        this.#cancelled++;
        this.#compact();
      },
    };
    push(this.#heap, entry);
    if (this.#wake === null) void this.#run();
    else if (entry.at < this.#sleepsUntil) this.#wake.abort();
    return entry;
  }

  /** Calls `act` when the clock was set back. @returns ends it */
  onClockSetBack(act: () => void): () => void {
    const own = () => act();
    this.#onBack.add(own);
    return () => {
      this.#onBack.delete(own);
    };
  }

  /** Runs while there are alarms. */
  async #run(): Promise<void> {
    let last = this.#clock.now().getTime();
    while (this.size > 0) {
      const wake = new AbortController();
      this.#wake = wake;
      const next = (this.#heap[0] as Entry).at;
      const pause = Math.min(Math.max(next - last, 0), LOOK_MS);
      this.#sleepsUntil = last + pause;
      await this.#clock.sleep(pause, wake.signal);
      wake.abort();
      const now = this.#clock.now().getTime();
      if (now < last - BACK_MS) for (const act of [...this.#onBack]) act();
      last = now;
      this.#actUntil(now);
    }
    this.#wake = null;
  }

  #actUntil(now: number): void {
    const due: Entry[] = [];
    while (this.#heap.length > 0 && (this.#heap[0] as Entry).at <= now)
      due.push(pop(this.#heap) as Entry);
    for (const entry of due) {
      const { act } = entry;
      if (act === null) {
        this.#cancelled--;
        continue;
      }
      entry.act = null;
      act();
    }
  }

  #compact(): void {
    if (this.#cancelled < 64 || this.#cancelled < this.#heap.length / 2) return;
    // In order of time, which is a heap.
    this.#heap = this.#heap.filter(({ act }) => act !== null).toSorted((a, b) => a.at - b.at);
    this.#cancelled = 0;
  }
}

function push(heap: Entry[], entry: Entry): void {
  let at = heap.length;
  heap.push(entry);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if ((heap[parent] as Entry).at <= entry.at) break;
    heap[at] = heap[parent] as Entry;
    at = parent;
  }
  heap[at] = entry;
}

function pop(heap: Entry[]): Entry | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && (heap[child + 1] as Entry).at < (heap[child] as Entry).at)
      child++;
    if ((heap[child] as Entry).at >= last.at) break;
    heap[at] = heap[child] as Entry;
    at = child;
  }
  heap[at] = last;
  return first;
}
