/**
 * The keys and channels of a CA in Redis. All have one hash tag, so that the same scripts run on a
 * Cluster. What each of them holds is in docs/storage.md, which prefix they have in prefix.ts.
 * @module
 */
import type { LeaseName } from "../../core/ports/lease.ts";

export type RedisKeys = ReturnType<typeof redisKeys>;

export function redisKeys(prefix: string) {
  const key = (name: string) => `{${prefix}}:${name}`;
  return {
    prefix,
    state: key("state"),
    stop: key("stop"),
    replicas: key("replicas"),
    probe: key("probe"),
    looks: key("looks"),
    leaves: key("leaves"),
    /** Channel: the commit id of each commit. */
    changed: key("changed"),
    access: key("access"),
    accessRecords: key("access:records"),
    accessKeys: key("access:keys"),
    accessLog: key("access:log"),
    accessClaims: key("access:claims"),
    /** Channel: the tip of each write of access control. */
    accessChanged: key("access:changed"),
    lease: (name: LeaseName) => key(`lease:${name}`),
    /** A claim as versions before `accessClaims` keep it. */
    claim: (id: string) => key(`access:claim:${id}`),
  };
}
