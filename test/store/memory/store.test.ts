/**
 * The reference store under both contracts.
 * @module
 */
import { MemoryBackend } from "../../../src/store/memory/store.ts";
import { describeBackups } from "../../contracts/backups.ts";
import { describeLeafCounts } from "../../contracts/leaf-counts.ts";
import { describeLeases } from "../../contracts/lease.ts";
import { describeLooks } from "../../contracts/looks.ts";
import { describeAccessStore } from "../../contracts/record-store.ts";
import { describeReplicas } from "../../contracts/replicas.ts";
import { describeStore, type StoreBackend } from "../../contracts/store.ts";
import type { FakeClock } from "../../fakes/clock.ts";

function memory(clock: FakeClock): StoreBackend {
  const backend = new MemoryBackend(clock);
  return {
    open: (codec, holder) => backend.open(codec, holder),
    document: () => backend.document,
    replace(document) {
      backend.document = document;
    },
    time: async () => clock.now(),
    elapse: (ms) => clock.advance(ms),
    grainMs: 1,
    close() {},
  };
}

describeStore("memory", memory);
describeLeases("memory", memory);
describeReplicas("memory", memory);
describeAccessStore("memory", memory);
describeLooks("memory", memory);
describeLeafCounts("memory", memory);
describeBackups("memory", memory);
