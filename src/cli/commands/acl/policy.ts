/**
 * The commands `meshca acl policy`.
 * @module
 */
import { fieldOf } from "../../acl/grants.ts";
import {
  attempt,
  FORMAT_FLAG,
  META_FLAG,
  POLICY,
  pathOf,
  putObject,
  readObject,
  required,
  shaped,
  show,
} from "../../acl/records.ts";
import { policyListText, policyText } from "../../acl/text.ts";
import type { Call, Command, Group } from "../../command.ts";
import { readInput } from "../../files.ts";
import type { Flag } from "../../flags.ts";
import { deleteCommand, listCommand, readCommand, selected } from "./crud.ts";

const shown = { connects: true, json: true } as const;
const FLAGS: readonly Flag[] = [
  { name: "description", value: "TEXT", help: "what it is for" },
  {
    ...{ name: "valid-datacenter", value: "DC", many: true },
    help: "a datacenter where it is in force; all without it",
  },
  { name: "rules", value: "RULES", help: "the rules; @FILE reads a file, - the standard input" },
];

/** The rules that the flag gives, from a file too. @throws {Failure} */
async function rulesOf({ flags, terminal }: Call): Promise<string | null> {
  const text = flags.text("rules");
  if (text === null || (text !== "-" && !text.startsWith("@"))) return text;
  return attempt("Error loading rules", () =>
    readInput(text === "-" ? text : text.slice(1), "The file of the rules", terminal),
  );
}

const create: Command = {
  name: "create",
  summary: "create a policy",
  flags: [{ name: "name", value: "NAME", help: "its name" }, ...FLAGS, META_FLAG, FORMAT_FLAG],
  example: "meshca acl policy create -name ops -rules 'operator = \"write\"'",
  ...shown,
  async run(call) {
    const { flags } = call;
    const Name = required(call, "name", "Missing required '-name' flag");
    const body = {
      Name,
      Description: flags.text("description") ?? "",
      Datacenters: flags.all("valid-datacenter"),
      Rules: (await rulesOf(call)) ?? "",
    };
    const made = await attempt("Failed to create new policy", () =>
      putObject(call.connect(), "/v1/acl/policy", body),
    );
    show(call, shaped(POLICY, made), (policy) => policyText(policy, flags.on("meta")));
    return 0;
  },
};

const update: Command = {
  name: "update",
  summary: "change a policy",
  details: "What no flag names stays, unless -no-merge is given.",
  flags: [
    { name: "id", value: "ID", help: "its id or the beginning of it" },
    { name: "name", value: "NAME", help: "its new name; without -id the policy that is changed" },
    ...FLAGS,
    { name: "no-merge", value: null, help: "replace what the policy has" },
    META_FLAG,
    FORMAT_FLAG,
  ],
  example: "meshca acl policy update -name ops -rules @ops.hcl",
  ...shown,
  async run(call) {
    const { flags } = call;
    const key = await selected(call, POLICY);
    const path = pathOf(POLICY, key);
    const connection = call.connect();
    const before = await attempt(`Error reading policy ${JSON.stringify(key)}`, () =>
      readObject(connection, path),
    );
    const kept = flags.on("no-merge") ? {} : before;
    const datacenters = flags.all("valid-datacenter");
    const body = {
      ID: key,
      Name: fieldOf(call, before, "Name", "name"),
      Description: fieldOf(call, kept, "Description", "description"),
      Datacenters: datacenters.length > 0 ? datacenters : (kept.Datacenters ?? []),
      Rules: (await rulesOf(call)) ?? kept.Rules ?? "",
    };
    const changed = await attempt(`Error updating policy ${JSON.stringify(key)}`, () =>
      putObject(connection, path, body),
    );
    show(call, shaped(POLICY, changed), (policy) => policyText(policy, flags.on("meta")));
    return 0;
  },
};

export const policy: Group = {
  name: "policy",
  summary: "policies: rules under one name, which tokens and roles link",
  commands: [
    create,
    readCommand(POLICY, policyText, "meshca acl policy read -name ops"),
    update,
    deleteCommand(POLICY, "meshca acl policy delete -name ops"),
    listCommand(POLICY, policyListText),
  ],
};
