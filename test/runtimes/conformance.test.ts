/**
 * The same contract on every runtime over every store that it can have.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { makeDataDir, runServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { roots, SETTINGS } from "./client.ts";
import { itKeepsTheContract } from "./contract.ts";
import {
  COMMANDS,
  EXCEPTIONS,
  excepted,
  type Running,
  type StoreName,
  TARGETS,
} from "./targets.ts";

for (const target of TARGETS)
  for (const store of target.stores)
    describe(`meshca on ${target.name} with ${store}`, {
      skip: store === "redis" ? noRedis : false,
    }, () => {
      let redis: RedisServer | null = null;
      let dataDir = "";
      let running: Running | null = null;
      let settings: Record<string, string> = {};
      const settingsOf: Record<StoreName, () => Promise<Record<string, string>>> = {
        sqlite: async () => {
          dataDir = makeDataDir();
          return { ...SETTINGS, MESHCA_DATA_DIR: dataDir };
        },
        redis: async () => {
          redis = await startRedis();
          return {
            ...SETTINGS,
            MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
            MESHCA_KEK: makeKek(),
          };
        },
      };
      before(async () => {
        settings = await settingsOf[store]();
        running = await target.start(settings);
      });
      after(async () => {
        await running?.stop();
        await redis?.stop();
        if (dataDir !== "") rmSync(dataDir, { recursive: true, force: true });
      });

      itKeepsTheContract(target.name, () => running?.url ?? "");

      it("is the same CA after it was ended and started again", async () => {
        const before = await roots(running?.url ?? "");
        await running?.stop();
        running = await target.start(settings);
        assert.deepEqual(await roots(running.url), before);
      });
    });

describe("exceptions", () => {
  it("each names an existing target, with its reason", () => {
    for (const { target, why } of EXCEPTIONS)
      assert.ok(TARGETS.some(({ name }) => name === target) && why.length > 20, target);
  });

  for (const name of ["bun", "node", "deno"] as const)
    it(`meshca serve --workers on ${name} ${excepted(name, "no workers") ? "ends with 78 and says what to do instead" : "asks for nothing that it lacks"}`, async () => {
      const dataDir = makeDataDir();
      try {
        // Workers with a memory each are refused wherever there are workers at all.
        const environment = {
          MESHCA_LISTEN: "127.0.0.1:0",
          MESHCA_DATA_DIR: dataDir,
          MESHCA_STORE: "memory:",
        };
        const { code, stdout, stderr } = await runServer(
          environment,
          ["--workers", "2"],
          COMMANDS[name](dataDir),
        );
        assert.deepEqual([code, stdout], [78, ""]);
        assert.match(
          stderr,
          excepted(name, "no workers")
            ? /^Cannot start workers on Deno: /
            : /^Cannot start workers with MESHCA_STORE=memory: each worker would have its own CA; set MESHCA_STORE to /,
        );
      } finally {
        rmSync(dataDir, { recursive: true, force: true });
      }
    });
});
