/**
 * Contract of every implementation of the list of replicas, sentence by sentence of
 * src/core/ports/replicas.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import type { Replica, Replicas } from "../../src/core/ports/replicas.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

const TTL = 60_000;

export function exampleReplica(id: string): Replica {
  return {
    id,
    address: `${id}:8500`,
    keks: ["new", "old"],
    schema: 2,
    index: 7,
    clockOffsetMs: -12,
  };
}

/** Runs the contract on fresh backends. */
export function describeReplicas(name: string, makeBackend: MakeBackend): void {
  describe(`${name} replicas`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: Replicas;
    let two: Replicas;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").replicas;
      two = backend.open(codec, "two").replicas;
    });
    afterEach(() => backend.close());

    const ids = (live: readonly Replica[]) => live.map(({ id }) => id).toSorted();

    it("announce() returns all live replicas as they announced themselves, the caller included", async () => {
      assert.deepEqual(await one.announce(exampleReplica("a"), TTL), [exampleReplica("a")]);
      const live = await two.announce(exampleReplica("b"), TTL);
      assert.deepEqual(
        live.toSorted((x, y) => x.id.localeCompare(y.id)),
        [exampleReplica("a"), exampleReplica("b")],
      );
    });

    it("announce() keeps the last announcement of a replica", async () => {
      await one.announce(exampleReplica("a"), TTL);
      const later = { ...exampleReplica("a"), keks: ["new"], index: 8 };
      assert.deepEqual(await one.announce(later, TTL), [later]);
    });

    it("announce() drops a replica whose announcement has expired", async () => {
      await one.announce(exampleReplica("a"), TTL);
      await two.announce(exampleReplica("b"), 3 * TTL);
      await backend.elapse(TTL - backend.grainMs);
      assert.deepEqual(ids(await one.announce(exampleReplica("c"), TTL)), ["a", "b", "c"]);
      await backend.elapse(backend.grainMs);
      assert.deepEqual(ids(await one.announce(exampleReplica("c"), TTL)), ["b", "c"]);
    });

    it("announce() drops a replica that announced itself by a clock days ahead, and not since", async () => {
      await one.announce(exampleReplica("a"), TTL);
      await backend.elapse(-7 * 86_400_000);
      assert.deepEqual(ids(await two.announce(exampleReplica("b"), TTL)), ["b"]);
      assert.deepEqual(ids(await one.announce(exampleReplica("a"), TTL)), ["a", "b"]);
    });

    it("leave() removes a replica, and is idempotent", async () => {
      await one.announce(exampleReplica("a"), TTL);
      await two.announce(exampleReplica("b"), TTL);
      await two.leave("b");
      await two.leave("b");
      assert.deepEqual(ids(await one.announce(exampleReplica("a"), TTL)), ["a"]);
    });
  });
}
