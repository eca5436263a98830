/**
 * A value that changes over time, and its subscribers.
 * @module
 */

export interface Source<T> {
  /** Null before the first value, and after a value expired without a new one. */
  readonly current: T | null;
  /** Calls `listener` after every change until the returned function is called. */
  subscribe(listener: () => void): () => void;
}

/** A source whose owner sets the value. */
export class MutableSource<T> implements Source<T> {
  #current: T | null = null;
  readonly #listeners = new Set<() => void>();

  get current(): T | null {
    return this.#current;
  }

  /** Replaces the value, and calls every listener. */
  set(value: T | null): void {
    this.#current = value;
    for (const listener of [...this.#listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    // Each subscription is its own, also if a function subscribes twice.
    const own = () => listener();
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }
}
