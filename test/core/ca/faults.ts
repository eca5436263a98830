/**
 * Ports that fail at one chosen call: the call fails before it has an effect, or has its effect and
 * the answer is lost, or the process ends there, before or after the effect.
 * @module
 */
import { StoreError } from "../../../src/core/errors.ts";
import type { ProviderTypes } from "../../../src/core/ports/provider.ts";
import type { Sealer } from "../../../src/core/ports/sealer.ts";
import type { Ports } from "../../../src/store/backend.ts";
import type { MemoryBackend } from "../../../src/store/memory/store.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { providersWith } from "./harness.ts";

/**
 * `refuse`: no effect, an error. `lose`: the effect, an error. `die`: no effect, no answer.
 * `dieAfter`: the effect, no answer.
 */
export const MODES = ["refuse", "lose", "die", "dieAfter"] as const;
export type Mode = (typeof MODES)[number];

export interface Faults {
  /** Counts calls from now on, and lets the n-th one fail. */
  arm(n: number, mode: Mode): void;
  disarm(): void;
  /** The name of the call that failed, or null. */
  readonly hit: string | null;
  /** Resolves when a call fails. */
  readonly reached: Promise<void>;
  readonly ports: Omit<Ports, "access"> & { sealer: Sealer; providers: ProviderTypes };
}

export function createFaults(backend: MemoryBackend, inner: Sealer, holder: string): Faults {
  let left = 0;
  let mode: Mode = "refuse";
  let hit: string | null = null;
  let reached = Promise.withResolvers<void>();

  const step = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
    left--;
    if (left !== 0) return call();
    hit = name;
    if (mode === "lose" || mode === "dieAfter") await call();
    reached.resolve();
    if (mode === "die" || mode === "dieAfter") return new Promise<T>(() => {});
    throw name.startsWith("sealer")
      ? new Error(`${name} failed`)
      : new StoreError("store_unavailable", `${name} failed`);
  };

  const sealer: Sealer = {
    sealKey: (...args) => step("sealer.sealKey", () => inner.sealKey(...args)),
    openKey: (...args) => step("sealer.openKey", () => inner.openKey(...args)),
    sealSecret: (...args) => step("sealer.sealSecret", () => inner.sealSecret(...args)),
    openSecret: (...args) => step("sealer.openSecret", () => inner.openSecret(...args)),
    of: (datacenter) => inner.of(datacenter),
    keks: inner.keks,
    kekOf: (sealed) => inner.kekOf(sealed),
    rewrap: (...args) => step("sealer.rewrap", () => inner.rewrap(...args)),
    mac: (...args) => step("sealer.mac", () => inner.mac(...args)),
    verifyMac: (...args) => step("sealer.verifyMac", () => inner.verifyMac(...args)),
  };
  const { store, leases, replicas, looks, leaves, backups, facts } = backend.open(
    createCodec(sealer),
    holder,
  );
  return {
    arm(n, how) {
      [left, mode, hit, reached] = [n, how, null, Promise.withResolvers<void>()];
    },
    disarm() {
      left = 0;
    },
    get hit() {
      return hit;
    },
    get reached() {
      return reached.promise;
    },
    ports: {
      sealer,
      store: {
        read: () => step("store.read", () => store.read()),
        commit: (...args) => step("store.commit", () => store.commit(...args)),
        stop: (...args) => step("store.stop", () => store.stop(...args)),
        stopMark: () => step("store.stopMark", () => store.stopMark()),
        watch: (...args) => store.watch(...args),
        now: () => step("store.now", () => store.now()),
      },
      ...{ leaves, backups, facts },
      looks: {
        load: () => step("looks.load", () => looks.load()),
        save: (...args) => step("looks.save", () => looks.save(...args)),
      },
      leases: {
        acquire: (...args) => step("leases.acquire", () => leases.acquire(...args)),
        renew: (...args) => step("leases.renew", () => leases.renew(...args)),
        release: (...args) => step("leases.release", () => leases.release(...args)),
        holder: (...args) => step("leases.holder", () => leases.holder(...args)),
      },
      replicas: {
        announce: (...args) => step("replicas.announce", () => replicas.announce(...args)),
        leave: (...args) => replicas.leave(...args),
      },
      providers: providersWith((type) => ({
        ...type,
        prepare: (...args) => step("provider.prepare", () => type.prepare(...args)),
        requestIntermediate: (...args) =>
          step("provider.requestIntermediate", () => type.requestIntermediate(...args)),
        open: (...args) =>
          step("provider.open", async () => {
            const provider = await type.open(...args);
            const { crossSigner } = provider;
            return {
              ...provider,
              signLeaf: (...args) => step("provider.signLeaf", () => provider.signLeaf(...args)),
              crossSigner: crossSigner && {
                ...crossSigner,
                crossSign: (...crossing) =>
                  step("provider.crossSign", () => crossSigner.crossSign(...crossing)),
              },
            };
          }),
      })),
    },
  };
}
