/**
 * Guards of security: other datacenters.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const DATACENTERS: readonly Mutant[] = [
  ...guardsOf(
    "src/config/datacenters.ts",
    [
      "a secondary without the name of its primary",
      "if (name === undefined)\n    for",
      "if (false)\n    for",
      "config/datacenters",
    ],
    [
      "a secondary without servers of its primary",
      'servers.servers.length === 0 && !faults.has("MESHCA_PRIMARY_SERVERS")',
      "false",
      "config/datacenters",
    ],
    [
      "a server that cannot be verified",
      "if (!canVerify && !isLoopback(url))",
      "if (false)",
      "config/datacenters",
    ],
    [
      "a CA file next to a pin",
      "if (caFile !== null && pin !== null)",
      "if (false)",
      "config/datacenters",
    ],
    ["a CA file or pin in a Worker", "if (value !== null)", "if (false)", "config/datacenters"],
  ),
  ...guardsOf("src/config/named-files.ts", [
    "CA files of other datacenters",
    'add("MESHCA_DATACENTERS", path)',
    "void path",
    "config/datacenters",
  ]),
];
