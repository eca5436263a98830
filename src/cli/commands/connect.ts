/**
 * The group `meshca connect ca`, as Consul has it.
 * @module
 */
import type { Group } from "../command.ts";
import { getConfig, setConfig } from "./connect/config-commands.ts";
import { dropRoot } from "./connect/drop-root.ts";
import { rollback } from "./connect/rollback.ts";
import { roots } from "./connect/roots.ts";
import { rotate } from "./connect/rotate.ts";
import { renew, sign } from "./connect/sign.ts";

export const connect: Group = {
  name: "connect",
  summary: "the CA, as in consul connect",
  commands: [
    {
      name: "ca",
      summary: "configuration and roots of the CA, and leaves",
      commands: [getConfig, setConfig, roots, rotate, rollback, dropRoot, sign, renew],
    },
  ],
};
