/**
 * `meshca datacenter promote`: makes the server's datacenter the primary one of its mesh.
 * @module
 */
import * as v from "valibot";
import type { Command, Group } from "../command.ts";
import { readInput } from "../files.ts";
import type { Flags } from "../flags.ts";
import { usage } from "../output.ts";
import { abandonedRoots } from "./connect/ca-config.ts";
import { MODIFY_INDEX_FLAG, modifyIndexOf } from "./connect/modify-index.ts";
import { fetchRoots } from "./connect/roots.ts";

const Promoted = v.object({
  ActiveRootID: v.string(),
  ModifyIndex: v.number(),
  Promotions: v.number(),
  PreparedRootID: v.optional(v.string()),
  ActivateAt: v.optional(v.string()),
});
type Promoted = v.InferOutput<typeof Promoted>;

const promote: Command = {
  name: "promote",
  summary: "make this datacenter the primary one",
  details: [
    "For a secondary datacenter whose primary is lost, and for a planned switch-over. With --backup it takes over the root of the primary: its servers need the key-encryption key of the primary in MESHCA_KEK after their own. With --new-root it makes a root of its own, which is published for --soak before it signs.",
    "Configure the other datacenters to follow this one then; a datacenter that still is a primary one, and lists this one under datacenters, signs no more intermediates. Without --backup and --new-root a primary datacenter is confirmed as the one that the others follow.",
  ].join("\n\n"),
  flags: [
    { ...{ name: "backup", value: "FILE" }, help: "a backup of the primary datacenter" },
    { ...{ name: "new-root", value: null }, help: "make a new root" },
    {
      ...{ name: "soak", value: "DURATION" },
      help: "for how long a new root is published before it signs (default 10m)",
    },
    { ...{ name: "force", value: null }, help: "also if roots are abandoned by it" },
    MODIFY_INDEX_FLAG,
  ],
  example: "meshca datacenter promote --backup dc1.backup",
  ...{ connects: true, json: true, confirms: true, files: true },
  async run(call) {
    const { flags, terminal } = call;
    const root = await rootOf(flags, (file) => readInput(file, "The backup", terminal));
    const index = modifyIndexOf(flags);
    const connection = call.connect();
    const { TrustDomain, ActiveRootID } = await fetchRoots(connection);
    await call.confirm(
      `Make the datacenter of ${connection.name} the primary one of ${TrustDomain}, whose active root is ${ActiveRootID}?`,
    );
    const request = {
      method: "PUT",
      path: "/v1/connect/ca/promote",
      body: {
        ...root,
        ...(flags.on("force") ? { ForceWithoutCrossSigning: true } : {}),
        ...(index === null ? {} : { ModifyIndex: index }),
      },
    } as const;
    const answer = await terminal.progress("Promoting the datacenter", connection.call(request));
    call.print(connection.read(Promoted, answer, request), textOf);
    const abandoned = abandonedRoots(answer.header("x-meshca-abandoned-roots"));
    if (abandoned.length > 0)
      terminal.note(
        `Warning: these roots were abandoned, and clients that trust only them refuse new leaves: ${abandoned.join(", ")}`,
      );
    return 0;
  },
};

/** What of the request names the root. @throws {Failure} */
async function rootOf(
  flags: Flags,
  read: (file: string) => Promise<string>,
): Promise<Readonly<Record<string, string | boolean>>> {
  const [backup, isNew, soak] = [flags.text("backup"), flags.on("new-root"), flags.text("soak")];
  if (backup !== null && isNew) throw usage("Give --backup or --new-root, not both");
  if (soak !== null && !isNew) throw usage("--soak needs --new-root");
  if (backup !== null) return { Backup: await read(backup) };
  return isNew ? { NewRoot: true, ...(soak === null ? {} : { Soak: soak }) } : {};
}

function textOf({ ActiveRootID, Promotions, PreparedRootID, ActivateAt }: Promoted): string {
  const head = `Promoted to the primary datacenter (promotion ${Promotions}); the active root is ${ActiveRootID}\n`;
  return PreparedRootID === undefined
    ? head
    : `${head}Root ${PreparedRootID} is published, and becomes the active one at ${ActivateAt}\n`;
}

export const datacenter: Group = {
  name: "datacenter",
  summary: "change which datacenter is the primary one",
  commands: [promote],
};
