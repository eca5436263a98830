/**
 * The commands `meshca acl binding-rule`.
 * @module
 */
import { fieldOf, variableOf } from "../../acl/grants.ts";
import {
  attempt,
  BINDING_RULE,
  FORMAT_FLAG,
  META_FLAG,
  putObject,
  required,
  show,
  textOf,
} from "../../acl/records.ts";
import { ruleListText, ruleText } from "../../acl/text.ts";
import type { Call, Command, Group } from "../../command.ts";
import type { Flag } from "../../flags.ts";
import { usage } from "../../output.ts";
import { deleteCommand, listCommand, readCommand, updateSelected } from "./crud.ts";

const shown = { connects: true, json: true } as const;
const METHOD: Flag = { name: "method", value: "NAME", help: "the auth method" };
const TYPES = ["service", "node", "role", "policy", "templated-policy"];
const FLAGS: readonly Flag[] = [
  { name: "bind-type", value: "TYPE", choices: TYPES, help: TYPES.join(", ") },
  { name: "bind-name", value: "NAME", help: "what a login gets, with variables of the login" },
  {
    ...{ name: "bind-vars", value: "name=VALUE", many: true },
    help: "variable of the templated policy",
  },
  { name: "selector", value: "EXPRESSION", help: "which logins it is for; all without it" },
  { name: "description", value: "TEXT", help: "what it is for" },
  META_FLAG,
  FORMAT_FLAG,
];

/** @throws {Failure} if there are variables for another type */
function bindVars({ flags }: Call, type: string): string | null {
  const name = variableOf("-bind-vars", "name=VALUE", flags.all("bind-vars"));
  if (name !== null && type !== "templated-policy")
    throw usage("Cannot specify -bind-vars when -bind-type is not templated-policy");
  return name;
}

const create: Command = {
  name: "create",
  summary: "create a binding rule",
  flags: [METHOD, ...FLAGS],
  example: "meshca acl binding-rule create -method ci -bind-type role -bind-name deploy",
  ...shown,
  async run(call) {
    const { flags } = call;
    const AuthMethod = required(call, "method", "Missing required '-method' flag");
    const BindType = flags.text("bind-type") ?? "service";
    const BindName = required(call, "bind-name", "Missing required '-bind-name' flag");
    const Name = bindVars(call, BindType);
    const body = {
      AuthMethod,
      BindType,
      BindName,
      Description: flags.text("description") ?? "",
      Selector: flags.text("selector") ?? "",
      ...(Name === null ? {} : { BindVars: { Name } }),
    };
    const made = await attempt("Failed to create new binding rule", () =>
      putObject(call.connect(), "/v1/acl/binding-rule", body),
    );
    show(call, made, (rule) => ruleText(rule, flags.on("meta")));
    return 0;
  },
};

const update: Command = {
  name: "update",
  summary: "change a binding rule",
  details: "What no flag names stays, unless -no-merge is given.",
  flags: [
    { name: "id", value: "ID", help: "its id or the beginning of it" },
    ...FLAGS,
    { name: "no-merge", value: null, help: "replace what the rule has" },
  ],
  example: "meshca acl binding-rule update -id 5f2e -selector 'value.team == ops'",
  ...shown,
  async run(call) {
    const { flags } = call;
    return updateSelected(call, BINDING_RULE, ruleText, (before, kept, key) => {
      if (flags.on("no-merge")) required(call, "bind-name", "Missing required '-bind-name' flag");
      const BindType = fieldOf(call, kept, "BindType", "bind-type") || "service";
      const Name = bindVars(call, BindType);
      const vars = Name === null ? kept.BindVars : { Name };
      return {
        ID: key,
        AuthMethod: textOf(before, "AuthMethod"),
        BindType,
        BindName: fieldOf(call, kept, "BindName", "bind-name"),
        Description: fieldOf(call, kept, "Description", "description"),
        Selector: fieldOf(call, kept, "Selector", "selector"),
        ...(BindType === "templated-policy" && vars !== undefined ? { BindVars: vars } : {}),
      };
    });
  },
};

export const bindingRule: Group = {
  name: "binding-rule",
  summary: "binding rules: what a login of an auth method gets",
  commands: [
    create,
    readCommand(BINDING_RULE, ruleText, "meshca acl binding-rule read -id 5f2e"),
    update,
    deleteCommand(BINDING_RULE, "meshca acl binding-rule delete -id 5f2e"),
    listCommand(BINDING_RULE, ruleListText, [[METHOD, "authmethod"]]),
  ],
};
