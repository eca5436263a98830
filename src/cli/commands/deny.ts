/**
 * `meshca deny`: the denylist of identities, keys and serial numbers.
 * @module
 */
import * as v from "valibot";
import type { Command, Group } from "../command.ts";
import { EXIT, Failure, usage } from "../output.ts";
import { table } from "../table.ts";
import type { Terminal } from "../terminal.ts";

const PATH = "/v1/connect/ca/deny";

const Entry = v.looseObject({
  ID: v.string(),
  SPIFFEID: v.optional(v.string()),
  KeyID: v.optional(v.string()),
  SerialNumber: v.optional(v.string()),
  Reason: v.optional(v.string(), ""),
  CreateTime: v.string(),
  ExpirationTime: v.optional(v.string(), ""),
});
type Entry = v.InferOutput<typeof Entry>;

/** What an entry denies, in one text. */
const subjectOf = ({ SPIFFEID, KeyID, SerialNumber }: Entry): string =>
  SPIFFEID ?? (KeyID === undefined ? `serial ${SerialNumber ?? ""}` : `key ${KeyID}`);

function entriesText(entries: readonly Entry[], terminal: Terminal): string {
  if (entries.length === 0) return "Nothing is denied\n";
  const rows = entries.map((entry) => [
    entry.ID,
    subjectOf(entry),
    entry.ExpirationTime || "never",
    entry.Reason,
  ]);
  return table(["ID", "DENIED", "EXPIRES", "REASON"], rows, terminal);
}

const list: Command = {
  name: "list",
  summary: "show the denylist",
  example: "meshca deny list",
  ...{ connects: true, json: true },
  async run(call) {
    const entries = await call.connect().json(v.array(Entry), { method: "GET", path: PATH });
    call.print(entries, (value) => entriesText(value, call.terminal));
    return 0;
  },
};

const add: Command = {
  name: "add",
  summary: "deny an identity, a key or a serial number",
  details:
    "Nothing that matches is signed or renewed from now on. Leaves that exist are valid until they expire: the roots listing knows no revocation.",
  flags: [
    { ...{ name: "spiffe-id", value: "ID" }, help: "identity of leaves, spiffe://..." },
    {
      ...{ name: "key-id", value: "HEX" },
      help: "SHA-256 of a public key, as meshca inspect shows",
    },
    { ...{ name: "serial", value: "HEX" }, help: "serial number of a leaf" },
    { ...{ name: "reason", value: "TEXT" }, help: "why, for the list and the audit log" },
  ],
  example: "meshca deny add -spiffe-id spiffe://.../svc/web -reason 'stolen key'",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const { flags } = call;
    const given = [
      ["SPIFFEID", flags.text("spiffe-id")],
      ["KeyID", flags.text("key-id")],
      ["SerialNumber", flags.text("serial")],
    ].filter(([, value]) => value !== null) as [string, string][];
    const [one, ...more] = given;
    if (one === undefined || more.length > 0)
      throw usage("Give one of --spiffe-id, --key-id and --serial");
    const connection = call.connect();
    await call.confirm(`Deny ${one[1]} at ${connection.name}?`);
    const reason = flags.text("reason");
    const entry = await connection.json(Entry, {
      method: "PUT",
      path: PATH,
      body: { [one[0]]: one[1], ...(reason === null ? {} : { Reason: reason }) },
    });
    call.print(entry, ({ ID }) => `Denied; the entry is ${ID}\n`);
    return 0;
  },
};

const remove: Command = {
  name: "remove",
  summary: "remove an entry of the denylist",
  arguments: "<id>",
  example: "meshca deny remove 2f1f0f4e-6f0c-4a2b-8a0e-0a4c6d1f7a55",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const [id = ""] = call.args;
    const connection = call.connect();
    const entries = await connection.json(v.array(Entry), { method: "GET", path: PATH });
    const entry = entries.find(({ ID }) => ID === id);
    if (entry === undefined)
      throw new Failure(EXIT.data, `The denylist has no entry ${JSON.stringify(id)}`);
    await call.confirm(`Allow ${subjectOf(entry)} again at ${connection.name}?`);
    await connection.call({ method: "DELETE", path: `${PATH}/${encodeURIComponent(id)}` });
    call.print({ Removed: id }, () => `Removed ${id}\n`);
    return 0;
  },
};

export const deny: Group = {
  name: "deny",
  summary: "the denylist of identities, keys and serial numbers",
  commands: [list, add, remove],
};
