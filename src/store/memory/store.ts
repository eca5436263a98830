/**
 * The reference store and leases: all in memory, gone with the process. Several holders can share
 * one backend, as replicas share a server.
 * @module
 */
import * as v from "valibot";
import type { Clock } from "../../core/ports/clock.ts";
import { isOff, type LeaseName } from "../../core/ports/lease.ts";
import type { Replica } from "../../core/ports/replicas.ts";
import type { StopMark } from "../../core/ports/store.ts";
import type { Backend } from "../backend.ts";
import { requireExpected } from "../checks.ts";
import { createMemoryLooks } from "../looks.ts";
import { Waiter } from "../waiter.ts";
import { createMemoryAccess } from "./acl.ts";

export interface MemoryBackend extends Backend {
  /** What is stored, for tests that tamper with it. */
  document: string | null;
}

interface Grant {
  readonly holder: string | null;
  readonly term: number;
  readonly expiresAt: number;
}

/**
 * An announcement that ends after so many times the caller's was made by a clock that has gone back
 * since.
 */
const FAR = 10;

export function createMemoryBackend(clock: Clock): MemoryBackend {
  const waiter = new Waiter();
  const grants = new Map<LeaseName, Grant>();
  const announced = new Map<string, { readonly replica: Replica; readonly until: number }>();
  let mark:
    | (Omit<StopMark, "state"> & { document: string; index: number; commitId: string; at: Date })
    | null = null;
  const access = createMemoryAccess(clock);
  const looks = createMemoryLooks();
  const now = () => clock.now().getTime();
  const held = (name: LeaseName): Grant | null => {
    const grant = grants.get(name);
    return grant !== undefined && grant.holder !== null && grant.expiresAt > now() ? grant : null;
  };

  const backend: MemoryBackend = {
    document: null,
    open(codec, holder) {
      const owns = (name: LeaseName, term: number) =>
        held(name)?.term === term && held(name)?.holder === holder;
      return {
        store: {
          async read() {
            const { document } = backend;
            const [term, stopped] = [grants.get("operation")?.term ?? 0, mark?.commitId ?? null];
            if (document === null) return { state: null, term, stopped, kek: null };
            return {
              state: await codec.decode(document),
              term,
              stopped,
              kek: codec.kekOf(document),
            };
          },
          async commit(next, expected) {
            const document = await codec.encode(next);
            // No await from here on: comparison and write are one step.
            const { term = 0 } = grants.get("operation") ?? {};
            requireExpected(
              { ...whereIs(backend.document), term, stopped: mark?.commitId ?? null },
              expected,
            );
            backend.document = document;
            // Whoever saw a higher term than is known here would take the store for one that lost
            // writes.
            if (mark !== null && mark.term > term)
              grants.set("operation", { holder: null, term: mark.term, expiresAt: 0 });
            mark = null;
            waiter.notify();
          },
          async stop({ state, term, reason, by, found }) {
            const document = await codec.encode(state);
            if (whereIs(backend.document).commitId !== found) return;
            const newer = mark === null || mark.index < state.index;
            const set = newer
              ? {
                  document,
                  index: state.index,
                  commitId: state.commitId,
                  reason,
                  by,
                  at: clock.now(),
                }
              : (mark as NonNullable<typeof mark>);
            mark = { ...set, term: Math.max(term, mark?.term ?? 0) };
            if (newer) waiter.notify();
          },
          async stopMark() {
            if (mark === null) return null;
            const { document, term, reason, by, at } = mark;
            return { state: await codec.decode(document), term, reason, by, at };
          },
          async watch(commitId, signal) {
            if (whereIs(backend.document).commitId === commitId) await waiter.wait(signal);
          },
          now: async () => clock.now(),
          async close() {},
        },
        leases: {
          async acquire(name, ttlMs) {
            const grant = held(name);
            if (grant !== null && !isOff(grant.expiresAt, now(), ttlMs)) return null;
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
        replicas: {
          async announce(self, ttlMs) {
            announced.set(self.id, { replica: self, until: now() + ttlMs });
            for (const [id, { until }] of announced)
              if (until <= now() || until - now() > FAR * ttlMs) announced.delete(id);
            return [...announced.values()].map(({ replica }) => replica);
          },
          async leave(id) {
            announced.delete(id);
          },
        },
        access,
        looks,
      };
    },
    close() {},
  };
  return backend;
}

const Outer = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ index: v.number(), commitId: v.string() }),
);

/** Index and commit id of a document, as far as it is one. */
function whereIs(document: string | null): {
  readonly index: number;
  readonly commitId: string | null;
} {
  const outer = v.safeParse(Outer, document);
  return outer.success ? outer.output : { index: 0, commitId: null };
}
