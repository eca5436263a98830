/**
 * `meshca recover`: the way out when roots have expired, or the provider is gone. It does
 * `tls ca create` for the trust domain of the server, then `connect ca set-config`, and asks before
 * each.
 * @module
 */
import type { CaKeySpec } from "../../core/x509/keys.ts";
import { processClock, systemRandom } from "../../entry/system.ts";
import type { Call, Command } from "../command.ts";
import { Connection } from "../connection/connection.ts";
import { FILES, quoted } from "../files.ts";
import { EXIT, Failure, usage } from "../output.ts";
import { BUILT_IN, nextConfiguration } from "../recover/configuration.ts";
import {
  deleteKeyFile,
  makeRootFiles,
  OWN_FILES,
  type RecoveryRoot,
  readRootFiles,
  requireNoOwnFiles,
  requireOwnFiles,
} from "../recover/root-files.ts";
import { NotTaken, type Sending, sendRoot, waitUntilActive } from "../recover/send.ts";
import { type RecoveredServer, readServer } from "../recover/server.ts";
import { isHealthy, readSituation, type Situation } from "../recover/situation.ts";
import { doneText, makeText, pinOf, sendText, situationText } from "../recover/texts.ts";
import { lifeText } from "../table.ts";
import { daysOf } from "../tls/command-values.ts";
import { FORCE_FLAG } from "./connect/config-commands.ts";
import { keySpecOf, tlsCaCreate } from "./tls-ca-create.ts";

/** One year, as in the procedure of Consul's documentation. */
const DEFAULT_DAYS = "365";

/** What `--json` prints. */
interface Recovered {
  readonly trustDomain: string;
  readonly rootId: string;
  /** For `--ca-pin` of agents. */
  readonly pin: string;
  readonly notAfter: string;
  readonly certificateFile: string;
  /** Null if it was deleted. */
  readonly keyFile: string | null;
  readonly provider: { readonly before: string; readonly after: string };
  readonly droppedSettings: readonly string[];
  readonly abandonedRoots: readonly string[];
  /** Whether the server lists the root as the active one. */
  readonly active: boolean;
}

const ofCreate = (name: string) => {
  const flag = tlsCaCreate.flags?.find((one) => one.name === name);
  if (flag === undefined) throw new TypeError(`tls ca create has no flag ${name}`);
  return flag;
};

export const recover: Command = {
  name: "recover",
  summary: "give the CA a new root after its roots have expired or its provider is gone",
  details:
    "Creates a root for the trust domain of the server, as tls ca create does, and sends it with its key, as connect ca set-config does, so that the built-in provider signs under it. Shows each step and asks before it. The server is verified by --server-pin, by the CA file, or on its own machine by the fingerprint in its data folder, before the token or the key is sent. Files are made in this folder; the key file is deleted as soon as the server has taken the key.",
  flags: [
    { ...{ name: "days", value: "N" }, help: `days until the root expires (${DEFAULT_DAYS})` },
    {
      ...{ name: "common-name", value: "NAME" },
      help: "common name of the root (Consul Agent CA and the serial number)",
    },
    ofCreate("key-type"),
    ofCreate("key-bits"),
    {
      ...{ name: "root-file", value: "FILE", file: true },
      help: "root in PEM that was made elsewhere, instead of a new one",
    },
    {
      ...{ name: "key-file", value: "FILE", file: true },
      help: "private key of that root in PEM; it is not deleted",
    },
    {
      ...{ name: "continue", value: null },
      help: "go on with the files that an interrupted recovery left in this folder",
    },
    { ...{ name: "keep-key", value: null }, help: "do not delete the key file" },
    {
      ...{ name: "data-dir", value: "FOLDER", variables: ["MESHCA_DATA_DIR"], file: true },
      help: "data folder of the server, whose tls-fingerprint verifies it (.meshca for a server on this machine)",
    },
    FORCE_FLAG,
    {
      ...{ name: "replace-valid-root", value: null },
      help: "go on although the server signs leaves under a valid root",
    },
  ],
  example: "meshca recover --http-addr https://127.0.0.1:8501 --token-file management.token",
  ...{ connects: true, json: true, confirms: true },
  async run(call) {
    const request = requestOf(call);
    const server = readServer(call.flags, call.environment, FILES);
    const connection = new Connection(server.options, (line) => call.terminal.note(line));
    const now = processClock.now();
    const situation = await readSituation(connection, now);
    say(call, situationText(situation, server.verification, now, call.terminal));
    const root = await rootOf(call, request, situation);
    const isOwn = request.source !== "given";
    const isForced = call.flags.on(FORCE_FLAG.name);
    const recovered = await send(call, { server, connection, situation, root, isOwn, isForced });
    call.print(recovered, () => doneText(root, recovered.active));
    if (recovered.abandonedRoots.length > 0)
      call.terminal.note(
        `Warning: these roots were abandoned, and clients that trust only them refuse new leaves: ${recovered.abandonedRoots.join(", ")}`,
      );
    if (!isOwn)
      call.terminal.note(
        `The server has its own copy of the key, encrypted; delete ${quoted(root.files.key)} or move it to a safe place`,
      );
    return 0;
  },
};

/** What the flags ask for. */
type Request =
  | { readonly source: "made"; readonly key: CaKeySpec; readonly days: number }
  | { readonly source: "own" }
  | { readonly source: "given"; readonly rootFile: string; readonly keyFile: string };

/** @throws {Failure} if flags contradict each other, before the server is called */
function requestOf({ flags }: Call): Request {
  const [rootFile, keyFile] = [flags.text("root-file"), flags.text("key-file")];
  const made = ["days", "common-name", "key-type", "key-bits"].filter(
    (name) => flags.text(name) !== null,
  );
  const source = flags.on("continue") ? "--continue" : "--root-file";
  if (flags.on("continue") && (rootFile !== null || keyFile !== null))
    throw usage("--continue takes the files in this folder, not --root-file and --key-file");
  if (made.length > 0 && (flags.on("continue") || rootFile !== null || keyFile !== null))
    throw usage(`--${made[0]} is for a new root, and ${source} takes one that exists`);
  if (flags.on("continue")) {
    requireOwnFiles();
    return { source: "own" };
  }
  if (rootFile !== null && keyFile !== null) return { source: "given", rootFile, keyFile };
  if (rootFile !== null || keyFile !== null)
    throw usage(
      `--${rootFile === null ? "key-file needs --root-file" : "root-file needs --key-file"} too`,
    );
  const [key, days] = [keySpecOf(flags), daysOf(flags.text("days") ?? DEFAULT_DAYS)];
  requireNoOwnFiles();
  return { source: "made", key, days };
}

/** The text is not part of the output with `--json`. */
function say({ json, terminal }: Call, text: string): void {
  if (json) terminal.note(text.replace(/\n$/, ""));
  else terminal.show(text);
}

/** The root to send, in its files. */
async function rootOf(call: Call, request: Request, situation: Situation): Promise<RecoveryRoot> {
  const { flags, terminal } = call;
  if (request.source === "own") return readRootFiles(OWN_FILES, terminal);
  const isForced = flags.on("replace-valid-root");
  if (isHealthy(situation) && !isForced) throw healthy(situation);
  if (request.source === "given")
    return readRootFiles({ certificate: request.rootFile, key: request.keyFile }, terminal);
  const { key, days } = request;
  say(call, makeText(situation, key, days, flags.on("keep-key")));
  await call.confirm("Create these files?");
  const root = await terminal.progress(
    "Creating the root",
    makeRootFiles({
      ...{ trustDomain: situation.trustDomain, key, days },
      commonName: flags.text("common-name"),
      ...{ random: systemRandom, clock: processClock },
    }),
  );
  const { certificate: file, key: keyFile } = root.files;
  say(call, `==> Saved ${file}\n==> Saved ${keyFile}\n`);
  return root;
}

function healthy({ roots, server }: Situation): Failure {
  const active = roots.find(({ state }) => state === "active");
  const life =
    active === undefined ? "" : ` (${lifeText(new Date(active.notAfter), processClock.now())})`;
  return new Failure(
    EXIT.data,
    `There is nothing to recover: ${server} signs leaves under the root ${active?.id}${life}; meshca rotate makes a new root without any file, and --replace-valid-root goes on`,
  );
}

interface SendOptions {
  readonly server: RecoveredServer;
  readonly connection: Connection;
  readonly situation: Situation;
  readonly root: RecoveryRoot;
  /** Whether this command made the files. */
  readonly isOwn: boolean;
  /** Whether a root that cannot cross-sign is abandoned. */
  readonly isForced: boolean;
}

/** The second step, which is left out if the server has the root already. */
async function send(call: Call, options: SendOptions): Promise<Recovered> {
  const { server, connection, situation, root, isOwn } = options;
  const { flags, terminal } = call;
  const { config, dropped } = nextConfiguration(situation.config, root.certificatePem, root.keyPem);
  const { isForced: force } = options;
  const sending: Sending = {
    ...{ connection, options: server.options, root, config, force, clock: processClock },
  };
  const { id } = root.certificate;
  const isThere = situation.roots.some((one) => one.id === id && one.state === "active");
  let abandonedRoots: readonly string[] = [];
  if (isThere) say(call, `\nThe server has taken the root ${id} already\n`);
  else {
    say(call, sendText(situation, root, dropped, force));
    abandonedRoots = await keepingFiles(options, async () => {
      await call.confirm("Send them?");
      const onInterrupt = () => {
        terminal.note(`\nInterrupted; ${unknownText(options)}`);
        process.exit(EXIT.interrupted);
      };
      process.once("SIGINT", onInterrupt);
      try {
        return await terminal.progress("Waiting for the server", sendRoot(sending));
      } finally {
        process.removeListener("SIGINT", onInterrupt);
      }
    });
  }
  const keepsKey = !isOwn || flags.on("keep-key");
  if (!keepsKey) {
    deleteKeyFile(root.files.key);
    say(call, `==> Deleted ${root.files.key}\n`);
  }
  return {
    trustDomain: situation.trustDomain,
    rootId: id,
    pin: pinOf(root),
    notAfter: root.certificate.notAfter.toISOString(),
    certificateFile: root.files.certificate,
    keyFile: keepsKey ? root.files.key : null,
    provider: { before: situation.provider, after: BUILT_IN },
    droppedSettings: isThere ? [] : dropped,
    abandonedRoots,
    active: isThere || (await terminal.progress("Waiting for the root", waitUntilActive(sending))),
  };
}

/** Runs a part; if it fails, its error says where the files are and how to go on. */
async function keepingFiles<T>(options: SendOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const isUnchanged = !(error instanceof NotTaken) || error.isUnchanged;
    const said = `${error.message.replace(/[;,]? ?nothing was changed$/i, "")}${forceAdvice(error, options)}`;
    const text = isUnchanged
      ? `${said === "" ? "T" : `${said}; t`}he CA was not changed. ${filesText(options)}`
      : `${said}; ${unknownText(options)}`;
    throw new Failure(error.exit, text, error);
  }
}

/** What there is to do if a valid root is not able to cross-sign, as when its Vault is gone. */
function forceAdvice({ message }: Failure, { situation, isForced }: SendOptions): string {
  if (isForced || !/cross-sign|certify/i.test(message) || /force/i.test(message)) return "";
  const valid = situation.roots.filter(({ state }) => state !== "expired");
  return valid.length === 0
    ? ""
    : `; if that cannot be mended, --${FORCE_FLAG.name} goes on without a cross-signature, and services that trust only an abandoned root refuse new leaves`;
}

const unknownText = (options: SendOptions): string =>
  `it is not known whether the server has taken the root. ${filesText(options)}`;

function filesText({ root: { files }, isOwn }: SendOptions): string {
  const where = `The root is in ${files.certificate} and its key in ${files.key}`;
  return `${where}; ${isOwn ? "the same command with --continue goes on with them" : "the same command goes on with them"}`;
}
