/**
 * The ports of a replica over Redis, whatever connection the scripts go through.
 * @module
 */
import * as v from "valibot";
import type { BackupLog } from "../../core/ports/backups.ts";
import type { LeafCountStore } from "../../core/ports/leaf-counts.ts";
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
    leaves: redisLeafCounts(calls),
    backups: redisBackups(calls),
    facts: () => calls.facts(),
  };
}

function redisReplicas(calls: RedisCalls): Replicas {
  return {
    async announce(self, ttlMs) {
      const args = [self.id, JSON.stringify(self), String(ttlMs)];
      const answers = await calls.run("announce", v.array(v.string()), (keys) => [
        [keys.replicas],
        args,
      ]);
      return answers.flatMap(readReplica);
    },
    async leave(id) {
      await calls.run("leave", v.number(), ({ replicas }) => [[replicas], [id]]);
    },
  };
}

function redisLooks(calls: RedisCalls): LookStore {
  return {
    load: async () => readLooks(await calls.run("looks", v.string(), ({ looks }) => [[looks]])),
    save: async (looks, version) => {
      const args = [version, writeLooks(looks)];
      return (await calls.run("saveLooks", v.number(), (keys) => [[keys.looks], args])) === 1;
    },
  };
}

function redisLeafCounts(calls: RedisCalls): LeafCountStore {
  return {
    load: () => calls.run("leaves", v.string(), ({ leaves }) => [[leaves]]),
    save: async (text, expected) => {
      const args = [expected, text];
      return (await calls.run("saveLeaves", v.number(), ({ leaves }) => [[leaves], args])) === 1;
    },
  };
}

function redisBackups(calls: RedisCalls): BackupLog {
  return {
    record: async (backup) => {
      const args = [String(backup.at.getTime()), backupText(backup)];
      await calls.run("saveBackup", v.number(), ({ looks }) => [[looks], args]);
    },
    last: async () =>
      readBackupText(await calls.run("backup", v.string(), ({ looks }) => [[looks]])),
  };
}
