/**
 * The commands `meshca acl bootstrap`, `meshca login` and `meshca logout`.
 * @module
 */
import { randomUUID } from "node:crypto";
import { existsSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { fileReason } from "../../../config/file-errors.ts";
import {
  AclObjectSchema,
  attempt,
  FORMAT_FLAG,
  putObject,
  required,
  show,
  textOf,
} from "../../acl/records.ts";
import { tokenText } from "../../acl/text.ts";
import type { Command } from "../../command.ts";
import { ENTERPRISE_FLAGS } from "../../connection/connection-flags.ts";
import { readInput } from "../../files.ts";
import { EXIT, Failure, usage } from "../../output.ts";

const shown = { connects: true, json: true } as const;

export const bootstrap: Command = {
  name: "bootstrap",
  summary: "create the first token, which may do everything",
  details:
    "Needs the secret in the file acl-bootstrap-secret of the server's data folder as its token: -token-file. With a file, or - for the standard input, the new token gets the secret in it.",
  arguments: "[file]",
  files: true,
  flags: [FORMAT_FLAG],
  example: "meshca acl bootstrap -token-file .meshca/acl-bootstrap-secret",
  ...shown,
  async run(call) {
    const [file] = call.args;
    const secret =
      file === undefined ? null : await readInput(file, "The file of the token", call.terminal);
    const made = await attempt("Failed ACL bootstrapping", () =>
      putObject(
        call.connect(),
        "/v1/acl/bootstrap",
        secret === null ? {} : { BootstrapSecret: secret.trim() },
      ),
    );
    show(call, made, (token) => tokenText(token, false));
    return 0;
  },
};

/** A file that is written in one step, next to it. */
interface Sink {
  commit(secret: string): void;
  /** Leaves the file as it is. */
  discard(): void;
}

/**
 * Makes sure that a token can be written before a login uses up what it is given.
 * @throws {Failure}
 */
function openSink(path: string): Sink {
  const draft = `${path}.${randomUUID()}`;
  const failed = (reason: string, cause?: unknown): Failure =>
    new Failure(
      EXIT.cannotCreate,
      `Error writing token to file sink: ${JSON.stringify(path)}: ${reason}`,
      cause,
    );
  const failedBy = (error: unknown) => failed(fileReason(error) ?? "unknown", error);
  const discard = () => rmSync(draft, { force: true });
  if (existsSync(path) && !statSync(path).isFile()) throw failed("it is not a regular file");
  try {
    writeFileSync(draft, "", { mode: 0o600, flag: "wx" });
  } catch (error) {
    throw failedBy(error);
  }
  return {
    discard,
    commit(secret) {
      try {
        writeFileSync(draft, secret);
        renameSync(draft, path);
      } catch (error) {
        discard();
        throw failedBy(error);
      }
    },
  };
}

export const login: Command = {
  name: "login",
  summary: "exchange a token of an auth method's issuer for a token of the CA",
  details: "The token is written to a file with mode 0600, which is replaced if it exists.",
  flags: [
    { name: "method", value: "NAME", help: "the auth method" },
    { ...{ name: "bearer-token-file", value: "FILE", file: true }, help: "the issuer's token" },
    { ...{ name: "token-sink-file", value: "FILE", file: true }, help: "where to write the token" },
    { ...{ name: "meta", value: "KEY=VALUE", many: true }, help: "for the token's description" },
    { name: "type", value: "TYPE", help: "as in Consul; it is not needed" },
    ...ENTERPRISE_FLAGS,
  ],
  example: "meshca login -method ci -bearer-token-file id.jwt -token-sink-file token",
  ...shown,
  async run(call) {
    const { flags, terminal } = call;
    const AuthMethod = required(call, "method", "Missing required '-method' flag");
    const sink = required(call, "token-sink-file", "Missing required '-token-sink-file' flag");
    const file = required(call, "bearer-token-file", "Missing required '-bearer-token-file' flag");
    const BearerToken = (await readInput(file, "The bearer token", terminal)).trim();
    if (BearerToken === "") throw new Failure(EXIT.data, `No bearer token found in ${file}`);
    const pairs = flags.all("meta").map((text) => {
      const at = text.indexOf("=");
      if (at <= 0) throw usage(`-meta ${JSON.stringify(text)} is not of the form KEY=VALUE`);
      return [text.slice(0, at), text.slice(at + 1)] as const;
    });
    const connection = call.connect();
    const out = openSink(sink);
    const made = await attempt("Error logging in", () =>
      connection.json(AclObjectSchema, {
        method: "POST",
        path: "/v1/acl/login",
        body: { AuthMethod, BearerToken, Meta: Object.fromEntries(pairs) },
      }),
    ).catch((error: unknown) => {
      out.discard();
      throw error;
    });
    out.commit(textOf(made, "SecretID"));
    // Consul prints nothing.
    call.print({ AccessorID: made.AccessorID, file: sink }, () => "");
    return 0;
  },
};

export const logout: Command = {
  name: "logout",
  summary: "delete the token of a login, which is sent with this command",
  flags: ENTERPRISE_FLAGS,
  example: "meshca logout -token-file token",
  ...shown,
  async run(call) {
    await attempt("Error destroying token", () =>
      call.connect().call({ method: "POST", path: "/v1/acl/logout" }),
    );
    call.print({ loggedOut: true }, () => "");
    return 0;
  },
};
