/**
 * Guards of security: what the command line shows, writes and trusts of a server or a file.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

const HOSTILE = "cli/hostile-server";
const ODD = "cli/odd-input";

export const CLI: readonly Mutant[] = [
  ...guardsOf(
    "src/cli/terminal.ts",
    [
      "control characters in a text",
      "this.#streams.stdout.write(printable(text));",
      "this.#streams.stdout.write(text);",
      HOSTILE,
    ],
    [
      "control characters in data on a terminal",
      "this.isTerminal ? printable(data) : data",
      "data",
      HOSTILE,
    ],
    ["control characters in an error", "printable(line)", "line", HOSTILE],
  ),
  ...guardsOf("src/cli/table.ts", [
    "line breaks in a cell",
    "row.map(withoutBreaks)",
    "[...row]",
    HOSTILE,
  ]),
  ...guardsOf("src/cli/doctor/provider-checks.ts", [
    "a word of a server in a command of doctor",
    "quoted(Path)",
    "Path",
    HOSTILE,
  ]),
  ...guardsOf("src/cli/doctor/access-checks.ts", [
    "a word of a server in another command of doctor",
    "quoted(InitialManagement)",
    "InitialManagement",
    HOSTILE,
  ]),
  ...guardsOf(
    "src/cli/doctor/look.ts",
    [
      "a token to a server that is not known yet",
      "new Connection({ ...options, token: null }, warn)",
      "new Connection(options, warn)",
      "cli/doctor-life",
    ],
    [
      "a server that is not one of meshca",
      'if (contact.reached !== "answered") return',
      'if (contact.reached === "network") return',
      "cli/doctor-life",
    ],
  ),
  ...guardsOf("src/cli/files.ts", [
    "a key file of others",
    "(statSync(path).mode & 0o077) === 0",
    "true",
    ODD,
  ]),
  ...guardsOf(
    "src/cli/commands/backup.ts",
    ["the name of a backup", "(meshca-[\\w.-]+\\.backup)", "([\\w.-]+)", HOSTILE],
    ["the content of a backup", "connection.read(Document, answer, request);", "", HOSTILE],
  ),
  ...guardsOf("src/cli/commands/connect/sent-pem.ts", [
    "other blocks of PEM",
    'label !== "CERTIFICATE"',
    "false",
    HOSTILE,
  ]),
  ...guardsOf("src/cli/commands/connect/sign.ts", [
    "a leaf for another key",
    "!equal(chain[0].key.spki, spki)",
    "false",
    HOSTILE,
  ]),
  ...guardsOf("src/cli/commands/connect/modify-index.ts", [
    "an empty index",
    "[1-9]\\d{0,14}",
    "\\d{0,15}",
    ODD,
  ]),
  ...guardsOf("src/cli/inspect/material.ts", [
    "the server of the roots",
    "return fetchText(connectTo(url.origin), ",
    "return fetchUnverified(url); void (",
    HOSTILE,
  ]),
];
