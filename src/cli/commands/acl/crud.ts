/**
 * The commands that read, list and delete ACL records of one kind.
 * @module
 */
import {
  type AclObject,
  attempt,
  FORMAT_FLAG,
  type Kind,
  listRecords,
  META_FLAG,
  namedId,
  pathOf,
  putObject,
  readObject,
  required,
  shaped,
  show,
} from "../../acl/records.ts";
import { listText, type ObjectText } from "../../acl/text.ts";
import type { Call, Command } from "../../command.ts";
import type { Flag } from "../../flags.ts";
import { usage } from "../../output.ts";

/** The flags that name one record of a kind. */
export function selectorFlags({ path, key, what }: Kind): readonly Flag[] {
  const id: Flag = { name: "id", value: "ID", help: `its id or the beginning of it` };
  const name: Flag = { name: "name", value: "NAME", help: `the name of the ${what}` };
  if (path === "token")
    return [
      { name: "accessor-id", value: "ID", help: "its accessor id or the beginning of it" },
      { ...id, help: "as --accessor-id, in older scripts" },
    ];
  if (key === "Name") return [name];
  return path === "binding-rule" ? [id] : [id, name];
}

/** The key of the record that the flags name. @throws {Failure} with Consul's text */
export async function selected(call: Call, kind: Kind): Promise<string> {
  const { flags } = call;
  const names = selectorFlags(kind).map(({ name }) => name);
  const text = (name: string) => (names.includes(name) ? flags.text(name) : null);
  const [id, name] = [text("accessor-id") ?? text("id"), text("name")];
  if ((id ?? "") === "" && (name ?? "") === "")
    throw usage(
      names.includes("accessor-id")
        ? "Must specify the -accessor-id parameter"
        : names.length > 1
          ? "Must specify either the -id or -name parameters"
          : `Must specify the -${names[0]} parameter`,
    );
  if (kind.key === "Name") return required(call, "name", "Must specify the -name parameter");
  return attempt(`Error determining ${kind.what} ID`, () =>
    namedId(call.connect(), kind, { id, name }),
  );
}

const shown = { connects: true, json: true } as const;

/** The record that the flags name. @throws {Failure} */
async function readSelected(call: Call, kind: Kind): Promise<AclObject> {
  const key = await selected(call, kind);
  return attempt(`Error reading ${kind.what} ${JSON.stringify(key)}`, () =>
    readObject(call.connect(), pathOf(kind, key)),
  );
}

export function readCommand(kind: Kind, text: ObjectText, example: string): Command {
  return {
    name: "read",
    summary: `show one ${kind.what}`,
    flags: [...selectorFlags(kind), META_FLAG, FORMAT_FLAG],
    example,
    ...shown,
    async run(call) {
      const found = await readSelected(call, kind);
      show(call, shaped(kind, found), (object) => text(object, call.flags.on("meta")));
      return 0;
    },
  };
}

/**
 * Changes the record that the flags name.
 * @param bodyOf what is sent: gets the record, and what of it stays where no flag says otherwise,
 * which is nothing with -no-merge.
 */
export async function updateSelected(
  call: Call,
  kind: Kind,
  text: ObjectText,
  bodyOf: (before: AclObject, kept: AclObject, key: string) => Promise<AclObject> | AclObject,
): Promise<number> {
  const key = await selected(call, kind);
  const connection = call.connect();
  const path = pathOf(kind, key);
  const before = await attempt(`Error when retrieving current ${kind.what}`, () =>
    readObject(connection, path),
  );
  const body = await bodyOf(before, call.flags.on("no-merge") ? {} : before, key);
  const changed = await attempt(`Error updating ${kind.what} ${JSON.stringify(key)}`, () =>
    putObject(connection, path, body),
  );
  show(call, shaped(kind, changed), (object) => text(object, call.flags.on("meta")));
  return 0;
}

export function listCommand(
  kind: Kind,
  text: ObjectText,
  queryFlags: readonly (readonly [flag: Flag, parameter: string])[] = [],
): Command {
  return {
    name: "list",
    summary: `show all ${kind.what === "policy" ? "policies" : `${kind.what}s`}`,
    flags: [...queryFlags.map(([flag]) => flag), META_FLAG, FORMAT_FLAG],
    example: `meshca acl ${kind.path} list`,
    ...shown,
    async run(call) {
      const query = Object.fromEntries(
        queryFlags.map(([{ name }, parameter]) => [parameter, call.flags.text(name)]),
      );
      const found = await attempt(`Failed to retrieve the ${kind.what} list`, () =>
        listRecords(call.connect(), kind, query),
      );
      show(
        call,
        found.map((one) => shaped(kind, one)),
        listText(text, call.flags.on("meta")),
      );
      return 0;
    },
  };
}

export function deleteCommand(kind: Kind, example: string): Command {
  return {
    name: "delete",
    summary: `delete one ${kind.what}`,
    flags: selectorFlags(kind),
    example,
    ...shown,
    async run(call) {
      const key = await selected(call, kind);
      await attempt(`Error deleting ${kind.what} ${JSON.stringify(key)}`, () =>
        call.connect().call({ method: "DELETE", path: pathOf(kind, key) }),
      );
      const title = `${kind.what.slice(0, 1).toUpperCase()}${kind.what.slice(1)}`;
      call.print({ deleted: key }, () => `${title} ${JSON.stringify(key)} deleted successfully\n`);
      return 0;
    },
  };
}
