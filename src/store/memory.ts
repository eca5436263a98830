/**
 * The reference store and leases: all in memory, gone with the process. Several holders can share one backend, as
 * replicas share a server.
 * @module
 */
import type { Clock } from "../core/clock.ts";
import type { LeaseName, Leases } from "../core/lease.ts";
import type { Store } from "../core/store.ts";
import { requireExpected } from "./checks.ts";
import type { Codec } from "./codec.ts";
import { createWaiter } from "./waiter.ts";

export interface MemoryBackend {
  /** What is stored, for tests that tamper with it. */
  document: string | null;
  open(codec: Codec, holder: string): { store: Store; leases: Leases };
}

interface Grant {
  readonly holder: string | null;
  readonly term: number;
  readonly expiresAt: number;
}

export function createMemoryBackend(clock: Clock): MemoryBackend {
  const waiter = createWaiter();
  const grants = new Map<LeaseName, Grant>();
  let stored: { index: number; commitId: string | null } = { index: 0, commitId: null };
  const now = () => clock.now().getTime();
  const held = (name: LeaseName): Grant | null => {
    const grant = grants.get(name);
    return grant !== undefined && grant.holder !== null && grant.expiresAt > now() ? grant : null;
  };

  const backend: MemoryBackend = {
    document: null,
    open(codec, holder) {
      const owns = (name: LeaseName, term: number) => held(name)?.term === term && held(name)?.holder === holder;
      return {
        store: {
          async read() {
            return backend.document === null ? null : codec.decode(backend.document);
          },
          async commit(next, expected) {
            const document = await codec.encode(next);
            // No await from here on: comparison and write are one step.
            requireExpected({ ...stored, term: grants.get("operation")?.term ?? 0 }, expected);
            backend.document = document;
            stored = { index: next.index, commitId: next.commitId };
            waiter.notify();
          },
          async watch(commitId, signal) {
            if (stored.commitId === commitId) await waiter.wait(signal);
          },
          now: async () => clock.now(),
          async close() {},
        },
        leases: {
          async acquire(name, ttlMs) {
            if (held(name) !== null) return null;
            const term = (grants.get(name)?.term ?? 0) + 1;
            grants.set(name, { holder, term, expiresAt: now() + ttlMs });
            return { name, term };
          },
          async renew({ name, term }, ttlMs) {
            if (!owns(name, term)) return false;
            grants.set(name, { holder, term, expiresAt: now() + ttlMs });
            return true;
          },
          async release({ name, term }) {
            if (owns(name, term)) grants.set(name, { holder: null, term, expiresAt: 0 });
          },
          holder: async (name) => held(name)?.holder ?? null,
        },
      };
    },
  };
  return backend;
}
