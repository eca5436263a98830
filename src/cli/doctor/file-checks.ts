/**
 * Checks of files: the server's, as it sees them, and those of this machine that hold secrets.
 * @module
 */
import { statSync } from "node:fs";
import { quoted } from "../files.ts";
import type { Environment, Flags } from "../flags.ts";
import type { Facts } from "./look.ts";
import { type Finding, found, type Result, skipped, unchecked } from "./types.ts";

/** Permissions of others, and those of the group to write. */
const [OTHERS, GROUP_WRITES, OTHERS_OF_FOLDER] = [0o007, 0o020, 0o027];

export function serverFiles({ diagnosis }: Facts): Result {
  const id = "files.server";
  if ("error" in diagnosis) return unchecked(id, diagnosis.error);
  const { Files } = diagnosis.value;
  if (Files === null || Files.length === 0) return skipped(id, "the server has no files");
  const findings = Files.flatMap(({ Path, Setting, Kind, Mode }): Finding[] => {
    if (Mode === null)
      return [
        {
          severity: "warning",
          what: `${Path} (${Setting}) cannot be looked at by the server`,
          why: "It is missing or unreadable: the next start fails",
          fix: `Restore it, or correct ${Setting}: ls -ld ${quoted(Path)}`,
        },
      ];
    const mode = Number.parseInt(Mode, 8);
    if (Kind === "folder") return folderFindings(Path, mode, "the keys and the state of the CA");
    return secretFindings(Path, mode, Kind === "secret" ? "a secret of the server" : "the store");
  });
  return found(id, `${Files.length} files and folders are private`, findings);
}

/** @param what is in it, for the reason */
function folderFindings(path: string, mode: number, what: string): Finding[] {
  if ((mode & OTHERS_OF_FOLDER) === 0) return [];
  const isWritable = (mode & 0o022) !== 0;
  return [
    {
      severity: isWritable ? "critical" : "warning",
      what: `${path} can be ${isWritable ? "written into" : "entered"} by other users (mode ${octal(mode)})`,
      why: `It has ${what}`,
      fix: `chmod 700 ${quoted(path)}`,
    },
  ];
}

/** A group may read a secret, as Kubernetes and systemd have it. */
export function secretFindings(path: string, mode: number, what: string): Finding[] {
  if ((mode & (OTHERS | GROUP_WRITES)) === 0) return [];
  return [
    {
      severity: "critical",
      what: `${path} is open to other users (mode ${octal(mode)})`,
      why: `It has ${what}, and they may have copied it`,
      fix: `chmod 600 ${quoted(path)}, and replace its contents if others may have read it`,
    },
  ];
}

export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0");

/** The files with secrets that flags and environment name. */
export function clientFiles(flags: Flags, environment: Environment): Result {
  const id = "files.client";
  if (process.platform === "win32") return skipped(id, "Windows has no such permissions");
  const first = (flag: string, ...variables: readonly string[]): string | null =>
    [flags.text(flag), ...variables.map((name) => environment[name])].find(
      (value) => value !== undefined && value !== null && value !== "",
    ) ?? null;
  const files = [
    [first("token-file", "MESHCA_HTTP_TOKEN_FILE", "CONSUL_HTTP_TOKEN_FILE"), "an ACL token"],
    [
      first("client-key", "MESHCA_CLIENT_KEY", "CONSUL_CLIENT_KEY"),
      "the key of the client certificate",
    ],
  ] as const;
  const named = files.flatMap(([path, what]) => (path === null ? [] : [{ path, what }]));
  const findings = named.flatMap(({ path, what }) => {
    const mode = modeOf(path);
    return mode === null ? [] : secretFindings(path, mode, what);
  });
  if (flags.text("token") !== null)
    findings.push({
      severity: "warning",
      what: "The token was given by --token",
      why: "Every user of this machine sees the arguments of commands, and the shell keeps them",
      fix: "Write it into a file of mode 600, and give --token-file",
    });
  if (named.length === 0 && findings.length === 0)
    return skipped(id, "no token file and no key file are given");
  return found(id, `${named.length} files are private`, findings);
}

/** Null if it cannot be looked at. */
export function modeOf(path: string): number | null {
  try {
    return statSync(path).mode;
  } catch {
    return null;
  }
}
