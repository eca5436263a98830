/**
 * The settings of a CA in memory to measure.
 * @module
 */
import { readSettings, type Settings } from "../src/config/settings.ts";
import type { ConfigMap } from "../src/core/state.ts";
import { CLUSTER } from "./requests.ts";

export function benchSettings(dataDir: string, config: ConfigMap = {}): Settings {
  const noFile = () => {
    throw new Error("There is no file");
  };
  return {
    ...readSettings({ MESHCA_STORE: "memory:", MESHCA_LISTEN: "127.0.0.1:0" }, noFile, []),
    dataDir,
    logLevel: "error",
    bootstrap: { provider: "consul", config, clusterId: CLUSTER, trustDomain: null },
  };
}
