/**
 * Checks of an agent, by the lines of its /readyz.
 * @module
 */
import { dirname, join } from "node:path";
import { FILE } from "../../agent/files/content.ts";
import { TransportError } from "../../client/transport.ts";
import { hostPort } from "../../config/addresses.ts";
import { readAgentListen } from "../../config/agent-schema.ts";
import { exchange, type Verification } from "../connection/exchange.ts";
import { quoted } from "../files.ts";
import { usage } from "../output.ts";
import { commandIn, sentence } from "./ca-checks.ts";
import { modeOf, octal, secretFindings } from "./file-checks.ts";
import { type CheckId, type Finding, found, ok, type Result, skipped, unchecked } from "./types.ts";

/** For the answer, in milliseconds: it is on this machine. */
const TIMEOUT_MS = 10_000;
const MAX_BYTES = 4 * 1024 * 1024;

/** Plain HTTP: nothing is verified. */
const NONE: Verification = {
  ...{ ca: null, checkName: false, leafPin: null, verify: false },
  checkPeer: () => undefined,
};

interface AgentTarget {
  /** As it was given. */
  readonly name: string;
  readonly url: URL;
  readonly socketPath: string | null;
}

/** @throws {Failure} if the text is not the address of a listener */
export function agentTarget(text: string): AgentTarget {
  const read = readAgentListen(text);
  if (typeof read === "string") throw usage(`--agent ${read}`);
  return "path" in read
    ? { name: text, url: new URL("http://localhost"), socketPath: read.path }
    : { name: text, url: new URL(`http://${hostPort(read.host, read.port)}`), socketPath: null };
}

/** The lines of its /readyz by name, or why there are none. */
type Lines = ReadonlyMap<string, readonly string[]> | string;

export async function agentChecks(target: AgentTarget): Promise<Result[]> {
  const lines = await readLines(target);
  const results = [
    reachable(target, lines),
    ready(lines),
    told(lines, "agent.trust", "trust", {
      severity: "critical",
      why: "Its certificates are not renewed, and it gets no new roots",
      fix: "meshca roots --pem --http-addr SERVER --server-pin sha256:FINGERPRINT > CA_FILE",
    }),
    told(lines, "agent.login", "login", {
      severity: "warning",
      why: "After a longer outage its leaf has expired, and it cannot get another one by itself",
      fix: "Start it with --token-file, or with --login-auth-method and --login-token-file",
    }),
    told(lines, "agent.clock", "clock", {
      severity: "warning",
      why: "Leaves are renewed too early or too late, and peers refuse them",
      fix: "Set the clock of the agent's machine: timedatectl set-ntp true",
    }),
    paths(lines),
  ];
  return results.map((result) => ({ ...result, subject: target.name }));
}

async function readLines({ url, socketPath }: AgentTarget): Promise<Lines> {
  try {
    const { status, body } = await exchange({
      ...{ method: "GET", url: new URL("/readyz", url), socketPath },
      ...{ headers: { Host: "localhost" }, body: null, timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES },
      ...{ serverName: null, client: null, verification: NONE },
    });
    const [first, ...lines] = body.trimEnd().split("\n");
    if (!((status === 200 && first === "ok") || (status === 503 && first === "not ready")))
      return `it answered GET /readyz with ${status}, and not as an agent of meshca`;
    const found = new Map<string, string[]>();
    for (const line of lines) {
      const [, name, text = ""] = /^([a-z_]+): (.*)$/.exec(line) ?? [];
      if (name !== undefined) found.set(name, [...(found.get(name) ?? []), text]);
    }
    // A server has other lines.
    return found.has("roots") ? found : "it is a server of meshca, and not an agent";
  } catch (error) {
    if (error instanceof TransportError) return `it ${reasonOf(error)}`;
    throw error;
  }
}

const reasonOf = ({ fault, message }: TransportError): string =>
  fault === "connect" ? `cannot be reached (${message})` : message;

function reachable({ name }: AgentTarget, lines: Lines): Result {
  if (typeof lines !== "string") return ok("agent.reachable", "it answers");
  return found("agent.reachable", lines, [
    {
      severity: "critical",
      what: `The agent at ${name}: ${lines}`,
      why: "Its workloads get no certificates from it",
      fix: "systemctl status meshca-agent; journalctl -u meshca-agent; or correct --agent",
    },
  ]);
}

const notReached = (id: CheckId): Result =>
  unchecked(id, "the agent does not answer (agent.reachable)");

function ready(lines: Lines): Result {
  const id = "agent.ready";
  if (typeof lines === "string") return notReached(id);
  const bad = [
    ...(lines.get("agent") ?? []),
    ...(lines.get("roots") ?? []).filter((text) => !/^index \d+$/.test(text)),
    ...(lines.get("identity") ?? []).filter((text) => !/: valid until \S+$/.test(text)),
    ...(lines.get("socket") ?? []).filter((text) => !/ is listening$/.test(text)),
    ...(lines.get("listener") ?? []).filter((text) => !/ is listening$/.test(text)),
    ...(lines.get("folder") ?? []).filter((text) => !/ is written$/.test(text)),
    ...(lines.get("hook") ?? []),
    ...(lines.get("server") ?? []).filter((text) => !/^last contact \S+$/.test(text)),
  ];
  const urgent = /no certificate|not known yet/;
  const findings: Finding[] = bad.map((text) => ({
    severity: urgent.test(text) ? "critical" : "warning",
    what: sentence(text),
    why: "Workloads of this agent have no certificate, or keep one that is not renewed",
    fix:
      commandIn(text) ??
      "Mend the reason: docs/workloads.md lists the lines of the agent's /readyz",
  }));
  return found(id, "everything is served", findings);
}

/** A line that is there only if something is wrong. */
function told(
  lines: Lines,
  id: CheckId,
  name: string,
  { severity, why, fix }: Pick<Finding, "severity" | "why" | "fix">,
): Result {
  if (typeof lines === "string") return notReached(id);
  const findings = (lines.get(name) ?? []).map(
    (text): Finding => ({ severity, what: sentence(text), why, fix: commandIn(text) ?? fix }),
  );
  return found(id, "nothing is reported", findings);
}

/** Of an agent on this machine, whose paths can be looked at. */
function paths(lines: Lines): Result {
  const id = "agent.paths";
  if (typeof lines === "string") return notReached(id);
  const named = (name: string, end: string): string[] =>
    (lines.get(name) ?? []).flatMap((text) => {
      const path = text.replace(/^unix:(?:\/\/)?(?=\/)/, "");
      return path.startsWith("/") && path.endsWith(end) ? [path.slice(0, -end.length)] : [];
    });
  const folders = named("folder", " is written");
  const sockets = [...named("socket", " is listening"), ...named("listener", " is listening")];
  const all = [...folders, ...sockets];
  if (all.length === 0) return skipped(id, "it has no sockets and no folders");
  const findings = [...folders.flatMap(folderOf), ...sockets.flatMap(socketOf)];
  const unseen = all.filter((path) => modeOf(path) === null);
  if (findings.length === 0 && unseen.length > 0)
    return unchecked(id, `${unseen.join(", ")} cannot be seen from here`);
  return found(id, `${all.length} paths are private`, findings);
}

/** A folder may be entered by the users that its files are for, but not the keys be read by all. */
function folderOf(path: string): Finding[] {
  const keys = [FILE.key, FILE.bundle, FILE.combined].map((name) => join(path, name));
  return [
    ...writable(path, "put other certificates and roots into it"),
    ...keys.flatMap((key) => {
      const mode = modeOf(key);
      return mode === null ? [] : secretFindings(key, mode, "the private key of a workload");
    }),
  ];
}

const socketOf = (path: string): Finding[] =>
  writable(dirname(path), "put a socket of theirs in its place, and hand out other certificates");

/** @param what others could do */
function writable(folder: string, what: string): Finding[] {
  const mode = modeOf(folder);
  const isSticky = mode !== null && (mode & 0o1000) !== 0;
  if (mode === null || (mode & 0o002) === 0 || isSticky) return [];
  return [
    {
      severity: "critical",
      what: `${folder} can be written into by other users (mode ${octal(mode)})`,
      why: `They can ${what}`,
      fix: `chmod o-w ${quoted(folder)}`,
    },
  ];
}
