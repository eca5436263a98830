/**
 * `meshca backup`: the whole CA in one file, its keys encrypted.
 * @module
 */
import * as v from "valibot";
import type { Command, Group } from "../command.ts";
import { readInput, writeNewFiles } from "../files.ts";
import { MODIFY_INDEX_FLAG, modifyIndexOf } from "./connect/modify-index.ts";
import { fetchRoots } from "./connect/roots.ts";

const PATH = "/v1/connect/ca/backup";

/** What every backup has outside of its encrypted and authenticated parts. */
const Document = v.looseObject({
  schema: v.number(),
  clusterId: v.string(),
  index: v.number(),
  body: v.string(),
});
const Restored = v.object({ ActiveRootID: v.string(), ModifyIndex: v.number() });

const save: Command = {
  name: "save",
  summary: "save the CA to a file",
  details:
    "The keys in it are encrypted with the key-encryption key of the server: without that key a backup is worthless. Tokens and policies are not in it.",
  arguments: "[file]",
  example: "meshca backup save meshca.backup",
  ...{ connects: true, json: true, files: true },
  async run(call) {
    const connection = call.connect();
    const request = { method: "GET", path: PATH } as const;
    const answer = await connection.call(request);
    // A page of another server is not a backup.
    connection.read(Document, answer, request);
    // A server does not choose any file of this folder, .profile for one.
    const name = /filename="(meshca-[\w.-]+\.backup)"/.exec(
      answer.header("content-disposition") ?? "",
    )?.[1];
    const file = call.args[0] ?? name ?? "meshca.backup";
    if (file === "-") {
      call.terminal.write(answer.body);
      return 0;
    }
    writeNewFiles([{ path: file, text: answer.body, mode: 0o600 }]);
    call.print({ File: file }, () => `Saved ${file}\n`);
    return 0;
  },
};

const restore: Command = {
  name: "restore",
  summary: "make a backup of the same CA the present state",
  details:
    "Roots that exist now and not in the backup are retired; those that can no longer be cross-signed need --force.",
  arguments: "<file>",
  flags: [
    MODIFY_INDEX_FLAG,
    { ...{ name: "force", value: null }, help: "also if roots are abandoned by it" },
  ],
  example: "meshca backup restore meshca.backup",
  ...{ connects: true, json: true, confirms: true, files: true },
  async run(call) {
    const { flags, terminal, args } = call;
    const index = modifyIndexOf(flags);
    const text = await readInput(args[0] ?? "", "The backup", terminal);
    const connection = call.connect();
    const { TrustDomain, ActiveRootID } = await fetchRoots(connection);
    await call.confirm(
      `Replace the state of ${TrustDomain} at ${connection.name}, whose active root is ${ActiveRootID}, by the backup?`,
    );
    const request = {
      method: "PUT",
      path: PATH,
      query: {
        ModifyIndex: index === null ? null : String(index),
        force: flags.on("force") ? "true" : null,
      },
      body: text,
    } as const;
    const answer = await terminal.progress("Restoring the backup", connection.call(request));
    const restored = connection.read(Restored, answer, request);
    call.print(restored, (value) => `Restored; the active root is ${value.ActiveRootID}\n`);
    return 0;
  },
};

export const backup: Group = {
  name: "backup",
  summary: "save the CA to a file, and restore it",
  commands: [save, restore],
};
