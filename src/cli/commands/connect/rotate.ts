/**
 * The command `meshca rotate`: a new root at once; and how a command changes the root.
 * @module
 */
import * as v from "valibot";
import type { Call, Command } from "../../command.ts";
import type { Connection } from "../../connection/connection.ts";
import { abandonedRoots } from "./ca-config.ts";
import { FORCE_FLAG } from "./config-commands.ts";
import { MODIFY_INDEX_FLAG, modifyIndexOf } from "./modify-index.ts";
import { fetchRoots } from "./roots.ts";

const Outcome = v.object({ ActiveRootID: v.string(), ModifyIndex: v.number() });

export interface Rotation {
  readonly activeRootId: string;
  readonly modifyIndex: number;
  readonly abandonedRoots: readonly string[];
}

/**
 * Has another root made active.
 * @param modifyIndex null changes it whatever the configuration is now. @throws {Failure}
 */
export async function changeRoot(
  connection: Connection,
  route: "rotate" | "rollback",
  fields: Readonly<Record<string, unknown>>,
  force: boolean,
  modifyIndex: number | null,
): Promise<Rotation> {
  const request = {
    method: "PUT",
    path: `/v1/connect/ca/${route}`,
    body: {
      ...fields,
      ...(force ? { ForceWithoutCrossSigning: true } : {}),
      ...(modifyIndex === null ? {} : { ModifyIndex: modifyIndex }),
    },
  } as const;
  const answer = await connection.call(request);
  const { ActiveRootID, ModifyIndex } = connection.read(Outcome, answer, request);
  return {
    activeRootId: ActiveRootID,
    modifyIndex: ModifyIndex,
    abandonedRoots: abandonedRoots(answer.header("x-meshca-abandoned-roots")),
  };
}

/** Prints which root is active, and which are abandoned. @returns the exit code */
export function printRotation(call: Call, rotation: Rotation): number {
  call.print(rotation, ({ activeRootId }) => `The active root is ${activeRootId}\n`);
  if (rotation.abandonedRoots.length > 0)
    call.terminal.note(
      `Warning: these roots were abandoned, and clients that trust only them refuse new leaves: ${rotation.abandonedRoots.join(", ")}`,
    );
  return 0;
}

export const rotate: Command = {
  name: "rotate",
  summary: "make a new root, and sign new leaves under it",
  details:
    "The present root stays trusted until its leaves have expired, and cross-signs the new one. Not in Consul.",
  flags: [FORCE_FLAG, MODIFY_INDEX_FLAG],
  example: "meshca rotate",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const { flags, terminal } = call;
    const modifyIndex = modifyIndexOf(flags);
    const connection = call.connect();
    const { TrustDomain, ActiveRootID } = await fetchRoots(connection);
    const force = flags.on(FORCE_FLAG.name);
    await call.confirm(
      `Rotate the root ${ActiveRootID} of ${TrustDomain} at ${connection.name}${force ? " without cross-signing if the root cannot" : ""}?`,
    );
    const rotation = await terminal.progress(
      "Waiting for the new root",
      changeRoot(connection, "rotate", {}, force, modifyIndex),
    );
    return printRotation(call, rotation);
  },
};
