/**
 * Whether the agent serves all that its configuration asks for, and what is missing: GET /readyz,
 * with /healthz and /metrics for monitoring.
 * @module
 */
import { Hono } from "hono";
import type { Source } from "../client/source.ts";
import type { TrustBundle } from "../client/svid.ts";
import { wrongMethod } from "../http/responses.ts";
import type { Workload } from "./workload.ts";

/** A socket or a folder. */
export interface Delivering {
  /** Its path or address. */
  readonly name: string;
  /** A sentence why it does not serve or is not written, with its name; null if all is well. */
  readonly problem: string | null;
  /** A sentence why its command or signal failed the last time, or null. */
  readonly hookProblem?: string | null;
}

/** The connection to the servers. */
export interface Contact {
  readonly lastContact: Date | null;
  /** Why no server can be used, or null. */
  readonly problem: string | null;
  /** A sentence if the clocks differ, or null. */
  readonly clockProblem: string | null;
}

/** What the status is computed from. */
export interface AgentParts {
  /** False until the sockets and folders were opened. */
  readonly started: boolean;
  readonly workloads: readonly Workload[];
  readonly bundle: Source<TrustBundle>;
  /** Why there are no roots, or why the present ones may be old; null if all is well. */
  readonly rootsProblem: string | null;
  readonly sockets: readonly Delivering[];
  readonly listeners: readonly Delivering[];
  readonly folders: readonly Delivering[];
  readonly contact: Contact;
  /** Why no server can be verified any more, with what to do; or null. */
  readonly trustProblem: string | null;
  /** Why a certificate that expires could not be replaced, with what to do; or null. */
  readonly loginProblem: string | null;
}

type LineName =
  | "agent"
  | "server"
  | "trust"
  | "login"
  | "roots"
  | "clock"
  | "identity"
  | "socket"
  | "listener"
  | "folder"
  | "hook";

export interface StatusLine {
  readonly name: LineName;
  readonly text: string;
  /** Whether it keeps the agent from being ready. */
  readonly blocks: boolean;
}

/** One line for each part, in the order of the way of a certificate. */
export function statusLines(parts: AgentParts, now: Date): readonly StatusLine[] {
  const { started, workloads, sockets, listeners, folders, contact } = parts;
  const lines: StatusLine[] = [];
  if (!started) lines.push({ name: "agent", text: "starting", blocks: true });
  lines.push(serverLine(contact));
  // Certificates in use go on without a server.
  if (parts.trustProblem !== null)
    lines.push({ name: "trust", text: parts.trustProblem, blocks: false });
  if (parts.loginProblem !== null)
    lines.push({ name: "login", text: parts.loginProblem, blocks: false });
  lines.push(rootsLine(parts));
  if (contact.clockProblem !== null)
    lines.push({ name: "clock", text: contact.clockProblem, blocks: false });
  lines.push(...workloads.map((workload) => identityLine(workload, now)));
  lines.push(...sockets.map((socket) => deliveringLine("socket", socket, "is listening")));
  lines.push(...listeners.map((listener) => deliveringLine("listener", listener, "is listening")));
  lines.push(...folders.map((folder) => deliveringLine("folder", folder, "is written")));
  for (const { hookProblem } of folders)
    if (hookProblem !== null && hookProblem !== undefined)
      lines.push({ name: "hook", text: hookProblem, blocks: false });
  return lines;
}

/** Certificates in use need no server, so that a server that is away does not block. */
function serverLine({ lastContact, problem }: Contact): StatusLine {
  const last = lastContact === null ? "never" : lastContact.toISOString();
  const text = problem === null ? `last contact ${last}` : `last contact ${last}: ${problem}`;
  return { name: "server", text, blocks: false };
}

function rootsLine({ bundle, rootsProblem }: AgentParts): StatusLine {
  const roots = bundle.current;
  const reason = rootsProblem === null ? "" : `: ${rootsProblem}`;
  return roots === null
    ? { name: "roots", text: `not known yet${reason}`, blocks: true }
    : { name: "roots", text: `index ${roots.index}${reason}`, blocks: false };
}

function identityLine({ service, svid, problem }: Workload, now: Date): StatusLine {
  const { current } = svid;
  const reason = problem === null ? "" : `: ${problem}`;
  const name = service === "" ? "of the token" : service;
  if (current === null || current.notAfter.getTime() <= now.getTime())
    return { name: "identity", text: `${name}: no certificate${reason}`, blocks: true };
  const text = `${name}: valid until ${current.notAfter.toISOString()}${reason}`;
  return { name: "identity", text, blocks: false };
}

function deliveringLine(
  kind: "socket" | "listener" | "folder",
  { name, problem }: Delivering,
  state: string,
): StatusLine {
  return { name: kind, text: problem ?? `${name} ${state}`, blocks: problem !== null };
}

/** Whether everything that is configured is served. */
export const isReady = (lines: readonly StatusLine[]): boolean =>
  lines.every(({ blocks }) => !blocks);

/** The first thing that keeps the agent from being ready, or what it serves; one line. */
export function summaryOf(lines: readonly StatusLine[]): string {
  const blocking = lines.filter(({ blocks }) => blocks);
  const [first] = blocking;
  if (first !== undefined) {
    const others = blocking.length === 1 ? "" : ` (and ${blocking.length - 1} more)`;
    return `Not ready: ${first.name}: ${first.text}${others}`;
  }
  const identities = lines.filter(({ name }) => name === "identity").length;
  return `Serving ${identities} ${identities === 1 ? "identity" : "identities"}`;
}

interface StatusOptions {
  /** The lines of now. */
  readonly lines: () => readonly StatusLine[];
  readonly metrics: { render(): Promise<{ readonly type: string; readonly text: string }> };
}

/** Seconds for Retry-After, as the server's /readyz has it. */
const RETRY_AFTER = "1";
const HEADERS = {
  "Content-Type": "text/plain; charset=utf-8",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-store",
};

/** The routes for monitoring. */
export function statusApp({ lines, metrics }: StatusOptions): Hono {
  const app = new Hono();
  app.get("/healthz", (c) => c.body("ok\n", 200, HEADERS));
  app.get("/readyz", (c) => {
    const found = lines();
    const ready = isReady(found);
    const text = [ready ? "ok" : "not ready", ...found.map(({ name, text }) => `${name}: ${text}`)];
    return c.body(
      `${text.join("\n")}\n`,
      ready ? 200 : 503,
      ready ? HEADERS : { ...HEADERS, "Retry-After": RETRY_AFTER },
    );
  });
  app.get("/metrics", async (c) => {
    const { type, text } = await metrics.render();
    return c.body(text, 200, { ...HEADERS, "Content-Type": type });
  });
  for (const path of ["/healthz", "/readyz", "/metrics"])
    app.all(path, (c) => wrongMethod(c.req.method, ["GET", "HEAD"], HEADERS));
  return app;
}
