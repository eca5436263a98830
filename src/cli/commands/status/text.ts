/**
 * The state of a server as one screen.
 * @module
 */
import { lifeText, table, withoutBreaks } from "../../table.ts";
import type { Style, Terminal } from "../../terminal.ts";
import type { Status } from "./types.ts";

/** The lines of /readyz with a time until which something is valid. */
const EXPIRIES = [
  ["root_expires", "active root"],
  ["issuer_expires", "issuer"],
  ["tls_expires", "TLS certificate"],
] as const;

const HIDDEN = "hidden (needs operator:read)";

/** @returns text with its line breaks */
export function statusText(status: Status, now: Date, terminal: Terminal): string {
  const parts = [
    facts(status, now, terminal),
    rootsOf(status, now, terminal),
    problems(status, terminal),
  ];
  return parts.filter((part) => part !== "").join("\n");
}

function facts(status: Status, now: Date, terminal: Terminal): string {
  const { details, provider, leader, replicas } = status;
  const detail = (name: string) => details?.[name]?.join("; ") ?? (details === null ? HIDDEN : "-");
  const rows: (readonly [name: string, value: string])[] = [
    ["server", status.server],
    ["state", stateText(status, terminal)],
    ["trust domain", status.trustDomain ?? "none yet"],
    [
      "provider",
      provider === null
        ? HIDDEN
        : `${provider.name}${provider.leafCertTtl === null ? "" : `, leaves live ${provider.leafCertTtl}`}`,
    ],
    ["leader", leader ?? "none"],
    ["replicas", replicas.length === 0 ? "none" : replicas.join(", ")],
    ["this replica", details === null ? HIDDEN : `${detail("role")}, index ${detail("index")}`],
    ["store", detail("store")],
    ["changes", detail("changes")],
    ...(details?.primary === undefined ? [] : [["follows", detail("primary")] as [string, string]]),
    ...EXPIRIES.flatMap(([name, what]): [string, string][] => {
      const time = details?.[name]?.[0];
      if (time === undefined || Number.isNaN(Date.parse(time))) return [];
      return [[what, `${lifeText(new Date(time), now)} (${time.slice(0, 10)})`]];
    }),
  ];
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows
    .map(
      ([name, value]) => `${terminal.style("bold", name.padEnd(width))}${withoutBreaks(value)}\n`,
    )
    .join("");
}

function stateText({ ready, problems }: Status, terminal: Terminal): string {
  if (!ready) return terminal.style("red", "leaves cannot be signed");
  return problems.length === 0
    ? terminal.style("green", "ok")
    : terminal.style("yellow", "leaves are signed, see below");
}

const ROOT_STYLE: Readonly<Record<string, Style>> = { expired: "red", abandoned: "yellow" };

function rootsOf({ roots }: Status, now: Date, terminal: Terminal): string {
  if (roots.length === 0) return "";
  const rows = roots.map(({ id, state, notAfter }) => [
    id,
    lifeText(new Date(notAfter), now),
    // The last column, since the codes of a colour have a length.
    state in ROOT_STYLE ? terminal.style(ROOT_STYLE[state] ?? "bold", state) : state,
  ]);
  return table(["ROOT", "LIFE", "STATE"], rows, terminal);
}

function problems({ problems }: Status, terminal: Terminal): string {
  return problems
    .map(({ level, text, command }) => {
      const mark =
        level === "stopped"
          ? terminal.style("red", "Stopped:")
          : terminal.style("yellow", "Warning:");
      return `${mark} ${text}\n${command === null ? "" : `  ${command}\n`}`;
    })
    .join("");
}
