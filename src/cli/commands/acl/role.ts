/**
 * The commands `meshca acl role`.
 * @module
 */
import {
  createFlags,
  fieldOf,
  isEmpty,
  newGrants,
  roleGrants,
  updateFlags,
} from "../../acl/grants.ts";
import {
  attempt,
  FORMAT_FLAG,
  META_FLAG,
  pathOf,
  putObject,
  ROLE,
  readObject,
  required,
  show,
} from "../../acl/records.ts";
import { roleListText, roleText } from "../../acl/text.ts";
import type { Command, Group } from "../../command.ts";
import type { Flag } from "../../flags.ts";
import { usage } from "../../output.ts";
import { deleteCommand, listCommand, readCommand, selected } from "./crud.ts";

const shown = { connects: true, json: true } as const;
const DESCRIPTION: Flag = { name: "description", value: "TEXT", help: "what it is for" };

const create: Command = {
  name: "create",
  summary: "create a role",
  flags: [
    { name: "name", value: "NAME", help: "its name" },
    DESCRIPTION,
    ...createFlags(false),
    META_FLAG,
    FORMAT_FLAG,
  ],
  example: "meshca acl role create -name nomad-tasks -policy-name nomad-tasks",
  ...shown,
  async run(call) {
    const { flags } = call;
    const Name = required(call, "name", "Missing required '-name' flag");
    const connection = call.connect();
    const grants = await newGrants(call, connection, false);
    if (isEmpty(grants))
      throw usage(
        "Cannot create a role without specifying -policy-name, -policy-id, -service-identity, -node-identity, -templated-policy-file or -templated-policy at least once",
      );
    const Description = flags.text("description") ?? "";
    const made = await attempt("Failed to create new role", () =>
      putObject(connection, "/v1/acl/role", { Name, Description, ...grants }),
    );
    show(call, made, (role) => roleText(role, flags.on("meta")));
    return 0;
  },
};

const update: Command = {
  name: "update",
  summary: "change a role",
  details: "The flags add to what the role has; with -no-merge they replace it.",
  flags: [
    { name: "id", value: "ID", help: "its id or the beginning of it" },
    { name: "name", value: "NAME", help: "its new name; with no -id the role that is changed" },
    DESCRIPTION,
    { name: "no-merge", value: null, help: "replace what the role has" },
    ...updateFlags(false),
    META_FLAG,
    FORMAT_FLAG,
  ],
  example: "meshca acl role update -id 5f2e -service-identity web",
  ...shown,
  async run(call) {
    const key = await selected(call, ROLE);
    const connection = call.connect();
    const path = pathOf(ROLE, key);
    const before = await attempt("Error when retrieving current role", () =>
      readObject(connection, path),
    );
    const grants = await roleGrants(call, connection, before);
    const kept = call.flags.on("no-merge") ? {} : before;
    const changed = await attempt(`Error updating role ${JSON.stringify(key)}`, () =>
      putObject(connection, path, {
        ID: key,
        Name: fieldOf(call, before, "Name", "name"),
        Description: fieldOf(call, kept, "Description", "description"),
        ...grants,
      }),
    );
    show(call, changed, (role) => roleText(role, call.flags.on("meta")));
    return 0;
  },
};

export const role: Group = {
  name: "role",
  summary: "roles: policies and identities under one name, which tokens link",
  commands: [
    create,
    readCommand(ROLE, roleText, "meshca acl role read -name nomad-tasks"),
    update,
    deleteCommand(ROLE, "meshca acl role delete -name nomad-tasks"),
    listCommand(ROLE, roleListText),
  ],
};
