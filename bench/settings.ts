/**
 * The settings of a CA in memory to measure.
 * @module
 */
import type { Settings } from "../src/config/settings.ts";
import type { ConfigMap } from "../src/core/state.ts";
import { CLUSTER } from "./requests.ts";

export function benchSettings(dataDir: string, config: ConfigMap = {}): Settings {
  return {
    listen: { host: "127.0.0.1", port: 0 },
    advertised: null,
    tls: null,
    plainHttp: null,
    dataDir,
    store: { kind: "memory" },
    kek: null,
    kekVault: null,
    vaultAllow: { hosts: [], ranges: [] },
    secretDirs: [],
    namedFiles: [],
    acl: "off",
    managementToken: null,
    jwksHosts: [],
    jwksPrivateHosts: [],
    source: null,
    maxStalenessMs: 300_000,
    maxClockSkewMs: 30_000,
    maxChainLength: 7,
    worker: null,
    datacenter: "dc1",
    logLevel: "error",
    connectEnabled: true,
    bootstrap: { provider: "consul", config, clusterId: CLUSTER },
    ignored: [],
    hosts: null,
    limits: {},
    audit: null,
    auditFailure: "stop-changes",
  };
}
