/**
 * The command `meshca drop-root`: drops a root whose key others may know.
 * @module
 */
import * as v from "valibot";
import type { Command } from "../../command.ts";
import { EXIT, Failure } from "../../output.ts";
import { abandonedRoots } from "./ca-config.ts";
import { FORCE_FLAG } from "./config-commands.ts";
import { MODIFY_INDEX_FLAG, modifyIndexOf } from "./modify-index.ts";
import { fetchRoots, rootState } from "./roots.ts";

const Dropped = v.object({
  ActiveRootID: v.string(),
  ModifyIndex: v.number(),
  DroppedRootIDs: v.array(v.string()),
  TrustedThrough: v.array(
    v.object({ DroppedRootID: v.string(), RootID: v.string(), Until: v.string() }),
  ),
  Left: v.array(v.string()),
});
type Dropped = v.InferOutput<typeof Dropped>;

function droppedText({ ActiveRootID, DroppedRootIDs, TrustedThrough, Left }: Dropped): string {
  const lines = [
    ...DroppedRootIDs.map((id) => `Dropped root ${id}`),
    ...TrustedThrough.map(
      ({ DroppedRootID, RootID, Until }) =>
        `Root ${DroppedRootID} is trusted until ${Until} by all who trust root ${RootID}, which certified it`,
    ),
    ...(TrustedThrough.length === 0
      ? []
      : ["Drop the roots that certified it, too, or wait until then; /readyz names them"]),
    ...Left.map((what) => `Left to be deleted by you: ${what}`),
    `The active root is ${ActiveRootID}`,
  ];
  return lines.map((line) => `${line}\n`).join("");
}

export const dropRoot: Command = {
  name: "drop-root",
  summary: "drop a root whose key others may know",
  details: [
    "The root is published no more and its key destroyed. Leaves under it are refused from then on, and do not renew; agents with a token or a login get new ones at once. If it is the active root, a prepared or retired one becomes active, or a new one with --new-root.",
    "A root that certified it makes it be trusted until that certificate expires: the answer names such roots, and --also-through drops them too. It asks for the ID once more; --yes does not. Not in Consul.",
  ].join("\n\n"),
  arguments: "<root-id>",
  flags: [
    {
      ...{ name: "new-root", value: null },
      help: "make a new root the active one",
    },
    {
      ...{ name: "also-through", value: null },
      help: "also drop the roots that certified it, and make a new root if one of them is active",
    },
    FORCE_FLAG,
    MODIFY_INDEX_FLAG,
  ],
  example: "meshca drop-root 76:a3:dc:9b:c1:c1:10:ca:2f:86:d4:08:21:7b:0a:30:96:cc:03:5d",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const { flags, terminal } = call;
    const id = (call.args[0] ?? "").toLowerCase();
    const index = modifyIndexOf(flags);
    const connection = call.connect();
    const { TrustDomain, Roots } = await fetchRoots(connection);
    const root = Roots.find(({ ID }) => ID === id);
    if (root === undefined) throw new Failure(EXIT.data, `No root ${JSON.stringify(id)} is listed`);
    if (!flags.on("yes")) {
      const state = rootState(root, new Date());
      const answer = await terminal.ask(
        `Leaves under the ${state} root ${id} of ${TrustDomain} at ${connection.name} will be refused. Type its ID to drop it: `,
        "give --yes to do it without a question",
      );
      if (answer.trim().toLowerCase() !== id) throw new Failure(1, "Nothing was changed");
    }
    const request = {
      method: "DELETE",
      path: `/v1/connect/ca/roots/${encodeURIComponent(id)}`,
      body: {
        ID: id,
        ...(flags.on("new-root") ? { NewRoot: true } : {}),
        ...(flags.on("also-through") ? { AlsoThrough: true } : {}),
        ...(flags.on(FORCE_FLAG.name) ? { ForceWithoutCrossSigning: true } : {}),
        ...(index === null ? {} : { ModifyIndex: index }),
      },
    } as const;
    const answer = await terminal.progress("Dropping the root", connection.call(request));
    call.print(connection.read(Dropped, answer, request), droppedText);
    const abandoned = abandonedRoots(answer.header("x-meshca-abandoned-roots"));
    if (abandoned.length > 0)
      terminal.note(
        `Warning: these roots were abandoned, and clients that trust only them refuse new leaves: ${abandoned.join(", ")}`,
      );
    return 0;
  },
};
