/**
 * The ports of a replica over Redis, whatever connection the scripts go through.
 * @module
 */
import * as v from "valibot";
import type { BackupLog } from "../../core/ports/backups.ts";
import type { LookStore } from "../../core/ports/looks.ts";
import type { Replicas } from "../../core/ports/replicas.ts";
import type { Ports } from "../backend.ts";
import { backupText, readBackupText } from "../backups.ts";
import { readLooks, writeLooks } from "../looks.ts";
import { readReplica } from "../replica-record.ts";
import type { Codec } from "../state-document.ts";
import type { RedisCalls } from "./calls.ts";
import type { ChangePoll } from "./change-poll.ts";
import { RedisLeases } from "./lease.ts";
import { RedisRecordStore } from "./record-store.ts";
import { RedisStore, type StateMemory } from "./store.ts";

interface RedisParts {
  readonly calls: RedisCalls;
  /** Changes of the state, and of access control. */
  readonly changes: ChangePoll;
  readonly accessChanges: ChangePoll;
  readonly memory: StateMemory;
}

/** @param holder this replica as the holder of a lease, another one at each start. */
export function redisPorts(parts: RedisParts, codec: Codec, holder: string): Ports {
  const { calls, changes, accessChanges, memory } = parts;
  return {
    store: new RedisStore(calls, codec, changes, memory),
    leases: new RedisLeases(calls, holder),
    replicas: redisReplicas(calls),
    access: new RedisRecordStore(calls, accessChanges),
    looks: redisLooks(calls),
    backups: redisBackups(calls),
    facts: () => calls.facts(),
  };
}

function redisReplicas(calls: RedisCalls): Replicas {
  const keys = [calls.keys.replicas];
  return {
    async announce(self, ttlMs) {
      const args = [self.id, JSON.stringify(self), String(ttlMs)];
      return (await calls.run("announce", v.array(v.string()), keys, args)).flatMap(readReplica);
    },
    async leave(id) {
      await calls.run("leave", v.number(), keys, [id]);
    },
  };
}

function redisLooks(calls: RedisCalls): LookStore {
  const keys = [calls.keys.looks];
  return {
    load: async () => readLooks(await calls.run("looks", v.string(), keys)),
    save: async (looks, version) =>
      (await calls.run("saveLooks", v.number(), keys, [version, writeLooks(looks)])) === 1,
  };
}

function redisBackups(calls: RedisCalls): BackupLog {
  const keys = [calls.keys.looks];
  return {
    record: async (backup) => {
      const at = String(backup.at.getTime());
      await calls.run("saveBackup", v.number(), keys, [at, backupText(backup)]);
    },
    last: async () => readBackupText(await calls.run("backup", v.string(), keys)),
  };
}
