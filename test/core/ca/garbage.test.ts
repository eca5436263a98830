/**
 * Garbage of several records: a fault in one of them delays no other.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { collectGarbage } from "../../../src/core/ca/garbage.ts";
import { ConfigError } from "../../../src/core/errors.ts";
import type { ProviderContext, ProviderTypes } from "../../../src/core/ports/provider.ts";
import type { CaState, ProviderRecord } from "../../../src/core/state.ts";

const DUE = new Date("2026-03-01T12:00:00Z");

describe("collectGarbage", () => {
  it("deletes the garbage of a record although the configuration of another one is not valid", async () => {
    const record = (name: string): ProviderRecord => ({
      provider: "external",
      config: { name },
      state: { name },
    });
    const type = {
      parse({ name }: { name: string }) {
        if (name === "first") throw new ConfigError("this version refuses it");
        return { name };
      },
      garbage: {
        dueAt: ({ name }: { name: string }) => (name.startsWith("left") ? null : DUE),
        collect: async (_config: unknown, { state }: { state: { name: string } }) => ({
          name: `left of ${state.name}`,
        }),
      },
    };
    const active = record("first");
    const state = {
      clusterId: "c",
      config: { provider: active.provider, config: active.config },
      provider: { active: active.state, retired: { "left:1:a": record("second") }, prepared: null },
    } as unknown as CaState;
    const change = {
      providers: new Map([["external", type]]) as unknown as ProviderTypes,
      contextFor: () => ({}) as ProviderContext,
      requireLease: () => undefined,
    };
    assert.deepEqual(await collectGarbage(state, DUE, change), {
      active: { name: "first" },
      retired: {},
      prepared: null,
    });
  });
});
