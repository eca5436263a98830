/**
 * `meshca kek`: the key-encryption keys under which the keys of the CA are stored.
 * @module
 */
import * as v from "valibot";
import type { Command, Group } from "../command.ts";

const PATH = "/v1/connect/ca/rewrap";

const Use = v.object({
  Current: v.nullable(v.string()),
  InUse: v.array(v.string()),
  Replicas: v.array(v.object({ Address: v.string(), KEKs: v.array(v.string()) })),
});
type Use = v.InferOutput<typeof Use>;

function useText({ Current, InUse, Replicas }: Use): string {
  const lacking = Replicas.filter(({ KEKs }) => Current !== null && !KEKs.includes(Current));
  const old = InUse.filter((id) => id !== Current);
  return [
    `current   ${Current ?? "none"}`,
    `in use    ${InUse.join(", ") || "none"}`,
    ...Replicas.map(({ Address, KEKs }) => `replica   ${Address}: ${KEKs.join(", ")}`),
    ...(old.length === 0
      ? []
      : [`Something is still encrypted with ${old.join(", ")}; run meshca kek rewrap`]),
    ...lacking.map(({ Address }) => `Replica ${Address} does not have the current key`),
  ]
    .map((line) => `${line}\n`)
    .join("");
}

const status: Command = {
  name: "status",
  summary: "show which key-encryption keys are in use, and which replicas have them",
  example: "meshca kek status",
  ...{ connects: true, json: true },
  async run(call) {
    call.print(await call.connect().json(Use, { method: "GET", path: PATH }), useText);
    return 0;
  },
};

const rewrap: Command = {
  name: "rewrap",
  summary: "encrypt every key again with the current key-encryption key",
  details: "After it no older key is needed; remove it from MESHCA_KEK of each replica.",
  example: "meshca kek rewrap",
  ...{ connects: true, json: true },
  async run(call) {
    const work = call.connect().json(Use, { method: "PUT", path: PATH });
    call.print(await call.terminal.progress("Encrypting the keys again", work), useText);
    return 0;
  },
};

export const kek: Group = {
  name: "kek",
  summary: "the key-encryption keys of the store",
  commands: [status, rewrap],
};
