/**
 * What every part of a change in Vault needs.
 * @module
 */
import type { Random } from "../../src/core/ports/clock.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import type { VaultClient } from "./client.ts";

export interface Work {
  readonly client: VaultClient;
  readonly clusterId: string;
  readonly sealer: Sealer;
  readonly random: Random;
  /** The store's clock. */
  readonly now: Date;
  /** Takes how to undo what is about to be made; it is given a client that is open then. */
  readonly onAbandon: (undo: (client: VaultClient) => Promise<void>) => void;
  /** What the operator should know of how it came out. */
  readonly warn: (warning: string) => void;
}
