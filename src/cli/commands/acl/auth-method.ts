/**
 * The commands `meshca acl auth-method`.
 * @module
 */
import * as v from "valibot";
import { isObject } from "../../../consul/go-struct.ts";
import { fieldOf } from "../../acl/grants.ts";
import {
  type AclObject,
  AclObjectSchema,
  AUTH_METHOD,
  attempt,
  FORMAT_FLAG,
  META_FLAG,
  putObject,
  required,
  shaped,
  show,
  textOf,
} from "../../acl/records.ts";
import { methodListText, methodText } from "../../acl/text.ts";
import type { Call, Command, Group } from "../../command.ts";
import { readInput } from "../../files.ts";
import type { Flag } from "../../flags.ts";
import { EXIT, Failure, usage } from "../../output.ts";
import { deleteCommand, listCommand, readCommand, updateSelected } from "./crud.ts";

const shown = { connects: true, json: true } as const;
const FLAGS: readonly Flag[] = [
  { name: "name", value: "NAME", help: "its name" },
  { name: "description", value: "TEXT", help: "what it is for" },
  { name: "display-name", value: "TEXT", help: "its name for people" },
  {
    ...{ name: "token-locality", value: "LOCALITY", choices: ["local"] },
    help: "local, as all tokens of logins are",
  },
  { name: "max-token-ttl", value: "DURATION", help: "the longest life of its tokens" },
  {
    ...{ name: "config", value: "CONFIG" },
    help: "its configuration in JSON; @FILE reads a file, - the standard input",
  },
  { name: "kubernetes-host", value: "URL", help: "of type kubernetes: the API server" },
  {
    ...{ name: "kubernetes-ca-cert", value: "PEM" },
    help: "of type kubernetes: its CAs; @FILE reads a file",
  },
  {
    ...{ name: "kubernetes-service-account-jwt", value: "TOKEN" },
    help: "of type kubernetes: the token that asks for reviews; @FILE reads a file",
  },
  META_FLAG,
  FORMAT_FLAG,
];
const KUBERNETES = [
  ["kubernetes-host", "Host"],
  ["kubernetes-ca-cert", "CACert"],
  ["kubernetes-service-account-jwt", "ServiceAccountJWT"],
] as const;

/** A value, or what a file has. @throws {Failure} */
async function textOrFile({ flags, terminal }: Call, flag: string): Promise<string | null> {
  const text = flags.text(flag);
  if (text === null || (text !== "-" && !text.startsWith("@"))) return text;
  const path = text === "-" ? text : text.slice(1);
  return (await readInput(path, `The file of --${flag}`, terminal)).trim();
}

/** The configuration that the flags give; null if they give none. @throws {Failure} */
async function configOf(call: Call, before: AclObject): Promise<AclObject | null> {
  const text = await textOrFile(call, "config");
  const fields: [string, string][] = [];
  for (const [flag, name] of KUBERNETES) {
    const value = await textOrFile(call, flag);
    if (value !== null) fields.push([name, value]);
  }
  if (text !== null && fields.length > 0)
    throw usage("Cannot use command line arguments with '-config' flags");
  if (text === null)
    return fields.length === 0 ? null : { ...before, ...Object.fromEntries(fields) };
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), AclObjectSchema), text);
  if (read.success) return read.output;
  throw new Failure(EXIT.data, "The value of --config is not a JSON object");
}

const create: Command = {
  name: "create",
  summary: "create an auth method",
  flags: [
    {
      ...{ name: "type", value: "TYPE", choices: ["jwt", "kubernetes"] },
      help: "jwt or kubernetes",
    },
    ...FLAGS,
  ],
  example: "meshca acl auth-method create -type jwt -name nomad-workloads -config @jwt.json",
  ...shown,
  async run(call) {
    const { flags } = call;
    const Type = required(call, "type", "Missing required '-type' flag");
    const Name = required(call, "name", "Missing required '-name' flag");
    const MaxTokenTTL = flags.text("max-token-ttl");
    const TokenLocality = flags.text("token-locality") ?? "";
    const body = {
      Name,
      Type,
      DisplayName: flags.text("display-name") ?? "",
      Description: flags.text("description") ?? "",
      ...(MaxTokenTTL === null ? {} : { MaxTokenTTL }),
      ...(TokenLocality === "" ? {} : { TokenLocality }),
      Config: (await configOf(call, {})) ?? {},
    };
    const made = await attempt("Failed to create new auth method", () =>
      putObject(call.connect(), "/v1/acl/auth-method", body),
    );
    show(call, shaped(AUTH_METHOD, made), (method) => methodText(method, flags.on("meta")));
    return 0;
  },
};

const update: Command = {
  name: "update",
  summary: "change an auth method",
  details:
    "What no flag names stays, unless -no-merge is given. -config replaces the whole configuration.",
  flags: [...FLAGS, { name: "no-merge", value: null, help: "replace what the method has" }],
  example: "meshca acl auth-method update -name nomad-workloads -max-token-ttl 30m",
  ...shown,
  async run(call) {
    const { flags } = call;
    return updateSelected(call, AUTH_METHOD, methodText, async (before, kept, key) => {
      const present = isObject(kept.Config) ? kept.Config : {};
      const MaxTokenTTL = fieldOf(call, kept, "MaxTokenTTL", "max-token-ttl");
      const TokenLocality = flags.text("token-locality") ?? "";
      return {
        Name: key,
        Type: textOf(before, "Type"),
        DisplayName: fieldOf(call, kept, "DisplayName", "display-name"),
        Description: fieldOf(call, kept, "Description", "description"),
        ...(MaxTokenTTL === "" ? {} : { MaxTokenTTL }),
        ...(TokenLocality === "" ? {} : { TokenLocality }),
        Config: (await configOf(call, present)) ?? present,
      };
    });
  },
};

export const authMethod: Group = {
  name: "auth-method",
  summary: "auth methods: whose tokens can log in",
  commands: [
    create,
    readCommand(AUTH_METHOD, methodText, "meshca acl auth-method read -name nomad-workloads"),
    update,
    deleteCommand(AUTH_METHOD, "meshca acl auth-method delete -name nomad-workloads"),
    listCommand(AUTH_METHOD, methodListText),
  ],
};
