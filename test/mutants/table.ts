/**
 * Every guard that is removed once, to see that a test fails without it.
 * @module
 */
import { ACCESS } from "./access.ts";
import { CERTIFICATES } from "./certificates.ts";
import { CHANGES } from "./changes.ts";
import { CLI } from "./cli.ts";
import { CLIENT } from "./client.ts";
import { CONSUL_API } from "./consul-api.ts";
import { DATACENTERS } from "./datacenters.ts";
import { EDGE } from "./edge.ts";
import type { Mutant } from "./mutant.ts";
import { PROVIDERS } from "./providers.ts";
import { SIGNING } from "./signing.ts";
import { STORED } from "./stored.ts";
import { WORKLOADS } from "./workloads.ts";

export const MUTANTS: readonly Mutant[] = [
  ...SIGNING,
  ...CHANGES,
  ...CERTIFICATES,
  ...ACCESS,
  ...STORED,
  ...DATACENTERS,
  ...EDGE,
  ...CONSUL_API,
  ...PROVIDERS,
  ...WORKLOADS,
  ...CLIENT,
  ...CLI,
];
