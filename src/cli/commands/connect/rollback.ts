/**
 * The command `meshca rollback`: back to a retired root.
 * @module
 */
import type { Command } from "../../command.ts";
import { FORCE_FLAG } from "./config-commands.ts";
import { MODIFY_INDEX_FLAG, modifyIndexOf } from "./modify-index.ts";
import { fetchRoots } from "./roots.ts";
import { changeRoot, printRotation } from "./rotate.ts";

export const rollback: Command = {
  name: "rollback",
  summary: "sign under a retired root again",
  arguments: "<root-id>",
  details:
    "Brings back the provider and the key of a root that meshca roots shows as retired, with the fields of the configuration that decide them; the present root is retired. Every other field stays. Not in Consul.",
  flags: [FORCE_FLAG, MODIFY_INDEX_FLAG],
  example: "meshca rollback 2d:2b:21:de:9b:85:40:a4:2f:44:65:e8:04:f1:63:95:1c:a7:0d:3e",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const { args, flags, terminal } = call;
    const [id = ""] = args;
    const modifyIndex = modifyIndexOf(flags);
    const connection = call.connect();
    const { TrustDomain, ActiveRootID } = await fetchRoots(connection);
    const force = flags.on(FORCE_FLAG.name);
    await call.confirm(
      `Go back from the root ${ActiveRootID} of ${TrustDomain} to ${id} at ${connection.name}${force ? " without cross-signing if the root cannot" : ""}?`,
    );
    const rotation = await terminal.progress(
      "Waiting for the root",
      changeRoot(connection, "rollback", { To: id }, force, modifyIndex),
    );
    return printRotation(call, rotation);
  },
};
