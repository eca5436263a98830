/**
 * The commands `meshca acl token`.
 * @module
 */
import { parseDuration } from "../../../consul/duration.ts";
import { readOrNull } from "../../../core/errors.ts";
import {
  createFlags,
  fieldOf,
  isEmpty,
  MERGE_FLAGS,
  newGrants,
  tokenGrants,
  updateFlags,
} from "../../acl/grants.ts";
import {
  attempt,
  FORMAT_FLAG,
  META_FLAG,
  objectsOf,
  POLICY,
  pathOf,
  putObject,
  readObject,
  shaped,
  show,
  TOKEN,
} from "../../acl/records.ts";
import { expandedTokenText, tokenText } from "../../acl/text.ts";
import type { Command, Group } from "../../command.ts";
import { usage } from "../../output.ts";
import { deleteCommand, listCommand, readCommand, selected, selectorFlags } from "./crud.ts";

const shown = { connects: true, json: true } as const;

const create: Command = {
  name: "create",
  summary: "create a token",
  details: "The secret of the token is shown once, here.",
  flags: [
    ...createFlags(true),
    { name: "description", value: "TEXT", help: "what it is for" },
    { name: "local", value: null, help: "for this datacenter only" },
    { name: "expires-ttl", value: "DURATION", help: "its life, from 1m to 24h" },
    { name: "accessor", value: "UUID", help: "its accessor id; a random one without it" },
    { name: "secret", value: "UUID", help: "its secret; a random one without it" },
    META_FLAG,
    FORMAT_FLAG,
  ],
  example: "meshca acl token create -service-identity web -description 'leaves of web'",
  ...shown,
  async run(call) {
    const { flags } = call;
    const connection = call.connect();
    const grants = await newGrants(call, connection, true);
    if (isEmpty(grants))
      throw usage(
        "Cannot create a token without specifying -policy-name, -policy-id, -role-name, -role-id, -service-identity, -node-identity, -templated-policy, or -templated-policy-file at least once",
      );
    const ttl = flags.text("expires-ttl");
    if (ttl !== null && readOrNull(() => parseDuration(ttl)) === null)
      throw usage(`--expires-ttl ${JSON.stringify(ttl)} is not a duration such as 1h`);
    const made = await attempt("Failed to create new token", () =>
      putObject(connection, "/v1/acl/token", {
        AccessorID: flags.text("accessor") ?? "",
        SecretID: flags.text("secret") ?? "",
        Description: flags.text("description") ?? "",
        Local: flags.on("local"),
        ...(ttl === null ? {} : { ExpirationTTL: ttl }),
        ...grants,
      }),
    );
    show(call, made, (token) => tokenText(token, flags.on("meta")));
    return 0;
  },
};

const update: Command = {
  name: "update",
  summary: "change a token",
  details: "What no flag names stays. -append-... adds, the flag without it replaces.",
  flags: [
    ...selectorFlags(TOKEN),
    { name: "description", value: "TEXT", help: "what it is for" },
    ...updateFlags(true),
    ...MERGE_FLAGS,
    META_FLAG,
    FORMAT_FLAG,
  ],
  example: "meshca acl token update -accessor-id 5f2e -append-policy-name ops",
  ...shown,
  async run(call) {
    const key = await selected(call, TOKEN);
    const connection = call.connect();
    const path = pathOf(TOKEN, key);
    const {
      SecretID: _secret,
      Hash: _hash,
      ...before
    } = await attempt("Error when retrieving current token", () => readObject(connection, path));
    const next = {
      ...before,
      Description: fieldOf(call, before, "Description", "description"),
      ...(await tokenGrants(call, connection, before)),
    };
    const changed = await attempt(`Failed to update token ${key}`, () =>
      putObject(connection, path, next),
    );
    show(call, changed, (token) => tokenText(token, call.flags.on("meta")));
    return 0;
  },
};

const clone: Command = {
  name: "clone",
  summary: "create a token with the rights of another one",
  flags: [
    ...selectorFlags(TOKEN),
    { name: "description", value: "TEXT", help: "what it is for; as the other one's without it" },
    FORMAT_FLAG,
  ],
  example: "meshca acl token clone -accessor-id 5f2e",
  ...shown,
  async run(call) {
    const key = await selected(call, TOKEN);
    const Description = call.flags.text("description") ?? "";
    const made = await attempt("Error cloning token", () =>
      putObject(call.connect(), pathOf(TOKEN, key, "/clone"), { Description }),
    );
    show(call, made, (token) => tokenText(token, false));
    return 0;
  },
};

const readOne = readCommand(TOKEN, tokenText, "meshca acl token read -self");
const read: Command = {
  ...readOne,
  flags: [
    ...(readOne.flags ?? []),
    { name: "self", value: null, help: "the token that is sent with this command" },
    {
      name: "expanded",
      value: null,
      help: "show all rules that it grants, and the default policy",
    },
  ],
  async run(call) {
    const { flags } = call;
    if (flags.on("expanded")) {
      if (flags.on("self")) throw usage("Give --expanded with --accessor-id, not with --self");
      const key = await selected(call, TOKEN);
      const expanded = await attempt(`Error reading token ${JSON.stringify(key)}`, () =>
        readObject(call.connect(), pathOf(TOKEN, key), { expanded: "true" }),
      );
      if (!("ExpandedPolicies" in expanded))
        throw call.connect().foreign("it does not expand tokens");
      const ExpandedPolicies = objectsOf(expanded, "ExpandedPolicies").map((one) =>
        shaped(POLICY, one),
      );
      show(call, { ...expanded, ExpandedPolicies }, (token) =>
        expandedTokenText(token, flags.on("meta")),
      );
      return 0;
    }
    if (!flags.on("self")) return readOne.run(call);
    const found = await attempt("Error reading token", () =>
      readObject(call.connect(), "/v1/acl/token/self"),
    );
    show(call, found, (token) => tokenText(token, call.flags.on("meta")));
    return 0;
  },
};

export const token: Group = {
  name: "token",
  summary: "tokens",
  commands: [
    create,
    read,
    update,
    deleteCommand(TOKEN, "meshca acl token delete -accessor-id 5f2e"),
    listCommand(TOKEN, tokenText),
    clone,
  ],
};
