/**
 * The routes and settings by which an operator resolves what the CA reports.
 * @module
 */
import type { Hints } from "../core/ca/ca-ports.ts";

export const HINTS: Hints = {
  showConflict: "see GET /v1/connect/ca/state-conflict",
  resolveConflict: "decide with PUT /v1/connect/ca/state-conflict",
  rotate: "rotate it with meshca rotate (PUT /v1/connect/ca/rotate), or see why that is refused",
  followRoot: 'PUT /v1/connect/ca/rotate with {"ForceWithoutCrossSigning": true} follows it',
  importBackup: "start on an empty store with MESHCA_IMPORT instead",
  serviceDnsNames:
    "ServiceDNSNames in the configuration of the CA (PUT /v1/connect/ca/configuration) decides",
  serviceIpRanges:
    "ServiceIPRanges in the configuration of the CA (PUT /v1/connect/ca/configuration) decides",
};
