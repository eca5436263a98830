/**
 * A second process for the SQLite tests. `open PATH` tries to open a file and prints how that went;
 * `commit PATH KEK` commits one state after the other, and prints the index of each once it is
 * acknowledged, until it is killed.
 * @module
 */

import { changeConfig } from "../../../src/core/ca/transitions.ts";
import { StoreError } from "../../../src/core/errors.ts";
import type { CaState } from "../../../src/core/state.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { readKeks } from "../../../src/seal/kek.ts";
import { openSqlite } from "../../../src/store/sqlite/backend.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { exampleStates, expectedOf } from "../../contracts/store.ts";
import { createFakeClock } from "../../fakes/clock.ts";

async function commitForEver(path: string, kek: string): Promise<void> {
  const { store, leases } = openSqlite(path, createFakeClock()).open(
    createCodec(createSealer(await readKeks(kek))),
    "child",
  );
  const lease = await leases.acquire("operation", 60_000);
  if (lease === null) throw new Error("The lease is not free");
  let { state } = await store.read();
  for (;;) {
    const next: CaState =
      state === null
        ? (await exampleStates())[0]
        : changeConfig(state, (state.index + 1).toString(16).padStart(32, "0"), {
            config: state.config,
            provider: state.provider.active,
            leafTtlMs: 1,
          });
    await store.commit(next, expectedOf(state, lease.term));
    state = next;
    process.stdout.write(`${next.index}\n`);
  }
}

const [command, path = "", kek = ""] = process.argv.slice(2);
if (command === "commit") await commitForEver(path, kek);
else
  try {
    openSqlite(path, createFakeClock()).close();
    console.log("opened");
  } catch (error) {
    console.log(error instanceof StoreError ? error.code : String(error));
  }
