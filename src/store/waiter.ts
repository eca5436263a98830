/**
 * Wakes those who watch for a change within one process.
 * @module
 */

export interface Waiter {
  /** Wakes everybody who waits. */
  notify(): void;
  /** Resolves at the next `notify`, or when `signal` fires. */
  wait(signal: AbortSignal): Promise<void>;
}

export function createWaiter(): Waiter {
  const waiting = new Set<() => void>();
  return {
    notify() {
      for (const wake of [...waiting]) wake();
    },
    wait(signal) {
      return new Promise((resolve) => {
        const wake = () => {
          waiting.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        if (signal.aborted) resolve();
        else {
          waiting.add(wake);
          signal.addEventListener("abort", wake);
        }
      });
    },
  };
}
