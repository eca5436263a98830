/**
 * `meshca conflict`: two states of the CA after a store lost writes, and which one stays.
 * @module
 */
import * as v from "valibot";
import type { Command, Group } from "../command.ts";
import { EXIT, Failure, usage } from "../output.ts";

const PATH = "/v1/connect/ca/state-conflict";

const Side = v.looseObject({ Index: v.number(), Term: v.number() });
const Conflict = v.looseObject({
  Conflict: v.boolean(),
  Reason: v.optional(v.string(), ""),
  NoticedBy: v.optional(v.string(), ""),
  NoticedAt: v.optional(v.string(), ""),
  Snapshot: v.optional(v.nullable(Side), null),
  Stored: v.optional(v.nullable(Side), null),
  Differences: v.optional(v.array(v.string()), []),
});
type Conflict = v.InferOutput<typeof Conflict>;
const Resolved = v.object({ ActiveRootID: v.string(), ModifyIndex: v.number() });

function conflictText(conflict: Conflict): string {
  if (!conflict.Conflict) return "There is no conflict\n";
  const side = (name: string, state: Conflict["Stored"]) =>
    `${name.padEnd(10)}${state === null ? "cannot be read" : `index ${state.Index}, term ${state.Term}`}`;
  return [
    `${conflict.Reason} (noticed by ${conflict.NoticedBy} at ${conflict.NoticedAt})`,
    side("snapshot", conflict.Snapshot),
    side("stored", conflict.Stored),
    ...conflict.Differences.map((path) => `differs   ${path}`),
    "Keep one of them: meshca conflict resolve snapshot, or meshca conflict resolve stored",
  ]
    .map((line) => `${line}\n`)
    .join("");
}

const show: Command = {
  name: "show",
  summary: "show both states, and where they differ",
  example: "meshca conflict show",
  ...{ connects: true, json: true },
  async run(call) {
    const conflict = await call.connect().json(Conflict, { method: "GET", path: PATH });
    call.print(conflict, conflictText);
    return conflict.Conflict ? EXIT.unavailable : 0;
  },
};

const resolve: Command = {
  name: "resolve",
  summary: "keep one of both states",
  details:
    "snapshot is what the replicas knew before the store lost writes, stored is what the store has now.",
  arguments: "<snapshot|stored>",
  choices: ["snapshot", "stored"],
  flags: [{ ...{ name: "force", value: null }, help: "also if roots are abandoned by it" }],
  example: "meshca conflict resolve snapshot",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const [keep = ""] = call.args;
    if (keep !== "snapshot" && keep !== "stored")
      throw usage(`${JSON.stringify(keep)} is neither snapshot nor stored`);
    const connection = call.connect();
    const conflict = await connection.json(Conflict, { method: "GET", path: PATH });
    if (!conflict.Conflict) throw new Failure(EXIT.data, "There is no conflict to resolve");
    await call.confirm(`Keep the ${keep} state at ${connection.name}, and drop the other one?`);
    const resolved = await connection.json(Resolved, {
      method: "PUT",
      path: PATH,
      body: { Keep: keep, ...(call.flags.on("force") ? { ForceWithoutCrossSigning: true } : {}) },
    });
    call.print(resolved, (value) => `Kept; the active root is ${value.ActiveRootID}\n`);
    return 0;
  },
};

export const conflict: Group = {
  name: "conflict",
  summary: "two states after a store lost writes",
  commands: [show, resolve],
};
